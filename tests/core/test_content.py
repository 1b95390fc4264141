"""Grading content and proving that one content holds all of another: tables, then laws."""

from __future__ import annotations

import json
import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync_agent.content import (
    check_base_config,
    check_continued,
    check_events,
    check_metadata,
    metadata_contains,
    stream_contains,
)
from convsync_agent.strict_json import parse, same_json
from convsync_agent.summary import Metadata, Summary, parse_metadata, summarise_events

T = "2025-04-27 21:16:44.3"
AT = {"timestamp": T}
CONFIG = {"assistant": {"model": "x", "temperature": 0.5}, "on": True}


def jp(value):
    """The bytes JP writes for `value` (contract 4.1)."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def event(kind, **fields):
    return {**AT, "type": kind, **fields}


ASK, ANSWER = event("chat_request", content="why"), event("chat_response", message="because")
TURN, ODD = event("turn_start"), event("not_yet_invented", size=1)
HEAD = {"type": "config_delta", "timestamp": T, "delta": CONFIG}
BASE = jp(CONFIG)


VALID_EVENTS = [
    ("none", [], False),
    ("turn", [TURN, ASK, ANSWER], False),
    ("author and schema", [event("chat_request", content="", author="me", schema={})], False),
    ("reasoning", [event("chat_response", reasoning="")], False),
    ("data, even null", [event("chat_response", data=None)], False),
    ("tool", [event("tool_call_request", id="1", name="x", arguments={})], False),
    ("tool without arguments", [event("tool_call_request", id="1", name="x")], False),
    ("tool result", [event("tool_call_response", id="1", content="", is_error=False)], False),
    ("inquiry", [event("inquiry_request", id="1", source={}, question={})], False),
    ("inquiry answer", [event("inquiry_response", id="1", answer=None)], False),
    ("compaction", [event("compaction", from_turn=0, to_turn=3)], False),
    ("delta with odd fields", [{"type": "config_delta", "timestamp": 5, "delta": 7}], False),
    ("unknown kind", [ODD], False),
    ("unknown kind, odd time", [{"timestamp": None, "type": "new"}], False),
    ("kind that is no string", [{"timestamp": T, "type": [1]}], False),
    ("unknown fields", [event("turn_start", event_id="e1", metadata=5)], False),
    ("packed", [HEAD], True),
    ("packed, more", [HEAD, TURN, ASK], True),
]

EVENT_FAULTS = [
    ("not an array", jp({}), "not an array"),
    ("element", jp([ASK, 5]), "element 1: not an object"),
    ("element as array", jp([[T, "turn_start"]]), "element 0: not an object"),
    ("no type", jp([AT]), "element 0: no type"),
    ("no time", jp([{"type": "config_delta"}]), "element 0: no timestamp"),
    ("known, no time", jp([{"type": "turn_start"}]), "element 0: turn_start without timestamp"),
    (
        "time is a number",
        jp([{"type": "turn_start", "timestamp": 5}]),
        "element 0: turn_start: timestamp is not a string",
    ),
    ("request", jp([TURN, event("chat_request")]), "element 1: chat_request without content"),
    ("request, list", jp([event("chat_request", content=[])]), "element 0: chat_request: content is not a string"),
    ("response", jp([event("chat_response")]), "element 0: chat_response without message, reasoning or data"),
    (
        "response, null",
        jp([event("chat_response", message=None)]),
        "element 0: chat_response without message, reasoning or data",
    ),
    ("tool id", jp([event("tool_call_request", name="x")]), "element 0: tool_call_request without id"),
    (
        "tool name",
        jp([event("tool_call_request", id="1", name=1)]),
        "element 0: tool_call_request: name is not a string",
    ),
    (
        "tool error",
        jp([event("tool_call_response", id="1", content="", is_error=0)]),
        "element 0: tool_call_response: is_error is not true or false",
    ),
    ("question", jp([event("inquiry_request", id="1", source={})]), "element 0: inquiry_request without question"),
    ("answer", jp([event("inquiry_response", id="1")]), "element 0: inquiry_response without answer"),
    (
        "compaction",
        jp([event("compaction", from_turn=True, to_turn=1)]),
        "element 0: compaction: from_turn is not a whole number",
    ),
]

METADATA = [
    ("minimal", jp({"last_activated_at": T}), ""),
    ("unknown fields", jp({"title": 5, "local": False, "last_activated_at": ""}), ""),
    ("array", b"[]", "not an object"),
    ("no time", jp({"title": "secret"}), "no last_activated_at"),
    ("null time", jp({"last_activated_at": None}), "last_activated_at is not a string"),
    ("key twice", b'{"last_activated_at":"a","last_activated_at":"b"}', "a key occurs twice"),
    ("cut off", b'{"title": "secret', "line 1: not JSON (cut off?)"),
]


def compact(value):
    return json.dumps(value).encode()


# outer, inner, contained
STREAMS = [
    ("same", (BASE, jp([ASK])), (BASE, jp([ASK])), True),
    ("same junk", (b"x", b"junk"), (b"x", b"junk"), True),
    ("appended", (BASE, jp([ASK, ANSWER])), (BASE, jp([ASK])), True),
    ("appended to nothing", (BASE, jp([ASK])), (BASE, b"[]\n"), True),
    ("not the other way", (BASE, jp([ASK])), (BASE, jp([ASK, ANSWER])), False),
    ("diverged", (BASE, jp([ASK, ANSWER])), (BASE, jp([ASK, ODD])), False),
    ("not at the start", (BASE, jp([ASK, ANSWER])), (BASE, jp([ANSWER])), False),
    ("other layout", (BASE, compact([ASK, ANSWER])), (BASE, jp([ASK])), True),
    ("other layout of the inner", (BASE, jp([ASK, ANSWER])), (BASE, compact([ASK])), True),
    ("other base", (BASE, jp([ASK])), (jp({}), jp([ASK])), False),
    ("same base, other layout", (BASE, jp([ASK])), (compact(CONFIG), jp([ASK])), True),
    ("true is not 1", (BASE, jp([ASK])), (jp({**CONFIG, "on": 1}), jp([ASK])), False),
    ("1 is not 1.0", (BASE, jp([event("x", n=1), ASK])), (BASE, jp([event("x", n=1.0)])), False),
    ("longer last string", (BASE, jp([event("x", s="ab")])), (BASE, jp([event("x", s="a")])), False),
    ("key added to the last", (BASE, jp([{**ASK, "author": "me"}])), (BASE, jp([ASK])), False),
    ("packed, appended", (None, jp([HEAD, ASK])), (None, jp([HEAD])), True),
    ("packed, other head", (None, jp([HEAD, ASK])), (None, jp([{**HEAD, "timestamp": "x"}])), False),
    ("packed nothing", (None, jp([HEAD])), (None, b"[]\n"), False),
    ("upgraded", (BASE, jp([ASK, ANSWER])), (None, jp([HEAD, ASK])), True),
    ("upgraded, nothing since", (BASE, b"[]\n"), (None, jp([HEAD])), True),
    ("upgraded, other config", (jp({}), jp([ASK])), (None, jp([HEAD, ASK])), False),
    ("upgraded, diverged", (BASE, jp([ANSWER])), (None, jp([HEAD, ASK])), False),
    ("upgrade interrupted", (BASE, jp([HEAD, ASK])), (None, jp([HEAD, ASK])), True),
    ("upgrade interrupted, back", (None, jp([HEAD, ASK])), (BASE, jp([HEAD, ASK])), True),
    ("packed holds split", (None, jp([HEAD, ASK, ANSWER])), (BASE, jp([ASK])), True),
    ("packed lacks of split", (None, jp([HEAD, ASK])), (BASE, jp([ASK, ANSWER])), False),
    ("head with more", (BASE, jp([ASK])), (None, jp([{**HEAD, "more": 1}, ASK])), False),
    ("head without delta", (BASE, jp([ASK])), (None, jp([event("config_delta"), ASK])), False),
    ("inner is junk", (BASE, jp([ASK])), (BASE, b"junk"), False),
    ("outer is junk", (BASE, b"junk"), (BASE, jp([ASK])), False),
    ("outer is junk, inner empty", (BASE, b"junk"), (BASE, b"[]\n"), False),
    ("base is junk", (b"junk", jp([ASK])), (BASE, jp([ASK])), False),
    ("objects", (BASE, b'{"a":1}'), (BASE, b"{}"), False),
    ("key twice", (BASE, b'[{"a":1,"a":2},3]'), (BASE, b'[{"a":2}]'), False),
]

M = {"title": "x", "last_activated_at": "2025-01-02 00:00:00.0", "labels": {"a": "1"}}
METADATA_PAIRS = [
    ("same", jp(M), jp(M), True),
    ("same junk", b"junk", b"junk", True),
    ("older", jp(M), jp({**M, "last_activated_at": "2025-01-01 23:59:59.9"}), True),
    ("younger", jp(M), jp({**M, "last_activated_at": "2025-01-02 00:00:00.1"}), False),
    ("equal, written otherwise", jp(M), jp({**M, "last_activated_at": "2025-01-02T01:00:00+01:00"}), True),
    ("order of keys", jp(M), jp(dict(reversed(M.items()))), True),
    ("other title", jp(M), jp({**M, "title": "y"}), False),
    ("one key more", jp(M), jp({**M, "pinned_at": None}), False),
    ("one key less", jp(M), jp({k: v for k, v in M.items() if k != "labels"}), False),
    ("no readable time", jp(M), jp({**M, "last_activated_at": "soon"}), False),
    ("same unreadable time", jp({"last_activated_at": 5}), compact({"last_activated_at": 5}), True),
    ("no time", jp(M), b"{}", False),
    ("arrays", b"[1]", b"[]", False),
    ("inner is junk", jp(M), b"junk", False),
]


def table(rows):
    """Parameters of rows that begin with their name."""
    return [pytest.param(*row[1:], id=row[0]) for row in rows]


@pytest.mark.parametrize(("events", "packed"), table(VALID_EVENTS))
def test_what_jp_loads_is_valid(events, packed):
    """Contract 4.5-4.7, in JP's layout and in another; unknown kinds and fields pass."""
    assert check_events(jp(events), packed) == check_events(compact(events), packed) == ""


@pytest.mark.parametrize(("raw", "fault"), table(EVENT_FAULTS))
def test_what_jp_does_not_load_is_named(raw, fault):
    """A known kind with a missing or mistyped required field makes JP refuse the stream (contract 4.5)."""
    assert check_events(raw, packed=False) == f"events.json: {fault}"


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"[]\n", "no elements and no base_config.json"),
        (jp([TURN, HEAD]), "element 0: no config_delta, and no base_config.json"),
    ],
)
def test_packed_events_begin_with_their_config(raw, fault):
    """Contract 4.6: without `base_config.json` the first element holds it."""
    assert check_events(raw, packed=False) == ""
    assert check_events(raw, packed=True) == f"events.json: {fault}"


@pytest.mark.parametrize(("raw", "fault"), table(METADATA))
def test_metadata_is_an_object_with_its_time(raw, fault):
    """R3: a string `last_activated_at`, and nothing asked of the optional fields."""
    assert check_metadata(raw) == (f"metadata.json: {fault}" if fault else "")


@pytest.mark.parametrize(("outer", "inner", "contained"), table(STREAMS))
def test_a_stream_contains_its_own_beginning(outer, inner, contained):
    """True only where replacing `inner` by `outer` loses no event and no config (R4)."""
    assert stream_contains(outer, inner) is contained


@pytest.mark.parametrize(("outer", "inner", "contained"), table(METADATA_PAIRS))
def test_metadata_contains_its_earlier_activation(outer, inner, contained):
    """Only an older `last_activated_at` may be lost without a copy in the history."""
    assert metadata_contains(outer, inner) is contained


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    SCALARS | TEXT, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXT, v, max_size=3), max_leaves=8
)
EVENTS = st.lists(st.builds(lambda more: {**more, **AT, "type": "x"}, st.dictionaries(TEXT, VALUES, max_size=3)))
LAYOUTS = st.sampled_from([jp, compact, lambda v: json.dumps(v, indent="\t").encode()])
JUNK = (
    st.binary(max_size=60)
    | st.text(alphabet='[]{},:"\\ud8de019.-+eE \ntruefalsn', max_size=60).map(str.encode)
    | st.text(alphabet=string.printable, max_size=60).map(lambda s: b'[{"timestamp":"' + s.encode() + b'"}]')
    | VALUES.map(jp)
)


@given(JUNK, JUNK, st.booleans())
def test_no_bytes_raise(one, other, packed):
    """Files are what crashes, editors and merges left: every function answers, whatever the bytes."""
    assert isinstance(check_metadata(one) + check_base_config(one) + check_events(one, packed), str)
    assert isinstance(summarise_events(one), Summary)
    assert isinstance(parse_metadata(one), Metadata)
    assert metadata_contains(one, other) in (True, False)
    for outer in ((None, one), (other, one)):
        for inner in ((None, other), (one, other)):
            assert stream_contains(outer, inner) in (True, False)


@given(EVENTS, st.data())
def test_every_beginning_is_contained(events, data):
    """A prefix of a valid stream is contained in it, whatever the layouts and wherever the config is."""
    cut = data.draw(st.integers(min_value=0, max_value=len(events)))
    forms = [
        lambda some: (data.draw(LAYOUTS)(CONFIG), data.draw(LAYOUTS)(some)),
        lambda some: (None, data.draw(LAYOUTS)([HEAD, *some])),
    ]
    outer, inner = data.draw(st.sampled_from(forms))(events), data.draw(st.sampled_from(forms))(events[:cut])

    assert stream_contains(outer, inner)
    assert stream_contains(inner, outer) is (cut == len(events))


@given(EVENTS, EVENTS, LAYOUTS, st.sampled_from([b"", b" ", b"\n", b"\xef\xbb\xbf", b"]", b",", b"\0"]), st.booleans())
def test_what_is_judged_by_its_end_is_judged_the_same(before, more, layout, junk, packed):
    """Whatever it grew from, a stream is as valid as a look at all of it says, word for word."""
    head = [HEAD, *before] if packed else before
    old, new = layout(head), layout(head + more)
    for raw in (
        new,
        new + junk,
        junk + new,
        old[:-1] + junk + b"]",
        new.replace(b'"x"', b'"compaction"', 1),
        b"[" + old,
    ):
        assert check_continued(raw, old, packed).fault == check_events(raw, packed)


@given(st.binary(max_size=40), EVENTS, st.integers(0, 60), st.booleans())
def test_nothing_slips_in_behind_a_valid_beginning(tail, before, cut, packed):
    """Any bytes behind any part of a valid stream."""
    old = jp([HEAD, *before])
    raw = old[: max(0, len(old) - cut)] + tail

    assert check_continued(raw, old, packed).fault == check_events(raw, packed)


@given(EVENTS, EVENTS)
def test_contained_means_a_prefix(outer, inner):
    """The short cut by bytes never claims more than comparing the values does."""
    prefix = same_json(parse(jp(outer))[: len(inner)], parse(jp(inner)))

    assert stream_contains((BASE, jp(outer)), (BASE, jp(inner))) is prefix


CORPUS = Path(os.environ.get("CONVSYNC_CORPUS", "/nonexistent"))


@pytest.mark.real
@pytest.mark.skipif(not CORPUS.is_dir(), reason="CONVSYNC_CORPUS names no directory of real conversations")
def test_real_conversations_are_valid():
    """Every three-file conversation of the corpus passes: we are not stricter than what JP wrote."""
    wholes = [path.parent for path in CORPUS.rglob("base_config.json")]

    assert wholes
    for whole in wholes:
        assert check_base_config((whole / "base_config.json").read_bytes()) == ""
        assert check_events((whole / "events.json").read_bytes(), packed=False) == ""
        assert check_metadata((whole / "metadata.json").read_bytes()) == ""
