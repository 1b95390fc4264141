"""The one digest of content: cryptographic, so that equal digests may stand for equal bytes."""

from __future__ import annotations

from hashlib import blake2b

SIZE = 16


def content_digest(raw: bytes | bytearray | memoryview) -> bytes:
    """The digest of one file's content, as in `model.Digest` and, in hex, in the history."""
    return blake2b(raw, digest_size=SIZE).digest()
