"""The one digest of content: cryptographic, so that equal digests may stand for equal bytes."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

SIZE = 16


def content_digest(raw: bytes | bytearray | memoryview) -> bytes:
    """The digest of one file's content, as in `model.Digest` and, in hex, in the history."""
    return blake2b(raw, digest_size=SIZE).digest()


def digest_of_all(pieces: Iterable[bytes | memoryview]) -> bytes:
    """The digest of a content that comes in pieces."""
    seen = blake2b(digest_size=SIZE)
    for piece in pieces:
        seen.update(piece)
    return seen.digest()
