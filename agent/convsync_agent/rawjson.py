"""JSON changed where it has to be and nowhere else: every value that stays keeps its very bytes.

What JP wrote is never serialised again (contract 4.1): numbers and unknown fields come out as they went in. Input
has been checked (`content`); what is no such JSON raises NotJson.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from json import JSONDecoder
from typing import Any

from convsync_agent.strict_json import NotJson

ORDER = ("title", "last_activated_at", "pinned_at", "archived_at", "expires_at", "labels")
"""The fields of `metadata.json` in the order in which JP writes them (contract 4.3)."""

_BLANK = " \t\r\n"
_scan = JSONDecoder().raw_decode


def members(raw: bytes) -> dict[str, str]:
    """The fields of an object in their order, each with the text of its value."""
    text = _text(raw)
    found = {}
    for at in _items(text, "{", "}"):
        name, end = _value(text, at)
        at_value = _skip(text, _expect(text, _skip(text, end), ":"))
        _, end = _value(text, at_value)
        found[str(name)] = text[at_value:end]
    return found


def elements(raw: bytes) -> list[str]:
    """The elements of an array, each as its text."""
    text = _text(raw)
    return [text[at : _value(text, at)[1]] for at in _items(text, "[", "]")]


def as_object(fields: Mapping[str, str]) -> bytes:
    """An object as JP lays it out (contract 4.1), of the texts of its values."""
    rows = ",\n".join(f"  {json.dumps(name, ensure_ascii=False)}: {text}" for name, text in fields.items())
    return f"{{\n{rows}\n}}\n".encode() if rows else b"{}\n"


def as_array(texts: Sequence[str]) -> bytes:
    """An array as JP lays it out, of the texts of its elements."""
    rows = ",\n".join(f"  {text}" for text in texts)
    return f"[\n{rows}\n]\n".encode() if rows else b"[]\n"


def with_fields(raw: bytes, changes: Mapping[str, Any]) -> bytes:
    """`metadata.json` with some fields set, or taken away (None). Unchanged bytes where nothing changes.

    A new field stands where JP would write it; all others stay where they are.
    """
    fields = members(raw)
    before = dict(fields)
    for name, value in changes.items():
        if value is None:
            fields.pop(name, None)
        elif name in fields:
            fields[name] = _dump(value) if json.loads(fields[name]) != value else fields[name]
        else:
            fields = _insert(fields, name, _dump(value))
    return raw if fields == before else as_object(fields)


def _insert(fields: dict[str, str], name: str, text: str) -> dict[str, str]:
    """Before the first field that JP writes later, else at the end."""
    rank = {field: number for number, field in enumerate(ORDER)}
    names = list(fields)
    later = (i for i, other in enumerate(names) if rank.get(other, -1) > rank.get(name, len(ORDER)))
    names.insert(next(later, len(names)), name)
    return {n: text if n == name else fields[n] for n in names}


def _dump(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False).replace("\n", "\n  ")


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise NotJson("not UTF-8") from None


def _items(text: str, opening: str, closing: str) -> list[int]:
    """Where each item of the outermost object or array begins."""
    at = _skip(text, _expect(text, _skip(text, 0), opening))
    found: list[int] = []
    more = text[at : at + 1] != closing
    while more:
        found.append(at)
        _, end = _value(text, at)
        if opening == "{":
            _, end = _value(text, _skip(text, _expect(text, _skip(text, end), ":")))
        at = _skip(text, end)
        more = text[at : at + 1] != closing
        if more:
            at = _skip(text, _expect(text, at, ","))
    if _skip(text, at + 1) != len(text):
        raise NotJson("data after its end")
    return found


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _scan(text, at)
    except (ValueError, RecursionError):
        raise NotJson("not JSON") from None


def _expect(text: str, at: int, mark: str) -> int:
    if text[at : at + 1] != mark:
        raise NotJson(f"no {mark}")
    return at + 1


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at
