"""One root, walked through by listings and stats: how much there is, and what of it is not as it has to be.

No content is read and nothing is written.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from convsync_agent import layout, scan
from convsync_agent.condition import Link, SiloSeen, Survey, TreeSeen
from convsync_agent.errors import reason_of
from convsync_agent.fs import ARCHIVE, CONVERSATIONS
from convsync_agent.grounds import granule
from convsync_agent.habitat import may
from convsync_agent.lockfiles import Grasp, lock_files
from convsync_agent.model import FUTURE_NS, MANAGED
from convsync_agent.names import silo_matches
from convsync_agent.state import Workspace, Worktree

MOST_TIMES = 64


def survey(root: str, now_ns: int) -> Survey:
    """Everything `doctor` wants to know of one silo or `.jp`."""
    partition = _partition(os.path.join(root, CONVERSATIONS))
    try:
        listing = scan.list_root(root) if partition in ("fine", "absent") else scan.Listing()
        orphans = tuple(f.path for f in lock_files([root]) if f.grasp is Grasp.ORPHANED)
    except OSError as error:
        return Survey(fault=reason_of(error), partition=partition)
    walk = _Walk(root, now_ns)
    for conversation in sorted(listing.conversations()):
        for place in listing.places(conversation):
            walk.visit(conversation, place)
    return Survey(
        partition=partition,
        live=len(listing.live),
        archived=len(listing.archived),
        bytes=walk.bytes,
        largest=walk.largest,
        doubled=tuple(sorted(listing.doubled)),
        odd=tuple(sorted(listing.odd)),
        closed=tuple(sorted(walk.closed)),
        foreign=tuple(sorted(walk.foreign)),
        ahead=tuple(sorted(walk.ahead)),
        times_ns=granule(walk.times),
        orphans=orphans,
    )


def _partition(path: str) -> str:
    if os.path.islink(path):
        return "link"
    if not os.path.lexists(path):
        return "absent"
    return "fine" if os.path.isdir(path) else "file"


class _Walk:
    """Adds up what the directories of conversations say of themselves."""

    def __init__(self, root: str, now_ns: int) -> None:
        self.bytes = self.largest = 0
        self.closed: set[int] = set()
        self.foreign: set[int] = set()
        self.ahead: set[int] = set()
        self.times: list[int] = []
        self._top = os.path.join(root, CONVERSATIONS)
        self._latest = now_ns + FUTURE_NS

    def visit(self, conversation: int, place: scan.Place) -> None:
        path = os.path.join(self._top, *([ARCHIVE] if place.archived else []), place.name)
        size = 0
        try:
            for name, seen in self._entries(path):
                if stat.S_ISREG(seen.st_mode):
                    size += seen.st_size
                    if not may(os.path.join(path, name), os.R_OK | os.W_OK):
                        self.closed.add(conversation)
                if seen.st_uid != os.geteuid():
                    self.foreign.add(conversation)
                if name in MANAGED and seen.st_mtime_ns > self._latest:
                    self.ahead.add(conversation)
                if len(self.times) < MOST_TIMES:
                    self.times.append(seen.st_ctime_ns)  # nobody but the file system gives it
        except FileNotFoundError:  # it went while we looked
            return
        except OSError:
            self.closed.add(conversation)
        self.bytes += size
        self.largest = max(self.largest, size)

    def _entries(self, path: str) -> Iterator[tuple[str, os.stat_result]]:
        yield "", os.stat(path, follow_symlinks=False)
        if not may(path, os.R_OK | os.W_OK | os.X_OK):
            raise PermissionError
        with os.scandir(path) as entries:
            for entry in entries:
                yield entry.name, entry.stat(follow_symlinks=False)


def look_at_silo(workspace: Workspace, trees: list[str], silent: set[str], now_ns: int) -> SiloSeen:
    """The silo of one workspace. `trees`: its worktrees that answer; `silent`: roots that do not, not to be touched."""
    path = workspace.silo
    there, fault = _there(path)
    siblings = [s for s in layout.matching_silos(workspace.user_data, workspace.id) if s != path]
    return SiloSeen(
        workspace.id,
        path,
        there,
        named=silo_matches(os.path.basename(path), workspace.id),
        siblings=tuple(siblings),
        link=_storage(os.path.join(path, layout.STORAGE_LINK), workspace.id, silent),
        worktree=next((t for t in trees if os.path.isdir(layout.store_of(t))), ""),
        survey=survey(path, now_ns) if there and not fault else Survey(fault=fault),
    )


def _there(path: str) -> tuple[bool, str]:
    """Whether something is there, and why that cannot be told. Absent is only what the system says is."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False, ""
    except OSError as error:
        return True, reason_of(error)
    return True, ""


def _storage(path: str, workspace: str, silent: set[str]) -> Link:
    if not os.path.lexists(path):
        return Link.ABSENT
    if not os.path.islink(path):
        return Link.NO_LINK
    if os.readlink(path) in silent:
        return Link.FINE
    if not os.path.exists(path):
        return Link.DANGLING
    try:
        return Link.FINE if layout.read_id(path) == workspace else Link.ASTRAY
    except OSError:
        return Link.ASTRAY


def look_at_tree(row: Worktree, now_ns: int) -> TreeSeen:
    """One registered worktree."""
    store = layout.store_of(row.path)
    there, fault = _there(store)
    if not there or fault:
        return TreeSeen(row.path, row.workspace, there, survey=Survey(fault=fault))
    try:
        found = layout.read_id(store)
    except OSError as error:
        return TreeSeen(row.path, row.workspace, there, survey=Survey(fault=reason_of(error)))
    return TreeSeen(row.path, row.workspace, there, found, paused=row.paused, survey=survey(store, now_ns))
