"""Phase 3: the last turns of a stream, as JP's fork keeps them; what stays keeps its bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync_agent.content import check_events
from convsync_agent.rawjson import as_array, elements
from convsync_agent.turns import last_turns
from machine import as_jp

AT = "2023-11-14 22:13:20.0"
FIELDS = {
    "q": ("chat_request", {"content": "q"}),
    "a": ("chat_response", {"message": "a"}),
    "T": ("turn_start", {}),
    "c": ("tool_call_request", {"id": "1", "name": "t", "arguments": {}}),
    "r": ("tool_call_response", {"id": "1", "content": "eA==", "is_error": False}),
    "i": ("inquiry_request", {"id": "1", "source": {}, "question": {}}),
    "j": ("inquiry_response", {"id": "1", "answer": 1}),
    "k": ("compaction", {"from_turn": 0, "to_turn": 1}),
    "d": ("config_delta", {"delta": {"n": 1.5e300}}),
    "u": ("of_a_newer_jp", {"x": [1.0, None]}),
}
LETTER = {kind: letter for letter, (kind, _) in FIELDS.items()}


def stream(letters: str) -> bytes:
    """One element for each letter; its number in the stream is in it, so that no two are equal."""
    return as_jp([{"timestamp": AT, "type": FIELDS[x][0], "n": i} | FIELDS[x][1] for i, x in enumerate(letters)])


def letters(raw: bytes) -> str:
    """What is left; an element that was made has no number and is in capitals or a `!`."""
    found = ""
    for element in json.loads(raw):
        letter = LETTER[element["type"]]
        found += letter if "n" in element else {"r": "R", "T": "!"}[letter]
    return found


@pytest.mark.parametrize(
    ("before", "count", "after"),
    [
        ("TqaTqaTqa", 1, "Tqa"),
        ("TqaTqaTqa", 2, "TqaTqa"),
        ("TqaTqaTqa", 3, "TqaTqaTqa"),
        ("TqaTqaTqa", 9, "TqaTqaTqa"),
        ("TqaTqaTqa", 0, ""),
        ("dTqadTqadTqa", 1, "dddTqa"),  # config and what is not known is of no turn
        ("dTqauTqadTqa", 0, "dud"),
        ("TqaTqad", 1, "Tqad"),
        ("TqaTqakTqa", 1, "Tqa"),  # compactions name turns by position
        ("TqaTqakTqa", 3, "TqaTqakTqa"),
        ("Tqak", 0, ""),
        ("dk", 0, "dk"),
        ("qaTqa", 1, "!qaTqa"),  # what comes before the first start is a turn without one
        ("qa", 1, "!qa"),
        ("qa", 0, ""),
        ("Taqa", 1, "Tqa"),  # no answer before the first question
        ("TTqa", 2, "Tqa"),
        ("TqcTqra", 1, "Tqa"),  # the call went, so its result goes
        ("TqcTqa", 2, "TqcRTqa"),  # JP answers a call that nothing answered
        ("TqiTqja", 1, "Tqa"),
        ("Tqiaj", 1, "Tqiaj"),
        ("Tqia", 1, "Tqa"),
        ("Tqjia", 1, "Tqjia"),
        ("TqaT", 1, ""),  # a turn that has nothing but its start
        ("TqaTd", 2, "Tqad"),
        ("TaTa", 1, "Ta"),
        ("", 0, ""),
        ("", 3, ""),
        ("u", 1, "u"),
    ],
)
def test_phase3_last_turns(before, count, after):
    """`--last N`, by a table: turns from the end, everything that is of no turn, and what JP repairs."""
    assert letters(last_turns(stream(before), count, packed=False)) == after


@pytest.mark.parametrize(("before", "count", "after"), [("dTqadTqa", 1, "ddTqa"), ("dqa", 0, "d"), ("d", 2, "d")])
def test_phase3_packed_config_stays_the_first_element(before, count, after):
    """A legacy stream begins with its config; it still does."""
    cut = last_turns(stream(before), count, packed=True)
    assert letters(cut) == after
    assert not check_events(cut, packed=True)


@given(st.text(alphabet="".join(FIELDS), max_size=30), st.integers(0, 8))
def test_phase3_what_is_left_keeps_its_bytes_and_its_order(before, count):
    """Every element of the result is one of the stream, in its order, or one that JP would have made; it loads."""
    raw = stream(before)
    cut = last_turns(raw, count, packed=False)
    kept = [t for t in elements(cut) if '"n": ' in t]
    rest = iter(elements(raw))
    assert all(text in rest for text in kept)
    assert not check_events(cut, packed=False)
    assert letters(cut).count("d") == before.count("d")
    assert letters(cut).count("u") == before.count("u")


@given(st.integers(1, 6), st.integers(0, 8))
def test_phase3_so_many_turns_are_left(turns, count):
    """Of whole turns exactly the last ones, each with all that it had."""
    raw = stream("Tqcra" * turns)
    assert letters(last_turns(raw, count, packed=False)) == "Tqcra" * min(turns, count)


def test_phase3_a_stream_that_nothing_is_cut_from_keeps_its_layout():
    """Also one that JP would lay out differently."""
    raw = b'[ {"type":"turn_start","timestamp":"t"},{"type":"chat_request","timestamp":"t","content":"\\u00e9"} ]'
    assert last_turns(raw, 1, packed=False) == raw
    assert last_turns(as_array(elements(raw)), 1, packed=False) == as_array(elements(raw))
