"""What the disappearance of a durable copy means: the rows brake, removal, lost and tombstone of the design.

Absence alone deletes nothing (R1). A durable copy that is gone from both partitions was either removed by
a person, who left a trace of it, or it is lost and has to be put back. `judge` tells the two apart from
what was seen; it reads no clock: every time in it was taken by a listing.

A removal that is judged early may turn out to be the beginning of a mass disappearance. So give `judge`
every copy that vanished for `BRAKE_NS` more, decided or not: a later BRAKED overrules an earlier REMOVED.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from convsync_agent.model import SECOND, Digest, Fate, Root, Unit

CERTAIN_NS = 2 * SECOND  # between the two listings that make a copy vanished
LOCK_NS = 5 * SECOND  # JP's lock, taken by another process so shortly before, speaks of a removal
TOGETHER_NS = 60 * SECOND  # a projection that vanishes so near in time speaks of a removal
BRAKE_NS, BRAKE_COPIES = 10 * SECOND, 5  # so many, being half of all, in so short a time: not a person's choice


class Trace(StrEnum):
    """What one worktree says of one conversation."""

    NEVER = "never"  # readable, and it had no copy
    HOLDS = "holds"  # readable, and a copy is there
    MISSING = "missing"  # readable, one listing missed what was there: not yet certain
    VANISHED = "vanished"  # readable, two listings at least CERTAIN_NS apart missed it
    UNKNOWN = "unknown"  # the worktree is missing or unreadable, which proves nothing


class Projection(NamedTuple):
    """One worktree. `missed_ns` is when the first listing without the copy ended, for MISSING and VANISHED."""

    root: Root
    trace: Trace
    missed_ns: int = 0


@dataclass(frozen=True, slots=True)
class Vanished:
    """One conversation that the silo, itself readable, has in neither partition any more.

    `seen_ns`: the last listing that had it; `missed_ns`: the end of the first that did not; `looked_ns`:
    the beginning of the latest that did not, or `missed_ns` where there was one only. `locked`: its JP
    lock was taken by another process in the LOCK_NS before. `commanded`: removed by a command of ours.
    `trashed`: it went to JP's `.trash`. `expired`: a vanished copy had a past `expires_at` and the durable
    one had not, so JP removed what should have stayed. `due`: the durable one's own `expires_at` was past,
    so JP removed it (without a lock) because a person had said until when to keep it.
    """

    conversation: int
    seen_ns: int
    missed_ns: int
    looked_ns: int
    projections: tuple[Projection, ...] = ()
    locked: bool = False
    commanded: bool = False
    trashed: bool = False
    expired: bool = False
    due: bool = False


class Verdict(NamedTuple):
    """`why` is one of a few fixed phrases; `again_ns` when to look again; `leftovers` who still holds a copy."""

    conversation: int
    fate: Fate
    why: str
    again_ns: int = 0
    leftovers: tuple[Root, ...] = ()


def judge(vanished: Iterable[Vanished], durable: int) -> tuple[Verdict, ...]:
    """A verdict for each, by conversation. `durable`: how many copies the silo had before the first of them went."""
    ordered = sorted(vanished, key=lambda v: v.conversation)
    braked = _mass(ordered, durable)
    return tuple(_verdict(one, many=one.conversation in braked) for one in ordered)


def _verdict(one: Vanished, *, many: bool) -> Verdict:
    """The first row that applies."""
    leftovers = tuple(sorted((p.root for p in one.projections if p.trace is Trace.HOLDS), key=lambda r: r.order))

    def said(fate: Fate, why: str, again_ns: int = 0) -> Verdict:
        return Verdict(one.conversation, fate, why, again_ns, leftovers)

    left = CERTAIN_NS - (one.looked_ns - one.missed_ns)
    together = [p for p in one.projections if abs(p.missed_ns - one.missed_ns) <= TOGETHER_NS]
    gone = any(p.trace is Trace.VANISHED for p in together)
    unclear = [p.missed_ns for p in together if p.trace is Trace.MISSING]
    if one.commanded:
        return said(Fate.REMOVED, "by command")
    if left > 0:
        return said(Fate.WAIT, "missed by one listing", left)
    if many and not gone and not unclear:
        return said(Fate.BRAKED, "many at once")
    if one.trashed or one.expired:
        return said(Fate.LOST, "moved to JP's trash" if one.trashed else "expired elsewhere")
    if one.locked or one.due:
        return said(Fate.REMOVED, "under its lock" if one.locked else "expired")
    if gone:
        return said(Fate.REMOVED, "with its projection")
    if unclear:
        # The listing that confirms the projection's end may be due already: then ask for it at once.
        return said(Fate.WAIT, "its projection may be going", max(1, CERTAIN_NS - (one.looked_ns - max(unclear))))
    if not leftovers:
        return said(Fate.REMOVED, "no other copy")
    return said(Fate.LOST, "other copies remain")


def _mass(vanished: Iterable[Vanished], durable: int) -> frozenset[int]:
    """The conversations that may have gone together: enough of them, within some BRAKE_NS.

    A copy went between `seen_ns` and `missed_ns`; it belongs to a window if it may have gone in it. Those
    not yet certain count too, or the first of a crowd would be buried before the last is sure. A window
    that holds most can begin where somebody in it was first missed, so only those are tried.
    """
    crowd = [v for v in vanished if not (v.locked or v.commanded or v.due)]
    seen, missed = sorted(v.seen_ns for v in crowd), sorted(v.missed_ns for v in crowd)
    enough = max(BRAKE_COPIES, (durable + 1) // 2)
    begins = [b for b in missed if bisect_right(seen, b + BRAKE_NS) - bisect_left(missed, b) >= enough]

    def within(one: Vanished) -> bool:
        at = bisect_left(begins, one.seen_ns - BRAKE_NS)
        return at < len(begins) and begins[at] <= one.missed_ns

    return frozenset(v.conversation for v in crowd if within(v))


# -- tombstones ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A conversation that was removed on purpose, and every content it ever had, by unit.

    `damaged`: it stands there and cannot be read. It counts, and nothing is known of its digests.
    """

    workspace: str
    conversation: int
    at_ms: int = 0
    why: str = ""
    digests: Mapping[Unit, frozenset[Digest]] = field(default_factory=dict)
    damaged: bool = False


def lifts(
    tombstone: Tombstone, unit: Unit, digest: Digest, *, written_by_git: bool = False, durable: bool = False
) -> bool:
    """Whether a copy with this content brings the conversation back.

    A `durable` copy that reappears does. A left-over in a worktree does with bytes that the lineage never
    had and that git did not write; under a damaged tombstone nobody can tell, and what a person removed
    is not brought back by a guess. Content of which a file was not read (None) counts for what was read.
    """
    if durable:
        return True
    if tombstone.damaged or written_by_git or not any(digest):
        return False
    return digest not in tombstone.digests.get(unit, frozenset())
