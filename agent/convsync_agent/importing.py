"""Make conversations durable because a person said so, whatever the import policy."""

from __future__ import annotations

import time

from convsync_agent.contention import RETRY_SECONDS, lock_held, wait_for_lock
from convsync_agent.engine import Engine
from convsync_agent.errors import Refused, StorageProblem
from convsync_agent.names import id_text
from convsync_agent.outcome import Outcome
from convsync_agent.plan import Import
from convsync_agent.settling import settle
from convsync_agent.silos import taking_all
from convsync_agent.site import Site


def take_in(engine: Engine, site: Site, conversations: set[int]) -> Outcome:
    """Reconcile these with the policy `auto`: what only a worktree has gets its durable copy."""
    with taking_all(engine):
        return settle(engine, site, conversations)


def imported(outcome: Outcome) -> list[int]:
    """The conversations that got a durable copy."""
    return sorted({r.action.conversation for r in outcome.done if isinstance(r.action, Import)})


def ensure_durable(engine: Engine, site: Site, conversation: int, deadline: float) -> None:
    """The silo has it when this returns. Raises LockHeld, Refused (it cannot be taken over), StorageProblem."""
    while True:
        engine.rescan(site)
        if site.silo.listing.places(conversation):
            return
        wait_for_lock(site, conversation, deadline)
        outcome = take_in(engine, site, {conversation})
        if site.silo.listing.places(conversation):
            return
        for failed in outcome.failed:
            problem = failed.problem
            where = problem.root.path if problem.root else site.silo.root.path
            raise StorageProblem(problem.detail, where=where, hint="convsync status", code=problem.kind)
        held = next((p for p in outcome.problems if p.conversation == conversation), None)
        if held is not None:
            name = id_text(conversation)
            hint = f"convsync trash restore {name}" if held.kind == "removed" else "convsync status"
            raise Refused(f"it cannot be imported: {held.detail}", where=name, hint=hint, code=held.kind)
        if time.monotonic() >= deadline:
            if any(d.reason == "locked" for d in outcome.deferred):
                raise lock_held(site, conversation)
            raise Refused("it is being written right now", where=id_text(conversation), hint="try again in a moment")
        time.sleep(RETRY_SECONDS)
