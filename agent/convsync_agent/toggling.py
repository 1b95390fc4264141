"""One projection, created or deleted by command: which worktree is meant, and what happens around the lock."""

from __future__ import annotations

from convsync_agent.chosen import look
from convsync_agent.contention import wait_for_lock
from convsync_agent.engine import Engine
from convsync_agent.errors import NotFound, UsageProblem, storage_problem
from convsync_agent.guard import held
from convsync_agent.importing import ensure_durable
from convsync_agent.index import IndexEntry
from convsync_agent.model import Partition, Presence, Projection
from convsync_agent.names import id_text
from convsync_agent.projecting import archived, require_there
from convsync_agent.settling import settle
from convsync_agent.site import Site, Tree

AFTER = {Projection.PROJECTED: Presence.PROJECTED, Projection.LOCAL_ONLY: Presence.USER_LOCAL_ONLY}
"""The presence in a worktree once an intent is fulfilled there."""


def meant(site: Site, entry: IndexEntry, wanted: Projection | None, here: Tree | None) -> Tree | None:
    """The worktree that is meant where nobody named one: `here`, else the only choice there is.

    None: it is in no worktree, so there is nothing to take away. Raises UsageProblem that names `--worktree`.
    """
    if here is not None:
        return here
    holding = [t for t in site.trees.values() if t.worktree.path in entry.worktrees]
    choice = list(site.trees.values()) if wanted is Projection.PROJECTED or not holding else holding
    if len(choice) == 1:
        return choice[0]
    if wanted is Projection.LOCAL_ONLY and not holding:
        return None
    verb = "unproject" if wanted is Projection.LOCAL_ONLY else "project"
    raise UsageProblem(
        f"{len(choice)} worktrees could be meant",
        where=id_text(entry.id),
        hint=f"convsync {verb} {id_text(entry.id)} --worktree PATH",
        code="ambiguous",
    )


def other_way(entry: IndexEntry, tree: Tree) -> Projection:
    """What turns the projection in one worktree round."""
    here = tree.worktree.path in entry.worktrees
    return Projection.LOCAL_ONLY if here else Projection.PROJECTED


def reach(
    engine: Engine, site: Site, entry: IndexEntry, tree: Tree, projection: Projection, *, deadline: float
) -> bool:
    """Create or delete the projection in one worktree. False: it was so already, and is meant to stay so.

    `deadline` is of `time.monotonic`. Raises NotFound, Refused, LockHeld, StorageProblem.
    """
    require_there(tree)
    if entry.partition is Partition.ARCHIVED:
        raise archived(entry.id)
    external = entry.overall is Presence.WORKSPACE_ONLY
    if external and (projection is Projection.LOCAL_ONLY or tree.worktree.path not in entry.worktrees):
        name = id_text(entry.id)
        raise NotFound("it has no durable copy yet", where=name, hint=f"convsync import {name}", code="external")
    try:
        if external:
            ensure_durable(engine, site, entry.id, deadline)
        elif projection is Projection.LOCAL_ONLY and tree.worktree.path in entry.worktrees:
            _bring_in_step(engine, site, entry.id, deadline)
        with held(engine, site, entry, tree=tree, deadline=deadline) as guard:
            return guard.reach(tree, projection) or external
    except OSError as error:
        verb = "project it" if projection is Projection.PROJECTED else "take the projection away"
        raise storage_problem(error, tree.worktree.path, verb) from None
    finally:
        engine.settle_waiting(engine.sites)


def _bring_in_step(engine: Engine, site: Site, conversation: int, deadline: float) -> None:
    """An edit that only the projection has becomes the durable content, not just a version of the history."""
    wait_for_lock(site, conversation, deadline)
    look(engine, site, conversation)
    settle(engine, site, {conversation})
