"""How large the next batch is."""

from __future__ import annotations

import pytest

from convsync_agent.pace import FIRST, LEAST, MOST, following


@pytest.mark.parametrize(
    ("size", "number", "seconds", "next_size"),
    [
        (FIRST, FIRST, 0.05, 2 * FIRST),
        (MOST, MOST, 0.05, MOST),
        (FIRST, 1, 0.05, FIRST),  # one edit says nothing about a batch
        (FIRST, FIRST, 0.3, FIRST),
        (MOST, MOST, 60.0, MOST // 2),
        (MOST, 20, 60.0, 10),
        (LEAST, LEAST, 60.0, LEAST),
    ],
)
def test_the_next_batch_follows_the_last(size, number, seconds, next_size):
    """Quick and full: twice as many, up to a limit. Slow: half of what was too much."""
    assert following(size, number, seconds) == next_size
