"""Bring the user-local storage that was there before into shape: one silo for each workspace, with everything in it.

Sibling silos are folded into the one that JP would use, and what only a worktree has is imported, live and archived,
whatever the import policy. Doing it again finds nothing to do, also after a death in the middle: what is in step
needs no action, and a sibling stays until all of it is. `plan` looks only, and writes nothing anywhere.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from convsync_agent import flocks, layout, silos
from convsync_agent.contention import RETRY_SECONDS
from convsync_agent.dirs import jp_user_data_dir
from convsync_agent.engine import Engine
from convsync_agent.errors import ConvsyncError, LockHeld, NotFound, StorageProblem, storage_problem
from convsync_agent.importing import take_in
from convsync_agent.model import SECOND, Kind, Root, Unit
from convsync_agent.names import lock_name
from convsync_agent.outcome import Outcome
from convsync_agent.plan import Import, Keep, Update
from convsync_agent.recover import recover_site
from convsync_agent.registry import find_registered, open_site
from convsync_agent.scan import View, list_root
from convsync_agent.site import Site, Tree, TreeState, resolve
from convsync_agent.state import Workspace, Worktree

DRY_PATIENCE = 2.5


@dataclass(frozen=True, slots=True)
class Home:
    """A workspace to migrate. `worktree`: one of it that is not registered, '' where all are."""

    workspace: str
    user_data: str
    worktree: str = ""


@dataclass(slots=True)
class Migration:
    """What was done for one workspace, or would be. `conflicts`: units of which two silos had different content.

    `moved`: conversations that only a sibling had; `imported`: those that only a worktree had.
    """

    workspace: str
    silo: str
    merged: list[str] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)
    imported: list[int] = field(default_factory=list)
    conflicts: list[tuple[int, Unit]] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        return not (self.merged or self.imported)


def homes(engine: Engine, path: str | None) -> list[Home]:
    """The workspace of PATH; without, every registered one and that of the current directory.

    Raises NotFound, and UsageProblem for a bad `.jp/.id`.
    """
    known = {k: Home(k, s.workspace.user_data) for k, s in engine.sites.items()}
    if path is None:
        found = [known[k] for k in sorted(known)]
        with contextlib.suppress(ConvsyncError):
            here = _home_at(os.getcwd(), known)
            found += [here] if here.workspace not in known else []
        return found
    with contextlib.suppress(NotFound):
        return [known[find_registered(engine, path).workspace]]
    return [_home_at(path, known)]


def _home_at(path: str, known: dict[str, Home]) -> Home:
    worktree = layout.find_worktree(path)
    store = layout.store_of(worktree)
    workspace = layout.require_id(store)
    layout.require_plain_store(store)
    user_data = known[workspace].user_data if workspace in known else jp_user_data_dir()
    return Home(workspace, user_data, worktree)


# -- looking only -----------------------------------------------------------------------


def plan(engine: Engine, home: Home) -> Migration | None:
    """What `migrate` would do. None: no silo is there to begin with. Writes nothing, the state included."""
    found = _silos(engine, home)
    if not found:
        return None
    chosen = layout.choose_silo(found, home.workspace, None)
    done = Migration(home.workspace, chosen, [s for s in found if s != chosen])
    try:
        silo, siblings = _view(Kind.SILO, chosen), [_view(Kind.WORKTREE, s) for s in done.merged]
        trees = [_view(Kind.WORKTREE, s) for s in _stores(engine, home)]
    except OSError as error:
        raise storage_problem(error, chosen, "list the conversations") from None
    workspace = Workspace(home.workspace, chosen, home.user_data)
    there = _all(siblings)
    outcome = _dry(engine, _imagined(workspace, silo, siblings), there)
    done.moved = [a.conversation for r in outcome.done if isinstance(a := r.action, Import)]
    done.conflicts = _conflicts(outcome)
    outside = _all(trees) - silo.listing.conversations() - there
    outcome = _dry(engine, _imagined(workspace, silo, trees), outside)
    done.imported = [a.conversation for r in outcome.done if isinstance(a := r.action, Import)]
    return done


def _silos(engine: Engine, home: Home) -> list[str]:
    """Raises StorageProblem where one was registered and none is there: not mounted is not migrated."""
    found = layout.matching_silos(home.user_data, home.workspace)
    site = engine.sites.get(home.workspace)
    if not found and site is not None:
        raise StorageProblem(
            "the silo is not there", where=site.silo.root.path, hint="convsync register", code="missing"
        )
    return found


def _view(kind: Kind, path: str) -> View:
    return View(Root(kind, path), list_root(path))


def _all(views: Collection[View]) -> set[int]:
    return {c for v in views for c in v.listing.conversations()}


def _stores(engine: Engine, home: Home) -> list[str]:
    site = engine.sites.get(home.workspace)
    mine = {t.root.path for t in site.watched()} if site is not None else set()
    return sorted(mine | ({layout.store_of(home.worktree)} if home.worktree else set()))


def _imagined(workspace: Workspace, silo: View, views: Collection[View]) -> Site:
    """These roots beside that silo, none of them ever written to."""
    site = Site(workspace, silo)
    for view in views:
        row = Worktree(
            view.root.path, workspace.id, refresh=False, paused=False, registered_ms=0, device=None, inode=None
        )
        site.trees[view.root.path] = Tree(row, view, identity=layout.identity(view.root.path))
    return site


def _dry(engine: Engine, site: Site, conversations: set[int]) -> Outcome:
    """The plan, once nothing is too young to be judged."""
    deadline = time.monotonic() + DRY_PATIENCE
    while True:
        with silos.taking_all(engine):
            outcome = engine.cycle(site, conversations, dry=True)
        waiting = [ns for ns in (*outcome.again.values(), *(d.again_ns for d in outcome.deferred)) if ns < 2 * SECOND]
        if not waiting or time.monotonic() >= deadline:
            return outcome
        time.sleep(RETRY_SECONDS)


def _conflicts(outcome: Outcome) -> list[tuple[int, Unit]]:
    """What the history gets: the unit that loses, and nothing that the winner contains."""
    actions = [r.action for r in outcome.done]
    kept = {(a.conversation, a.unit) for a in actions if isinstance(a, Keep) or (isinstance(a, Update) and a.keep)}
    return sorted(kept)


# -- doing it ---------------------------------------------------------------------------


def migrate(engine: Engine, home: Home, data_dir: str, *, deadline: float) -> Migration | None:
    """Fold the siblings and import. None: no silo is there to begin with, and nobody registered (`register` makes one).

    Waits until `deadline` for a JP that works in a sibling. Raises LockHeld, Refused, StorageProblem.
    """
    if not _silos(engine, home):
        return None
    registered = home.workspace in engine.sites
    site, _, losers = open_site(engine, home.workspace, "", None, home.user_data, data_dir)
    guest = layout.store_of(home.worktree) if home.worktree else ""
    if guest and guest not in site.trees:
        row = Worktree(
            home.worktree, home.workspace, refresh=False, paused=False, registered_ms=0, device=None, inode=None
        )
        site.trees[guest] = Tree(row, View(Root(Kind.WORKTREE, guest)))
    else:
        guest = ""
    engine.sites[home.workspace] = site
    done = Migration(home.workspace, site.silo.root.path)
    try:
        recover_site(engine, site)
        _wait_for_jp(site.silo.root.path, losers, deadline)
        for loser in losers:
            outcome = _merged(engine, site, loser, data_dir, deadline)
            done.merged.append(loser)
            done.moved += [a.conversation for r in outcome.done if isinstance(a := r.action, Import)]
            done.conflicts += _conflicts(outcome)
        if registered:  # what died after a merge had not said yet which silo it is now
            with engine.state.transaction():
                engine.state.put_workspace(site.workspace)
        done.imported = _import(engine, site)
    except OSError as error:
        raise storage_problem(error, site.silo.root.path, "write to the silo") from None
    finally:
        if guest:
            del site.trees[guest]
        with engine.state.transaction():  # of what nobody registered nothing is remembered: it may change unseen
            for root in ([guest] if guest else []) + ([] if registered else [site.silo.root.path]):
                engine.state.forget_root(root)
        if not registered:
            del engine.sites[home.workspace]
    return done


def _wait_for_jp(silo: str, losers: Collection[str], deadline: float) -> None:
    """Before anything moves, nobody works in a sibling, or here on a conversation of one. Raises LockHeld."""
    shared = {lock_name(c) for s in losers for c in list_root(s).conversations()}
    while busy := [s for s in losers if flocks.all_busy(s)] or [s for s in losers if flocks.all_busy(silo) & shared]:
        if time.monotonic() >= deadline:
            what = "a running jp uses one of the silos of this workspace"
            raise LockHeld(what, where=busy[0], hint="try again when it is done")
        time.sleep(RETRY_SECONDS)


def _merged(engine: Engine, site: Site, loser: str, data_dir: str, deadline: float) -> Outcome:
    while True:
        try:
            return silos.merge(engine, site, loser, data_dir)
        except LockHeld:
            if time.monotonic() >= deadline:
                raise
            time.sleep(RETRY_SECONDS)


def _import(engine: Engine, site: Site) -> list[int]:
    """What no silo had. A removal's left-over stays what it is."""
    resolve(site, time.time_ns() // 1_000_000)
    site.silo.listing = list_root(site.silo.root.path)
    outside: set[int] = set()
    for tree in site.trees.values():
        if tree.state is TreeState.WATCHING:
            tree.view.listing = list_root(tree.root.path)
            outside |= tree.view.listing.conversations()
    outside -= site.silo.listing.conversations()
    outcome = take_in(engine, site, outside) if outside else Outcome()
    for failed in outcome.failed:
        problem = failed.problem
        where = problem.root.path if problem.root else site.silo.root.path
        raise StorageProblem(problem.detail, where=where, hint="convsync status", code=problem.kind)
    return sorted({a.conversation for r in outcome.done if isinstance(a := r.action, Import)})
