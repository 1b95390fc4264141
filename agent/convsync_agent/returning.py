"""Worktrees that come back or move: put back what they held, follow them to another path (docs/design.md, 7).

The agent asks every two seconds, which costs a few stats for each worktree, and more seldom where there are so many
that this would be felt; `recover` asks when a person does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from convsync_agent import fs, githead, layout, logs, registry, scan
from convsync_agent.agenda import Agenda
from convsync_agent.engine import Engine
from convsync_agent.homecoming import MOVED_NS, NO_GIT, QUIET_ROOT_NS, Reason
from convsync_agent.imported import Importer, read_as_seen
from convsync_agent.model import SECOND, Grade, Partition, Readable
from convsync_agent.plan import Import
from convsync_agent.results import Done, Postponed, Result
from convsync_agent.scan import Place
from convsync_agent.site import Site, Tree, TreeState, prospect

TICK_SECONDS, LONGEST_TICK = 2.0, 15.0
COST_SHARE = 0.0005  # of one core, for asking: about 15 worktrees in two seconds
AT_ONCE = 32  # projections made under their locks together

log = logs.get("returning")


@dataclass(slots=True)
class Returning:
    """The agent's part: when to ask, and what was seen of moves."""

    _next: float = 0.0
    _admin: dict[str, tuple[int, int] | None] = field(default_factory=dict)
    _elsewhere: dict[str, tuple[str, int]] = field(default_factory=dict)

    def wait(self) -> float:
        return max(0.0, self._next - time.monotonic())

    def soon(self) -> None:
        self._next = 0.0

    def run(self, engine: Engine, agenda: Agenda) -> None:
        """Look at every worktree: has HEAD moved, is it back, is it elsewhere. What was done goes on the agenda."""
        if time.monotonic() < self._next:
            return
        planned = time.monotonic() + (TICK_SECONDS if any(s.trees for s in engine.sites.values()) else 3600.0)
        self._next, cost = planned, 0.0
        for site in engine.sites.values():
            silo = site.silo.root.path
            if site.silo_state is Readable.MISSING and layout.silo_identity(silo, used=bool(site.silo.records)):
                agenda.rearm(silo)  # a file system that is mounted tells nobody
            for tree in list(site.trees.values()):
                if tree.state is not TreeState.MISSING:
                    self._elsewhere.pop(tree.root.path, None)
                before = time.thread_time()
                engine.holdings.refresh(site, tree)
                cost += time.thread_time() - before
                if tree.state is TreeState.MISSING and os.path.lexists(os.path.join(tree.root.path, layout.ID_FILE)):
                    agenda.rearm(tree.root.path)
                elif tree.state is TreeState.MISSING:
                    agenda.reload = self._follow(engine, site, tree) or agenda.reload
                elif tree.state is TreeState.WATCHING and tree.held:
                    agenda.add_all(site.id, self._welcome(engine, site, tree))
        if self._next == planned:  # nobody who comes back is waited for
            self._next += pause_after(cost) - TICK_SECONDS

    def _welcome(self, engine: Engine, site: Site, tree: Tree) -> set[int]:
        """Put back what is due once everything rests. Returns what was."""
        reason, known = prospect(site, tree, str(engine.settings.reproject))
        if not known.found and reason is not Reason.SETTLING:
            return set()
        try:
            tree.view.listing = scan.list_root(tree.root.path)
            reason, known = prospect(site, tree, str(engine.settings.reproject))
            engine.holdings.settle(tree, known.found)
            left = unrest_ns(tree)
        except OSError:
            return set()  # looked at again by itself
        if reason is not Reason.SETTLING:
            return set()
        if left:
            self._next = min(self._next, time.monotonic() + left / SECOND + 0.01)
            return set()
        done = put_back(engine, site, tree, known.due, lambda: _still(tree))
        put = {r.action.conversation for r in done if isinstance(r, Done)}
        engine.holdings.settle(tree, put)
        log.info(
            "put back", workspace=site.id, worktree=tree.worktree.path, done=len(put), left=len(known.due) - len(put)
        )
        return put

    def _follow(self, engine: Engine, site: Site, tree: Tree) -> bool:
        """Whether a worktree that is gone is at another path now."""
        there = self._named_by_git(site, tree) or self._seen_elsewhere(site, tree)
        if there is None:
            return False
        try:
            registry.repath(engine, site, tree, there)
        except OSError as error:
            log.warning("cannot follow a worktree", worktree=there, code=error.errno)
            return False
        log.info("moved", workspace=site.id, worktree=there, was=tree.worktree.path)
        return True

    def _named_by_git(self, site: Site, tree: Tree) -> str | None:
        """Where git's admin directory has it, if that is it. One stat while that file is the same."""
        home = tree.home
        if home is None or not home.git_dir or home.git_dir == home.common_dir:
            return None
        try:
            found = os.stat(os.path.join(home.git_dir, "gitdir"))
        except OSError:
            return None
        stamp = (found.st_ino, found.st_mtime_ns)
        if self._admin.get(tree.root.path) == stamp:
            return None
        self._admin[tree.root.path] = stamp
        return moved_to(site, tree)

    def _seen_elsewhere(self, site: Site, tree: Tree) -> str | None:
        """A registered worktree that is the same directory, seen twice, a minute apart."""
        home = tree.home
        for other in site.trees.values():
            if home is None or not home.inode or other is tree or other.home is None or other.home.went_ms:
                continue
            if (other.home.device, other.home.sight) == (home.device, home.sight):
                now = time.monotonic_ns()
                there, since = self._elsewhere.get(tree.root.path, ("", now))
                since = since if there == other.root.path else now
                self._elsewhere[tree.root.path] = (other.root.path, since)
                return other.worktree.path if now - since >= MOVED_NS else None
        return None


def pause_after(cost: float) -> float:
    """Seconds until the next look, when one took `cost` seconds of processor time."""
    return min(LONGEST_TICK, max(TICK_SECONDS, cost / COST_SHARE))


def moved_to(site: Site, tree: Tree) -> str | None:
    """The path of this very worktree by git's admin directory: there, of this workspace, and git agrees."""
    home = tree.home
    if home is None or not home.git_dir:
        return None
    top = githead.worktree_paths(home.common_dir).get(home.git_dir)
    if top is None:
        return None
    path = os.path.realpath(os.path.join(top, home.below))
    git = githead.find_git(path)
    try:
        same = git is not None and git.git_dir == home.git_dir and layout.read_id(layout.store_of(path)) == site.id
    except OSError:
        return None
    return path if same and path != tree.worktree.path else None


def _still(tree: Tree) -> bool:
    """Git is not at work there, and HEAD is what it was when that was decided."""
    git = githead.find_git(tree.worktree.path)
    head = githead.head_text(git) if git is not None else NO_GIT
    return tree.home is not None and tree.home.head == head and not (git and os.path.lexists(git.lock_path))


def unrest_ns(tree: Tree) -> int:
    """How long until git and the root will have been quiet long enough, if nothing happens; 0: they have. OSError."""
    now = time.time_ns()
    git = githead.find_git(tree.worktree.path)
    if git is not None and not githead.rests(git, QUIET_ROOT_NS, now):
        return QUIET_ROOT_NS // 4
    age = now - _newest_ctime(tree)
    return QUIET_ROOT_NS - age if 0 <= age < QUIET_ROOT_NS else 0


def _newest_ctime(tree: Tree) -> int:
    """When something last happened in the root: its directories, its id, the directory of each conversation."""
    root = tree.root.path
    live = os.path.join(root, fs.CONVERSATIONS)
    paths = [root, os.path.join(root, layout.ID_FILE), live, os.path.join(live, fs.ARCHIVE)]
    paths += [os.path.join(live, name) for name in tree.view.listing.live.values()]
    newest = 0
    for path in paths:
        try:
            newest = max(newest, os.stat(path, follow_symlinks=False).st_ctime_ns)
        except FileNotFoundError:
            continue
    return newest


def put_back(
    engine: Engine, site: Site, into: Tree, conversations: Iterable[int], still: Callable[[], bool] = lambda: True
) -> list[Result]:
    """Project these durable copies into a worktree that has none of them. What is there is not touched.

    `still` is asked before each burst. A copy that is not whole, valid and quiet now has no result.
    RACE: git begins to write right after that question (milliseconds). It does not overwrite what it did not
    write, and what it brings itself is found there and left alone.
    """
    results: list[Result] = []
    wanted = sorted(conversations)
    for start in range(0, len(wanted), AT_ONCE):
        if not still() or site.silo_state is not Readable.YES:
            break
        actions = _actions(engine, site, into, wanted[start : start + AT_ONCE])
        importer = Importer(site.silo.root, lambda: site.stores, read_as_seen, 0, into=into.root)
        engine.staged_in.add(into.root)
        results += importer.imports(actions)
        engine.contents.clear()
    made = [r.action for r in results if isinstance(r, Done) and isinstance(r.action, Import)]
    for action in made:
        into.view.listing.put(action.conversation, (Place(action.name, archived=False),))
    _log(engine, site, made)
    return results


def _actions(engine: Engine, site: Site, into: Tree, conversations: Collection[int]) -> list[Import]:
    actions = []
    for conversation in conversations:
        name = site.silo.listing.live.get(conversation)
        if name is None:
            continue
        try:
            copy, _ = engine.eye.look(site.silo.root, conversation, Place(name, archived=False), None)
        except OSError:
            continue
        good = copy.whole and all(u.grade is Grade.VALID and u.quiet for u in (copy.stream, copy.metadata))
        if good and not site.silo.listing.doubled.get(conversation):
            actions.append(Import(conversation, into.root, Partition.LIVE, name, copy, copy, why="came back"))
    return actions


def _log(engine: Engine, site: Site, made: Iterable[Import]) -> None:
    now_ms, silo = time.time_ns() // 1_000_000, site.silo.root.path
    rows = [(now_ms, "project", site.id, a.conversation, "all", silo, a.target.path, a.size) for a in made]
    if rows:
        try:
            with engine.state.transaction():
                engine.state.log(rows)
        except OSError as error:  # a convenience only (R8)
            log.warning("cannot note what was put back", code=error.errno)


def postponed(results: Iterable[Result]) -> dict[int, str]:
    """Why what was not put back was not: locked, unstable, or what the system said."""
    found = {}
    for result in results:
        if not isinstance(result, Done):
            found[result.action.conversation] = (
                result.reason if isinstance(result, Postponed) else result.problem.detail
            )
    return found
