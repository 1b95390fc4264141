"""Everything that is open now, as the agent knows it: entries, worktrees that are gone, the verdict."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convsync_agent import publish
from convsync_agent.advice import deaf
from convsync_agent.errors import UNWRITTEN
from convsync_agent.ledger import key_of
from convsync_agent.site import Site, TreeState
from convsync_agent.state import Attention
from convsync_agent.tidings import Key

if TYPE_CHECKING:
    from convsync_agent.agenda import Agenda
    from convsync_agent.aside import Aside
    from convsync_agent.engine import Engine
    from convsync_agent.lookout import Lookout

GONE = "the worktree is gone"


@dataclass(frozen=True, slots=True)
class Concerns:
    entries: dict[Key, Attention]
    verdict: str


def token(engine: Engine, aside: Aside, lookout: Lookout) -> object:
    """Equal as long as nothing of it changed; cheap enough for every turn."""
    sites = engine.sites | aside.sites
    trees = [(t.worktree.path, t.state) for s in sites.values() for t in s.trees.values()]
    silent = [s.id for s in sites.values() if s.silo_identity is None]
    return id(engine.ledger), engine.ledger.version, lookout.health.deaf_roots(), trees, silent


def concerns(engine: Engine, agenda: Agenda, aside: Aside, lookout: Lookout) -> Concerns:
    """Of every workspace, those that are set aside as well."""
    sites = engine.sites | aside.sites
    unwatched = deaf(lookout.health.deaf_roots(), time.time_ns() // 1_000_000)
    entries = engine.ledger.entries | {key_of(e): e for e in [*unwatched, *_missing(sites)]}
    verdict = publish.verdict(
        {k[0] for k in entries},
        missing_silo=any(s.silo_identity is None for s in sites.values()),
        unwritten=any(e.detail.startswith(UNWRITTEN) for e in entries.values()),
        pending=bool(agenda.size) or any(agenda.deferred.values()),
    )
    return Concerns(entries, verdict)


def _missing(sites: dict[str, Site]) -> list[Attention]:
    return [
        Attention("missing", site.id, 0, tree.worktree.path, tree.since_ms, GONE, lasting=False)
        for site in sites.values()
        for tree in site.trees.values()
        if tree.state is TreeState.MISSING
    ]
