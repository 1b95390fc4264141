"""Which copy of one unit wins: JP's own rule, among the copies that may win at all. Pure.

JP takes the newest mtime per unit, ties to the silo (contract 5.2). R3 narrows it: only a whole,
valid, quiet copy can win; a newer one that is not so is deferred, then held, and the rest go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from convsync_agent.model import FUTURE_NS, QUIET_NS, SECOND, UNSTABLE_NS, Base, Copy, Grade, Unit, UnitCopy
from convsync_agent.plan import Deferred, Draft, Problem

BUSY_AGAIN_NS = 250_000_000
AHEAD_AGAIN_NS = 3600 * SECOND
OUT_OF_REACH = (Grade.UNREADABLE, Grade.ODD)


@dataclass(frozen=True, slots=True)
class Contest:
    """The outcome for one unit. `winner` None: nothing can be decided now (the draft says why)."""

    winner: Copy | None
    losers: tuple[Copy, ...] = ()


def newest_first(copies: Iterable[Copy], unit: Unit) -> list[Copy]:
    return sorted(copies, key=lambda c: (-c.unit(unit).mtime_ns, c.root.order))


def fit(copy: Copy, unit: Unit) -> bool:
    """R3: whole, valid and quiet."""
    return copy.whole and copy.unit(unit).grade is Grade.VALID and copy.unit(unit).quiet


def hold_contest(copies: Sequence[Copy], unit: Unit, base: Base, now: int, draft: Draft) -> Contest:
    """Sort out who may win, pick the winner, and report who was held on the way."""
    rest = [c for c in newest_first(copies, unit) if not set_aside(c, unit, draft)]
    while rest and not fit(rest[0], unit):
        unfit = rest.pop(0)
        if any(fit(c, unit) and c.unit(unit).digest == unfit.unit(unit).digest for c in rest):
            continue  # the same bytes are whole elsewhere: nothing to wait for
        if not report_unfit(unfit, unit, base, draft):
            return Contest(None)
    if not rest:
        return Contest(None)
    winner = _unless_from_the_future(rest, unit, base, now, draft)
    return Contest(winner, tuple(c for c in rest if c is not winner))


def set_aside(copy: Copy, unit: Unit, draft: Draft) -> bool:
    """A copy whose bytes we cannot have is neither source nor target: what it holds could not be kept (R4)."""
    state = copy.unit(unit)
    if state.grade not in OUT_OF_REACH:
        return False
    report_out_of_reach(copy, unit, draft)
    return True


def report_out_of_reach(copy: Copy, unit: Unit, draft: Draft) -> None:
    """The fault of such a unit starts with its attention kind: held, denied or io."""
    kind, _, detail = copy.unit(unit).fault.partition(": ")
    draft.problems.append(Problem(kind or "io", copy.conversation, copy.root, detail))


def report_unfit(copy: Copy, unit: Unit, base: Base, draft: Draft) -> bool:
    """Defer or hold an unfit newest copy. True: it is held, the rest may go on without it."""
    state = copy.unit(unit)
    if not copy.whole and copy.conversation in base.busy:
        draft.deferred.append(Deferred(copy.conversation, "building", copy.root, BUSY_AGAIN_NS))
        return False
    if state.grade is Grade.VALID and copy.whole and not state.quiet:
        draft.deferred.append(Deferred(copy.conversation, "unstable", copy.root, max(1, QUIET_NS - state.age_ns)))
        return False
    if state.age_ns < UNSTABLE_NS:
        draft.deferred.append(Deferred(copy.conversation, "unstable", copy.root, UNSTABLE_NS - state.age_ns))
        return False
    draft.problems.append(Problem("held", copy.conversation, copy.root, fault_of(copy, state)))
    return True


def fault_of(copy: Copy, state: UnitCopy) -> str:
    if state.fault:
        return state.fault
    lacking = [
        f.name for u in (copy.stream, copy.metadata) for f in u.files if not f.stamp and f.name != "base_config.json"
    ]
    return f"no {' and no '.join(lacking)}" if lacking else "not usable"


def _unless_from_the_future(rest: list[Copy], unit: Unit, base: Base, now: int, draft: Draft) -> Copy:
    """The newest, unless its time lies ahead, it never changed, and another copy was edited since.

    Edited since means that the other one had these very bytes when it was last settled and has others now.
    Where the newest may not be written (archived, `--no-refresh`) it stays so: looked at again, the edit must not
    have become the base meanwhile, or the newest would take it back. So the base waits as long.
    """
    top = rest[0]
    mine = top.unit(unit).digest
    ahead = top.unit(unit).mtime_ns - now
    if ahead > FUTURE_NS:
        draft.problems.append(Problem("future", top.conversation, top.root, f"{unit} is dated ahead of the clock"))
    if ahead <= 0 or base.of(top, unit) != mine:
        return top
    for copy in rest[1:]:
        if fit(copy, unit) and base.of(copy, unit) == mine and copy.unit(unit).digest != mine:
            draft.problems.append(
                Problem(
                    "future", top.conversation, top.root, f"{unit} is dated ahead of the clock; a later edit was taken"
                )
            )
            draft.again.append((top.conversation, min(ahead, AHEAD_AGAIN_NS)))
            return copy
    return top


def changed(copy: Copy, unit: Unit, base: Base) -> bool:
    """Somebody changed this copy since it was last settled. At first sight nothing counts as changed."""
    known = base.of(copy, unit)
    return known is not None and known != copy.unit(unit).digest
