"""One workspace as the engine holds it: its silo, its worktrees, and what each of them looked like last."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import StrEnum

from convsync_agent import layout
from convsync_agent.fs import CONVERSATIONS
from convsync_agent.homecoming import Reason, Sorted, judge, sort_out
from convsync_agent.model import Digest, Kind, Presence, Readable, Root, Unit
from convsync_agent.records import unpack, unpack_digest
from convsync_agent.scan import Listing, View
from convsync_agent.state import State, Workspace, Worktree
from convsync_agent.whereabouts import Whereabouts


class TreeState(StrEnum):
    WATCHING = "watching"
    PAUSED = "paused"
    MISSING = "missing"
    FOREIGN = "foreign"
    ERROR = "error"


@dataclass(slots=True)
class Tree:
    """One registered worktree. `since_ms`: when its state was first seen."""

    worktree: Worktree
    view: View
    state: TreeState = TreeState.WATCHING
    since_ms: int = 0
    last_change_ms: int | None = None
    identity: tuple[int, int] | None = None
    home: Whereabouts | None = None  # where it was when it was last seen there
    held: dict[int, str | None] = field(default_factory=dict)  # what it lost by going: HEAD then, by conversation

    @property
    def root(self) -> Root:
        return self.view.root


@dataclass(slots=True)
class Site:
    """One workspace id: one silo, any number of worktrees (by the path of their `.jp`)."""

    workspace: Workspace
    silo: View
    trees: dict[str, Tree] = field(default_factory=dict)
    silo_state: Readable = Readable.YES
    silo_identity: tuple[int, int] | None = None
    split_since: dict[int, int] = field(default_factory=dict)
    behind: dict[tuple[int, Root, Unit], Digest] = field(default_factory=dict)
    outrun: set[int] = field(default_factory=set)  # conversations that changed while they were being copied

    @property
    def id(self) -> str:
        return self.workspace.id

    @property
    def stores(self) -> list[str]:
        """The `.jp` directories whose stray lock files count (contract 7.1)."""
        return [p for p, t in self.trees.items() if t.state is TreeState.WATCHING]

    def view_at(self, root: str) -> View | None:
        """The silo, or a worktree that is watched, by the path of its root."""
        if self.silo.root.path == root:
            return self.silo
        tree = self.trees.get(root)
        return tree.view if tree is not None and tree.state is TreeState.WATCHING else None

    def watched(self) -> list[Tree]:
        return [t for t in self.trees.values() if t.state is TreeState.WATCHING]

    def views(self) -> list[View]:
        """The silo first, then every worktree that can be looked at, by path."""
        return [
            self.silo,
            *(self.trees[p].view for p in sorted(self.trees) if self.trees[p].state is TreeState.WATCHING),
        ]


def load_sites(state: State, now_ms: int, *, look: bool = True) -> dict[str, Site]:
    """Every registered workspace with the records of its roots.

    Without `look` no root is touched, as one that does not answer would stop whoever asks: `arrive` comes later.
    """
    sites = {}
    for workspace in state.workspaces():
        silo = View(Root(Kind.SILO, workspace.silo), Listing(), state.records(workspace.id, workspace.silo))
        sites[workspace.id] = Site(workspace, silo)
    homes = state.whereabouts()
    for row in state.worktrees():
        site = sites.get(row.workspace)
        if site is not None:
            store = layout.store_of(row.path)
            view = View(Root(Kind.WORKTREE, store), Listing(), state.records(row.workspace, store))
            since_ms = row.paused_ms or row.registered_ms
            site.trees[store] = Tree(row, view, since_ms=since_ms, home=homes.get(store), held=state.held(store))
    for site in sites.values():
        for conversation, root, unit, digest in state.behind(site.id):
            site.behind[conversation, Root(Kind.WORKTREE, root), Unit(unit)] = unpack_digest(digest)
        if look:
            arrive(site, now_ms)
    return sites


def arrive(site: Site, now_ms: int) -> None:
    """The first look at every path of a workspace."""
    for tree in site.trees.values():
        tree.state = TreeState.PAUSED if tree.worktree.paused else tree.state  # and so it was since it was paused
    resolve(site, now_ms)
    for tree in site.trees.values():
        if tree.state is TreeState.MISSING and tree.home is not None and tree.home.went_ms:
            tree.since_ms = tree.home.went_ms  # who looked then wrote it down


def resolve(site: Site, now_ms: int) -> bool:
    """Look what is at each path now: there, gone, another workspace, unreadable. True if anything changed."""
    before = (site.silo_state, site.silo_identity, [(t.state, t.identity) for t in site.trees.values()])
    site.silo_identity = layout.silo_identity(site.silo.root.path, used=bool(site.silo.records))
    site.silo_state = Readable.YES if site.silo_identity else Readable.MISSING
    seen: set[tuple[int, int]] = set()
    for store in sorted(site.trees):
        tree = site.trees[store]
        tree.identity = layout.identity(store)
        state = tree_state(tree, site.id)
        live = layout.identity(os.path.join(store, CONVERSATIONS))
        if state is TreeState.WATCHING and live is not None:
            # Roots whose conversations/ are the same directory are one root (design 4).
            state = TreeState.ERROR if live in seen else state
            seen.add(live)
        if state is not tree.state:
            tree.state, tree.since_ms = state, now_ms
    return before != (site.silo_state, site.silo_identity, [(t.state, t.identity) for t in site.trees.values()])


def pause_over(row: Worktree, now_ms: int) -> bool:
    """It is paused and the time for which it was has passed; nobody has cleared that away yet."""
    return row.paused and row.until_ms is not None and row.until_ms <= now_ms


def tree_state(tree: Tree, workspace: str) -> TreeState:
    """What the path of a registered worktree holds now (glossary: Registered worktree)."""
    if tree.worktree.paused:
        return TreeState.PAUSED
    if tree.identity is None:
        return TreeState.MISSING
    try:
        found = layout.read_id(tree.root.path)
    except OSError:
        return TreeState.ERROR
    if found is None:
        there = os.path.lexists(os.path.join(tree.root.path, layout.ID_FILE))
        return TreeState.ERROR if there else TreeState.MISSING
    if os.path.islink(os.path.join(tree.root.path, CONVERSATIONS)):
        return TreeState.ERROR
    return TreeState.WATCHING if found == workspace else TreeState.FOREIGN


def prospect(site: Site, tree: Tree, setting: str) -> tuple[Reason, Sorted]:
    """Whether what it held is to be put back, by what is remembered. SETTLING: as soon as everything rests."""
    head = tree.home.head if tree.home is not None else None
    here = tree.view.listing.conversations() if tree.state is TreeState.WATCHING else set()
    known = sort_out(tree.held, here, site.silo.listing.live.keys(), head)
    return judge(setting, known, refresh=tree.worktree.refresh, rests=False), known


def presence(site: Site, tree: Tree, conversation: int) -> Presence:
    """Which of the two roots hold it, as JP classifies: by directories alone (contract 5.1)."""
    durable = conversation in site.silo.listing
    here = conversation in tree.view.listing
    if durable and here:
        return Presence.PROJECTED
    return Presence.USER_LOCAL_ONLY if durable else Presence.WORKSPACE_ONLY


def count_missing(site: Site, tree: Tree) -> dict[str, int]:
    """The same of one that is gone, from what it held: `projected` is durable, `external` was never seen so."""
    noted = tree.home is not None and tree.home.went_ms
    held = tree.held.keys() if noted else {c for c, raw in tree.view.records.items() if not unpack(raw).archived}
    silo = site.silo.listing
    return {
        "projected": len(held & silo.live.keys()),
        "local": len(silo.live.keys() - held),
        "external": len(held - silo.conversations()),
        "archived": len(silo.archived),
    }


def count(silo: Listing, tree: Listing) -> dict[str, int]:
    """Presence counts of one worktree, live and archived classified separately, as JP does."""
    return {
        "projected": len(silo.live.keys() & tree.live.keys()),
        "local": len(silo.live.keys() - tree.live.keys()),
        "external": len(tree.live.keys() - silo.live.keys()) + len(tree.archived.keys() - silo.archived.keys()),
        "archived": len(silo.archived.keys() | tree.archived.keys()),
    }
