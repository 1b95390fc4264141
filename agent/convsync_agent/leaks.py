"""Secrets in the files of a conversation: which kind, and where. Never the value.

JP writes some strings of `events.json` in base64 (contract 4.5): they are decoded before they are looked at. The
table of what a secret looks like is `redact.PATTERNS`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from convsync_agent import redact
from convsync_agent.model import EVENTS

BINARY = 8192  # a file with a NUL in so many bytes is no text


class Leak(NamedTuple):
    """One kind of secret in one place: the number of an event, or of a line where there are no events, from 1."""

    kind: str
    unit: str  # event or line
    number: int


def find_leaks(name: str, raw: bytes) -> list[Leak]:
    """Every kind of secret in every event, or line, of one file. What cannot be read as events is read as lines."""
    if b"\0" in raw[:BINARY]:
        return []
    if name == EVENTS:
        try:
            events = json.loads(raw)
        except (ValueError, RecursionError):
            events = None
        if isinstance(events, list):
            return list(_in_events(events))
    text = raw.decode("utf-8", "replace")
    return list(_in_lines(text)) if redact.find(text) else []


def _in_events(events: list[Any]) -> Iterator[Leak]:
    texts = ["\n".join(_texts(event, _encoded(event))) for event in events]
    if not redact.find("\n".join(texts)):  # one look at all of it costs a third of many
        return
    for number, text in enumerate(texts, 1):
        yield from (Leak(kind, "event", number) for kind in redact.find(text))


def _in_lines(text: str) -> Iterator[Leak]:
    for number, line in enumerate(text.split("\n"), 1):
        yield from (Leak(kind, "line", number) for kind in redact.find(line))


def _encoded(event: Any) -> frozenset[str]:
    """The keys of an event below which JP writes base64."""
    kind = event.get("type") if isinstance(event, dict) else None
    of_kind = {"tool_call_request": "arguments", "tool_call_response": "content"}
    return frozenset({"metadata", of_kind.get(str(kind), "metadata")})


def _texts(value: Any, encoded: frozenset[str], key: str = "", *, below: bool = False) -> Iterator[str]:
    """Every string with the key it stands under, decoded where it is encoded."""
    if isinstance(value, str):
        text = _decoded(value) if below else value
        yield f"{key}: {text}" if key else text
    elif isinstance(value, dict):
        for name, inner in value.items():
            # Only the keys of the event itself say what is encoded.
            yield from _texts(inner, frozenset(), name, below=below or name in encoded)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, frozenset(), key, below=below)


def _decoded(text: str) -> str:
    """As JP decodes: a string that is no base64 of UTF-8 stays as it is."""
    try:
        return base64.b64decode(text, validate=True).decode("utf-8")
    except ValueError:
        return text
