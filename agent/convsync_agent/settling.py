"""Cycle until nothing is left that only needs a moment: what commands do where the agent just comes back later."""

from __future__ import annotations

import time

from convsync_agent.engine import Engine
from convsync_agent.outcome import Outcome
from convsync_agent.progress import Count, Stage, Step
from convsync_agent.site import Site

CHUNK = 64  # conversations: what is read of them is written and compared while it is still in memory


def settle(engine: Engine, site: Site, conversations: set[int], *, patience: float = 2.5, keep: bool = True) -> Outcome:
    """Cycle until what is only unstable has become stable or held; a held lock is not waited for."""
    total = _cycled(engine, site, conversations)
    deadline = time.monotonic() + patience
    while True:
        waiting = {
            d.conversation: d.again_ns for d in total.deferred if d.reason == "unstable" and d.again_ns < 3 * 10**9
        }
        soon = {c: min(ns, waiting.get(c, ns)) for c, ns in total.again.items() if c in waiting or ns < 1_200_000_000}
        waiting |= {c: ns for c, ns in soon.items() if c not in _locked(total)}
        if not waiting or time.monotonic() > deadline:
            break
        time.sleep(min(min(waiting.values()) / 1e9 + 0.002, max(0.0, deadline - time.monotonic()) + 0.001))
        absorb(total, engine.cycle(site, set(waiting)))
    deadline = time.monotonic() + patience
    while engine.waiting and time.monotonic() < deadline:
        time.sleep(0.05)
        engine.settle_waiting(engine.sites)
    engine.settle_waiting(engine.sites | {site.id: site})
    if keep:
        engine.vault.step_all(engine, engine.sites | {site.id: site})
    engine.contents.clear()
    return total


def _cycled(engine: Engine, site: Site, conversations: set[int]) -> Outcome:
    """One cycle for all of them, or for as many at a time as stay in memory."""
    if len(conversations) <= CHUNK:
        return engine.cycle(site, conversations)
    total, tell, ordered = Outcome(), engine.tell, sorted(conversations)
    count, written = Count(tell, Stage.RECONCILE, len(ordered)), list[Step]()
    engine.tell = None if tell is None else written.append
    try:
        for at in range(0, len(ordered), CHUNK):
            some = set(ordered[at : at + CHUNK])
            _add(total, engine.cycle(site, some))
            last = next((s for s in reversed(written) if s.stage is Stage.WRITE), None)
            count.add(len(some), last.files if last else 0, last.bytes if last else 0)
            written.clear()
    finally:
        engine.tell = tell
    return total


def _add(total: Outcome, found: Outcome) -> None:
    """What became of others."""
    total.results += found.results
    total.deferred += found.deferred
    total.problems += found.problems
    total.behind += found.behind
    total.again |= found.again
    total.looked |= found.looked


def _locked(outcome: Outcome) -> set[int]:
    return {d.conversation for d in outcome.deferred if d.reason == "locked"}


def absorb(total: Outcome, later: Outcome) -> None:
    """Fold a later look at some of the conversations into the whole: its verdict on them replaces the old one."""
    again = later.looked
    total.results = [r for r in total.results if r.action.conversation not in again or r in total.done] + later.results
    total.deferred = [d for d in total.deferred if d.conversation not in again] + later.deferred
    total.problems = [p for p in total.problems if p.conversation not in again or p.lasting] + later.problems
    total.again = {c: ns for c, ns in total.again.items() if c not in again} | later.again
    total.looked |= again
