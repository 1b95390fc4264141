"""What a cycle leaves in the records: copies in step become the base, what is gone is forgotten in time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from convsync_agent import scan
from convsync_agent.errors import kind_of, reason_of
from convsync_agent.expiry import EXPIRED
from convsync_agent.model import SECOND, Copy, Root
from convsync_agent.outcome import Outcome
from convsync_agent.plan import Plan, Problem
from convsync_agent.records import pack
from convsync_agent.scan import View
from convsync_agent.site import Site

if TYPE_CHECKING:
    from convsync_agent.engine import Engine

FORGET_NS = 600 * SECOND  # a projection that went is remembered so long


def record(engine: Engine, site: Site, seen: Sequence[tuple[Copy, int]], plan: Plan, outcome: Outcome) -> None:
    """Record what is in step: from here on equal stamps vouch for it, and its digests are the base."""
    if any(p.conversation is None and p.root == site.silo.root for p in plan.problems):
        return  # nothing was decided without the silo: what is in the worktrees is looked at again
    now = time.time_ns()
    undecided = [d.conversation for d in plan.deferred] + [a.conversation for a in plan.actions]
    undecided += [c for c, _ in plan.again]
    # While a person is to decide, a copy that nobody knew must not become one that has stayed (`transition`).
    undecided += [p.conversation for p in plan.problems if p.kind == "split" and p.conversation]
    blocked: set[tuple[int, Root | None]] = {(c, None) for c in undecided}
    blocked |= {
        (p.conversation or 0, p.root)
        for p in plan.problems
        if not p.lasting and p.kind not in ("future", "behind") and p.detail != EXPIRED
    }
    views = {v.root: v for v in site.views()}
    for copy, dir_mtime in seen:
        where = (copy.conversation, copy.root)
        if where in blocked or (copy.conversation, None) in blocked:
            continue
        engine.placed.pop((copy.root, copy.conversation), None)
        engine.losses.recorded(copy)
        raw = pack(copy, dir_mtime, now)
        if views[copy.root].records.get(copy.conversation) != raw:
            if copy.root.is_silo and copy.conversation not in site.silo.records:
                _came_back(engine, site, copy, outcome)
            if copy.root.is_silo:
                engine.vault.note(site.id, copy.conversation)
            views[copy.root].records[copy.conversation] = raw
            engine.ledger.put_record(site.id, copy.root.path, copy.conversation, raw)
            if copy.root.is_silo:
                engine.ledger.put_lineage(site.id, copy.conversation, copy)
        for unit in (copy.stream, copy.metadata):
            for file in unit.files:
                engine.closed.discard((copy.root.path, copy.conversation, file.name))
            engine.sightings.forget((copy.root.path, copy.conversation, unit.files[-1].name))

    for view in views.values():
        for conversation in outcome.looked & view.records.keys():
            if not view.listing.places(conversation) and view is not site.silo:
                missed = view.missed.setdefault(conversation, scan.Missed(now, now, view.listed_ns))
                if now - missed.first_ns > FORGET_NS:
                    forget(engine, site, view, conversation)


def _came_back(engine: Engine, site: Site, copy: Copy, outcome: Outcome) -> None:
    """A durable copy that was not there before: a tombstone that stands for it is lifted.

    A projection that went with the one before says nothing about this one.
    """
    for tree in site.trees.values():
        if copy.conversation in tree.view.missed and not tree.view.listing.places(copy.conversation):
            forget(engine, site, tree.view, copy.conversation)
    try:
        engine.removals.returned(site.id, copy.conversation)
    except OSError as error:
        detail = f"its tombstone stays: {reason_of(error)}"
        outcome.problems.append(Problem(kind_of(error), copy.conversation, None, detail))


def forget(engine: Engine, site: Site, view: View, conversation: int) -> None:
    """What is gone for good. Until then its record tells that it was there."""
    view.records.pop(conversation, None)
    view.missed.pop(conversation, None)
    engine.ledger.drop_record(site.id, view.root.path, conversation)
