"""How good one large file is, and its digest: read once where it has only grown, else twice, never as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import NamedTuple

from convsync_agent import bulk, fs
from convsync_agent.bulk import Content, Piece
from convsync_agent.digest import SIZE
from convsync_agent.growth import OtherError, beyond
from convsync_agent.model import EVENTS
from convsync_agent.piecewise import Held
from convsync_agent.stream_json import judge


class Appraised(NamedTuple):
    """`fault`: '' or what is wrong; `grown_from`: the digest of the content that it only adds to."""

    digest: bytes
    fault: str
    grown_from: bytes | None = None


def appraise(
    name: str,
    file: Held,
    packed: bool,  # noqa: FBT001 - as check_events
    before: Content | None,
    known: Callable[[bytes], str | None],
) -> Appraised:
    """Look at a file that is open. `before`: valid events of the same layout that it may have grown from.

    `known`: the verdict on a content that was judged before. Raises fs.ChangedError, OSError.
    """
    seen = blake2b(digest_size=SIZE)

    def first() -> Iterator[Piece]:
        for piece in file.pieces():
            seen.update(piece)
            yield piece

    pieces = first()
    fits = before is not None and _continues(pieces, before)
    for _ in pieces:  # to the end, for the digest
        pass
    digest = seen.digest()
    if fits and before is not None:
        return Appraised(digest, "", bulk.digest_of(before))
    fault = known(digest)
    if fault is None:
        fault = _judged(name, file.content(digest).pieces(), packed=packed)
    return Appraised(digest, fault)


def _continues(pieces: Iterator[Piece], before: Content) -> bool:
    """Only what is new is parsed. What is wrong with it is said by who looks at all of it."""
    try:
        return not judge(beyond(pieces, _steady(before)), packed=False, begun=True).fault
    except OtherError:
        return False


def _steady(content: Content) -> Content:
    """What cannot be read, or is another one meanwhile, is not what the other one goes on from."""

    def pieces() -> Iterator[Piece]:
        try:
            yield from bulk.pieces(content)
        except (OSError, fs.ChangedError, fs.OddFileError):
            raise OtherError from None

    return bulk.Bulk(len(content), b"", pieces)


def _judged(name: str, pieces: Iterator[Piece], *, packed: bool) -> str:
    if name == EVENTS:
        return judge(pieces, packed).fault
    return too_large(name)


def too_large(name: str) -> str:
    """What is wrong with metadata or a base config that nobody takes into memory."""
    return f"{name}: larger than {bulk.MOST >> 20} MB"
