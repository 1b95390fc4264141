"""Comparing two contents of one unit: tables, then laws, then the bound on large ones."""

from __future__ import annotations

import json
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync_agent.alignment import gaps, pairs
from convsync_agent.eventdiff import Change, difference
from convsync_agent.excerpt import both_lines, harmless, one_line, text_of
from convsync_agent.model import BASE_CONFIG, EVENTS, METADATA, Unit

T = "2025-04-27 21:16:44.3"
CONFIG = {"assistant": {"name": "x", "model": {"temperature": 0.5}}, "tools": ["a", "b"]}
HEAD = {"type": "config_delta", "timestamp": T, "delta": CONFIG}
REMOVED, ADDED, CHANGED = Change.REMOVED, Change.ADDED, Change.CHANGED


def jp(value):
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def ask(text, second=0, **more):
    return {"timestamp": f"2025-04-27 21:16:{second:02}.0", "type": "chat_request", "content": text, **more}


def split(*events, config=CONFIG):
    return {BASE_CONFIG: jp(config), EVENTS: jp(list(events))}


def packed(*events, head=HEAD):
    return {EVENTS: jp([head, *events])}


def rows(found):
    """(change, index in the version, index in the current one) of each event that differs."""
    return [(e.change, e.old.index if e.old else None, e.new.index if e.new else None) for e in found.events]


A, B, C, D = (ask(t, n) for n, t in enumerate("abcd"))
STREAMS = [
    ("equal", split(A, B), split(A, B), []),
    ("appended", split(A), split(A, B, C), [(ADDED, None, 1), (ADDED, None, 2)]),
    ("cut", split(A, B, C), split(A), [(REMOVED, 1, None), (REMOVED, 2, None)]),
    ("in the middle", split(A, C), split(A, B, C), [(ADDED, None, 1)]),
    ("in front", split(B), split(A, B), [(ADDED, None, 0)]),
    ("edited", split(A, B, C), split(A, ask("else", 1), C), [(CHANGED, 1, 1)]),
    ("edited and moved on", split(B), split(A, ask("else", 1)), [(ADDED, None, 0), (CHANGED, 0, 1)]),
    ("another", split(A, B), split(A, D), [(REMOVED, 1, None), (ADDED, None, 1)]),
    ("from nothing", {}, split(A, config={}), [(ADDED, None, 0)]),
    ("order of keys", split(A), split(dict(reversed(A.items()))), []),
    ("packed and split", packed(A, B), split(A, B), []),
    ("split and packed", split(A, B), packed(A, B), []),
    ("packed, with more", packed(A), split(A, B), [(ADDED, None, 1)]),
    ("packed index counts the head", packed(A, B), split(A), [(REMOVED, 2, None)]),
    ("upgrade interrupted", packed(A, B), split(HEAD, A), [(REMOVED, 2, None)]),
    ("true is not 1", split(ask("x", n=1)), split(ask("x", n=True)), [(CHANGED, 0, 0)]),
    ("no objects", {EVENTS: jp([1, 2, 3])}, {EVENTS: jp([1, 3])}, [(REMOVED, 1, None)]),
]


@pytest.mark.parametrize(("old", "new", "expected"), [row[1:] for row in STREAMS], ids=[row[0] for row in STREAMS])
def test_events_that_differ(old, new, expected):
    """Events are paired by what they mean, edited ones by kind, time and id; each side counts its own file."""
    found = difference(Unit.STREAM, old, new)

    assert rows(found) == expected
    assert found.lines == ()


def test_an_edited_event_says_where():
    """Of an edited event the keys are named; kind, time, size and a text are there for both sides."""
    (change,) = difference(Unit.STREAM, split(ask("why")), split(ask("why not", author="me"))).events

    assert change.keys == ("content", "author")
    assert (change.old.kind, change.old.timestamp, change.old.at_ms) == ("chat_request", A["timestamp"], 1745788560000)
    assert (change.old.text, change.new.text) == ("why", "why not")
    assert change.new.size > change.old.size > 0


CONFIGS = [
    ("value", {"a": {"b": 1}}, {"a": {"b": 2}}, [(CHANGED, "a.b")]),
    ("added and removed", {"a": 1}, {"b": 1}, [(REMOVED, "a"), (ADDED, "b")]),
    ("list", {"a": [1, 2]}, {"a": [1, 3, 4]}, [(CHANGED, "a[1]"), (ADDED, "a[2]")]),
    ("kind of value", {"a": {"b": 1}}, {"a": 7}, [(CHANGED, "a")]),
    ("odd key", {}, {"a.b": 1, "\x1b[31m": 2}, [(ADDED, '"a.b"'), (ADDED, r'"\u001b[31m"')]),
    ("not an object", {}, 3, [(CHANGED, "")]),
]


@pytest.mark.parametrize(("old", "new", "expected"), [row[1:] for row in CONFIGS], ids=[row[0] for row in CONFIGS])
def test_configs_differ_by_path(old, new, expected):
    """base_config.json and metadata.json are compared by the path of their keys; a packed config like another."""
    stream = difference(Unit.STREAM, split(A, config=old), split(A, config=new))
    mixed = difference(Unit.STREAM, packed(A, head=HEAD | {"delta": old}), split(A, config=new))
    metadata = difference(Unit.METADATA, {METADATA: jp(old)}, {METADATA: jp(new)})

    for found, file in ((stream, BASE_CONFIG), (mixed, BASE_CONFIG), (metadata, METADATA)):
        assert [(k.change, k.path) for k in found.keys] == expected
        assert {k.file for k in found.keys} == {file}
        assert not found.same


BROKEN = [b"", b"{", b"\0" * 64, b"[1", b"<<<<<<< ours\n", b"\xff\xfe\xfd", b'{"a": 1, "a": 2}', jp({}), b"[NaN]"]


@pytest.mark.parametrize("raw", BROKEN)
def test_what_cannot_be_read_is_compared_by_lines(raw):
    """Raw bytes that are no stream are compared line by line, the config beside them still by key."""
    whole = split(A, B)

    found = difference(Unit.STREAM, {BASE_CONFIG: jp({}), EVENTS: raw}, whole)

    assert found.events == ()
    assert {c.file for c in found.lines} == {EVENTS}
    assert [c.line for c in found.lines if c.change is ADDED]
    assert [k.path for k in found.keys] == ["assistant", "tools"]
    assert (found.old_events, found.new_events) == (None, 2)


def test_a_cut_file_differs_only_where_it_was_cut():
    """The lines that a half-written file has in common with the whole one are not shown."""
    whole = split(*(ask("x" * n, n) for n in range(50)))
    cut = whole | {EVENTS: whole[EVENTS][:2000]}
    common = cut[EVENTS].count(b"\n")

    found = difference(Unit.STREAM, cut, whole)

    assert {c.line for c in found.lines if c.change is REMOVED} <= {common + 1}
    assert min(c.line for c in found.lines if c.change is ADDED) >= common


def test_unmanaged_files_are_compared_by_lines():
    """Extras have no form of their own: each file by its lines, also one that only one side has."""
    found = difference(Unit.EXTRAS, {"a/n.md": b"one\ntwo\n", "gone": b"x"}, {"a/n.md": b"one\n2\n"})

    assert [(c.change, c.file, c.line, c.text) for c in found.lines] == [
        (REMOVED, "a/n.md", 2, "two"),
        (ADDED, "a/n.md", 2, "2"),
        (REMOVED, "gone", 1, "x"),
    ]


# -- laws ---------------------------------------------------------------------

events = st.builds(ask, st.text(max_size=5), st.integers(0, 5))
streams = st.lists(events, max_size=12)


@given(streams, streams)
def test_every_event_is_equal_or_shown_once(old, new):
    """What is not shown is common to both, in order; what is shown is shown once."""
    found = difference(Unit.STREAM, split(*old), split(*new))
    gone = {e.old.index for e in found.events if e.old}
    come = {e.new.index for e in found.events if e.new}

    assert [e for n, e in enumerate(old) if n not in gone] == [e for n, e in enumerate(new) if n not in come]
    assert len(gone) == sum(e.old is not None for e in found.events)
    assert len(come) == sum(e.new is not None for e in found.events)
    assert found.same is (old == new)
    assert [e.old.index for e in found.events if e.old] == sorted(gone)
    assert [e.new.index for e in found.events if e.new] == sorted(come)


@given(streams, st.booleans(), st.booleans())
def test_layout_means_nothing(stream, old_packed, new_packed):
    """One stream in two layouts is the same."""
    old, new = ((packed if is_packed else split)(*stream) for is_packed in (old_packed, new_packed))

    assert difference(Unit.STREAM, old, new).same


@given(st.binary(max_size=60), st.binary(max_size=60), st.sampled_from([Unit.STREAM, Unit.METADATA, Unit.EXTRAS]))
def test_nothing_raises(old, new, unit):
    """Any bytes give an answer, and equal bytes the answer that they are the same."""
    name = {Unit.STREAM: EVENTS, Unit.METADATA: METADATA}.get(unit, "n")

    assert difference(unit, {name: old}, {name: old}).same
    assert isinstance(difference(unit, {name: old}, {name: new}).same, bool)


@given(st.lists(st.integers(0, 6), max_size=40), st.lists(st.integers(0, 6), max_size=40))
def test_pairs_and_gaps_cover_both_sides(old, new):
    """Pairs are equal elements in rising order; pairs and gaps together are all of both."""
    found = pairs(old, new)
    apart = list(gaps(len(old), len(new), found))

    assert all(old[i] == new[j] for i, j in found)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(found))
    assert len(found) + sum(g.i2 - g.i1 for g in apart) == len(old)
    assert len(found) + sum(g.j2 - g.j1 for g in apart) == len(new)


# -- large ones -----------------------------------------------------------------

MANY = 30_000


def _numbered(count):
    return [{"timestamp": n, "type": "turn_start", "n": n} for n in range(count)]


LARGE = {
    "every second edited": lambda _: [e | {"n": -1} if n % 2 else e for n, e in enumerate(_numbered(MANY))],
    "all edited": lambda _: [e | {"n": -1} for e in _numbered(MANY)],
    "a tenth dropped": lambda draw: [e for e in _numbered(MANY) if draw.random() > 0.1],
    "shuffled": lambda draw: draw.sample(_numbered(MANY), MANY),
    "few kinds, no times": lambda draw: [{"timestamp": 0, "type": draw.randrange(3)} for _ in range(MANY)],
}


@pytest.mark.slow
@pytest.mark.parametrize("case", LARGE)
def test_many_events_are_bounded(case):
    """No shape of a large stream takes steps by the square of its length, which would outlast any test."""
    draw = random.Random(1)
    new = LARGE[case](draw)
    old = _numbered(MANY) if "kinds" not in case else LARGE[case](draw)
    old_files, new_files = ({BASE_CONFIG: b"{}", EVENTS: json.dumps(s).encode()} for s in (old, new))
    found = difference(Unit.STREAM, old_files, new_files)

    assert (found.old_events, found.new_events) == (len(old), len(new))


# -- excerpts --------------------------------------------------------------------

TEXTS = [
    ("question", ask("why"), "why"),
    ("answer", {"type": "chat_response", "message": "because"}, "because"),
    ("reasoning", {"type": "chat_response", "reasoning": "hm"}, "hm"),
    ("data", {"type": "chat_response", "data": {"a": 1}}, '{"a": 1}'),
    (
        "tool",
        {"type": "tool_call_request", "id": "1", "name": "read", "arguments": {"p": "L3RtcA=="}},
        'read {"p": "/tmp"}',
    ),
    ("result", {"type": "tool_call_response", "id": "1", "content": "aGVsbG8=", "is_error": False}, "hello"),
    ("result in plain words", {"type": "tool_call_response", "id": "1", "content": "done", "is_error": False}, "done"),
    ("inquiry", {"type": "inquiry_request", "question": {"text": "sure?"}}, "sure?"),
    ("delta", {"type": "config_delta", "delta": {"a": 1}}, '{"a": 1}'),
    ("unknown", {"type": "new", "timestamp": T, "size": 3}, '{"size": 3}'),
    ("turn", {"type": "turn_start", "timestamp": T}, ""),
    ("no object", 7, "7"),
]


@pytest.mark.parametrize(("event", "text"), [row[1:] for row in TEXTS], ids=[row[0] for row in TEXTS])
def test_the_text_of_an_event(event, text):
    """An event is shown by its words; what JP stores as base64 is read."""
    assert text_of(event) == text


@given(st.text())
def test_no_text_obeys(text):
    """An excerpt is one line, cut, and holds nothing that a terminal would act on."""
    shown = one_line(text, 20)

    assert len(shown) <= 20
    assert shown.isprintable()
    assert harmless(text).isprintable()


@pytest.mark.parametrize("char", ["\x1b", "\x9b", "\x07", "\x7f", "\u202e", "\u2066", "\u2028", "\r", "\b"])
def test_controls_are_made_harmless(char):
    """Escapes, C1, bells, direction marks and line breaks are replaced."""
    assert char not in one_line(f"a{char}b")


@given(st.text(min_size=40, max_size=60), st.text(max_size=9), st.text(max_size=9))
def test_a_difference_is_in_sight(common, one, other):
    """Two long texts are shown from shortly before their first difference on."""
    old, new = both_lines("x" * 500 + common + "1" + one, "x" * 500 + common + "2" + other)

    assert old != new
    assert old.startswith("…")
