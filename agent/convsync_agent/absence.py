"""The rows about durable copies that are gone: put back, buried, left over. Pure; `safety` judged, this plans."""

from __future__ import annotations

from collections.abc import Sequence

from convsync_agent.imports import plan_import
from convsync_agent.model import Absence, Base, Copy, Fate, ImportPolicy, Policy, Root, Unit
from convsync_agent.plan import Bury, Deferred, Draft, Lift, Problem, PutBack

LEFT_OVER = "removed; this projection is left over"


def plan_absent(
    base: Base, absence: Absence, conversation: int, silo: Root, copies: Sequence[Copy], now: int, draft: Draft
) -> None:
    """What to do about one conversation that the silo had."""
    if absence.fate is Fate.WAIT:
        draft.deferred.append(Deferred(conversation, "unstable", silo, absence.again_ns))
    elif absence.fate is Fate.REMOVED:
        draft.actions.append(Bury(conversation, silo, absence.why))
    elif absence.fate is Fate.BURIED and absence.lifted:
        draft.actions.append(Lift(conversation, silo))
    elif absence.fate is Fate.BURIED:
        draft.problems.extend(Problem("removed", conversation, c.root, LEFT_OVER) for c in copies)
    else:
        _put_back(base, absence, conversation, silo, copies, now, draft)


def _put_back(
    base: Base, absence: Absence, conversation: int, silo: Root, copies: Sequence[Copy], now: int, draft: Draft
) -> None:
    if absence.kept:
        name = next((c.name for c in copies), None)
        draft.actions.append(PutBack(conversation, silo, name, absence.why))
        return
    current = [c for c in copies if not any((conversation, c.root, u) in base.behind for u in Unit)]
    mark = len(draft.actions)
    plan_import(base, Policy(ImportPolicy.AUTO), silo, current or copies, now, draft, why="lost")
    if len(draft.actions) == mark and not copies:
        draft.problems.append(Problem("lost", conversation, silo, "gone, and nothing is left to put back"))
