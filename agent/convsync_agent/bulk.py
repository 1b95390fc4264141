"""The content of a large file: something that is read piece by piece, as often as wanted, and never is in memory whole.

What is small is bytes, as ever. A `Content` is the one or the other, and both have a length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from convsync_agent.digest import content_digest
from convsync_agent.model import BASE_CONFIG, METADATA

LARGE = 8 << 20  # bytes; below that reading a file at once is cheaper, and several fit into memory
MOST = 64 << 20  # of metadata and of a base config, which are understood as a whole or not at all
PIECE = 1 << 20

Piece = bytes | memoryview


class Bulk:
    """`digest` is what the pieces add up to. Who reads them is told when they do not, not before the last one."""

    __slots__ = ("_read", "_size", "digest")

    def __init__(self, size: int, digest: bytes, read: Callable[[], Iterator[Piece]]) -> None:
        self._size = size
        self._read = read
        self.digest = digest

    def __len__(self) -> int:
        return self._size

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bulk) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def pieces(self) -> Iterator[Piece]:
        """From the beginning.

        Raises fs.ChangedError where it is not, or not any more, what was looked at; OSError.
        """
        return self._read()


Content = bytes | Bulk


def is_large(name: str, size: int) -> bool:
    """Whether a file of this name and size is read by pieces."""
    return size >= LARGE and (size >= MOST or name not in {METADATA, BASE_CONFIG})


def pieces(content: Content) -> Iterator[Piece]:
    return content.pieces() if isinstance(content, Bulk) else iter((content,))


def digest_of(content: Content) -> bytes:
    return content.digest if isinstance(content, Bulk) else content_digest(content)


def whole(content: Content) -> bytes:
    """For who needs the text, and is not the agent's loop. Raises as `Bulk.pieces` does."""
    return b"".join(map(bytes, content.pieces())) if isinstance(content, Bulk) else content
