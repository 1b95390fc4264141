"""Secrets in the files of a conversation are found where they are, also where JP writes base64; values never come out.

The samples are put together here, so that no scanner takes this file for a leak.
"""

import base64
import json

import pytest

from convsync_agent.leaks import Leak, find_leaks
from convsync_agent.model import EVENTS, METADATA
from machine import as_jp, event

B62 = "Ab3dE6gH9jK2mN5pQ8sT1vW4xY7zA0cF3iL6oR9uX2"
TOKEN = "ghp_" + B62[:36]


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def events(*more) -> bytes:
    return as_jp([event("nothing here"), *more])


@pytest.mark.parametrize(
    "element",
    [
        event(f"use {TOKEN} please"),
        event(kind="chat_response", message=f"line\n{TOKEN}"),
        event(kind="chat_response", data={"deep": [{"er": TOKEN}]}),
        event(kind="tool_call_request", id="1", name="x", arguments={"a": [{"b": b64(f"export T={TOKEN}")}]}),
        event(kind="tool_call_response", id="1") | {"content": b64(f"# file\n{TOKEN}\n")},
        event("fine", metadata={"signature": b64(TOKEN)}),
        event(kind="tool_call_response", id="1") | {"content": f"not base64: {TOKEN}"},
        {"type": "config_delta", "timestamp": "2024", "delta": {"env": TOKEN}},
        {"type": "of the future", "whatever": TOKEN},
    ],
    ids=lambda e: e["type"],
)
def test_in_any_kind_of_event(element):
    """The number of the event is told, from 1, and the kind."""
    assert find_leaks(EVENTS, events(element, event("fine"))) == [Leak("github", "event", 2)]


def test_what_is_encoded_is_only_what_jp_encodes():
    """The text of a person that happens to be base64 is text: JP would show it so."""
    assert find_leaks(EVENTS, events(event(b64(TOKEN)))) == []
    nested = event(kind="chat_response", data={"arguments": b64(TOKEN)})
    assert find_leaks(EVENTS, events(nested)) == []


def test_a_value_under_a_telling_key():
    """A key and its value are looked at together, also where the value is encoded."""
    secret = event(kind="tool_call_request", id="1", name="x", arguments={"password": b64("correct-horse-battery")})

    assert find_leaks(EVENTS, events(secret)) == [Leak("key_value", "event", 2)]


@pytest.mark.parametrize("raw", [b'[{"a": "%s"', b"<<<<<<< HEAD\n%s", b'{"not": "%s"}', b"\xff\n\xff%s"])
def test_what_is_no_list_of_events_is_read_by_lines(raw):
    """A broken or conflicted file would be committed as it is."""
    (found,) = find_leaks(EVENTS, raw % TOKEN.encode())

    assert (found.kind, found.unit, found.number) == ("github", "line", 1 + (raw % b"").count(b"\n"))


def test_other_files_are_read_by_lines():
    """Metadata, base configs and files of others; what is no text is passed by."""
    raw = as_jp({"title": "x", "note": TOKEN})

    assert find_leaks(METADATA, raw) == [Leak("github", "line", 3)]
    assert find_leaks("notes.md", f"a\n\n{TOKEN}\n".encode()) == [Leak("github", "line", 3)]
    assert find_leaks("picture.png", b"\x89PNG\0" + TOKEN.encode()) == []
    assert find_leaks(EVENTS, b"[" * 100_000) == []


def test_the_value_is_nowhere_in_what_is_told():
    """Only kind and place."""
    found = find_leaks(EVENTS, events(event(TOKEN), event(f"password: {B62}")))

    assert [leak.kind for leak in found] == ["github", "key_value"]
    assert B62[:8] not in json.dumps(found)
