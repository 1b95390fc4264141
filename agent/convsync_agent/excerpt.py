"""A piece of conversation text that is safe on one line of a terminal. For the screen only, never for a log (R9)."""

from __future__ import annotations

import base64
import json
from typing import Any

from convsync_agent.passage import same_until

LONGEST = 240
_ODD = "\N{REPLACEMENT CHARACTER}"
_FIXED = "utf-32-le"  # four bytes for each character
_LEAD = 24  # characters before a difference


def harmless(text: str) -> str:
    """One line without anything that a terminal obeys: no escapes, no C1, no direction marks, no line breaks."""
    return "".join(c if c.isprintable() else " " if c.isspace() else _ODD for c in text)


def one_line(text: str, limit: int = LONGEST) -> str:
    """The beginning of a text: white space collapsed, harmless, at most `limit` characters."""
    words = harmless(" ".join(text[: 4 * limit].split()))
    cut = len(words) > limit or len(text) > 4 * limit
    return words[: limit - 1].rstrip() + "…" if cut else words


def both_lines(old: str, new: str) -> tuple[str, str]:
    """Two texts from shortly before their first difference on."""
    at = same_until(*(text.encode(_FIXED, "surrogatepass") for text in (old, new))) // 4
    start = max(0, at - _LEAD) if at > _LEAD + 8 else 0
    lead = "…" if start else ""
    return lead + one_line(old[start:]), lead + one_line(new[start:])


def text_of(event: Any) -> str:
    """What a person would recognise an event by: its words, else its fields. Stored base64 is read (contract 4.5)."""
    if not isinstance(event, dict):
        return compact(event)
    kind = event.get("type")
    if kind == "tool_call_request":
        return f"{_words(event.get('name'))} {compact(_decoded(event.get('arguments', {})))}"
    if kind == "tool_call_response":
        return _words(_decoded(event.get("content")))
    if kind == "inquiry_request" and isinstance(event.get("question"), dict):
        return _words(event["question"].get("text"))
    if kind == "config_delta":
        return compact(event.get("delta"))
    for field in ("content", "message", "reasoning", "data", "answer"):
        if field in event:
            return _words(event[field])
    rest = {k: v for k, v in event.items() if k not in {"type", "timestamp", "metadata"}}
    return compact(rest) if rest else ""


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def _words(value: Any) -> str:
    return value if isinstance(value, str) else compact(value)


def _decoded(value: Any) -> Any:
    """Every string below `value`, read from base64 where it is some; JP leaves all others as they are."""
    if isinstance(value, dict):
        return {k: _decoded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_decoded(v) for v in value]
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True).decode()
    except ValueError:
        return value
