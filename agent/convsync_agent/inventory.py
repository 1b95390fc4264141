"""What the roots of a workspace hold, counted: the `workspaces` of `status --json` (cli.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from convsync_agent.homecoming import Reason
from convsync_agent.scan import Listing
from convsync_agent.site import Site, Tree, TreeState, count, count_missing, prospect
from convsync_agent.state import Attention

if TYPE_CHECKING:
    from convsync_agent.engine import Engine

UNSEEN = (TreeState.MISSING, TreeState.PAUSED)
COUNTED = ("behind", "held", "conflict", "split", "deferred", "removed")


def describe(
    engine: Engine, deferred: dict[str, set[int]], aside: Mapping[str, Site] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """The `workspaces` part of `status --json` (cli.md), those that are set aside as they were looked at last.

    `deferred`: conversations by workspace.
    """
    setting, sites = str(engine.settings.reproject), engine.sites | dict(aside)
    open_now = engine.ledger.entries.values()
    return [describe_site(sites[k], open_now, deferred.get(k, set()), setting) for k in sorted(sites)]


def describe_site(
    site: Site, attention: Iterable[Attention], deferred: set[int], setting: str = "auto"
) -> dict[str, Any]:
    """One workspace with its worktrees, their states and counts. `attention`: of all; `setting`: recovery.reproject."""
    entries = [e for e in attention if e.workspace == site.id]
    listing = site.silo.listing
    return {
        "id": site.id,
        "silo": site.silo.root.path,
        "missing": site.silo_identity is None,
        "durable": {"live": len(listing.live), "archived": len(listing.archived)},
        "worktrees": [
            {
                "path": tree.worktree.path,
                "state": str(tree.state),
                "since": tree.since_ms,
                "paused_until": tree.worktree.until_ms if tree.state is TreeState.PAUSED else None,
                "last_change_at": tree.last_change_ms,
                "counts": (count_missing(site, tree) if tree.state in UNSEEN else count(listing, tree.view.listing))
                | tally(entries, store, deferred, tree.view.listing),
                **_prospect(site, tree, setting),
            }
            for store, tree in sorted(site.trees.items())
        ],
    }


def _prospect(site: Site, tree: Tree, setting: str) -> dict[str, Any]:
    """How many projections it held and has not got back, and why not yet."""
    if not tree.held or tree.state is not TreeState.WATCHING:
        return {"restorable": 0, "recovery": ""}
    reason, known = prospect(site, tree, setting)
    number = 0 if reason in (Reason.NEVER, Reason.NO_REFRESH) else len(known.restorable)
    return {"restorable": number, "recovery": str(reason) if number else ""}


def tally(entries: list[Attention], store: str, deferred: set[int], here: Listing) -> dict[str, int]:
    """How many conversations of one worktree wait for something, by attention kind."""
    mine: dict[str, set[int]] = {k: set() for k in COUNTED}
    for entry in entries:
        if entry.kind in mine and (entry.root == store or entry.conversation in here):
            mine[entry.kind].add(entry.conversation)
    mine["deferred"] = {c for c in deferred if c in here}
    return {k: len(mine[k]) for k in COUNTED}
