"""A stream that is judged by pieces gets the verdict that it gets as a whole, in the same words."""

from __future__ import annotations

import itertools
import json
from unittest import mock

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convsync_agent import bulk
from convsync_agent.bulk import Bulk
from convsync_agent.content import check_events
from convsync_agent.stream_json import count, judge
from convsync_agent.summary import count_events, summarise_events

T = "2025-04-27 21:16:44.3"
KINDS = ("turn_start", "chat_request", "chat_response", "config_delta", "compaction", "new")
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30)
    | st.just("x" * 200),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
EVENTS = st.lists(
    st.fixed_dictionaries(
        {"timestamp": st.just(T), "type": st.sampled_from(KINDS)},
        optional={
            "content": VALUES,
            "message": VALUES,
            "from_turn": st.just(1),
            "to_turn": st.just(2),
            "delta": VALUES,
        },
    )
    | VALUES,
    max_size=6,
)
FORMS = st.sampled_from([{"indent": 2, "ensure_ascii": False}, {}, {"indent": 1}, {"separators": (",", ":")}])
SCRAPS = st.sampled_from([
    b"", b"\0", b"\0" * 40, b"<<<<<<< ours\n", b"=======\n", b">>>>>>>", b"\xef\xbb\xbf", b"\xff", b"\xe2\x82", b"\n",
    b"\n\n\n", b",", b"]", b"[", b"{", b"}", b'"', b"\\", b"\\ud800", b"\\ud83d\\ude00", b"NaN", b"-Infinity", b"1e999",
    b"1" * 320, b"1" * 320 + b"e-300", b"-0", b"1.", b"-", b'{"a":1,"a":2}', b"\x0b", b"\xc2\xa0", b"tru", b"true",
    b"[" * 130 + b"]" * 130, b"[" * 127 + b"]" * 127, b"[" * 126 + b"]" * 126, b"[" * 20000, b" " * 50, b"\t",
])  # fmt: skip


@st.composite
def streams(draw) -> bytes:
    """Valid ones, and ones with something put in, taken out, or cut off."""
    raw = (json.dumps(draw(EVENTS), **draw(FORMS)) + draw(st.sampled_from(["", "\n"]))).encode()
    for _ in range(draw(st.integers(0, 2))):
        at, end = sorted(draw(st.tuples(*[st.integers(0, len(raw))] * 2)))
        gone = draw(st.sampled_from([at, end, at + 1, len(raw)]))
        raw = raw[:at] + draw(SCRAPS | st.binary(max_size=3)) + raw[gone:]
    return raw


def split(raw: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(raw), *(c % (len(raw) + 1) for c in cuts)})
    return [raw[a:b] for a, b in itertools.pairwise(at)]


CUTS = st.lists(st.integers(0, 5000), max_size=12) | st.just(list(range(5000)))


@settings(max_examples=600, deadline=None)
@given(streams() | SCRAPS | st.binary(max_size=40), CUTS, st.booleans())
@example(b"[1" + b"0" * 400 + b"e-300]", list(range(500)), False)
@example(b'[{"a":"\\ud83d\\ude00"}]', list(range(500)), False)
@example(b'[{"timestamp":"","type":"turn_start"}' + b" " * 60 + b"]", list(range(500)), False)
def test_the_verdict_is_that_of_the_whole(raw, cuts, packed):
    """For any bytes, cut into any pieces: the fault, to the letter, and the number of elements."""
    found = judge(split(raw, cuts), packed)

    assert found.fault == check_events(raw, packed)
    assert found.events == summarise_events(raw).events


@settings(max_examples=200, deadline=None)
@given(streams(), st.integers(1, 40))
def test_the_count_is_that_of_the_whole(raw, size):
    """Also in JP's own layout, where lines are counted."""
    content = Bulk(len(raw), b"", lambda: iter([raw[i : i + size] for i in range(0, len(raw), size)]))

    assert count(content) == count_events(raw)


@settings(max_examples=300, deadline=None)
@given(EVENTS, FORMS, CUTS, st.integers(0, 5))
def test_what_comes_behind_an_element(events, form, cuts, at):
    """`begun`: valid exactly if the elements in front of it are valid and the whole is."""
    first, rest = events[:at], events[at:]
    raw, kept = json.dumps(events, **form).encode(), json.dumps(first, **form).encode()[:-1].rstrip()
    if not first or check_events(kept + b"]", packed=False):
        return
    found = judge(split(raw[len(kept) :], cuts), packed=False, begun=True)

    assert (found.fault == "") is (check_events(raw, packed=False) == "")
    assert not rest or found.fault or found.events == len(rest)


@pytest.mark.parametrize("body", [b'{"a": "' + b"x" * 400 + b'"}', b'"' + b"x" * 400 + b'"', b"1" * 290])
def test_what_is_no_array_is_not_read_for_its_own_sake(body):
    """Beyond a bound nobody asks whether it is JSON; bytes that are no UTF-8 are still told."""
    pieces = split(body, list(range(0, len(body), 7)))
    with mock.patch.object(bulk, "MOST", 100):
        assert judge(pieces, packed=False).fault == "events.json: not an array"
        assert judge([*pieces, b"\n\xff"], packed=False).fault == "events.json: line 2: not UTF-8"


def test_memory_is_that_of_the_largest_element(monkeypatch):
    """The text at hand never grows with the length of the stream."""
    from convsync_agent import stream_json

    widest = 0
    more = stream_json._Window.more

    def measured(self):
        nonlocal widest
        found = more(self)
        widest = max(widest, len(self.text))
        return found

    monkeypatch.setattr(stream_json._Window, "more", measured)
    one = {"timestamp": T, "type": "chat_request", "content": "x" * 3000}
    raw = json.dumps([one] * 300, indent=2).encode()

    assert judge(split(raw, list(range(0, len(raw), 500))), packed=False).fault == ""
    assert widest < 16_000
