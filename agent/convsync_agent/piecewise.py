"""Files that are read piece by piece. As `fs.read_file`: no symlink is followed, and a change meanwhile is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from hashlib import blake2b

from convsync_agent import bulk, fs
from convsync_agent.bulk import Bulk, Content, Piece
from convsync_agent.digest import SIZE, content_digest, digest_of_all
from convsync_agent.model import Copy, FileCopy, Stamp

Opened = Callable[[], AbstractContextManager[int]]
"""Opens the directory of a file, each time anew or, for a moment, one that is open."""


class Held:
    """A file that stays open while anybody needs it: what was looked at can be read when its name has another one."""

    __slots__ = ("fd", "stamp")

    def __init__(self, name: str, dir_fd: int) -> None:
        """Raises fs.OddFileError, OSError."""
        self.fd = -1
        self.fd, found = fs.open_file(name, dir_fd)
        self.stamp = fs.stamp_of(found)

    def __del__(self) -> None:
        with suppress(OSError):  # also where it could not be opened
            os.close(self.fd)

    def pieces(self) -> Iterator[bytes]:
        """Raises fs.ChangedError: it was written to; OSError."""
        at, size = 0, self.stamp.size
        while at <= size and (piece := os.pread(self.fd, bulk.PIECE, at)):
            at += len(piece)
            yield piece
        if at != size or fs.stamp_of(os.fstat(self.fd))[:3] != self.stamp[:3]:  # its ctime changes with its name
            raise fs.ChangedError

    def content(self, digest: bytes) -> Bulk:
        return Bulk(self.stamp.size, digest, lambda: checked(self.pieces(), digest))


def of_copy(copy: Copy, file: FileCopy) -> Bulk:
    """A file of a copy as it was looked at. Nothing is read yet."""
    assert file.stamp is not None  # noqa: S101  # there is nothing else to read
    assert file.digest is not None  # noqa: S101
    return of_file(lambda: fs.opened_copy(copy), file.name, file.stamp.size, file.digest)


def of_file(
    opened: Opened, name: str, size: int, digest: bytes, read_as: Callable[[Held], Iterator[Piece]] = Held.pieces
) -> Bulk:
    """A file of whose content this is known, opened each time it is read."""

    def pieces() -> Iterator[Piece]:
        with opened() as fd:
            file = Held(name, fd)
        return checked(read_as(file), digest)

    return Bulk(size, digest, pieces)


def look(name: str, opened: Opened, *, what: str | None = None) -> tuple[Content, Stamp]:
    """What a file is now. A large one is read for its digest. Errors as for `fs.read_file`.

    `what`: the name of the managed file that it is, where it has another one.
    """
    with opened() as dir_fd:
        fd, found = fs.open_file(name, dir_fd)
        if not bulk.is_large(what or name, found.st_size):
            return fs.read_opened(fd, found)
        os.close(fd)
        file = Held(name, dir_fd)
    return of_file(opened, name, file.stamp.size, digest_of_all(file.pieces())), file.stamp


def digest_in(name: str, dir_fd: int) -> bytes:
    """The digest of a file as it is now. Errors as for `fs.read_file`."""
    fd, found = fs.open_file(name, dir_fd)
    if not bulk.is_large(name, found.st_size):
        return content_digest(fs.read_opened(fd, found)[0])
    os.close(fd)
    return digest_of_all(Held(name, dir_fd).pieces())


def checked(pieces: Iterator[Piece], digest: bytes) -> Iterator[Piece]:
    """The same. Raises fs.ChangedError at the end, where they do not add up to that."""
    seen = blake2b(digest_size=SIZE)
    for piece in pieces:
        seen.update(piece)
        yield piece
    if seen.digest() != digest:
        raise fs.ChangedError
