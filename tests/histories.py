"""What people, programs and git do to conversations on an imagined machine: the half of a history without convsync."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from convsync_agent.model import (
    SECOND,
    Copy,
    Extra,
    Grade,
    Guard,
    ImportPolicy,
    Partition,
    Policy,
    Root,
    Stamp,
    Unit,
)
from imagined import Memory, is_safe
from imagined_disk import BOTH, SILO, TREES, files, words

IDS = (17_000_000_001, 17_000_000_002)
PICK = st.integers(0, 11)
LETTER = st.sampled_from("abc")
WHOLE_UNIT = {Unit.STREAM: ("cfg", "a"), Unit.METADATA: ("t 1",)}


def usable(copy: Copy, unit: Unit) -> bool:
    return copy.whole and copy.unit(unit).grade is Grade.VALID


def face(copy: Copy) -> tuple[object, ...]:
    return copy.name, copy.partition, *((copy.unit(u).digest, copy.unit(u).mtime_ns) for u in BOTH)


def jp_loads(silo: Copy | None, tree: Copy | None, unit: Unit) -> Copy | None:
    """JP's rule: the newest, a tie goes to the silo (contract 5.2)."""
    there = [c for c in (silo, tree) if c is not None]
    return max(there, key=lambda c: (c.unit(unit).mtime_ns, c.root == SILO), default=None)


class Writers(RuleBasedStateMachine):
    """One history: up to three worktrees, two conversations."""

    def __init__(self) -> None:
        super().__init__()
        self.m = Memory()
        self.ever: set = set()  # every content that convsync has seen come to rest
        self.removed: set[int] = set()  # on purpose, with evidence, and not written to since
        self.checked = True  # False while laws are being checked: one that broke is not checked again
        self.commits: dict[tuple[int, Root], list[Copy]] = {}

    # -- the beginning ----------------------------------------------------------------

    @initialize(trees=st.integers(1, 3), kind=st.integers(0, 9))
    def begin(self, trees, kind):
        self.m.disk |= {root: {} for root in TREES[:trees]}
        guard = Guard.MTIME if kind == 9 else Guard.GUARDED
        policy = ImportPolicy.ON_WRITE if kind == 8 else ImportPolicy.AUTO
        self.m.policy = Policy(policy, guard)
        if kind == 7:
            self.m.readonly.add(TREES[0])
        self.write(TREES[0], IDS[0], stream=("cfg", "a"), metadata=("t 1",))
        if kind % 2:
            self.rest()

    # -- what the rules are made of ------------------------------------------------------

    def pick(self, number: int, *, trees: bool = False) -> Copy | None:
        """Some copy that there is."""
        there = [c for c in self.m.copies() if not (trees and c.root == SILO)]
        return there[number % len(there)] if there else None

    def tree(self, number: int) -> Root:
        trees = [r for r in self.m.roots() if r != SILO]
        return trees[number % len(trees)] if trees else SILO

    def write(self, root, conversation, *, stream=None, metadata=None, late=0, **fields) -> Copy:
        """One save in one root: what has the same words keeps its file, as JP writes it."""
        old = self.m.one(root, conversation)
        made = {}
        for unit, given in ((Unit.STREAM, stream), (Unit.METADATA, metadata)):
            texts = WHOLE_UNIT[unit] if old is None and given is None else given
            if texts is None:
                made[unit] = old.unit(unit)
                continue
            fresh = files(unit, texts, [self.m.wall + late] * len(texts), self.m.now)
            if old is not None:
                same = {f.name: f for f in old.unit(unit).files}
                fresh = replace(
                    fresh,
                    files=tuple(same[f.name] if same[f.name].digest == f.digest else f for f in fresh.files),
                    closed=bool(late == 0 and self.m.now % 2),
                )
            made[unit] = fresh
        title = words(made[Unit.METADATA].digest)[0].partition(" ")[0].strip("!")
        copy = Copy(
            root,
            conversation,
            fields.get("name") or (old.name if old else f"{conversation}-{title}"),
            fields.get("partition") or (old.partition if old else Partition.LIVE),
            old.inode if old else self.m.now + len(self.m.copies()),
            made[Unit.STREAM],
            made[Unit.METADATA],
            old.extras if old else (),
        )
        self.m.put(copy, instead=old)
        self.m.now += SECOND // 1000
        self.removed.discard(conversation)
        return copy

    def forgive(self) -> None:
        """What a writer itself took away from everywhere is not convsync's to bring back."""
        left = self.m.durable() | self.m.contents()
        self.ever = {c for c in self.ever if c in left or is_safe(c, left)}

    def words_of(self, copy: Copy, unit: Unit) -> tuple[str, ...]:
        return words(copy.unit(unit).digest)

    # -- writers ------------------------------------------------------------------------

    @rule(number=PICK, letter=LETTER)
    def append(self, number, letter):
        copy = self.pick(number)
        if copy is not None and copy.whole:
            config, events = self.words_of(copy, Unit.STREAM)
            self.write(copy.root, copy.conversation, stream=(config, (events.strip("!") + letter)[:6]))

    @rule(number=PICK, letter=LETTER, late=st.sampled_from([0, 0, 0, 3600 * SECOND, -7200 * SECOND]))
    def rewrite(self, number, letter, late):
        copy = self.pick(number)
        if copy is not None and copy.whole:
            self.write(copy.root, copy.conversation, stream=(self.words_of(copy, Unit.STREAM)[0], letter), late=late)

    @rule(number=PICK, kind=st.integers(0, 3))
    def configure_or_break(self, number, kind):
        """Base config alone; packed into the events; broken events; broken metadata."""
        copy = self.pick(number)
        if copy is None or not copy.whole:
            return
        config, events = self.words_of(copy, Unit.STREAM)
        if kind == 0:
            self.write(copy.root, copy.conversation, stream=("other" if config == "cfg" else "cfg", events))
        elif kind == 1:
            self.write(copy.root, copy.conversation, stream=("" if config else "cfg", events))
        elif kind == 2:
            self.write(copy.root, copy.conversation, stream=(config, f"!{events}"[:7]))
        else:
            self.write(copy.root, copy.conversation, metadata=("!x 1",))

    @rule(number=PICK, title=st.sampled_from("tuv"), both=st.booleans())
    def retitle(self, number, title, both):
        """JP renames the directory, then writes the metadata; `both`: in the silo and in its worktree."""
        copy = self.pick(number)
        if copy is None:
            return
        roots = {copy.root, SILO} if both else {copy.root}
        for root in sorted(roots, key=lambda r: r.order):
            if self.m.one(root, copy.conversation) is not None:
                at = self.m.wall // SECOND - 1_690_000_000
                self.write(root, copy.conversation, metadata=(f"{title} {at}",), name=f"{copy.conversation}-{title}")

    @rule(number=PICK, letter=LETTER)
    def jp_turn(self, number, letter):
        """JP loads by its rule and writes the silo, then its worktree; it never reads again."""
        tree = self.m.one(self.tree(number), IDS[number % 2])
        silo = self.m.one(SILO, IDS[number % 2])
        loaded = jp_loads(silo, tree, Unit.STREAM)
        if loaded is None or not usable(loaded, Unit.STREAM) or loaded.partition is Partition.ARCHIVED:
            return
        config, events = self.words_of(loaded, Unit.STREAM)
        for copy in (silo, tree):
            if copy is not None and copy.partition is Partition.LIVE:
                self.write(copy.root, copy.conversation, stream=(config, (events + letter)[:6]))
        self.m.locked[loaded.conversation] = self.m.now

    @rule(number=PICK, which=st.integers(0, 1))
    def create(self, number, which):
        root = self.tree(number)
        if self.m.one(root, IDS[which]) is None:
            self.write(root, IDS[which], stream=("cfg", "a"), metadata=("t 1",))

    @rule(number=PICK, version=st.integers(0, 3))
    def note(self, number, version):
        """An unmanaged file, newer each time."""
        copy = self.pick(number, trees=True)
        if copy is not None:
            stamp = Stamp(self.m.wall, version, version, self.m.now)
            self.m.put(replace(copy, extras=(Extra("notes", stamp, bytes([version])),)), instead=copy)

    @rule(number=PICK, ahead=st.integers(-5, 5))
    def touch(self, number, ahead):
        """A change of nothing but the age."""
        copy = self.pick(number)
        if copy is not None and copy.stream.exists:
            moved = tuple(
                replace(f, stamp=f.stamp._replace(mtime_ns=self.m.wall + ahead * SECOND)) if f.stamp else f
                for f in copy.stream.files
            )
            self.m.put(replace(copy, stream=replace(copy.stream, files=moved)), instead=copy)

    # -- git ----------------------------------------------------------------------------

    def commit(self) -> None:
        """Whatever a worktree holds at rest is in git from then on."""
        for copy in self.m.copies():
            commits = self.commits.setdefault((copy.conversation, copy.root), [])
            if copy.root != SILO and copy.whole and face(copy) not in map(face, commits):
                commits.append(copy)

    @rule(number=PICK)
    def back_and_forth(self, number):
        """One more turn comes to rest, and git brings back what was there before."""
        copy = self.pick(number, trees=True)
        if copy is not None and usable(copy, Unit.STREAM):
            self.rest()
            self.append(number, "c")
            self.rest()
            self.checkout_of(copy.conversation, copy.root, number, known=True)

    @rule(number=PICK, known=st.booleans(), gone=st.booleans())
    def checkout(self, number, known, gone):
        """An older content with a new time, or the projection goes. `known` False: git left no evidence."""
        places = sorted(p for p in self.commits if p[1] not in self.m.away)
        if not places:
            return
        if gone:
            conversation, root = places[number % len(places)]
            self.m.drop(root, conversation)
        else:
            self.checkout_of(*places[number % len(places)], number, known=known)

    def checkout_of(self, conversation: int, root: Root, number: int, *, known: bool) -> None:
        commits = self.commits.get((conversation, root))
        if not commits:
            return
        old = commits[number % len(commits)]
        meant = conversation in self.removed
        copy = self.write(
            root,
            conversation,
            stream=self.words_of(old, Unit.STREAM),
            metadata=self.words_of(old, Unit.METADATA),
            name=old.name,
            partition=Partition.LIVE,
        )
        if meant and known:
            self.removed.add(conversation)
        for unit in BOTH:
            if known:
                self.m.git[conversation, root, unit] = (copy.unit(unit).digest, copy.unit(unit).mtime_ns)
