"""The agent's dot directory beside the conversations of a root, and what may lie in it.

JP ignores dot names (contract 3.4). Its first file is a `.gitignore` with `*`, or `git status` would
show it and `git worktree remove` refuse; it is removed when empty. Names carry the conversation's id,
our pid and a counter, never a title. Nothing in it is ever deleted unread: what was replaced stays
until nobody can write to it any more, and is compared once more before it goes.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import NamedTuple

from convsync_agent import fs, kernel, piecewise
from convsync_agent.bulk import Content, digest_of
from convsync_agent.layout import STAGING
from convsync_agent.model import Root, Stamp

IGNORE = ".gitignore"
SETTLE_SECONDS = 2.0
TRIES, PAUSE_SECONDS = 200, 0.001  # somebody takes the directory away: microseconds
NAME_BYTES = 150  # of the file's own name: 255 is what a file system takes, and ours comes before it
NAME = re.compile(r"^c(?P<conversation>\d+)\.(?P<pid>\d+)\.(?P<serial>\d+)\.(?P<file>.+)$")
_serial = itertools.count(1)

Saver = Callable[[Root, int, str, Content, int], None]
"""Keeps (root, conversation, file name, bytes, mtime) in the history unless it is safe elsewhere."""


class Retired(NamedTuple):
    """A replaced file that somebody may still write to: (mtime, size, inode) and digest as planned."""

    root: Root
    conversation: int
    name: str
    file: str
    stamp: Stamp
    digest: bytes | None
    since: float


def fresh_name(conversation: int, file: str) -> str:
    tail = os.fsdecode(os.fsencode(file.replace("/", "_"))[-NAME_BYTES:])
    return f"c{conversation}.{os.getpid()}.{next(_serial)}.{tail}"


@contextmanager
def opened(root: Root) -> Iterator[int]:
    """The staging directory of a root as an fd, made if need be. Never creates `conversations/`.

    Shared with all who stage there; nobody takes it away meanwhile.
    """
    with fs.held(root.path, STAGING, lambda: _opened(root)) as fd:
        yield fd


@contextmanager
def _opened(root: Root) -> Iterator[int]:
    with fs.opened_partition(root.path, archived=False) as live, ExitStack() as at:
        fd = _entered(live, at)
        if fs.stat_file(IGNORE, fd) is None:
            with contextlib.suppress(OSError):  # another was first, or the disk is full: said by what comes next
                fs.write_new(IGNORE, b"*\n", fd, mtime_ns=time.time_ns(), sync=False)
        yield fd


def _entered(live: int, at: ExitStack) -> int:
    """The directory itself, not one that another process of ours takes away just now (`remove_if_empty`)."""
    for _ in range(TRIES):
        made = fs.make_dir(STAGING, live)
        with contextlib.suppress(FileNotFoundError), ExitStack() as mine:
            if not made:
                _require_directory(live)
            fd = mine.enter_context(fs.opened_dir(STAGING, dir_fd=live))
            if _locked(fd, fcntl.LOCK_SH) and _is_there(fd, live):
                at.push(mine.pop_all())
                return fd
        time.sleep(PAUSE_SECONDS)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))


def _locked(fd: int, how: int) -> bool:
    """Where a file system knows no locks, everybody has it."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _is_there(fd: int, live: int) -> bool:
    return os.path.samestat(os.fstat(fd), os.stat(STAGING, dir_fd=live, follow_symlinks=False))


def _require_directory(live: int) -> None:
    """What is no directory under our name stays in the way, so it is said (EIO) and not looked at again for ever."""
    if not stat.S_ISDIR(os.stat(STAGING, dir_fd=live, follow_symlinks=False).st_mode):
        raise OSError(errno.EIO, f"{STAGING} is there and is no directory; move it away")


def remove_if_empty(root: Root) -> bool:
    """Take the staging directory away when only its `.gitignore` is left. True when it is gone."""
    try:
        with fs.opened_partition(root.path, archived=False) as live, fs.opened_dir(STAGING, dir_fd=live) as fd:
            if not _locked(fd, fcntl.LOCK_EX) or set(fs.list_names(fd)) - {IGNORE}:
                return False
            fs.unlink_if_there(IGNORE, fd)
            # RACE: only where there are no locks: another process of ours stages between the unlink and the
            # rmdir; that fails, and its file lies beside no .gitignore until the next removal. Harmless.
            os.rmdir(STAGING, dir_fd=live)
    except OSError:
        return not os.path.lexists(os.path.join(root.path, fs.CONVERSATIONS, STAGING))
    return True


def retire(
    root: Root, conversation: int, names: tuple[str, str], planned: tuple[Stamp, bytes | None], fd: int
) -> Retired | None:
    """Delete a replaced file once it is certain that nobody can still write to it, else hand it back to wait.

    Certain: it is the planned file, unchanged, and a read lease proves that nobody has it open for writing.
    RACE: a writer that had it open; it keeps its file, and what it wrote is compared after it is done.
    """
    (name, file), (stamp, digest) = names, planned
    with contextlib.suppress(OSError):
        held = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        try:
            if kernel.unwritable(held) and fs.same_file(fs.stamp_of(os.fstat(held)), stamp):
                os.unlink(name, dir_fd=fd)
                return None
        finally:
            fs.close_soon(held)
    return Retired(root, conversation, name, file, stamp, digest, time.monotonic())


def settle(retired: Retired, save: Saver) -> Retired | None:
    """Look at a waiting file again. None: it is gone. Else it goes on waiting, from its last change on."""
    try:
        with opened(retired.root) as fd:
            now = fs.stat_file(retired.name, fd)
            if now is None:
                return None
            if not fs.same_file(now, retired.stamp):
                return retired._replace(stamp=now, digest=None, since=time.monotonic())
            if time.monotonic() - retired.since < SETTLE_SECONDS:
                return retired
            if _being_written(retired.name, fd):
                return retired._replace(since=time.monotonic())
            raw, stamp = piecewise.look(retired.name, lambda: nullcontext(fd))
            if digest_of(raw) != retired.digest:
                save(retired.root, retired.conversation, retired.file, raw, stamp.mtime_ns)
            os.unlink(retired.name, dir_fd=fd)
    except FileNotFoundError:
        return None
    except (OSError, fs.ChangedError, fs.OddFileError):
        return retired._replace(since=time.monotonic())
    return None


def _being_written(name: str, dir_fd: int) -> bool:
    held = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        return kernel.being_written(held)
    finally:
        os.close(held)


def is_there(root: Root) -> bool:
    """Whether a root has a staging directory: it is in use, or was left by a crash."""
    path = os.path.join(root.path, fs.CONVERSATIONS, STAGING)
    return os.path.isdir(path) and not os.path.islink(path)


def sweep_leftovers(root: Root, save: Saver) -> int:
    """Clear what a crash left in the staging directory: unique bytes go to the history first. Returns a count."""
    cleared = 0
    with contextlib.suppress(OSError):
        if is_there(root):
            with opened(root) as fd:
                cleared = sum(_clear(root, name, fd, save) for name in fs.list_names(fd) if name != IGNORE)
            remove_if_empty(root)
    return cleared


class LeftOver(NamedTuple):
    """What the name of a staged file says."""

    conversation: int
    file: str


def left_over(name: str) -> LeftOver | None:
    """What lies under a name of ours, when the process that staged it is gone; else None."""
    parsed = NAME.match(name)
    if parsed is None or _alive(int(parsed["pid"])):
        return None
    return LeftOver(int(parsed["conversation"]), parsed["file"])


def _clear(root: Root, name: str, fd: int, save: Saver) -> int:
    said = left_over(name)
    if said is None:
        return 0
    conversation = said.conversation
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            _clear_dir(root, conversation, name, fd, save)
            return 1
        raw, stamp = piecewise.look(name, lambda: nullcontext(fd))
        save(root, conversation, said.file, raw, stamp.mtime_ns)
        os.unlink(name, dir_fd=fd)
    except (OSError, fs.ChangedError, fs.OddFileError):
        return 0
    return 1


def _clear_dir(root: Root, conversation: int, name: str, fd: int, save: Saver, *, prefix: str = "") -> None:
    """An import that was never renamed into place: its files are copies, but that is checked, not assumed."""
    with fs.opened_dir(name, dir_fd=fd) as sub:
        for file in fs.list_names(sub):
            if stat.S_ISDIR(os.stat(file, dir_fd=sub, follow_symlinks=False).st_mode):
                _clear_dir(root, conversation, file, sub, save, prefix=f"{prefix}{file}/")
                continue
            raw, stamp = piecewise.look(file, lambda: nullcontext(sub))
            save(root, conversation, prefix + file, raw, stamp.mtime_ns)
            os.unlink(file, dir_fd=sub)
    os.rmdir(name, dir_fd=fd)


def _alive(pid: int) -> bool:
    """Another process of ours may be at work here right now; its files are its own."""
    return pid != os.getpid() and kernel.alive(pid)
