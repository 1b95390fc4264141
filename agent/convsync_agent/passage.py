"""Where two event streams differ: the elements around it, found by comparing bytes, not by parsing all of both.

Most streams that change have one place in which they change. JP writes one element of a stream at the same depth
after another, each begun by the line `  {` and ended by the line `  }`; a string of JSON holds no line feed, so these
lines are never text. In another layout they may be found at another depth, or not at all: the rules below hold there,
too.
"""

from __future__ import annotations

from typing import NamedTuple

_BEGIN, _END = b"\n  {", b"\n  }"
_STEP = 1 << 12
_SPACES = 64  # how far back the comma or bracket before an element is looked for


class Passage(NamedTuple):
    """The elements that differ, of each stream: bytes that JSON reads as `[` + these + `]`, from `begin` on in both.

    `leads`: they are the first ones of their array.
    """

    begin: int
    one: bytes
    other: bytes
    leads: bool


def passage(one: bytes, other: bytes) -> Passage | None:
    """What has to be parsed to know that `one` is as sound as `other`; None: all of it.

    Both have the same bytes before the passage, which end where an element of an array begins, and the same after it.
    If `other` is JSON, and the elements of both passages are whole, then so is `one`: a parser is in the same state
    when it comes to the elements, and again when it has read them.
    """
    begin = _begin(one, other)
    after = _same_from(one, other, begin + 1) if begin >= 0 else 0
    return _from(one, other, begin, (len(one) - after, len(other) - after))


def first_changed(one: bytes, other: bytes) -> Passage | None:
    """The one element of each in which they begin to differ: at the same place in both, whatever follows."""
    begin = _begin(one, other)
    return _from(one, other, begin, (begin, begin))


def patched(one: bytes, other: bytes, found: Passage) -> bytes:
    """`other` with the elements of `one` for its own."""
    after = found.begin + len(found.other)
    return b"".join((memoryview(one)[: found.begin], found.one, memoryview(other)[after:]))


def same_until(one: bytes, other: bytes) -> int:
    """How many bytes at the start are the same. By steps and halving: both may be megabytes long."""
    most, at, theirs = min(len(one), len(other)), 0, memoryview(other)
    while at < most and one.startswith(theirs[at : at + _STEP], at):
        at += _STEP
    least, most = min(at, most), min(at + _STEP, most)
    while least < most:
        middle = (least + most + 1) // 2
        if one.startswith(theirs[least:middle], least):
            least = middle
        else:
            most = middle - 1
    return least


def _from(one: bytes, other: bytes, begin: int, beyond: tuple[int, int]) -> Passage | None:
    """The elements from `begin` to the first ends of one that lie at these places or behind them."""
    before = one[max(0, begin - _SPACES) : max(0, begin)].rstrip()[-1:]
    if before not in (b",", b"["):  # after a colon there is room for one value only
        return None
    ends = [raw.find(_END, at) for raw, at in zip((one, other), beyond, strict=True)]
    if min(ends) < 0:
        return None
    mine, theirs = (raw[begin : at + len(_END)] for raw, at in zip((one, other), ends, strict=True))
    return Passage(begin, mine, theirs, before == b"[")


def _begin(one: bytes, other: bytes) -> int:
    """Where the last element begins whose beginning is the same in both; -1: nowhere."""
    at = one.rfind(_BEGIN, 0, same_until(one, other))
    return at if at < 0 else at + len(_BEGIN) - 1


def _same_from(one: bytes, other: bytes, begin: int) -> int:
    """How many bytes at the end are the same, without those before `begin` of either."""
    most, same, theirs = min(len(one), len(other)) - begin, 0, memoryview(other)

    def alike(length: int, known: int) -> bool:
        return one.startswith(theirs[len(other) - length : len(other) - known], len(one) - length)

    while same + _STEP <= most and alike(same + _STEP, same):
        same += _STEP
    most = min(same + _STEP, most)
    while same < most:
        middle = (same + most + 1) // 2
        if alike(middle, same):
            same = middle
        else:
            most = middle - 1
    return same
