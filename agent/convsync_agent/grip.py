"""Take hold of the content of one file: a reflink where the file system shares blocks, else compressed.

What is held is a file of its own, named by its digest: no write to the original reaches it. It is durable when
`hold` returns; its name is when its directory is synced.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import zlib
from contextlib import nullcontext
from typing import NamedTuple

from convsync_agent import fs, kernel, objects, piecewise
from convsync_agent.bulk import Content, digest_of, is_large
from convsync_agent.keepsake import HeldFile, How
from convsync_agent.model import Copy, Stamp
from convsync_agent.piecewise import Held

_FICLONE = 0x40049409  # Linux: one file shares the blocks of another (btrfs, xfs, bcachefs)
_CANNOT = frozenset({
    errno.EXDEV, errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EINVAL, errno.ENOTTY,
    errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF, errno.ETXTBSY, errno.EISDIR,
})  # fmt: skip
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_no_clones: set[int] = set()  # devices that were tried


class Wanted(NamedTuple):
    """One file to hold: its path below the directory of the conversation, and what it was seen as."""

    name: str
    stamp: Stamp
    digest: str | None


def wanted(copy: Copy) -> list[Wanted]:
    """Every file of a copy. Of unmanaged files the digest is not used: most were never read."""
    files = [*copy.stream.files, *copy.metadata.files]
    found = [Wanted(f.name, f.stamp, f.digest.hex()) for f in files if f.stamp and f.digest]
    return found + [Wanted(e.path, e.stamp, None) for e in copy.extras]


def hold(want: Wanted, dir_fd: int, place: str, *, sync: bool = True) -> HeldFile:
    """Hold one file of the directory `dir_fd` in the directory `place`; without `sync` somebody else makes it durable.

    Raises fs.ChangedError if the file is not, or not any more, what was seen; OSError as it comes.
    """
    with contextlib.ExitStack() as stack:
        *above, leaf = want.name.split("/")
        for name in above:
            dir_fd = stack.enter_context(fs.opened_dir(name, dir_fd=dir_fd))
        try:
            return _cloned(want, leaf, dir_fd, place) or _packed(want, leaf, dir_fd, place, sync=sync)
        except (fs.OddFileError, FileNotFoundError, NotADirectoryError):
            raise fs.ChangedError from None


def _cloned(want: Wanted, leaf: str, dir_fd: int, place: str) -> HeldFile | None:
    """None: this file system cannot, or not with that one; it is asked once."""
    device = os.fstat(dir_fd).st_dev
    if device in _no_clones:
        return None
    temp = objects.temp_name(place)
    source = os.open(leaf, _READ, dir_fd=dir_fd)
    try:
        if not share_blocks(source, temp):
            _no_clones.add(device)
            return None
        if not fs.same_file(fs.stamp_of(os.fstat(source)), want.stamp):
            raise fs.ChangedError
        digest = want.digest or _digest(temp).hex()
        os.rename(temp, os.path.join(place, digest + ".raw"))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temp)
        raise
    finally:
        os.close(source)
    return _held(want, digest, digest + ".raw")


def share_blocks(source: int, path: str) -> bool:
    """Make `path` a durable file with the content of `source` as it is at this instant. False: the OS cannot."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.ioctl(fd, _FICLONE, source)
        kernel.fsync(fd)
    except OSError as error:
        os.unlink(path)
        if error.errno not in _CANNOT:
            raise
        return False
    finally:
        os.close(fd)
    return True


def _packed(want: Wanted, leaf: str, dir_fd: int, place: str, *, sync: bool) -> HeldFile:
    raw, stamp = _of_now(want, leaf, dir_fd)
    digest = digest_of(raw).hex()
    if not fs.same_file(stamp, want.stamp) or want.digest not in {None, digest}:
        raise fs.ChangedError
    held = digest + ".gz"
    objects.write(os.path.join(place, held), objects.compressed(raw), kernel.fsync if sync else objects.later)
    return _held(want, digest, held)


def _of_now(want: Wanted, leaf: str, dir_fd: int) -> tuple[Content, Stamp]:
    """A large file whose digest is known is read once: what is not that is told while it is compressed."""
    if want.digest is not None and is_large(leaf, want.stamp.size):
        if not fs.same_file(fs.stat_file(leaf, dir_fd), want.stamp):
            raise fs.ChangedError
        return piecewise.of_file(
            lambda: nullcontext(dir_fd), leaf, want.stamp.size, bytes.fromhex(want.digest)
        ), want.stamp
    return piecewise.look(leaf, lambda: nullcontext(dir_fd))


def read(file: HeldFile, place: str, *, now: bool = True) -> Content:
    """The content. Raises fs.ChangedError where it is not what was held; OSError.

    Not `now`: of what is large only who reads it is told.
    """
    path = os.path.join(place, file.held)
    if not now and is_large(file.name, file.size):
        read_as = objects.inflated if file.how is How.PACKED else Held.pieces
        return piecewise.of_file(
            lambda: fs.opened_dir(place), file.held, file.size, bytes.fromhex(file.digest), read_as
        )
    try:
        if file.how is How.PACKED:
            return objects.content_of(path, file)
        content = piecewise.look(file.held, lambda: fs.opened_dir(place), what=file.name)[0]
    except (ValueError, zlib.error, fs.OddFileError):
        raise fs.ChangedError from None
    if digest_of(content).hex() != file.digest:
        raise fs.ChangedError
    return content


def _held(want: Wanted, digest: str, held: str) -> HeldFile:
    return HeldFile(want.name, digest, want.stamp.size, want.stamp.mtime_ns, held)


def _digest(path: str) -> bytes:
    with fs.opened_dir(os.path.dirname(path)) as fd:
        try:
            return piecewise.digest_in(os.path.basename(path), fd)
        except fs.OddFileError:
            raise fs.ChangedError from None
