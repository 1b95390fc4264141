"""Which elements of two sequences belong together: what a diff is made of, bounded for any input.

Common ends first, then elements that occur once on both sides as anchors (patience diff), then `difflib`
between two anchors as long as the work stays small. Where it would not, nothing is paired there: the answer
is still right, only longer. 100,000 elements on both sides take well below a second.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

CELLS_AT_ONCE = 90_000  # difflib between two anchors: 300 elements against 300
CELLS_IN_ALL = 2_000_000


class Gap(NamedTuple):
    """Two stretches without a common element: `old[i1:i2]` and `new[j1:j2]`, one of them may be empty."""

    i1: int
    i2: int
    j1: int
    j2: int

    @property
    def cells(self) -> int:
        return (self.i2 - self.i1) * (self.j2 - self.j1)


def pairs(old: Sequence[Hashable], new: Sequence[Hashable]) -> list[tuple[int, int]]:
    """(index in old, index in new) of equal elements, both indices rising."""
    whole = Gap(0, len(old), 0, len(new))
    found, left = _without_ends(old, new, whole)
    budget = CELLS_IN_ALL
    for gap in _between_anchors(old, new, left, found):
        ends, inner = _without_ends(old, new, gap)
        found += ends
        if 0 < inner.cells <= min(CELLS_AT_ONCE, budget):
            budget -= inner.cells
            found += _by_difflib(old, new, inner)
    return sorted(found)


def gaps(length_old: int, length_new: int, paired: Sequence[tuple[int, int]]) -> Iterator[Gap]:
    """What lies between the pairs, in order; never empty on both sides."""
    i = j = 0
    for at_old, at_new in (*paired, (length_old, length_new)):
        if at_old > i or at_new > j:
            yield Gap(i, at_old, j, at_new)
        i, j = at_old + 1, at_new + 1


def _without_ends(old: Sequence[Hashable], new: Sequence[Hashable], gap: Gap) -> tuple[list[tuple[int, int]], Gap]:
    i1, i2, j1, j2 = gap
    found = []
    while i1 < i2 and j1 < j2 and old[i1] == new[j1]:
        found.append((i1, j1))
        i1, j1 = i1 + 1, j1 + 1
    while i1 < i2 and j1 < j2 and old[i2 - 1] == new[j2 - 1]:
        i2, j2 = i2 - 1, j2 - 1
        found.append((i2, j2))
    return found, Gap(i1, i2, j1, j2)


def _between_anchors(
    old: Sequence[Hashable], new: Sequence[Hashable], gap: Gap, found: list[tuple[int, int]]
) -> Iterator[Gap]:
    """The stretches between anchors, which are added to `found`."""
    if gap.cells <= CELLS_AT_ONCE:
        yield gap
        return
    i, j = gap.i1, gap.j1
    for at_old, at_new in _anchors(old, new, gap):
        found.append((at_old, at_new))
        yield Gap(i, at_old, j, at_new)
        i, j = at_old + 1, at_new + 1
    yield Gap(i, gap.i2, j, gap.j2)


def _anchors(old: Sequence[Hashable], new: Sequence[Hashable], gap: Gap) -> list[tuple[int, int]]:
    """The longest rising run of elements that occur exactly once on each side."""
    in_old, in_new = Counter(old[gap.i1 : gap.i2]), Counter(new[gap.j1 : gap.j2])
    place = {e: j for j, e in enumerate(new[gap.j1 : gap.j2], gap.j1) if in_new[e] == 1}
    unique = [(i, place[e]) for i, e in enumerate(old[gap.i1 : gap.i2], gap.i1) if in_old[e] == 1 and e in place]
    tails, ends, before = list[int](), list[int](), list[int]()
    for number, (_, j) in enumerate(unique):
        at = bisect_left(tails, j)
        before.append(ends[at - 1] if at else -1)
        tails[at : at + 1], ends[at : at + 1] = [j], [number]
    run, number = [], ends[-1] if ends else -1
    while number >= 0:
        run.append(unique[number])
        number = before[number]
    return run[::-1]


def _by_difflib(old: Sequence[Hashable], new: Sequence[Hashable], gap: Gap) -> list[tuple[int, int]]:
    matcher = SequenceMatcher(None, old[gap.i1 : gap.i2], new[gap.j1 : gap.j2], autojunk=False)
    return [
        (gap.i1 + block.a + k, gap.j1 + block.b + k)
        for block in matcher.get_matching_blocks()
        for k in range(block.size)
    ]
