"""Files below a root, only ever through directory fds and never through a symlink.

Nothing here creates a parent directory: a silo that vanished in mid-write must not come back as a
skeleton. Every open is O_NOFOLLOW | O_NONBLOCK, so a symlink, FIFO or device is refused, not followed.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from convsync_agent import kernel
from convsync_agent.bulk import Content
from convsync_agent.model import Copy, Partition, Stamp

CONVERSATIONS, ARCHIVE, TRASH = "conversations", ".archive", ".trash"
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class ChangedError(Exception):
    """A file or directory is not what the plan was made from: drop the action and look again."""


class OddFileError(Exception):
    """A symlink, FIFO, device or directory stands where a regular file should be."""


@contextmanager
def opened_dir(path: str, *, dir_fd: int | None = None) -> Iterator[int]:
    """A directory as an fd. Below a root (`dir_fd` given) a symlink is refused."""
    fd = os.open(path, _DIR | (os.O_NOFOLLOW if dir_fd is not None else 0), dir_fd=dir_fd)
    try:
        yield fd
    finally:
        os.close(fd)


class _Held(threading.local):
    """Directories that this thread has open for a while, by what they are."""

    def __init__(self) -> None:
        self.stack: ExitStack | None = None
        self.fds: dict[tuple[str, str], int] = {}
        self.done_with: list[int] = []


_held = _Held()
_HELD_AT_MOST = 64  # descriptors; a site with more roots opens the others each time


@contextmanager
def holding() -> Iterator[None]:
    """Inside, in this thread, each root's own directories are opened once and then used again.

    RACE: a root is replaced by another one meanwhile (a cycle's milliseconds): we go on in the one that was there,
    which is no worse than having been a moment earlier; one that was removed is noticed at the next use.
    """
    if _held.stack is not None:
        yield
        return
    with ExitStack() as stack:
        _held.stack = stack
        try:
            yield
        finally:
            _held.stack = None
            _held.fds.clear()
            _close_all()


def close_soon(fd: int) -> None:
    """Close the last descriptor of a file that has no name any more: freeing it takes longer than writing it did.

    At the end of `holding`, when what somebody waits for is done; at once where that is not at work.
    """
    _held.done_with.append(fd)
    if _held.stack is None or len(_held.done_with) > _HELD_AT_MOST:
        _close_all()


def _close_all() -> None:
    while _held.done_with:
        os.close(_held.done_with.pop())


@contextmanager
def held(root: str, what: str, opened: Callable[[], AbstractContextManager[int]]) -> Iterator[int]:
    """What `opened` opens: until the end of `holding` where that is at work, else until the end of this."""
    stack, key = _held.stack, (root, what)
    fd = _held.fds.get(key)
    if fd is not None and os.fstat(fd).st_nlink:
        yield fd
    elif stack is None or len(_held.fds) >= _HELD_AT_MOST:
        with opened() as own:
            yield own
    else:
        fd = _held.fds[key] = stack.enter_context(opened())
        yield fd


def let_go(root: str) -> None:
    """Open the directories of this root anew from now on: something in it was not where it should be."""
    for key in [k for k in _held.fds if k[0] == root]:
        del _held.fds[key]  # closed at the end of `holding`: somebody may be at work in it


@contextmanager
def opened_partition(root: str, *, archived: bool) -> Iterator[int]:
    """`conversations/` of a root, or its `.archive/`, as an fd."""
    with held(root, ARCHIVE if archived else CONVERSATIONS, lambda: _partition(root, archived=archived)) as fd:
        yield fd


@contextmanager
def _partition(root: str, *, archived: bool) -> Iterator[int]:
    with opened_dir(root) as root_fd, opened_dir(CONVERSATIONS, dir_fd=root_fd) as live:
        if not archived:
            yield live
            return
        with opened_dir(ARCHIVE, dir_fd=live) as fd:
            yield fd


@contextmanager
def opened_copy(copy: Copy) -> Iterator[int]:
    """The directory of a copy as an fd, no symlink followed below its root."""
    archived = copy.partition is Partition.ARCHIVED
    with opened_partition(copy.root.path, archived=archived) as part, opened_dir(copy.name, dir_fd=part) as fd:
        yield fd


def stamp_of(found: os.stat_result) -> Stamp:
    return Stamp(found.st_mtime_ns, found.st_size, found.st_ino, found.st_ctime_ns)


def stat_file(name: str, dir_fd: int) -> Stamp | None:
    """The stamp of a regular file, None if there is none. Raises OddFileError, OSError."""
    try:
        found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OddFileError(odd_name(found.st_mode))
    return stamp_of(found)


def odd_name(mode: int) -> str:
    for test, word in (
        (stat.S_ISLNK, "a symlink"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISREG, "a file"),
    ):
        if test(mode):
            return word
    return "a device"


def same_file(one: Stamp | None, two: Stamp | None) -> bool:
    """Equal but for the ctime, which a rename changes."""
    return (one and one[:3]) == (two and two[:3])


def open_file(name: str, dir_fd: int) -> tuple[int, os.stat_result]:
    """A regular file to be read, and what it is now. Raises OddFileError, OSError."""
    try:
        fd = os.open(name, _READ, dir_fd=dir_fd)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENXIO):
            raise OddFileError("a symlink" if error.errno != errno.ENXIO else "a socket or FIFO") from None
        raise
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode):
        os.close(fd)
        raise OddFileError(odd_name(found.st_mode))
    return fd, found


def read_file(name: str, dir_fd: int) -> tuple[bytes, Stamp]:
    """The bytes and the stamp they belong to. Raises ChangedError if the file changed while it was read."""
    return read_opened(*open_file(name, dir_fd))


def read_opened(fd: int, before: os.stat_result) -> tuple[bytes, Stamp]:
    """The same of what `open_file` gave. Closes it."""
    try:
        raw = _read_all(fd, before.st_size)
        after = os.fstat(fd)
    finally:
        os.close(fd)
    if stamp_of(before) != stamp_of(after) or len(raw) != after.st_size:
        raise ChangedError
    return raw, stamp_of(after)


def _read_all(fd: int, size: int) -> bytes:
    """At most one byte more than `size`, however fast somebody appends: more is a change already."""
    chunk = os.read(fd, size + 1)
    if len(chunk) == size and not os.read(fd, 1):
        return chunk
    parts, left = [chunk], size + 1 - len(chunk)
    while chunk and left:  # a read of 2 GiB and more comes in parts
        chunk = os.read(fd, left)
        parts.append(chunk)
        left -= len(chunk)
    return b"".join(parts)


def write_new(
    name: str,
    raw: Content,
    dir_fd: int,
    *,
    mtime_ns: int,
    sync: bool | Callable[[int], None],
    mode: int = 0o666,
) -> Stamp:
    """Create a file that did not exist, with its time, and make it durable if asked, or have `sync(fd)` see to it.

    JP writes with default permissions (contract 4.1), so the umask decides. What a large content raises at its end
    comes out: nothing is left behind then.
    """
    fd = os.open(name, _NEW, mode, dir_fd=dir_fd)
    try:
        for piece in (raw,) if isinstance(raw, bytes) else raw.pieces():
            view = memoryview(piece)
            while view:
                view = view[os.write(fd, view) :]
        os.utime(fd, ns=(mtime_ns, mtime_ns))
        if callable(sync):
            sync(fd)
        elif sync:
            kernel.fsync(fd)
        return stamp_of(os.fstat(fd))
    except BaseException:
        os.unlink(name, dir_fd=dir_fd)
        raise
    finally:
        os.close(fd)


def set_mtime(name: str, mtime_ns: int, dir_fd: int, *, sync: bool) -> None:
    """Give a regular file its time, through an fd so that a symlink can not redirect it."""
    fd = os.open(name, _READ, dir_fd=dir_fd)
    try:
        if os.fstat(fd).st_mtime_ns != mtime_ns:
            os.utime(fd, ns=(mtime_ns, mtime_ns))
            if sync:
                kernel.fsync(fd)
    finally:
        os.close(fd)


def replace(old_fd: int, old: str, new_fd: int, new: str) -> None:
    """Rename onto a name, whatever has it. For where two names cannot be exchanged."""
    os.rename(old, new, src_dir_fd=old_fd, dst_dir_fd=new_fd)


def list_names(dir_fd: int) -> list[str]:
    return os.listdir(dir_fd)


def make_dir(name: str, dir_fd: int, mode: int = 0o755) -> bool:
    """Create one directory; False if it was there."""
    try:
        os.mkdir(name, mode, dir_fd=dir_fd)
    except FileExistsError:
        return False
    return True


def unlink_if_there(name: str, dir_fd: int) -> None:
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return
