"""Every lock file of a workspace: who is said to hold it, and whether anybody does (contract 7). Takes none."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable
from dataclasses import replace
from enum import StrEnum
from typing import NamedTuple

from convsync_agent.flocks import LOCKS, flocked_by, flocked_inodes
from convsync_agent.locks import Holder, holder_of, is_lock
from convsync_agent.model import MS
from convsync_agent.names import parse_id
from convsync_agent.summary import parse_timestamp

YOUNG_SECONDS = 5.0
NOBODY = Holder(None, None, None)


class Grasp(StrEnum):
    """Whether somebody holds a lock file. `UNKNOWN`: it is too young to be tried, where trying is the only way."""

    HELD = "held"
    ORPHANED = "orphaned"
    UNKNOWN = "unknown"


class Note(StrEnum):
    """What stands in it: JP's form, nothing at all (as `flock` leaves it), or something else."""

    WHOLE = "ok"
    ABSENT = "absent"
    BROKEN = "broken"


class LockFile(NamedTuple):
    """One lock file. `holder` is what it says of whoever wrote it last: of an orphan, who it was."""

    conversation: int
    path: str
    grasp: Grasp
    note: Note
    holder: Holder

    @property
    def since_ms(self) -> int | None:
        at = parse_timestamp(self.holder.acquired_at) if self.holder.acquired_at else None
        return None if at is None else at // MS


def lock_files(roots: Iterable[str]) -> list[LockFile]:
    """By conversation, those of the first root first. A root without `locks/` has none. Raises OSError."""
    seen = [(name, path) for root in roots for name, path in _listed(os.path.join(root, LOCKS))]
    stats = {path: found for _, path in seen if (found := _inode(path)) is not None}
    inodes = flocked_inodes()
    files = [_look(name, path, stats[path], inodes) for name, path in seen if path in stats]
    # What was let go while we looked is gone by now: it never was an orphan.
    there = [f for f in files if f.grasp is not Grasp.ORPHANED or _inode(f.path) == stats[f.path]]
    return sorted(there, key=lambda f: f.conversation)


def _listed(directory: str) -> list[tuple[str, str]]:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [(n, p) for n in names if is_lock(n) and os.path.isfile(p := os.path.join(directory, n))]


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _look(name: str, path: str, inode: tuple[int, int], inodes: frozenset[int] | None) -> LockFile:
    seen = Grasp.HELD if inode[1] in (inodes or ()) else Grasp.ORPHANED
    holder = holder_of(path) or NOBODY
    note = Note.WHOLE if holder != NOBODY else Note.ABSENT if _is_empty(path) else Note.BROKEN
    number = parse_id(name.removesuffix(".lock")) or 0
    grasp = _tried(path) if inodes is None else seen
    if grasp is Grasp.HELD and holder.pid is None:
        holder = replace(holder, pid=flocked_by(path))  # the kernel knows, whatever the file says
    return LockFile(number, path, grasp, note, holder)


def _is_empty(path: str) -> bool:
    try:
        return os.stat(path).st_size == 0
    except OSError:
        return False


def _tried(path: str) -> Grasp:
    """Where there is no list of locks, only trying tells.

    A JP that asks at that instant is refused (contract 7.4), so what somebody may just have made is not tried.
    """
    try:
        if time.time() - os.stat(path).st_mtime < YOUNG_SECONDS:
            return Grasp.UNKNOWN
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return Grasp.UNKNOWN
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Grasp.HELD
    except OSError:
        return Grasp.UNKNOWN
    finally:
        os.close(fd)
    return Grasp.ORPHANED
