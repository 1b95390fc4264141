"""JSON as JP's parser takes it: what it refuses is refused here, and nothing is taken that it would not take.

Python's own `json` is laxer (NaN, duplicate keys, half surrogates, any depth), so a copy that JP cannot
read could win. Beyond JP a duplicate key is refused everywhere: one of its two values would get lost.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

DEPTH = 127  # serde_json gives up at the 128th level
DEEP, HALF = f"nested deeper than {DEPTH}", "half a surrogate pair"
_INFINITE = float("inf")
_LONGEST_INT = 300  # digits; any shorter integer is a finite float
MARKERS = ("<<<<<<<", "=======", ">>>>>>>", "|||||||")


class NotJson(ValueError):
    """Why the bytes are no JSON, in words that hold nothing of the file (R9)."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    known = dict(pairs)
    if len(known) != len(pairs):
        raise NotJson("a key occurs twice")
    return known


def _float(text: str) -> float:
    value = float(text)
    if abs(value) == _INFINITE:
        raise NotJson("a number is out of range")
    return value


def _integer(text: str) -> int | float:
    if len(text) > _LONGEST_INT:
        _float(text)
    return -0.0 if text == "-0" else int(text)


def _constant(_: str) -> NoReturn:
    raise NotJson("NaN or Infinity is no JSON")


DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_int=_integer, parse_constant=_constant)


def parse(raw: bytes) -> Any:
    """The value of `raw`, or `NotJson`. Raises nothing else, whatever the bytes."""
    if not raw or raw.isspace():
        raise NotJson("empty")
    text = _text(raw)
    try:
        value = DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise NotJson(_where(text, error)) from None
    except RecursionError:
        raise NotJson(DEEP) from None
    if depth(value) > DEPTH:  # cheaper than counting brackets first
        raise NotJson(DEEP)
    if b"\\u" in raw and (b"\\ud" in raw or b"\\uD" in raw) and not encodes(value):
        raise NotJson(HALF)
    return value


def same_json(one: Any, other: Any) -> bool:
    """Equal as JSON: true is not 1, 1 is not 1.0, -0.0 is not 0.0; the order of keys does not matter."""
    todo = [(one, other)]  # a list, not recursion: 127 levels are a lot of Python frames
    while todo:
        a, b = todo.pop()
        if type(a) is not type(b):
            return False
        if isinstance(a, dict):
            if a.keys() != b.keys():
                return False
            todo.extend((value, b[key]) for key, value in a.items())
        elif isinstance(a, list):
            if len(a) != len(b):
                return False
            todo.extend(zip(a, b, strict=True))
        elif a != b or (isinstance(a, float) and repr(a) != repr(b)):
            return False
    return True


def _text(raw: bytes) -> str:
    if raw[:1] == b"\0" and not raw.strip(b"\0"):
        raise NotJson("filled with NUL bytes")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        cut = " (cut off?)" if error.reason == "unexpected end of data" else ""
        raise NotJson(f"line {line}: not UTF-8{cut}") from None
    if text.startswith("\ufeff"):
        raise NotJson("starts with a byte order mark")
    return text


def _where(text: str, error: json.JSONDecodeError) -> str:
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        return f"line {line}: NUL bytes"
    if text.startswith(MARKERS, error.pos):
        return f"line {error.lineno}: a merge conflict marker"
    cut = error.msg.startswith("Unterminated string") or not text[error.pos :].strip()
    return f"line {error.lineno}: not JSON" + (" (cut off?)" if cut else "")


def depth(value: Any) -> int:
    """How many levels of objects and arrays there are, one more than `DEPTH` at most."""
    level = [value] if type(value) is dict or type(value) is list else []
    levels = 0
    while level and levels <= DEPTH:
        levels += 1
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
    return levels


def encodes(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
