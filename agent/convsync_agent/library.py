"""What a program that imports convsync may ask: the conversations of a worktree. Nothing is written or imported."""

from __future__ import annotations

import os
import time

from convsync_agent import dirs, index, layout, state
from convsync_agent.index import IndexEntry
from convsync_agent.model import Kind, Root
from convsync_agent.scan import View
from convsync_agent.site import Site, Tree, load_sites, resolve
from convsync_agent.state import Workspace, Worktree


def load_index(worktree: str | os.PathLike[str]) -> list[IndexEntry]:
    """Every conversation of the workspace that `worktree` lies in, once, by id, with its presence in each worktree.

    The worktree need not be registered, and no agent need run: registered ones of the same workspace are counted in,
    else the silo is looked for as JP does. Raises NotFound where there is no `.jp`, UsageProblem where its id is
    broken, StorageProblem where the silo cannot be listed.
    """
    site, _ = site_of(worktree)
    return index.load_index(site)


def site_of(path: str | os.PathLike[str]) -> tuple[Site, Tree]:
    """The workspace at or above `path` and the worktree there, registered or not. Raises NotFound, UsageProblem."""
    top = layout.find_worktree(os.fspath(path))
    store = layout.store_of(top)
    workspace = layout.require_id(store)
    now_ms = time.time_ns() // 1_000_000
    site = _registered(workspace, now_ms) or _unknown(workspace, top)
    if store not in site.trees:
        row = Worktree(top, workspace, True, False, now_ms, None, None)
        site.trees[store] = Tree(row, View(Root(Kind.WORKTREE, store)), since_ms=now_ms)
        resolve(site, now_ms)
    return site, site.trees[store]


def _registered(workspace: str, now_ms: int) -> Site | None:
    opened = state.reader(dirs.state_dir())
    if opened is None:
        return None
    try:
        return load_sites(opened, now_ms).get(workspace)
    finally:
        opened.close()


def _unknown(workspace: str, worktree: str) -> Site:
    """A workspace that nobody registered, with the silo that JP would take. None there yet is an empty one."""
    user_data = dirs.jp_user_data_dir()
    found = layout.matching_silos(user_data, workspace)
    silo = os.path.join(layout.workspaces_dir(user_data), workspace)
    if found:
        silo = layout.choose_silo(found, workspace, os.path.basename(worktree))
    return Site(Workspace(workspace, silo, user_data), View(Root(Kind.SILO, silo)))
