"""Is a newer copy only what git brought back? Pure; the evidence is gathered by `provenance`.

What git brings back is not an edit (design 3): a unit is *suspect* when it may be older than it looks, and
*stale* when git wrote it. A stale copy stays as it is and is shown `behind`: neither source nor target,
until its bytes change, it is accepted, or it equals the durable copy.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from convsync_agent.model import Base, Copy, Grade, Guard, Policy, Unit, Verdict


class Standing(StrEnum):
    FREE = "free"
    WAIT = "wait"
    STALE = "stale"


_STANDING = {Verdict.WROTE: Standing.STALE, Verdict.WAIT: Standing.WAIT, Verdict.EDIT: Standing.FREE}


def standing(base: Base, policy: Policy, copy: Copy, durable: Copy, unit: Unit) -> Standing:
    """What one unit of a worktree copy counts for beside the durable one."""
    if policy.guard is Guard.MTIME or copy.root.is_silo:
        return Standing.FREE
    mine = copy.unit(unit).digest
    key = (copy.conversation, copy.root, unit)
    if mine == durable.unit(unit).digest:
        return Standing.FREE
    if base.behind.get(key) == mine:
        return Standing.STALE
    if not suspect(base, copy, durable, unit):
        return Standing.FREE
    said = base.git.get(key)
    return _STANDING[said.verdict] if said else Standing.FREE


def suspect(base: Base, copy: Copy, durable: Copy, unit: Unit) -> bool:
    """It would win by its mtime, lacks something durable, and may well be older than it looks."""
    if not newer_without(base, copy, durable, unit):
        return False
    mine, theirs = copy.unit(unit), durable.unit(unit)
    return (
        (copy.conversation, unit, mine.digest) in base.lineage
        or base.covers(unit, theirs, mine)
        or (copy.conversation, copy.root) in base.earlier
        or base.of(copy, unit) is None
    )


def newer_without(base: Base, copy: Copy, durable: Copy, unit: Unit) -> bool:
    """A valid, newer worktree unit that does not contain the durable content. Only such ones can be suspect."""
    mine, theirs = copy.unit(unit), durable.unit(unit)
    return (
        not copy.root.is_silo
        and mine.exists
        and mine.grade is Grade.VALID
        and theirs.grade is Grade.VALID
        and mine.mtime_ns > theirs.mtime_ns
        and not base.covers(unit, mine, theirs)
    )


def returned(base: Base, copy: Copy, unit: Unit) -> bool:
    """A copy that was behind was written to: an edit that builds on less than the durable copy has."""
    was = base.behind.get((copy.conversation, copy.root, unit))
    return was is not None and was != copy.unit(unit).digest


def by_hand(base: Base, copies: Iterable[Copy], unit: Unit) -> list[Copy]:
    """Those of some copies that git did not write, in their order."""
    said = [(c, base.git.get((c.conversation, c.root, unit))) for c in copies]
    return [c for c, evidence in said if evidence is None or evidence.verdict is not Verdict.WROTE]
