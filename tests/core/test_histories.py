"""Laws over whole histories: edits, checkouts, removals, clocks that jump and deaths of convsync, in any order.

Each history is played on a machine that is only imagined (`imagined.Memory`) around the real core. Whenever
convsync has come to rest the laws are checked. `CONVSYNC_HISTORIES` sets how many histories are played in all,
`CONVSYNC_SEED` which ones.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

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
from convsync_agent.plan import Plan
from convsync_agent.reconcile import reconcile
from imagined import BOTH, SILO, TREES, Memory, contains, content_of, files, is_safe, words

HISTORIES = int(os.environ.get("CONVSYNC_HISTORIES", "10000"))
SHARDS = 8
SEED = int(os.environ.get("CONVSYNC_SEED", "0"))
PHASES = (Phase.generate, Phase.shrink)
STEPS = 14
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


class Histories(RuleBasedStateMachine):
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

    # -- what goes ------------------------------------------------------------------------

    @rule(number=PICK)
    def jp_removes(self, number):
        """Under the lock: the projection in one worktree, then the durable copy."""
        copy = self.pick(number)
        if copy is None:
            return
        conversation = copy.conversation
        self.m.drop(self.tree(number), conversation)
        self.m.drop(SILO, conversation)
        self.m.locked[conversation] = self.m.now
        known = (conversation, SILO) in self.m.agreed and conversation in self.m.shelter
        fresh = self.m.contents(away=True) - self.m.lineage  # also what it had before its state was lost
        if known and not any(c == conversation for c, _, _ in fresh):
            self.m.survey()
            self.removed.add(conversation)

    @rule(number=PICK, part=st.booleans())
    def projection_goes(self, number, part):
        """A projection, or its metadata only: a removal in progress."""
        copy = self.pick(number, trees=True)
        if copy is None:
            return
        if part:
            self.m.put(replace(copy, metadata=files(Unit.METADATA, ("",), (0,), self.m.now)), instead=copy)
        else:
            self.m.drop(copy.root, copy.conversation)

    @rule(which=st.integers(0, 1))
    def durable_copy_is_lost(self, which):
        self.m.drop(SILO, IDS[which])

    @rule(number=PICK, everywhere=st.booleans())
    def archive_or_unarchive(self, number, everywhere):
        copy = self.pick(number)
        if copy is None:
            return
        other = Partition.LIVE if copy.partition is Partition.ARCHIVED else Partition.ARCHIVED
        for each in [c for c in self.m.copies() if c.conversation == copy.conversation]:
            if everywhere or each is copy:
                self.m.put(replace(each, partition=other), instead=each)

    @rule(number=PICK)
    def two_directories(self, number):
        """A second directory for the same id, as a late copy makes it; or one of two is taken away."""
        copy = self.pick(number, trees=True)
        if copy is None:
            return
        group = self.m.disk[copy.root][copy.conversation]
        if len(group) > 1:
            self.m.disk[copy.root][copy.conversation] = group[:1]
        else:
            stream = files(Unit.STREAM, ("cfg", "b"), [self.m.wall] * 2, self.m.now)
            self.m.put(replace(copy, inode=-copy.inode, name=f"{copy.conversation}-x", stream=stream))

    @precondition(lambda self: len(self.m.disk) > 2)
    @rule(number=PICK, destroyed=st.booleans())
    def worktree_goes_or_comes(self, number, destroyed):
        root = sorted(self.m.disk, key=lambda r: r.order)[1 + number % (len(self.m.disk) - 1)]
        if root in self.m.away:
            self.m.away.discard(root)
        else:
            self.m.away.add(root)
            if destroyed:
                self.m.disk[root] = {}

    # -- time and convsync --------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0, 1, 3, 90, 4000]), jump=st.sampled_from([0, 0, 0, -7200, 86400]))
    def time_passes(self, seconds, jump):
        self.m.now += seconds * SECOND + SECOND // 3
        self.m.skew += jump * SECOND

    @rule(actions=st.integers(0, 3))
    def convsync_dies(self, actions):
        """In the middle of a plan; what it did is on the disk, what it would have recorded is not."""
        self.forgive()
        self.m.cycle(die_after=actions)

    @rule()
    def state_is_lost(self):
        self.m.forget()
        self.removed.clear()

    @rule()
    def one_cycle(self):
        self.forgive()
        self.m.cycle()

    @rule()
    def rests(self):
        self.rest()

    @rule()
    def rests_again(self):
        self.rest()

    def teardown(self):
        if self.checked:
            self.rest()

    # -- the laws -------------------------------------------------------------------------------

    def rest(self) -> None:
        before, began = self.m.copies(), self.m.wall
        by_place = {(c.conversation, c.root): c for c in before}
        brought_back = {content_of(c, u) for c in before for u in BOTH if self.m.git_wrote(c, u)}
        brought_back &= self.m.lineage - {content_of(c, u) for c in before for u in BOTH if not self.m.git_wrote(c, u)}
        by_inode = {(c.conversation, c.root, c.inode): c for c in before}
        self.checked = False
        self.forgive()
        plan, base, shots = self.m.decide()
        assert reconcile(base, shots[::-1], self.m.policy) == plan, "the order of roots matters"
        plans = self.m.rest()

        self.check_nothing_is_planned_again()
        self.check_nothing_is_lost(before)
        self.check_what_jp_loads(by_place, plans)
        self.check_only_what_may_be_written_was(by_inode, plans)
        self.check_what_may_win(before, brought_back, began)
        for conversation in self.removed:
            assert conversation not in self.m.disk[SILO], "resurrected"
        self.commit()
        self.checked = True

    def check_nothing_is_planned_again(self) -> None:
        plan, _, _ = self.m.decide()
        assert plan.empty, f"planned at rest: {plan.actions}"

    def check_nothing_is_lost(self, before: list[Copy]) -> None:
        safe = self.m.durable()
        self.ever |= {content_of(c, u) for c in before for u in BOTH if c.unit(u).exists} | self.m.contents()
        for content in self.ever - safe:
            assert is_safe(content, safe), f"lost: {content[1]} {words(content[2])}"

    def check_what_jp_loads(self, before: dict[tuple[int, Root], Copy], plans: list[Plan]) -> None:
        """From each worktree JP loads what it would have loaded before, or newer, or more."""
        told = {p.conversation for plan in plans for p in plan.problems if p.kind in {"future", "split", "held"}}
        for (conversation, root), tree in before.items():
            silo = before.get((conversation, SILO))
            now = [self.m.one(r, conversation) for r in (SILO, root)]
            if root == SILO or conversation in told or None in now or silo is None:
                continue
            if {c.partition for c in (silo, tree, *now)} != {Partition.LIVE}:
                continue
            for unit in BOTH:
                was, is_ = jp_loads(silo, tree, unit), jp_loads(*now, unit)
                if not usable(was, unit):
                    continue
                old, new = was.unit(unit), is_.unit(unit)
                fine = contains(unit, new.digest, old.digest) or new.mtime_ns >= old.mtime_ns
                assert fine, f"JP loads something else: {unit} {words(old.digest)} -> {words(new.digest)}"

    def check_what_may_win(self, before: list[Copy], brought_back: set, began: int) -> None:
        """What is broken goes nowhere, and what git brought back replaces nothing that it does not contain."""
        had = {(c.root, content_of(c, u)) for c in before for u in BOTH}
        durable = {c.conversation: c for c in before if c.root == SILO}
        for copy in self.m.copies():
            was = durable.get(copy.conversation)
            for unit in BOTH:
                content = content_of(copy, unit)
                if (copy.root, content) in had:
                    continue
                assert copy.unit(unit).grade is not Grade.INVALID, "what is broken was taken over"
                if was is None or copy.root != SILO or not usable(was, unit) or self.m.policy.guard is Guard.MTIME:
                    continue
                if was.unit(unit).mtime_ns > began:
                    continue  # dated ahead of the clock: then whatever changed since wins, and what loses is kept
                more = contains(unit, content[2], was.unit(unit).digest)
                assert more or content not in brought_back, "what git brought back was taken for an edit"

    def check_only_what_may_be_written_was(self, before: dict[tuple[int, Root, int], Copy], plans: list[Plan]) -> None:
        """No projection appears; what is behind, archived or not to be refreshed stays as it is."""
        behind = {(b.conversation, b.root, b.unit) for b in plans[-1].behind}
        for copy in self.m.copies():
            was = before.get((copy.conversation, copy.root, copy.inode))
            if copy.root == SILO:
                continue
            assert was is not None, "a projection appeared"
            if copy.root in self.m.readonly or {was.partition, copy.partition} == {Partition.ARCHIVED}:
                assert face(was) == face(copy), "what may not be written was"
            for unit in BOTH:
                if (copy.conversation, copy.root, unit) in behind:
                    assert was.unit(unit).digest == copy.unit(unit).digest, "what is behind was written"


@pytest.mark.slow
@pytest.mark.parametrize("number", range(SEED, SEED + SHARDS))
def test_every_law_holds_over_every_history(number):
    """At rest nothing is planned, nothing is lost, JP loads no less, order does not matter, nothing is resurrected."""
    lean = settings(
        max_examples=max(1, HISTORIES // SHARDS),
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(number)(Histories), settings=lean)
