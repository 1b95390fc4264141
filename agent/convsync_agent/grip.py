"""Take hold of the content of one file, cheaply: a reflink, else a hard link, else a compressed copy; and let go.

Nothing here waits for the disk. A link is the file itself: a write in place goes through it, so its name
has the inode, and it is let go only when its content is certainly elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import zlib
from typing import NamedTuple

from convsync_agent import fs, kernel, objects
from convsync_agent.digest import content_digest
from convsync_agent.keepsake import HeldFile, How
from convsync_agent.model import MANAGED, Copy, Stamp

_FICLONE = 0x40049409  # Linux: one file shares the blocks of another (btrfs, xfs, bcachefs)
_CANNOT = frozenset({
    errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOSYS, errno.EINVAL, errno.ENOTTY,
    errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF, errno.ETXTBSY, errno.EISDIR,
})  # fmt: skip
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_UNREAD = "0" * 32  # stands for the digest of a file that is read only after it is held
_no_clones: set[int] = set()  # devices that were tried


class Wanted(NamedTuple):
    """One file to hold: its path below the directory of the conversation, and what it was seen as."""

    name: str
    stamp: Stamp
    digest: str | None


class Grasp(NamedTuple):
    """One file as held, and the stamp that taking hold gave it (a link changes the ctime), else None."""

    file: HeldFile
    bumped: Stamp | None


def wanted(copy: Copy) -> list[Wanted]:
    """Every file of a copy. Of unmanaged files the digest is not used: most were never read."""
    files = [*copy.stream.files, *copy.metadata.files]
    found = [Wanted(f.name, f.stamp, f.digest.hex()) for f in files if f.stamp and f.digest]
    return found + [Wanted(e.path, e.stamp, None) for e in copy.extras]


def hold(want: Wanted, dir_fd: int, place: str, *, links: bool = True) -> Grasp:
    """Hold one file of the directory `dir_fd` in the directory `place`; without `links` by its content alone.

    Raises fs.ChangedError if the file is not, or not any more, what was seen; OSError as it comes.
    """
    with contextlib.ExitStack() as stack:
        *above, leaf = want.name.split("/")
        for name in above:
            dir_fd = stack.enter_context(fs.opened_dir(name, dir_fd=dir_fd))
        try:
            return (
                _cloned(want, leaf, dir_fd, place)
                or (_linked(want, leaf, dir_fd, place) if links else None)
                or _packed(want, leaf, dir_fd, place)
            )
        except (fs.OddFileError, FileNotFoundError, NotADirectoryError):
            raise fs.ChangedError from None


def _cloned(want: Wanted, leaf: str, dir_fd: int, place: str) -> Grasp | None:
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
        digest = want.digest or content_digest(_whole(temp)).hex()
        os.rename(temp, os.path.join(place, digest + ".raw"))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temp)
        raise
    finally:
        os.close(source)
    return Grasp(_file(want, digest, digest + ".raw"), None)


def share_blocks(source: int, path: str) -> bool:
    """Make `path` a file with the content of `source` as it is at this instant. False where the OS cannot."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.ioctl(fd, _FICLONE, source)
    except OSError as error:
        os.unlink(path)
        if error.errno not in _CANNOT:
            raise
        return False
    finally:
        os.close(fd)
    return True


def _linked(want: Wanted, leaf: str, dir_fd: int, place: str) -> Grasp | None:
    """None where there are no hard links, or none from there to here."""
    held = _link_name(want, want.digest or _UNREAD)
    path = os.path.join(place, held)
    try:
        os.link(leaf, path, src_dir_fd=dir_fd, follow_symlinks=False)
    except FileExistsError:
        pass  # left by somebody who died; by its name it is this very inode
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return None
    now, digest = _checked(want, path), want.digest
    if digest is None:
        digest = content_digest(_whole(path)).hex()
        held = _link_name(want, digest)
        os.rename(path, os.path.join(place, held))
        now = _checked(want, os.path.join(place, held))
    return Grasp(_file(want, digest, held), now)


def _checked(want: Wanted, path: str) -> Stamp:
    """The stamp of a link, taken again after linking."""
    try:
        now = _stamp_at(path)
    except fs.OddFileError:
        os.unlink(path)
        raise
    if not fs.same_file(now, want.stamp):
        release(path, None)
        raise fs.ChangedError
    return now


def _packed(want: Wanted, leaf: str, dir_fd: int, place: str) -> Grasp:
    raw, stamp = fs.read_file(leaf, dir_fd)
    digest = content_digest(raw).hex()
    if not fs.same_file(stamp, want.stamp) or want.digest not in {None, digest}:
        raise fs.ChangedError
    pack(raw, digest, place, sync=False)
    return Grasp(_file(want, digest, digest + ".gz"), None)


def pack(raw: bytes, digest: str, place: str, *, sync: bool) -> str:
    """Compress content under its digest. Returns the name."""
    held = digest + ".gz"
    objects.write(os.path.join(place, held), objects.compressed(raw), sync=sync)
    return held


def read(file: HeldFile, place: str) -> bytes:
    """The content. Raises fs.ChangedError where it is not what was held; OSError."""
    path = os.path.join(place, file.held)
    if file.how is How.PACKED:
        try:
            return objects.read_object(path, file.digest)
        except (ValueError, zlib.error):
            raise fs.ChangedError from None
    raw = _whole(path)
    if content_digest(raw).hex() != file.digest:
        raise fs.ChangedError
    return raw


def last_words(path: str) -> tuple[bytes, Stamp] | None:
    """What a link has when this is its last name and nobody can write to it any more.

    None: the file has another name, or is still written to. Raises fs.ChangedError, OSError.
    """
    fd = os.open(path, _READ)
    try:
        if os.fstat(fd).st_nlink > 1 or kernel.being_written(fd):
            return None
    finally:
        os.close(fd)
    with fs.opened_dir(os.path.dirname(path)) as dir_fd:
        return fs.read_file(os.path.basename(path), dir_fd)


def release(path: str, file: HeldFile | None) -> bool:
    """Let go of a held file whose content is not needed any more. False: it stays, to be read before it goes.

    A link may be the last name of a file that somebody wrote to, or still writes to. It goes if the file
    has another name, or is as it was held and nobody can write to it.
    RACE: a file that loses its other name between the look and the unlink (microseconds): it was removed
    by somebody at that moment, after a write in place of which nothing was seen.
    """
    if not path.endswith(".link"):
        objects.unlink(path)
        return True
    try:
        fd = os.open(path, _READ)
    except FileNotFoundError:
        return True
    try:
        seen = os.fstat(fd)
        same = file is not None and (seen.st_mtime_ns, seen.st_size) == (file.mtime_ns, file.size)
        if seen.st_nlink < 2 and not (same and not kernel.being_written(fd)):
            return False
        os.unlink(path)
    finally:
        os.close(fd)
    return True


def kind_of(held: str) -> str:
    """The name of the managed file that a link is of, "extra" for any other."""
    kind = held.split(".")[1]
    return kind + ".json" if kind != "extra" else kind


def _file(want: Wanted, digest: str, held: str) -> HeldFile:
    return HeldFile(want.name, digest, want.stamp.size, want.stamp.mtime_ns, held)


def _link_name(want: Wanted, digest: str) -> str:
    kind = want.name.removesuffix(".json") if want.name in MANAGED else "extra"
    return f"{digest}.{kind}.{want.stamp.inode}.link"


def _stamp_at(path: str) -> Stamp:
    found = os.stat(path, follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode):
        raise fs.OddFileError(fs.odd_name(found.st_mode))
    return fs.stamp_of(found)


def _whole(path: str) -> bytes:
    with fs.opened_dir(os.path.dirname(path)) as fd:
        try:
            return fs.read_file(os.path.basename(path), fd)[0]
        except fs.OddFileError:
            raise fs.ChangedError from None
