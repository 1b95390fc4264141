"""What the log says of one cycle: a line when something was done, and why, for whoever turns on `debug`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convsync_agent import logs
from convsync_agent.meter import name_of
from convsync_agent.plan import size_of, target_of, unit_of
from convsync_agent.results import Done, Failed, Postponed

if TYPE_CHECKING:
    from convsync_agent.outcome import Outcome

SHOWN = 8  # ids in one line

log = logs.get("agent")


def write(workspace: str, outcome: Outcome) -> None:
    """Ids, kinds, counts and paths of roots. A cycle that found nothing to do, or only what waits, is no line."""
    for problem in outcome.problems:
        if problem.conversation is None and problem.root is None:
            log.error("state", code=problem.kind, detail=problem.detail)
    if outcome.done or outcome.failed:
        log.info(
            "cycle",
            workspace=workspace,
            done=len(outcome.done),
            written=outcome.written,
            deferred=len(outcome.deferred),
            failed=len(outcome.failed),
            conversations=[f"jp-c{c}" for c in sorted({r.action.conversation for r in outcome.results})[:SHOWN]],
        )
    if outcome.results or outcome.deferred or outcome.problems:
        _explain(workspace, outcome)


def _explain(workspace: str, outcome: Outcome) -> None:
    for result in outcome.results:
        action = result.action
        facts: dict[str, object] = {
            "workspace": workspace,
            "conversation": f"jp-c{action.conversation}",
            "action": name_of(action),
        }
        match result:
            case Done():
                why = getattr(action, "why", "")
                facts |= {"unit": str(unit_of(action)), "root": target_of(action).path, "bytes": size_of(action)}
                log.debug("done", **facts, files=result.files, why=why)
            case Postponed():
                log.debug("postponed", **facts, reason=result.reason)
            case Failed():
                log.debug("failed", **facts, code=result.problem.kind, detail=result.problem.detail)
    for wait in outcome.deferred:
        log.debug("deferred", workspace=workspace, conversation=f"jp-c{wait.conversation}", reason=wait.reason)
    for problem in outcome.problems:
        who = None if problem.conversation is None else f"jp-c{problem.conversation}"
        root = problem.root.path if problem.root else None
        log.debug("problem", workspace=workspace, conversation=who, root=root, kind=problem.kind, detail=problem.detail)
