"""Where two streams differ, and that a judgement of that place alone is the judgement of all."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from convsync_agent import content
from convsync_agent.content import check_continued, check_events, stream_contains
from convsync_agent.passage import first_changed, passage, patched
from convsync_agent.strict_json import DEPTH, NotJson, parse, same_json

AT = {"timestamp": "2025-04-27 21:16:44.3"}
HEAD = {"type": "config_delta", **AT, "delta": {}}


def jp(value):
    """The bytes JP writes for `value` (contract 4.1)."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def ask(text, **more):
    return {**AT, "type": "chat_request", "content": text, **more}


A, B, C, D = (ask(word) for word in ("a", "b", "c", "d"))
TABLE = [
    ("one replaced", [A, D, C], [A, B, C], [D], [B]),
    ("two replaced", [A, D, D, B], [A, B, C, B], [D, D], [B, C]),
    ("the first replaced", [D, B], [A, B], [D], [A]),
    ("one put in", [A, D, B], [A, B], [D, B], [B]),
    ("one taken out", [A, C], [A, B, C], [C], [B, C]),
    ("the last taken out", [A], [A, B], [A], [A, B]),
    ("one appended", [A, B], [A], [A, B], [A]),
    ("equal", [A, B], [A, B], [B], [B]),
]


@pytest.mark.parametrize(("one", "other", "mine", "theirs"), [t[1:] for t in TABLE], ids=[t[0] for t in TABLE])
def test_what_differs_is_found_as_whole_elements(one, other, mine, theirs):
    """Both parts are elements, with the same ones before and after them."""
    found = passage(jp(one), jp(other))

    assert found is not None
    assert parse(b"[" + found.one + b"]") == mine
    assert parse(b"[" + found.other + b"]") == theirs


def test_the_rest_of_a_long_stream_is_not_parsed():
    """What is looked at is as long as what changed, wherever that is."""
    events = [ask("x" * 500 + str(n)) for n in range(2000)]
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201
    for at in random.Random(seed).sample(range(2000), 20):
        other = [*events[:at], ask("changed"), *events[at + 1 :]]
        found, first = passage(jp(other), jp(events)), first_changed(jp(other), jp(events))
        assert found is not None
        assert first is not None
        assert max(map(len, (found.one, found.other, first.one, first.other))) < 1000


def test_one_element_for_another():
    """What is put in place of it is where it was, and nothing else differs."""
    one, other = jp([A, D, C, B]), jp([A, B, C])

    assert parse(patched(one, other, first_changed(one, other))) == [A, D, C]


@pytest.mark.parametrize(
    ("one", "other"),
    [(b"", b""), (b"[]", b"[]"), (b"[]\n", jp([A])), (jp([A]), b"[]\n"), (json.dumps([A, B]).encode(), jp([A, C]))],
)
def test_without_the_layout_nothing_is_found(one, other):
    """Then all of it is parsed."""
    assert passage(one, other) is None
    assert first_changed(one, other) is None


def test_the_first_element_of_a_packed_stream_is_judged_with_the_rest():
    """It holds the config, so any other element there is a fault, however sound."""
    for first in ([A], [A, HEAD], [], [{**HEAD, "type": "turn_start"}]):
        raw, before = jp([*first, B]), jp([HEAD, B])
        assert first_changed(raw, before).leads
        assert check_continued(raw, before, packed=True).fault == check_events(raw, packed=True) != ""
        assert check_continued(raw, before, packed=False).fault == ""


def test_a_packed_config_that_is_edited_is_judged_alone(monkeypatch):
    """It is an element like others, as long as it is the config; what follows it is not parsed."""
    other = {**HEAD, "delta": {"model": "other"}}
    raw, before = jp([other, *[ask("x" * 900)] * 50]), jp([HEAD, *[ask("x" * 900)] * 50])
    parsed = []
    monkeypatch.setattr(content, "parse", lambda text: parsed.append(len(text)) or parse(text))

    assert check_continued(raw, before, packed=True).fault == check_events(raw, packed=True) == ""
    assert max(parsed[:-1]) < 1000


def nested(levels, inside):
    """`inside` below so many arrays, its braces on lines that look like those of an element."""
    return b"[" * levels + inside + b"]" * levels


def test_what_looks_like_an_element_deep_down_is_not_made_deeper():
    """A stream that JP's parser gives up on is refused, although every part of it that differs is JSON."""
    event = b'[\n {"timestamp": 1, "type": "x", "a": %s, "b": "' + b"x" * 999 + b'"}\n]'
    element = b'\n  {"timestamp": 1, "type": "x", "k": %s\n  }'
    flat, deep = element % b"1", element % nested(8, b"1")
    before, raw = (event % nested(DEPTH - 4, b"0," + inner) for inner in (flat, deep))

    assert check_events(before, packed=False) == ""
    assert check_continued(raw, before, packed=False).fault == check_events(raw, packed=False) != ""


def test_after_a_colon_one_element_is_not_two():
    """Where one value belongs, two that are sound are a fault."""
    event = b'[{"timestamp": 1, "type": "x", "a": %s, "b": "' + b"x" * 999 + b'"}]'
    one, two = (b'\n  {"timestamp": %d, "type": "x"\n  }' % n for n in (1, 2))
    before, raw = event % one, event % (two + b"," + one)

    assert check_events(before, packed=False) == ""
    assert check_continued(raw, before, packed=False).fault == check_events(raw, packed=False) != ""


def test_the_same_in_other_words_is_contained():
    """An element whose keys were written in another order, or with other spaces, is no other element."""
    inner, turned = jp([A, B]), jp([A, dict(reversed(B.items())), C])

    assert first_changed(turned, inner) is not None
    assert stream_contains((b"{}", turned), (b"{}", inner))
    assert stream_contains((b"{}", turned.replace(b': "b"', b':  "b"')), (b"{}", inner))
    assert not stream_contains((b"{}", turned.replace(b': "b"', b': "B"')), (b"{}", inner))


FAULTY = [{**AT, "type": "chat_request"}, {"type": "x"}, {**AT}, {**A, "content": 1}, {**AT, "type": "chat_response"}]


@pytest.mark.parametrize("fault", FAULTY)
def test_an_element_that_jp_does_not_load_is_a_fault(fault):
    """JSON alone is not enough, wherever it is: in place of another, between two, behind the last."""
    many = [ask(str(n)) for n in range(50)]
    for events in ([*many[:9], fault, *many[10:]], [*many[:9], fault, *many[9:]], [*many, fault], [*many[:9], fault]):
        raw = jp(events)
        assert check_continued(raw, jp(many), packed=False).fault == check_events(raw, packed=False) != ""


KEYS = st.sampled_from(["a", "b", "content", "message", "type"])
VALUES = st.recursive(
    st.integers() | st.sampled_from(["", "x", "\n  {", "  }", 'q"', "\u00fc"]),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=2),
    max_leaves=6,
)
KINDS = st.sampled_from(["x", "chat_request", "turn_start"])
EVENTS = st.lists(
    st.builds(lambda more, kind: {**more, **AT, "type": kind, "content": "c"}, st.dictionaries(KEYS, VALUES), KINDS),
    max_size=5,
)


JUNK = [b"", b",", b"]", b"}", b"{", b"\n  {", b"\n  }", b"\n  },\n  {", b'"', b"\xff", b"1"]


@st.composite
def edits(draw):
    """Two streams of one ragged layout that share beginning, middle and maybe the end, the first sometimes broken."""
    head, tail, old, new, more = (draw(EVENTS) for _ in range(5))
    widths = draw(st.lists(st.sampled_from([0, 1, 2, 2, 2, 3, 4]), min_size=1, max_size=6))
    jagged = draw(st.booleans())

    def laid_out(events):
        lines = jp(events).split(b"\n")
        if not jagged:
            return b"\n".join(lines)
        return b"\n".join(b" " * widths[n % len(widths)] + line.lstrip() for n, line in enumerate(lines))

    before, raw = laid_out([HEAD, *head, *old, *tail]), laid_out([HEAD, *head, *new, *tail, *more])
    if draw(st.booleans()):
        at = draw(st.integers(0, len(raw)))
        junk = draw(
            st.sampled_from([b"", b",", b"]", b"}", b"{", b"\n  {", b"\n  }", b"\n  },\n  {", b'"', b"\xff", b"1"])
        )
        raw = raw[:at] + junk + raw[at + draw(st.integers(0, 3)) :]
    return raw, before


@given(edits(), st.booleans())
def test_the_place_that_differs_speaks_for_all(edit, packed):
    """Whatever was edited, cut or broken, the verdict is that of a look at all of it, word for word."""
    raw, before = edit

    assert check_events(before, packed) == ""
    assert check_continued(raw, before, packed).fault == check_events(raw, packed)


@given(edits(), st.booleans())
def test_what_is_said_to_be_apart_is(edit, packed):
    """Then neither of both is the beginning of the other, as JSON, whatever their layout."""
    raw, before = edit
    if check_continued(raw, before, packed).apart:
        one, other = parse(raw), parse(before)
        least = min(len(one), len(other))
        assert not same_json(one[:least], other[:least])


@pytest.mark.parametrize(
    ("events", "apart"),
    [([A, D, C], True), ([D, B, C], True), ([A, B, C, D], False), ([A, B, C], False), ([A, C], True), ([A, B], False)],
    ids=["replaced", "the first", "appended", "equal", "taken out", "cut"],
)
def test_what_no_stream_holds_of_the_other_is_known_when_it_is_judged(events, apart):
    """An edit that loses something of both sides; not an end that grew or was cut."""
    assert check_continued(jp(events), jp([A, B, C]), packed=False).apart is apart


@given(edits(), st.binary(max_size=6))
def test_a_short_no_is_never_wrong(edit, base):
    """Contained means that the events are the first ones of the other: the cheap answers say the same."""
    outer, inner = edit
    try:
        longer = parse(outer)
    except NotJson:
        assume(False)
    shorter = parse(inner)

    assert stream_contains((base, outer), (base, inner)) is same_json(longer[: len(shorter)], shorter)
