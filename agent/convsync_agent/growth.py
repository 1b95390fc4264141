"""Whether one event stream goes on where another one ended: compared by pieces, for streams that are large."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from convsync_agent import content
from convsync_agent.bulk import Bulk, Content, Piece, digest_of, pieces
from convsync_agent.strict_json import NotJson, parse, same_json

Stream = tuple[Content | None, Content]
"""`content.Stream`, of any size."""

_SPACE = b" \t\r\n"
_TAIL = 4096  # bytes; with more space than that around its bracket a stream counts as one that ended otherwise


class OtherError(Exception):
    """It does not begin with the other one."""


def contains(outer: Stream, inner: Stream, grown: Collection[tuple[bytes, bytes]] = ()) -> bool:
    """`content.stream_contains`; of a large stream only equal content is contained, or what it begins with, by bytes.

    `grown`: digests of which it is known that the second stream begins with the first. A wrong no is safe: what is not
    known to be contained is kept (R4). Raises what reading raises.
    """
    (ours, longer), (theirs, shorter) = outer, inner
    if isinstance(longer, bytes) and isinstance(shorter, bytes):
        if not isinstance(ours, Bulk) and not isinstance(theirs, Bulk):
            return content.stream_contains((ours, longer), (theirs, shorter))
    elif len(shorter) > len(longer):
        return False
    if ours != theirs and not _same_base(ours, theirs):
        return False
    if isinstance(shorter, bytes) and shorter.translate(None, _SPACE) == b"[]":
        return ours is not None  # a packed stream without an element has no config
    return longer == shorter or (digest_of(shorter), digest_of(longer)) in grown or continues(longer, shorter)


def _same_base(one: Content | None, other: Content | None) -> bool:
    if not isinstance(one, bytes) or not isinstance(other, bytes):
        return False
    try:
        return same_json(parse(one), parse(other))
    except NotJson:
        return False


def metadata_contains(outer: Content, inner: Content) -> bool:
    """`content.metadata_contains`; what is too large to be understood is contained in nothing but itself."""
    if isinstance(outer, Bulk) or isinstance(inner, Bulk):
        return outer == inner
    return content.metadata_contains(outer, inner)


def continues(outer: Content, inner: Content) -> bool:
    """An append, by bytes: `inner` without its closing bracket, then more elements or the end."""
    head = b""
    try:
        for piece in beyond(pieces(outer), inner):
            head += bytes(piece[: _TAIL - len(head)])  # and to the end: then it was what it was looked at as
    except OtherError:
        return False
    return head.lstrip(_SPACE)[:1] in {b",", b"]"}


def beyond(outer: Iterable[Piece], inner: Content) -> Iterator[Piece]:
    """What `outer` has behind what `inner` has before its closing bracket.

    Raises OtherError where it does not begin with that, or where `inner` has no element.
    """
    ours, theirs = _Reader(outer), _Reader(pieces(inner))
    left = len(inner) - _TAIL
    while left > 0:
        one = bytes(ours.some(left))
        if not one or one != theirs.exactly(len(one)):
            raise OtherError
        left -= len(one)
    end = b"".join(map(bytes, theirs.all())).rstrip(_SPACE)
    body = end[:-1].rstrip(_SPACE)
    if end[-1:] != b"]" or body.lstrip(_SPACE) in {b"", b"["} or ours.exactly(len(body)) != body:
        raise OtherError
    yield from ours.all()


class _Reader:
    """Bytes of pieces, so many at a time."""

    def __init__(self, source: Iterable[Piece]) -> None:
        self._source = iter(source)
        self._left = memoryview(b"")

    def some(self, most: int) -> memoryview:
        """At least one byte, unless there is none left."""
        while not self._left:
            piece = next(self._source, None)
            if piece is None:
                break
            self._left = memoryview(piece)
        found, self._left = self._left[:most], self._left[most:]
        return found

    def exactly(self, size: int) -> bytes:
        """So many bytes, or what there is."""
        found = bytes(self.some(size))
        while len(found) < size and (more := self.some(size - len(found))):
            found += more
        return found

    def all(self) -> Iterator[Piece]:
        yield self._left
        yield from self._source
