"""What a listing shows: times, counts and titles, as JP reads them."""

from __future__ import annotations

import json

import pytest

from convsync_agent.summary import Metadata, Summary, parse_metadata, parse_timestamp, summarise_events

SECOND = 1_000_000_000
TIMES = [
    ("1970-01-01 00:00:00.0", 0),
    ("1970-01-01 00:00:00", 0),
    ("1970-01-01 00:00:01.5", 1_500_000_000),
    ("1969-12-31 23:59:59.9", -100_000_000),
    ("2025-04-27 21:16:44.312345678", 1_745_788_604_312_345_678),
    ("2025-04-27 21:16:44.3123456789", 1_745_788_604_312_345_678),
    ("2024-02-29 00:00:00", 1_709_164_800 * SECOND),
    ("2016-12-31 23:59:60", 1_483_228_800 * SECOND),
    ("2025-04-27T21:16:44Z", 1_745_788_604 * SECOND),
    ("2025-04-27T21:16:44.3z", 1_745_788_604 * SECOND + 300_000_000),
    ("2025-04-27T23:16:44+02:00", 1_745_788_604 * SECOND),
    ("2025-04-27 15:46:44-05:30", 1_745_788_604 * SECOND),
    ("2025-04-27T21:16:44", None),
    ("2025-02-29 00:00:00", None),
    ("2025-13-01 00:00:00", None),
    ("0000-01-01 00:00:00", None),
    ("2025-01-01 24:00:00", None),
    ("2025-01-01 00:60:00", None),
    ("2025-01-01T00:00:00+24:00", None),
    ("2025-01-01T00:00:00+00:60", None),
    ("2025-01-01 00:00:00.", None),
    ("2025-01-01", None),
    (" 2025-01-01 00:00:00", None),
    ("2025-01-01 00:00:00\n", None),
    ("٢٠٢٥-01-01 00:00:00", None),
    ("", None),
]

T = "2025-04-27 21:16:44.3"
TURN = {"timestamp": T, "type": "turn_start"}
ASK = {"timestamp": T, "type": "chat_request", "content": "why"}


def jp(value):
    return json.dumps(value).encode()


@pytest.mark.parametrize(("text", "expected"), TIMES, ids=[repr(t) for t, _ in TIMES])
def test_a_timestamp_is_read_in_both_forms(text, expected):
    """Contract 4.2: JP's own form, which is UTC, or RFC 3339, to the nanosecond."""
    assert parse_timestamp(text) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"[]\n", Summary()),
        (jp([TURN, ASK, {**ASK, "content": "later"}]), Summary(3, 1745788604300, "why")),
        (jp([ASK, {"timestamp": "soon"}]), Summary(2, None, "why")),
        (jp([{**ASK, "content": 5}, {"timestamp": 5}]), Summary(2, None, None)),
        (jp([ASK, {"type": "turn_start"}]), Summary()),
        (jp([ASK, 5]), Summary()),
        (b"{}", Summary()),
        (b"junk", Summary()),
    ],
)
def test_a_summary_counts_as_jp_lists(raw, expected):
    """Contract 4.8: elements of any kind, the last one's time, nothing where one has no timestamp."""
    assert summarise_events(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (jp({"last_activated_at": T}), Metadata(last_activated_ms=1745788604300)),
        (
            jp({"title": "x", "last_activated_at": T, "pinned_at": T, "archived_at": T, "expires_at": T}),
            Metadata("x", 1745788604300, 1745788604300, 1745788604300, 1745788604300),
        ),
        (jp({"title": 5, "last_activated_at": "soon", "pinned_at": None, "expires_at": True}), Metadata()),
        (b"[]", Metadata()),
        (b"junk", Metadata()),
    ],
)
def test_metadata_is_listed_as_far_as_it_can_be_read(raw, expected):
    """A listing shows what there is and never fails over one field."""
    assert parse_metadata(raw) == expected
