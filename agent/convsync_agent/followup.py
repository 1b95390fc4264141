"""What one result leads to: the listing as it is now, what to try again and when, what a person has to hear."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convsync_agent import scan
from convsync_agent.model import SECOND, UNSAVED_NS, Partition, Unit
from convsync_agent.outcome import Outcome
from convsync_agent.plan import Bury, Deferred, Import, Keep, Move, Plan, Problem, PutBack, Update
from convsync_agent.recording import forget
from convsync_agent.results import Done, Failed, Result
from convsync_agent.scan import View
from convsync_agent.site import Site

if TYPE_CHECKING:
    from convsync_agent.engine import Engine

LOCK_RETRY_NS = 250_000_000
UNSTABLE_RETRY_NS = 20_000_000
FAILED_RETRY_NS = 2 * SECOND


def follow_up(engine: Engine, site: Site, result: Result, outcome: Outcome) -> None:
    """Bookkeeping of one result: what to try again and when, and what a person has to hear."""
    action = result.action
    if isinstance(result, Done):
        if isinstance(action, Update) and action.why == "conflict":
            detail = "both sides changed; the newest won, the other is in the history"
            problem = Problem("conflict", action.conversation, action.target.root, detail, lasting=True)
            outcome.problems.append(problem)
        engine.ledger.note_durable(site.id, action)
        if isinstance(action, Update):
            for copy in (action.source, action.target):
                digest = action.source.unit(action.unit).digest
                engine.placed.setdefault((copy.root, action.conversation), {})[action.unit] = digest
        if isinstance(action, Import):
            _relist(site.silo, action)
        if isinstance(action, Move) and (view := site.view_at(action.target.root.path)):
            view.listing.put(
                action.conversation, (scan.Place(action.target.name, action.partition is Partition.ARCHIVED),)
            )
        if isinstance(action, PutBack):
            site.silo.listing = scan.list_root(site.silo.root.path)
        if isinstance(action, PutBack | Import) and action.why:
            detail = f"the durable copy was gone ({action.why}) and is put back"
            outcome.problems.append(Problem("lost", action.conversation, site.silo.root, detail, lasting=True))
        if isinstance(action, Bury):
            forget(engine, site, site.silo, action.conversation)
        return
    if isinstance(result, Failed):
        outcome.problems.append(result.problem)
        outcome.later(action.conversation, FAILED_RETRY_NS)
        _save_meanwhile(engine, site, action, outcome, result.problem.kind)
        return
    wait = LOCK_RETRY_NS if result.reason == "locked" else UNSTABLE_RETRY_NS
    outcome.deferred.append(Deferred(action.conversation, result.reason, None, wait))
    outcome.later(action.conversation, wait)
    if result.reason == "locked":
        _save_meanwhile(engine, site, action, outcome, "locked")


def _save_meanwhile(engine: Engine, site: Site, action: object, outcome: Outcome, why: str) -> None:
    """R4: what a held lock or a full disk keeps out of the silo for more than a second goes into the history."""
    if isinstance(action, Update):
        sources = [(action.source, action.unit)]
    elif isinstance(action, Import):
        sources = [(action.stream, Unit.STREAM), (action.metadata, Unit.METADATA)]
    else:
        return
    for copy, unit in sources:
        keep = Keep(copy.conversation, unit, copy, why)
        if copy.root.is_silo or copy.unit(unit).age_ns <= UNSAVED_NS or engine.knower.is_kept(site.id, keep):
            continue
        engine.apply(site, Plan((keep,)), outcome)


def _relist(view: View, action: Import) -> None:
    place = scan.Place(action.name, action.partition is Partition.ARCHIVED)
    known = view.listing.places(action.conversation)
    view.listing.put(action.conversation, tuple({*known, place}))
