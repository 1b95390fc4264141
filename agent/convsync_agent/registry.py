"""Register and unregister worktrees: resolve or create the silo, fold siblings, import, note it down."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass, field

from convsync_agent import layout, silos
from convsync_agent.dirs import jp_user_data_dir
from convsync_agent.engine import Engine
from convsync_agent.errors import NotFound, Refused, StorageProblem, UsageProblem, reason_of, storage_problem
from convsync_agent.fs import CONVERSATIONS
from convsync_agent.joining import join
from convsync_agent.model import Kind, Root
from convsync_agent.outcome import Outcome
from convsync_agent.plan import Import
from convsync_agent.recover import recover_site
from convsync_agent.scan import View
from convsync_agent.settling import absorb, settle
from convsync_agent.site import Site, Tree, resolve
from convsync_agent.state import Workspace, Worktree


@dataclass(slots=True)
class Registration:
    """What one `register` did, in the terms of its JSON (cli.md)."""

    worktree: str
    workspace: str
    silo: str
    created_silo: bool = False
    merged_silos: list[str] = field(default_factory=list)
    already_registered: bool = False
    outcome: Outcome = field(default_factory=Outcome)

    @property
    def imported(self) -> int:
        return sum(1 for r in self.outcome.done if isinstance(r.action, Import))


def register(
    engine: Engine, path: str, data_dir: str, *, slug: str | None = None, refresh: bool = True
) -> Registration:
    """Register the worktree at or above `path`. Idempotent. Raises before anything is changed."""
    worktree = layout.find_worktree(path)
    store = layout.store_of(worktree)
    workspace = layout.require_id(store)
    layout.require_plain_store(store)
    _require_slug(slug)
    user_data = jp_user_data_dir()
    known = engine.sites.get(workspace)
    already = known is not None and store in known.trees
    site, created, merged = open_site(engine, workspace, store, slug, user_data, data_dir)
    for loser in merged:
        silos.merge(engine, site, loser, data_dir)
    row = Worktree(worktree, workspace, refresh, False, time.time_ns() // 1_000_000, None, None)
    if already and known is not None:
        row = known.trees[store].worktree._replace(refresh=refresh)
    site.trees[store] = _tree(row, site.trees.get(store))
    engine.sites[workspace] = site
    done = Registration(worktree, workspace, "", bool(created), merged, already)
    try:
        joins = known is site and not already and not merged
        with silos.taking_all(engine) if created else contextlib.nullcontext():
            done.outcome = _first_sync(engine, site, site.trees[store] if joins else None)
        if created and done.outcome.failed:
            _refuse_incomplete(engine, site, done.outcome)
        if created and not silos.finish_silo(engine, site, created):
            _join(engine, site, workspace, slug, user_data, data_dir, done)
    except OSError as error:
        raise storage_problem(error, site.silo.root.path, "write to the silo") from None
    done.silo = site.silo.root.path
    with engine.state.transaction():
        engine.state.put_workspace(site.workspace)
        engine.state.put_worktree(row)
    return done


def _refuse_incomplete(engine: Engine, site: Site, outcome: Outcome) -> None:
    """A silo that lacks conversations must not get its name: JP would never import the rest (contract 10.7)."""
    problem = outcome.failed[0].problem
    ours = site.silo.root.path
    del engine.sites[site.id]
    with engine.state.transaction():
        engine.state.forget_root(ours)
    silos.discard_copy(ours)
    raise StorageProblem(
        f"the silo could not be created complete ({problem.detail}); nothing was changed",
        where=os.path.dirname(ours),
        hint="free some space or check the permissions there, then: convsync register",
        code=problem.kind,
    )


def _require_slug(slug: str | None) -> None:
    if slug is not None and (not slug or "/" in slug or slug.startswith(".") or "\0" in slug):
        raise UsageProblem(
            "a slug is part of a directory name: no '/' and no leading '.'", where=slug or "''", hint="--slug NAME"
        )


def open_site(
    engine: Engine, workspace: str, store: str, slug: str | None, user_data: str, data_dir: str
) -> tuple[Site, str, list[str]]:
    """The site, the final name of a silo that has just been started ('' if it existed), and the siblings to fold."""
    found = layout.matching_silos(user_data, workspace)
    known = engine.sites.get(workspace)
    if not found:
        silos.sweep_unfinished(user_data, data_dir)
        temporary = silos.start_silo(user_data, store)
        site = Site(Workspace(workspace, temporary, user_data), View(Root(Kind.SILO, temporary)))
        if known is not None:
            site.trees = known.trees
            for tree in site.trees.values():
                tree.view.records.clear()  # settled beside a silo that is gone: everything is looked at anew
        return site, f"{slug}-{workspace}" if slug else workspace, []
    chosen = layout.choose_silo(found, workspace, slug)
    _require_conversations(engine, known, chosen)
    if known is not None and known.silo.root.path == chosen:
        site = known
    else:
        records = engine.state.records(workspace, chosen)
        site = Site(Workspace(workspace, chosen, user_data), View(Root(Kind.SILO, chosen), records=records))
        site.trees = known.trees if known is not None else {}
    resolve(site, 0)
    return site, "", [loser for loser in found if loser != chosen]


def _require_conversations(engine: Engine, known: Site | None, silo: str) -> None:
    """A silo that lost `conversations/` is begun anew because a person says so; what it had proves nothing then."""
    if os.path.isdir(os.path.join(silo, CONVERSATIONS)):
        return
    if known is not None and known.silo.root.path == silo:
        with engine.state.transaction():
            engine.state.forget_seen(silo)
        for view in (known.silo, *(t.view for t in known.trees.values())):
            view.records.clear()
    os.makedirs(os.path.join(silo, CONVERSATIONS), exist_ok=True)


def _tree(row: Worktree, known: Tree | None) -> Tree:
    if known is not None:
        known.worktree = row
        return known
    view = View(Root(Kind.WORKTREE, layout.store_of(row.path)))
    return Tree(row, view, since_ms=time.time_ns() // 1_000_000)


def _first_sync(engine: Engine, site: Site, joining: Tree | None = None) -> Outcome:
    """Rescan and reconcile everything of the workspace; a copy that is changing gets its moment to settle.

    One that is `joining` others and brings nothing new costs what it holds, not what they hold.

    Kept copies are left to the agent: what came in just now is in its worktree, too, and nobody should wait for them.

    What an earlier `register` left when it died is cleared first: its workspace was not known to anybody's start.
    """
    recover_site(engine, site)
    if joining is not None and join(engine, site, joining):
        return Outcome()
    dirty = engine.rescan(site)
    if not site.silo.records:  # a new silo: what did not change in the worktrees has to come in, too
        dirty |= {c for v in site.views() for c in v.listing.conversations()}
    return settle(engine, site, dirty, keep=False)


def _join(
    engine: Engine, site: Site, workspace: str, slug: str | None, user_data: str, data_dir: str, done: Registration
) -> None:
    """JP created a silo while ours was being built: ours is folded into it like any sibling."""
    ours = site.silo.root.path
    chosen = layout.choose_silo(layout.matching_silos(user_data, workspace), workspace, slug)
    site.silo = View(Root(Kind.SILO, chosen))
    site.workspace = site.workspace._replace(silo=chosen)
    resolve(site, 0)
    silos.merge(engine, site, ours, data_dir)
    done.created_silo = False
    absorb(done.outcome, _first_sync(engine, site))


def unregister(engine: Engine, path: str) -> str:
    """Stop watching; deletes nothing. Works for a worktree that is gone, too. Raises NotFound."""
    row = find_registered(engine, path)
    with engine.state.transaction():
        engine.state.remove_worktree(row.path, layout.store_of(row.path))
    return row.path


def repath(engine: Engine, site: Site, tree: Tree, path: str) -> None:
    """A worktree moved: everything that is known of it goes with it. Raises OSError, and nothing is changed then.

    Where the new path is registered already, the entry of the old one just ends.
    """
    old, new = tree.root.path, layout.store_of(path)
    with engine.state.transaction():
        if new not in site.trees:
            engine.state.rename_root(old, new)
            engine.state.put_worktree(tree.worktree._replace(path=path))
        engine.state.remove_worktree(tree.worktree.path, old)


def find_registered(engine: Engine, path: str) -> Worktree:
    """The registered worktree at or above `path`, also when nothing is there any more."""
    rows = {t.worktree.path: t.worktree for s in engine.sites.values() for t in s.trees.values()}
    at = os.path.realpath(path)
    while True:
        if at in rows:
            return rows[at]
        parent = os.path.dirname(at)
        if parent == at:
            break
        at = parent
    raise NotFound(
        "not a registered worktree", where=os.path.realpath(path), hint="convsync status shows the registered ones"
    )


def remove_git_worktree(common_dir: str, path: str, *, force: bool) -> None:
    """`git worktree remove`, because a person asked for it. Raises Refused with what git says."""
    argv = ["git", "-C", common_dir, "worktree", "remove", *(["--force"] if force else []), "--", path]
    try:
        done = subprocess.run(argv, capture_output=True, check=False)
    except OSError as error:
        raise Refused(f"git cannot be run: {reason_of(error)}", where=path, hint="install git", code="git") from None
    if done.returncode:
        lines = [n.partition(": ")[2] or n for n in os.fsdecode(done.stderr).splitlines() if n.strip()]
        hint = f"git -C {path} status; what is in it is durable now, so --force loses no conversation"
        raise Refused(f"git says: {'; '.join(lines)}", where=path, hint=hint, code="git")


def sibling_worktrees(path: str) -> list[str]:
    """Every git worktree of the same repository that has a `.jp`. Runs git: a person asked for it."""
    at = layout.find_worktree(path)
    try:
        told = subprocess.run(
            ["git", "-C", at, "worktree", "list", "--porcelain", "-z"], capture_output=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        raise UsageProblem(
            "git cannot list the worktrees of this repository", where=at, hint="convsync register PATH"
        ) from None
    paths = [os.fsdecode(f[9:]) for f in told.stdout.split(b"\0") if f.startswith(b"worktree ")]
    return sorted({p for p in paths if os.path.isdir(layout.store_of(p))} | {at})
