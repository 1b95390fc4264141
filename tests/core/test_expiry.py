"""Copies for which JP would remove a conversation that nobody meant to go."""

from __future__ import annotations

import pytest

from convsync_agent.content import expires_at
from convsync_agent.expiry import expires_early

NOW = 1_000


@pytest.mark.parametrize(
    ("own", "durable", "early"),
    [
        (None, None, False),
        (NOW + 1, None, False),
        (NOW, None, True),
        (NOW - 1, None, True),
        (NOW - 1, NOW + 1, True),
        (NOW - 1, NOW, False),
        (NOW - 1, NOW - 2, False),
        (None, NOW - 1, False),
    ],
)
def test_who_takes_the_durable_copy_along(own, durable, early):
    """Past by itself, at this moment too, and the durable copy without or later."""
    assert expires_early(own, durable, NOW) is early


@pytest.mark.parametrize(
    ("raw", "ns"),
    [
        (b'{"title": "t", "expires_at": "2023-11-14 22:13:20.5"}', 1_700_000_000_500_000_000),
        (b'{"expires_at": "2023-11-14T22:13:20Z"}', 1_700_000_000_000_000_000),
        (b'{"expires_at": null}', None),
        (b'{"expires_at": 7}', None),
        (b'{"expires_at": "soon"}', None),
        (b"{}", None),
        (b"[", None),
    ],
)
def test_what_jp_reads(raw, ns):
    """Both forms of a time; what does not parse never expires (contract 6.8)."""
    assert expires_at(raw) == ns
