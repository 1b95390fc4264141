"""JP's places on disk: the workspace of a directory, its id, its silo (contract 1, 2 and 3.4)."""

from __future__ import annotations

import os
import time

from convsync_agent.errors import NotFound, Refused, UsageProblem, storage_problem
from convsync_agent.flocks import LOCKS
from convsync_agent.fs import ARCHIVE, CONVERSATIONS
from convsync_agent.model import Partition, Root
from convsync_agent.names import lock_name, parse_workspace_id, silo_matches

STORE, ID_FILE, STORAGE_LINK, WORKSPACES = ".jp", ".id", "storage", "workspace"
STAGING = ".convsync"


def find_worktree(start: str) -> str:
    """The nearest directory at or above `start` that holds a `.jp` directory, as JP searches (contract 1.1)."""
    path = os.path.realpath(start)
    if not os.path.lexists(path):
        raise NotFound("no such directory", where=start, hint="convsync register PATH of a worktree")
    at = path
    while True:
        if os.path.isdir(os.path.join(at, STORE)):
            return at
        parent = os.path.dirname(at)
        if parent == at:
            break
        at = parent
    raise NotFound(
        f"no {STORE} directory in it or above it", where=path, hint="run `jp init` there, or name a worktree"
    )


def store_of(worktree: str) -> str:
    """The workspace root of a worktree: its `.jp`."""
    return os.path.join(worktree, STORE)


def read_id(store: str) -> str | None:
    """The workspace id in `.jp/.id`, None when there is none that is valid. Raises OSError if unreadable."""
    try:
        with open(os.path.join(store, ID_FILE), "rb") as file:
            return parse_workspace_id(file.read(4096))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def require_id(store: str) -> str:
    """The workspace id, or a UsageProblem that says what is wrong. JP writes it in place: look twice."""
    path = os.path.join(store, ID_FILE)
    for attempt in range(3):
        try:
            found = read_id(store)
        except OSError as error:
            raise storage_problem(error, path, "read the workspace id") from None
        if found is not None:
            return found
        time.sleep(0.02 * attempt)
    what = "is missing" if not os.path.lexists(path) else "does not end with a workspace id (5 of 0-9 a-z)"
    raise UsageProblem(
        f"{STORE}/{ID_FILE} {what}; nothing was changed",
        where=path,
        hint="restore it from git (a merge conflict?), or run `jp` once there, then: convsync register",
        code="bad-id",
    )


def require_plain_store(store: str) -> None:
    """Refuse a `conversations` that is a symlink (design 4) or not a directory."""
    path = os.path.join(store, CONVERSATIONS)
    if os.path.islink(path):
        raise Refused(
            f"{CONVERSATIONS} is a symlink; convsync keeps real files in every worktree",
            where=path,
            hint=f'rm "{path}" && mkdir "{path}", then: convsync register (what the link points to stays)',
            code="symlink",
        )
    if os.path.lexists(path) and not os.path.isdir(path):
        raise UsageProblem(
            f"{CONVERSATIONS} is not a directory", where=path, hint="move that file away", code="not-a-directory"
        )


def workspaces_dir(user_data: str) -> str:
    return os.path.join(user_data, WORKSPACES)


def matching_silos(user_data: str, workspace: str) -> list[str]:
    """Every directory JP would take for the silo of this workspace id (contract 2.3), by name."""
    parent = workspaces_dir(user_data)
    try:
        names = sorted(os.listdir(parent))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [p for n in names if silo_matches(n, workspace) and os.path.isdir(p := os.path.join(parent, n))]


def choose_silo(silos: list[str], workspace: str, slug: str | None) -> str:
    """The one JP would use: the slug's, else the most recently changed, ties by path (contract 2.3)."""
    for silo in silos:
        if slug and os.path.basename(silo) == f"{slug}-{workspace}":
            return silo
    return max(silos, key=lambda s: (entries_mtime(s), s))


def entries_mtime(path: str) -> int:
    """JP's `dir_mtime`: newest mtime among the immediate entries, links followed (contract 2.3)."""
    newest = -1
    try:
        for name in os.listdir(path):
            try:
                newest = max(newest, os.stat(os.path.join(path, name)).st_mtime_ns)
            except OSError:
                continue
        return newest if newest >= 0 else os.stat(path).st_mtime_ns
    except OSError:
        return 0


def identity(path: str) -> tuple[int, int] | None:
    """(device, inode) of what is at `path` now, None if nothing is."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def silo_identity(path: str, *, used: bool) -> tuple[int, int] | None:
    """The same of a silo. One that was used has `conversations/`: without, it is an empty mount point, or a wreck.

    Nothing of ours and nothing of JP's takes that directory away, so its absence proves nothing about conversations.
    """
    if used:
        try:
            os.stat(os.path.join(path, CONVERSATIONS))
        except FileNotFoundError:
            return None
        except OSError:  # not to be read, which is not the same as not there
            return identity(path)
    return identity(path)


def copy_path(root: Root, partition: Partition, name: str) -> str:
    """Where one conversation lies. For people and JSON only: code goes through directory fds."""
    parts = [root.path, CONVERSATIONS] + ([ARCHIVE] if partition is Partition.ARCHIVED else []) + [name]
    return os.path.join(*parts)


def lock_path(root_path: str, conversation: int) -> str:
    return os.path.join(root_path, LOCKS, lock_name(conversation))
