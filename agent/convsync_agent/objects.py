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
from typing import Protocol

from convsync_agent import fs, kernel
from convsync_agent.bulk import Bulk, Content, Piece, is_large
from convsync_agent.digest import content_digest, digest_of_all
from convsync_agent.piecewise import Held, of_file

OBJECTS = "objects"
TEMP = ".tmp-"
_READ = os.O_RDONLY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_GZIP = 31  # zlib's word for gzip framing; it writes mtime 0
_HEAD = 10  # bytes of a gzip header without a name, as zlib writes it
_CHUNK = 1 << 20
_LAST_NS = 9 * 10**18  # what fits 64 bits

Stamp = tuple[int, int]
"""Which inode, and since when as it is: a file that was replaced or written to has another one."""

Check = Callable[[Iterator[bytes]], bool]
Wrote = Callable[[int], None]


# -- objects ------------------------------------------------------------------


def object_path(place: str, digest: str) -> str:
    return os.path.join(place, OBJECTS, digest + ".gz")


def stored(content: Content) -> Iterator[bytes]:
    """As gzip of level 0, nothing compressed: as fast as copying. `pressing` makes it small when there is time."""
    deflate = zlib.compressobj(0, zlib.DEFLATED, _GZIP)
    for piece in _chunks(content):
        yield deflate.compress(piece)
    yield deflate.flush()


def is_stored(path: str) -> bool:
    """The object is not compressed: its first block of deflate says so (RFC 1951, 3.2.3)."""
    try:
        with opened(path) as fd:
            head = os.read(fd, _HEAD + 1)
    except OSError:
        return False
    return len(head) > _HEAD and not head[_HEAD] & 0b110


def compressed(content: Content) -> Iterator[bytes]:
    return squeezed(_chunks(content), len(content))


def _chunks(content: Content) -> Iterator[Piece]:
    if isinstance(content, Bulk):
        yield from content.pieces()
        return
    view = memoryview(content)
    for at in range(0, len(content), _CHUNK):
        yield view[at : at + _CHUNK]


def squeezed(pieces: Iterable[bytes | memoryview], size: int) -> Iterator[bytes]:
    """As gzip of level 1; `size` is about how much there is."""
    small = size < 1 << 16  # tables of its size: to clear the large ones takes longer than to compress 10 KB
    deflate = zlib.compressobj(1, zlib.DEFLATED, _GZIP, 6 if small else 8)
    for piece in pieces:
        yield deflate.compress(piece)
    yield deflate.flush()


def read_object(path: str, digest: str) -> bytes:
    """The content of an object, checked. Raises OSError; ValueError or zlib.error where it is damaged."""
    with opened(path) as fd:
        content = _joined(pieces(fd))
    if content_digest(content.getbuffer()).hex() != digest:
        raise ValueError("damaged")
    return content.getvalue()


class Described(Protocol):
    """What a manifest says of one file."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def size(self) -> int: ...


def content_of(path: str, file: Described) -> Content:
    """The same, of any size: a large one is checked now, and read again by whoever needs it."""
    digest = file.digest
    if not is_large(file.name, file.size):
        return read_object(path, digest)
    with opened(path) as fd:
        if not same_digest(digest)(pieces(fd)):
            raise ValueError("damaged")

    directory, name = os.path.split(path)
    return of_file(lambda: fs.opened_dir(directory), name, file.size, bytes.fromhex(digest), inflated)


def inflated(file: Held) -> Iterator[Piece]:
    """The content of an object that is open. Raises fs.ChangedError where it is damaged."""
    try:
        yield from pieces(file.fd)
    except zlib.error:
        raise fs.ChangedError from None


def look_at(path: str, check: Check, passed: Callable[[int, Stamp], None]) -> Stamp | None:
    """The stamp of an object whose content passes the check; `passed` gets its descriptor then. Raises OSError."""
    try:
        with opened(path) as fd:
            if not check(pieces(fd)):
                return None
            stamp = stamp_of(os.fstat(fd))
            passed(fd, stamp)
            return stamp
    except (FileNotFoundError, zlib.error):
        return None


def same_bytes(raw: Content) -> Check:
    """Checks for these very bytes, without a second copy of them."""
    if isinstance(raw, Bulk):
        return same_digest(raw.digest.hex())

    def check(pieces: Iterator[bytes]) -> bool:
        at = 0
        for piece in pieces:
            if not raw.startswith(piece, at):
                return False
            at += len(piece)
        return at == len(raw)

    return check


def same_digest(digest: str) -> Check:
    return lambda pieces: digest_of_all(pieces).hex() == digest


def _joined(pieces: Iterator[bytes]) -> io.BytesIO:
    """Without the second copy that joining a list of them takes."""
    content = io.BytesIO()
    content.writelines(pieces)
    return content


def pieces(fd: int) -> Iterator[bytes]:
    """The content of an object, piece by piece; zlib checks its sum at the end."""
    inflate = zlib.decompressobj(_GZIP)
    while chunk := os.read(fd, 1 << 16):
        while chunk:
            yield inflate.decompress(chunk, _CHUNK)
            chunk = inflate.unconsumed_tail
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


def write(path: str, chunks: Iterable[bytes], wrote: Wrote) -> Stamp:
    """A whole file under its name or none. `wrote` gets its descriptor before it has the name: to make it durable."""
    temp = temp_name(os.path.dirname(path))
    return _filled(temp, chunks, wrote, then=lambda: os.rename(temp, path))


def write_in(path: str, chunks: Iterable[bytes], wrote: Wrote, *, age_ms: int) -> Stamp:
    """A file of this age in a directory that nobody reads yet."""
    return _filled(path, chunks, wrote, age_ms=age_ms)


def later(_fd: int) -> None:
    """Not made durable here: somebody else sees to it."""


def _filled(
    path: str,
    chunks: Iterable[bytes],
    wrote: Wrote,
    *,
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
        wrote(fd)
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


def stamp_at(path: str) -> Stamp | None:
    """The stamp of what has this name; None: nothing has, or nobody may say."""
    try:
        return stamp_of(os.lstat(path))
    except OSError:
        return None


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
