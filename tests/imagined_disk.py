"""A disk that is only imagined: roots, copies, clocks and what git wrote, as data.

Nothing here touches a real one. Contents are words: the stream `abc` contains `ab`, metadata contains the same title
activated earlier.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache

from convsync_agent.contest import OUT_OF_REACH
from convsync_agent.model import (
    BASE_CONFIG,
    EVENTS,
    METADATA,
    SECOND,
    Copy,
    Digest,
    FileCopy,
    Grade,
    Kind,
    Root,
    Snapshot,
    Stamp,
    Unit,
    UnitCopy,
    Verdict,
)
from notation import digest_of

SILO = Root(Kind.SILO, "/silo")
TREES = tuple(Root(Kind.WORKTREE, f"/{name}/.jp") for name in "uvw")
BOTH = (Unit.STREAM, Unit.METADATA)
BEGIN = 1_700_000_000 * SECOND
_words: dict[bytes, str] = {}
inodes = itertools.count(1)


@cache
def digest(word: str) -> bytes:
    _words[made := digest_of(word)] = word
    return made


def words(content: Digest) -> tuple[str, ...]:
    return tuple(_words[d] if d else "" for d in content)


@cache
def contains(unit: Unit, outer: Digest, inner: Digest) -> bool:
    """The outer content has everything of the inner one; nothing is known of what is broken."""
    if outer == inner:
        return True
    one, two = words(outer), words(inner)
    if "!" in one[-1] or "!" in two[-1] or "" in (one[-1], two[-1]):
        return False
    if unit is Unit.STREAM:
        return one[0] == two[0] and one[1].startswith(two[1])
    (title, _, last), (other, _, before) = one[0].partition(" "), two[0].partition(" ")
    return title == other and int(last) >= int(before)


def files(unit: Unit, texts: Iterable[str], mtimes: Iterable[int], now: int) -> UnitCopy:
    """A unit with these words: an empty one is a file that is not there, `!` makes it broken."""
    names = (BASE_CONFIG, EVENTS) if unit is Unit.STREAM else (METADATA,)
    found = [
        FileCopy(n, Stamp(m, len(t), next(inodes), now), digest(t)) if t else FileCopy(n)
        for n, t, m in zip(names, texts, mtimes, strict=True)
    ]
    last = found[-1].digest
    grade = Grade.INCOMPLETE if last is None else Grade.INVALID if "!" in _words[last] else Grade.VALID
    return UnitCopy(tuple(found), grade, 0)


def aged(unit: UnitCopy, now: int) -> UnitCopy:
    changed = max((f.stamp.ctime_ns for f in unit.files if f.stamp), default=0)
    return UnitCopy(unit.files, unit.grade, now - changed, unit.closed, unit.fault)


def content_of(copy: Copy, unit: Unit) -> tuple[int, Unit, Digest]:
    return copy.conversation, unit, copy.identity(unit)


@dataclass(slots=True)
class Disk:
    """Roots with copies as data, a clock, and what git wrote.

    `now` is true time; what a clock says is `now + skew`. `git` maps a copy's unit to the content that git wrote.
    """

    disk: dict[Root, dict[int, tuple[Copy, ...]]] = field(default_factory=lambda: {SILO: {}})
    away: set[Root] = field(default_factory=set)
    readonly: set[Root] = field(default_factory=set)
    now: int = BEGIN
    skew: int = 0
    git: dict[tuple[int, Root, Unit], tuple[Digest, int]] = field(default_factory=dict)
    locked: dict[int, int] = field(default_factory=dict)

    # -- copies -----------------------------------------------------------------------

    @property
    def wall(self) -> int:
        return self.now + self.skew

    def roots(self) -> list[Root]:
        return [r for r in self.disk if r not in self.away]

    def copies(self, *, away: bool = False) -> list[Copy]:
        return [c for r, there in self.disk.items() if away or r not in self.away for g in there.values() for c in g]

    def one(self, root: Root, conversation: int) -> Copy | None:
        found = self.disk[root].get(conversation, ())
        return found[0] if found else None

    def put(self, copy: Copy, *, instead: Copy | None = None) -> None:
        there = [c for c in self.disk[copy.root].get(copy.conversation, ()) if c is not instead]
        self.disk[copy.root][copy.conversation] = (*there, copy)

    def drop(self, root: Root, conversation: int) -> None:
        self.disk[root].pop(conversation, None)

    # -- what is seen -----------------------------------------------------------------

    def _said(self, copy: Copy, unit: Unit) -> Verdict:
        wrote = self.git.get((copy.conversation, copy.root, unit))
        mine = (copy.unit(unit).digest, copy.unit(unit).mtime_ns)
        return Verdict.WROTE if wrote == mine else Verdict.EDIT

    def git_wrote(self, copy: Copy, unit: Unit) -> bool:
        return self._said(copy, unit) is Verdict.WROTE

    def snapshots(self) -> list[Snapshot]:
        return [
            Snapshot(
                root,
                self.wall,
                {n: tuple(self._seen(c) for c in group) for n, group in self.disk[root].items()},
                refresh=root not in self.readonly,
            )
            for root in self.roots()
        ]

    def _seen(self, copy: Copy) -> Copy:
        stream, metadata = aged(copy.stream, self.now), aged(copy.metadata, self.now)
        if not copy.whole and metadata.exists is False and stream.grade is Grade.VALID:
            stream = replace(stream, grade=Grade.INCOMPLETE)
        return Copy(
            copy.root,
            copy.conversation,
            copy.name,
            copy.partition,
            copy.inode,
            stream,
            metadata,
            copy.extras,
        )

    def contents(self, *, away: bool = False) -> set[tuple[int, Unit, Digest]]:
        """Every content that some readable root holds and that can be read."""
        return {
            content_of(c, u)
            for c in self.copies(away=away)
            for u in BOTH
            if c.unit(u).exists and c.unit(u).grade not in OUT_OF_REACH
        }
