"""JSON changed where it has to be: what stays keeps its very bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync_agent.rawjson import as_array, as_object, elements, members, with_fields
from convsync_agent.strict_json import NotJson
from convsync_agent.summary import format_timestamp, parse_timestamp
from machine import as_jp

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        ({}, {"title": "x"}, {"title": "x"}),
        ({"last_activated_at": "t"}, {"title": "x"}, {"title": "x", "last_activated_at": "t"}),
        ({"title": "x", "last_activated_at": "t"}, {"title": None}, {"last_activated_at": "t"}),
        (
            {"last_activated_at": "t", "expires_at": "e", "new": [1.50, {"a": {}}]},
            {"archived_at": "a"},
            {"last_activated_at": "t", "archived_at": "a", "expires_at": "e", "new": [1.50, {"a": {}}]},
        ),
        ({"last_activated_at": "t", "local": True}, {"archived_at": "a"}, None),
        (
            {"last_activated_at": "t"},
            {"labels": {"a": "", "b": "c"}},
            {"last_activated_at": "t", "labels": {"a": "", "b": "c"}},
        ),
    ],
)
def test_fields_are_set_where_jp_writes_them(before, changes, after):
    """Contract 4.3: in JP's order; unknown fields stay where they are and as they are."""
    after = after or before | changes
    assert with_fields(as_jp(before), changes) == as_jp(after)


def test_what_does_not_change_keeps_its_bytes():
    """Also where JP would have written it differently."""
    raw = b'{"last_activated_at":"t",  "n": 1.0e+2}'
    assert with_fields(raw, {"last_activated_at": "t", "title": None}) == raw
    assert b'"n": 1.0e+2' in with_fields(raw, {"title": "x"})


@given(st.dictionaries(st.text(), VALUES))
def test_an_object_taken_apart_is_put_together_as_it_was(value):
    """In JP's layout byte for byte."""
    raw = as_jp(value)
    assert as_object(members(raw)) == raw
    assert {k: json.loads(v) for k, v in members(raw).items()} == value


@given(st.lists(VALUES))
def test_an_array_taken_apart_is_put_together_as_it_was(value):
    """In JP's layout byte for byte."""
    raw = as_jp(value)
    assert as_array(elements(raw)) == raw


@pytest.mark.parametrize("raw", [b"", b"[", b"[1,]", b"[1 2]", b"[1] x", b"{}", b"\xff", b"[nope]"])
def test_what_is_no_array_is_said_to_be_none(raw):
    """Never an index error, never half of it."""
    with pytest.raises(NotJson):
        elements(raw)


@given(st.integers(min_value=0, max_value=4_000_000_000_000_000_000))
def test_a_time_is_written_as_it_is_read(ns):
    """Contract 4.2, to the nanosecond."""
    assert parse_timestamp(format_timestamp(ns)) == ns


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "1970-01-01 00:00:00.0"), (1_500_000_000, "1970-01-01 00:00:01.5"), (1, "1970-01-01 00:00:00.000000001")],
)
def test_times_look_as_jp_writes_them(ns, text):
    """Zero nanoseconds are `.0`, else nine digits less their trailing zeros."""
    assert format_timestamp(ns) == text
