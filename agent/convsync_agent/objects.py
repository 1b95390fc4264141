"""The content of one file each, compressed, under its digest; how the history makes files, and what is durable.

A name is given to whole content only. `sync` makes that content durable before it has the name; the
name itself is durable once its directory is synced.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator

from convsync_agent import kernel
from convsync_agent.digest import content_digest

OBJECTS = "objects"
TEMP = ".tmp-"
_READ = os.O_RDONLY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_GZIP = 31  # zlib's word for gzip framing; it writes mtime 0
_CHUNK = 1 << 20
_LAST_NS = 9 * 10**18  # what fits 64 bits
_KNOWN = 4096  # paths remembered as durable; forgetting them costs a sync, nothing else

Stamp = tuple[int, int]
"""Which inode, and since when as it is: a file that was replaced or written to has another one."""

Check = Callable[[Iterator[bytes]], bool]


# -- objects ------------------------------------------------------------------


def object_path(place: str, digest: str) -> str:
    return os.path.join(place, OBJECTS, digest + ".gz")


def compressed(raw: bytes) -> Iterator[bytes]:
    small = len(raw) < 1 << 16  # tables of its size: to clear the large ones takes longer than to compress 10 KB
    deflate = zlib.compressobj(1, zlib.DEFLATED, _GZIP, 6 if small else 8)
    view = memoryview(raw)
    for at in range(0, len(raw), _CHUNK):
        yield deflate.compress(view[at : at + _CHUNK])
    yield deflate.flush()


def read_object(path: str, digest: str) -> bytes:
    """The content of an object, checked. Raises OSError; ValueError or zlib.error where it is damaged."""
    with opened(path) as fd:
        content = _joined(_pieces(fd))
    if content_digest(content.getbuffer()).hex() != digest:
        raise ValueError("damaged")
    return content.getvalue()


def look_at(path: str, check: Check, loose: Callable[[Stamp], bool]) -> Stamp | None:
    """The stamp of an object whose content passes the check. What is `loose` is made durable. Raises OSError."""
    try:
        with opened(path) as fd:
            if not check(_pieces(fd)):
                return None
            stamp = stamp_of(os.fstat(fd))
            if loose(stamp):
                kernel.fsync(fd)
            return stamp
    except (FileNotFoundError, zlib.error):
        return None


def same_bytes(raw: bytes) -> Check:
    """Checks for these very bytes, without a second copy of them."""

    def check(pieces: Iterator[bytes]) -> bool:
        at = 0
        for piece in pieces:
            if not raw.startswith(piece, at):
                return False
            at += len(piece)
        return at == len(raw)

    return check


def same_digest(digest: str) -> Check:
    return lambda pieces: content_digest(_joined(pieces).getbuffer()).hex() == digest


def _joined(pieces: Iterator[bytes]) -> io.BytesIO:
    """Without the second copy that joining a list of them takes."""
    content = io.BytesIO()
    content.writelines(pieces)
    return content


def _pieces(fd: int) -> Iterator[bytes]:
    """The content of an object, piece by piece; zlib checks its sum at the end."""
    inflate = zlib.decompressobj(_GZIP)
    while chunk := os.read(fd, 1 << 16):
        yield inflate.decompress(chunk)
    if not inflate.eof:
        raise zlib.error("cut short")


def intact(place: str, digest: str, size: int) -> bool:
    """The object is there and ends as content of this length does: a cheap look, reading checks all of it."""
    try:
        with opened(object_path(place, digest)) as fd:
            os.lseek(fd, -4, os.SEEK_END)
            return int.from_bytes(os.read(fd, 4), "little") == size & 0xFFFFFFFF
    except OSError:
        return False


# -- files of our own ---------------------------------------------------------


def temp_name(directory: str) -> str:
    return os.path.join(directory, TEMP + secrets.token_hex(8))


def write(path: str, chunks: Iterable[bytes], *, sync: bool) -> Stamp:
    """A whole file under its name or none."""
    temp = temp_name(os.path.dirname(path))
    return _filled(temp, chunks, sync=sync, then=lambda: os.rename(temp, path))


def write_in(path: str, chunks: Iterable[bytes], *, age_ms: int, sync: bool) -> Stamp:
    """A file of this age in a directory that nobody reads yet."""
    return _filled(path, chunks, sync=sync, age_ms=age_ms)


def _filled(
    path: str,
    chunks: Iterable[bytes],
    *,
    sync: bool,
    age_ms: int | None = None,
    then: Callable[[], None] = lambda: None,
) -> Stamp:
    fd = os.open(path, _NEW, 0o600)
    try:
        if stat.S_IMODE(os.fstat(fd).st_mode) != 0o600:  # whatever the umask took away
            os.fchmod(fd, 0o600)
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[os.write(fd, view) :]
        if age_ms is not None:
            set_age(fd, age_ms)
        if sync:
            kernel.fsync(fd)
        then()
        return stamp_of(os.fstat(fd))
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(fd)


def make_dir(path: str, *, ours: bool = True) -> bool:
    """Make a directory that only its owner may enter. True: it was not there."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not ours:
            return False
        made = False
    else:
        made = True
    if stat.S_IMODE(os.stat(path).st_mode) != 0o700:
        os.chmod(path, 0o700)
    return made


def sync_dir(path: str) -> None:
    with opened(path, os.O_DIRECTORY) as fd:
        kernel.fsync(fd)


@contextlib.contextmanager
def opened(path: str, flags: int = 0) -> Iterator[int]:
    fd = os.open(path, _READ | flags)
    try:
        yield fd
    finally:
        os.close(fd)


def stamp_of(st: os.stat_result) -> Stamp:
    return st.st_ino, st.st_ctime_ns


def set_age(fd: int, ms: int) -> None:
    ns = min(ms * 1_000_000, _LAST_NS)
    os.utime(fd, ns=(ns, ns))


def discard(path: str) -> int:
    """Make a version vanish in one step, then free it. Returns the bytes freed."""
    aside = temp_name(os.path.dirname(path))
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return 0
    freed = sum(unlink(os.path.join(aside, n)) for n in names_in(aside))
    os.rmdir(aside)
    return freed


def unlink(path: str) -> int:
    size = size_of(path)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        return size
    return 0


def size_of(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def names_in(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []


# -- what is durable ----------------------------------------------------------


class Batch:
    """What a burst made, and the file systems it made it on: one, unless somebody mounted another below."""

    def __init__(self) -> None:
        self.made: dict[str, Stamp] = {}
        self._systems: dict[int, int] = {}

    def watch(self, path: str) -> None:
        """Before anything is written there: an fd is told only of errors that come after it was opened."""
        device = os.stat(path).st_dev
        if device not in self._systems:
            self._systems[device] = os.open(path, _READ | os.O_DIRECTORY)

    def sync(self) -> None:
        for fd in self._systems.values():
            kernel.sync_file_system(fd)

    def close(self) -> None:
        for fd in self._systems.values():
            os.close(fd)


class Durable:
    """Which paths were synced as they are now, here. Of a directory that is its name, with inode and no time."""

    def __init__(self) -> None:
        self.doubted: set[str] = set()  # a sync of these failed, and the next one would say nothing of it
        self._known: dict[str, Stamp] = {}

    def knows(self, path: str, stamp: Stamp, batch: Batch | None) -> bool:
        """It was synced, or will be at the end of this batch."""
        return self._known.get(path) == stamp or (batch is not None and batch.made.get(path) == stamp)

    def knows_dir(self, path: str, batch: Batch | None) -> bool:
        try:
            return self.knows(path, (os.stat(path).st_ino, 0), batch)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def note(self, stamps: dict[str, Stamp], batch: Batch | None) -> None:
        """These are synced, or will count as that when the batch is."""
        if batch is not None:
            batch.made.update(stamps)
            return
        if len(self._known) > _KNOWN:
            self._known.clear()
        self._known.update(stamps)

    def finish(self, batch: Batch) -> None:
        try:
            batch.sync()
        except OSError:
            self.doubted.update(batch.made)
            raise
        self.note(batch.made, None)
