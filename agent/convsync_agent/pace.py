"""How much is done between two looks at everything else: as much as some tenths of a second allow on this disk.

A burst never keeps a single edit waiting for long, what is read of a batch is still in memory when it is written, and
the service manager hears in time that the work gets on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

FIRST, LEAST, MOST = 32, 8, 256
QUICK_SECONDS, SLOW_SECONDS = 0.15, 0.5


class Pace:
    """The size of the next batch, by how long the last one took."""

    def __init__(self) -> None:
        self.size = FIRST

    @contextmanager
    def measured(self, number: int) -> Iterator[None]:
        """Around a batch of `number` conversations."""
        started = time.monotonic()
        yield
        self.size = following(self.size, number, time.monotonic() - started)


def following(size: int, number: int, seconds: float) -> int:
    """The size of the next batch after one of `number` took `seconds` with `size` allowed."""
    if seconds > SLOW_SECONDS:
        return max(LEAST, min(size, number) // 2)
    if seconds < QUICK_SECONDS and number >= size:
        return min(MOST, size * 2)
    return size
