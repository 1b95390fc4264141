"""Who went, who is back, and what each worktree held: noted while it is watched, kept in `state.db` when it goes."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field

from convsync_agent import githead, layout
from convsync_agent.homecoming import NO_GIT, Sight, held_by, made_anew, taken_away
from convsync_agent.records import unpack
from convsync_agent.site import Site, Tree, TreeState
from convsync_agent.state import State
from convsync_agent.whereabouts import Whereabouts

_LARGEST = 2**63 - 1
GONE = (TreeState.MISSING, TreeState.FOREIGN)


@dataclass(slots=True)
class Holdings:
    """Compares what `site.resolve` found with what is remembered.

    `unwritten`: roots that the state lacks; `dry`: nothing is written.
    """

    state: State
    unwritten: set[str] = field(default_factory=set)
    dry: bool = False

    def note(self, site: Site) -> list[Tree]:
        """After `resolve`, before anything is listed. Returns the worktrees that went just now.

        One that went and was made again while nobody looked went as well: its records are what it held.
        """
        went = []
        for tree in site.trees.values():
            before = tree.home
            if tree.state in GONE and (before is None or not before.went_ms or tree.root.path in self.unwritten):
                went += [tree] if before is None or not before.went_ms else []
                self._went(site, tree)
            elif tree.state is TreeState.WATCHING:
                now = sight(site, tree)
                if now is None:
                    continue
                anew = before is not None and made_anew(before.sight, now.sight)
                if anew and before is not None and not before.went_ms:
                    went.append(tree)
                    self._went(site, tree)
                if now != tree.home:
                    self._here(tree, now, anew=anew)
        return went

    def _went(self, site: Site, tree: Tree) -> None:
        """Note what it held, under the HEAD it was on."""
        root, now_ns = tree.root.path, time.time_ns()
        home = tree.home or Whereabouts(root, site.id, 0, 0, 0, None, "", "", "")
        went_ms = home.went_ms or now_ns // 1_000_000
        live = {c for c, raw in tree.view.records.items() if not unpack(raw).archived}
        there = tree.view.listing.conversations()
        missed = {c: m.first_ns for c, m in tree.view.missed.items() if c not in there}
        unprojected = {c for c, at_ms in self.state.unprojected(root).items() if c in live and _taken(tree, c, at_ms)}
        held = held_by(live, missed, went_ms * 1_000_000, unprojected)
        tree.home = home._replace(went_ms=went_ms)
        tree.held |= dict.fromkeys(held, home.head)
        tree.since_ms = went_ms if tree.state in GONE else tree.since_ms
        if self.dry:
            return
        try:
            with self.state.transaction():
                self.state.put_whereabouts(tree.home)
                self.state.put_held(root, held, home.head)
            self.unwritten.discard(root)
        except OSError:  # tried again at the next look; until then it is known here
            self.unwritten.add(root)

    def _here(self, tree: Tree, now: Whereabouts, *, anew: bool) -> None:
        """It is there, and where it was last or not: remember it as it is."""
        root = tree.root.path
        with contextlib.suppress(OSError):
            with contextlib.nullcontext() if self.dry else self.state.transaction():
                self._write(tree, now, anew=anew)
            tree.home = now
            self.unwritten.discard(root)
            if anew:
                tree.view.records.clear()
                tree.view.missed.clear()

    def _write(self, tree: Tree, now: Whereabouts, *, anew: bool) -> None:
        if self.dry:
            return
        self.state.put_whereabouts(now)
        if anew:
            self.state.forget_seen(now.root)
        if now.root in self.unwritten:
            for head in set(tree.held.values()):
                self.state.put_held(now.root, [c for c, h in tree.held.items() if h == head], head)

    def refresh(self, site: Site, tree: Tree) -> None:
        """Git's HEAD may have moved: a few stats, and a write only when it has."""
        if tree.state is TreeState.WATCHING and tree.home is not None and not tree.home.went_ms:
            now = sight(site, tree)
            if now is not None and now != tree.home and not made_anew(tree.home.sight, now.sight):
                self._here(tree, now, anew=False)

    def settle(self, tree: Tree, conversations: set[int] | frozenset[int]) -> None:
        """These are not held any more: they were put back, or found there."""
        if conversations:
            for conversation in conversations:
                tree.held.pop(conversation, None)
            with contextlib.suppress(OSError), self.state.transaction():  # else they are found there after a restart
                self.state.drop_held(tree.root.path, conversations)


def _taken(tree: Tree, conversation: int, said_ms: int) -> bool:
    """A command took it away, even where nobody has looked since: what is listed may be older than that."""
    view = tree.view
    missed = view.missed.get(conversation)
    seen_ns = missed.seen_ns if missed and conversation not in view.listing else view.listed_ns
    return taken_away(said_ms, unpack(view.records[conversation]).written_ns, seen_ns)


def sight(site: Site, tree: Tree) -> Whereabouts | None:
    """What is there now; None when it is just going."""
    root = tree.root.path
    identity = layout.identity(root)
    try:
        id_mtime = os.stat(os.path.join(root, layout.ID_FILE)).st_mtime_ns
    except OSError:
        return None
    if identity is None:
        return None
    device, inode = (n & _LARGEST for n in identity)
    git = githead.find_git(tree.worktree.path)
    if git is None:
        home = tree.home
        if home is not None and home.git_dir and home.sight == Sight(inode, id_mtime & _LARGEST):
            return home._replace(went_ms=0)  # its `.git` went first: what is being removed was on a branch until then
        return Whereabouts(root, site.id, device, inode, id_mtime & _LARGEST, NO_GIT, "", "", "")
    below = git.below.removesuffix("/").removesuffix(layout.STORE).removesuffix("/")
    head = githead.head_text(git)
    return Whereabouts(root, site.id, device, inode, id_mtime & _LARGEST, head, git.git_dir, git.common_dir, below)
