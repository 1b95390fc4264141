"""What JP's parser refuses and takes: tables, then laws."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync_agent.content import check_base_config, check_events, check_metadata
from convsync_agent.strict_json import DEPTH, NotJson, parse, same_json


def nested(levels):
    return b"[" * levels + b"]" * levels


NOT_JSON = [
    ("zero bytes", b"", "empty"),
    ("white space", b" \n", "empty"),
    ("NUL bytes", b"\0" * 4096, "filled with NUL bytes"),
    ("NUL tail", b"[\n1,\n\0\0\0", "line 3: NUL bytes"),
    ("cut in the array", b"[\n1,\n", "line 3: not JSON (cut off?)"),
    ("cut in a string", b'[\n"secret', "line 2: not JSON (cut off?)"),
    ("cut in a character", b'["\xc3', "line 1: not UTF-8 (cut off?)"),
    ("trailing comma", b"[1,]", "line 1: not JSON"),
    ("trailing data", b"[]\n[]\n", "line 2: not JSON"),
    ("single quotes", b"['secret']", "line 1: not JSON"),
    ("raw line feed in a string", b'["a\nb"]', "line 1: not JSON"),
    ("leading zero", b"[01]", "line 1: not JSON"),
    ("no digit after the point", b"[1.]", "line 1: not JSON"),
    ("merge", b"[\n1\n<<<<<<< HEAD\n,2\n", "line 3: a merge conflict marker"),
    ("byte order mark", b"\xef\xbb\xbf[]", "starts with a byte order mark"),
    ("UTF-16", "[]".encode("utf-16-le"), "line 1: NUL bytes"),
    ("latin 1", b'[\n"caf\xe9"]', "line 2: not UTF-8"),
    ("raw surrogate", b'["\xed\xa0\x80"]', "line 1: not UTF-8"),
    ("NaN", b"[NaN]", "NaN or Infinity is no JSON"),
    ("-Infinity", b"[-Infinity]", "NaN or Infinity is no JSON"),
    ("float overflow", b"[1e999]", "a number is out of range"),
    ("integer overflow", b"[" + b"9" * 310 + b"]", "a number is out of range"),
    ("very long integer", b"[" + b"9" * 5000 + b"]", "a number is out of range"),
    ("key twice", b'[{"secret":1,"secret":1}]', "a key occurs twice"),
    ("high surrogate", rb'["\ud83d"]', "half a surrogate pair"),
    ("low surrogate in a key", rb'[{"\uDE00":1}]', "half a surrogate pair"),
    ("surrogates swapped", rb'["\ude00\ud83d"]', "half a surrogate pair"),
    ("too deep", nested(DEPTH + 1), "nested deeper than 127"),
    ("far too deep", b"[" * 200_000, "nested deeper than 127"),
    ("too deep in objects", b'{"a":' * 128 + b"1" + b"}" * 128, "nested deeper than 127"),
]

JSON = [
    ("deep enough", nested(DEPTH)),
    ("deep objects", b'{"a":' * 127 + b"1" + b"}" * 127),
    ("wide, not deep", b"[" + b"[]," * 5000 + b"[]]"),
    ("surrogate pair", rb'["\ud83d\uDE00"]'),
    ("escaped backslash", rb'["\\ud83d"]'),
    ("long integer", b"[" + b"9" * 308 + b"]"),
    ("tiny float", b"[1e-999]"),
    ("scalar", b"null"),
    ("CRLF", b"[\r\n1\r\n]\r\n"),
]

UNEQUAL = [(True, 1), (False, 0), (1, 1.0), (0.0, -0.0), (None, False), ("1", 1), ([], {}), ([1], [1, 2]), ("a", "b")]


def table(rows):
    """Parameters of rows that begin with their name."""
    return [pytest.param(*row[1:], id=row[0]) for row in rows]


@pytest.mark.parametrize(("raw", "fault"), table(NOT_JSON))
def test_what_serde_refuses_is_refused_without_a_word_of_it(raw, fault):
    """Contract 4.7: JP's parser is strict; the fault says where, and never what stands there (R9)."""
    assert check_base_config(raw) == f"base_config.json: {fault}"
    assert check_events(raw, packed=False) == f"events.json: {fault}"
    assert check_metadata(raw) == f"metadata.json: {fault}"
    assert "secret" not in fault


@pytest.mark.parametrize("raw", table(JSON))
def test_what_serde_takes_is_taken(raw):
    """The strictness stops where JP's stops."""
    assert check_base_config(raw) == ""


@pytest.mark.parametrize(("a", "b"), UNEQUAL, ids=repr)
def test_values_that_python_confuses_differ(a, b):
    """Equal in Python is not equal in JSON."""
    assert not same_json(a, b)
    assert not same_json([{"k": a}], [{"k": b}])
    assert not same_json(b, a)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)
VALUES = st.recursive(
    SCALARS | TEXT, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXT, v, max_size=3), max_leaves=8
)
LAYOUTS = st.sampled_from([{}, {"indent": 2, "ensure_ascii": False}, {"indent": "\t"}, {"separators": (",", ":")}])
JUNK = st.binary(max_size=60) | st.text(alphabet='[]{},:"\\ud8de019.-+eE \ntruefalsn', max_size=60).map(str.encode)


@given(JUNK)
def test_what_passes_here_parses_everywhere(raw):
    """The strict parser takes nothing that Python's own does not, and reads the same out of it."""
    try:
        value = parse(raw)
    except NotJson:
        return

    assert value == json.loads(raw)


@given(VALUES, LAYOUTS)
def test_layout_is_no_difference(value, layout):
    """Writing a value in any layout and reading it back is the same JSON."""
    assert same_json(value, parse(json.dumps(value, **layout).encode()))
