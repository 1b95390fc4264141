"""Contract 11.5: what is in the files, read as JP reads it and carried byte for byte."""

from __future__ import annotations

import base64
import json

from conformance.ground import STARTED, A, equal, guarded, jp, metadata, raw, registered, rows, sync
from convsync_agent.content import check_base_config, check_events, check_metadata
from convsync_agent.model import METADATA, Projection
from convsync_agent.summary import format_timestamp, parse_metadata, parse_timestamp, summarise_events
from machine import as_jp, event, put

KINDS = {
    "turn_start": {},
    "chat_request": {"content": "hello"},
    "chat_response": {"message": "hi"},
    "tool_call_request": {"id": "1", "name": "read", "arguments": {}},
    "tool_call_response": {"id": "1", "content": "", "is_error": False},
    "inquiry_request": {"id": "1", "source": {"source": "user"}, "question": {"text": "?", "answer_type": {}}},
    "inquiry_response": {"id": "1", "answer": True},
    "config_delta": {"delta": {}},
    "compaction": {"from_turn": 0, "to_turn": 1},
}


def one(kind, **more):
    return {"timestamp": STARTED, "type": kind} | more


def carried(m, body, name="events.json"):
    """These bytes, valid and written by hand into a worktree, are the silo's, and come back from there."""
    check = {"events.json": lambda b: check_events(b, packed=False), METADATA: check_metadata}
    assert check.get(name, check_base_config)(body) == ""
    tree = registered(m, A)
    put(m.directory(tree, A) / name, body)
    sync(m)
    assert raw(m, m.silo(), A, name) == body
    with guarded(m, A) as guard:
        guard.reach(guard.tree, Projection.LOCAL_ONLY)
        assert m.directory(tree, A) is None
        guard.reach(guard.tree, Projection.PROJECTED)
    assert raw(m, tree, A, name) == body
    assert equal(m, A, m.silo(), tree)
    return json.loads(raw(m, tree, A, name))


def the_smallest_metadata(m):
    assert format_timestamp(parse_timestamp("2023-01-01T00:00:00Z")) == "2023-01-01 00:00:00.0"
    assert carried(m, as_jp({"last_activated_at": "2023-01-01 00:00:00.0"}), METADATA) == {
        "last_activated_at": "2023-01-01 00:00:00.0"
    }


def no_labels(_):
    assert parse_metadata(metadata()).labels == {}


def labels_come_back_sorted(m):
    assert list(carried(m, metadata(labels={"a": "1", "b": ""}), METADATA)["labels"]) == ["a", "b"]
    assert list(parse_metadata(metadata(labels={"b": "", "a": "1"})).labels) == ["a", "b"]
    assert list(rows(m, "--label", "a=1", "--label", "b=")) == [A]


def tools_are_base64_on_disk(m):
    said = base64.b64encode(b"a secret of a tool").decode()
    request = one("tool_call_request", id="1", name="read", arguments={"path": said})
    answer = one("tool_call_response", id="1", content=said, is_error=False)
    found = carried(m, as_jp([request, answer]))
    assert base64.b64decode(found[0]["arguments"]["path"]) == base64.b64decode(found[1]["content"])
    assert rows(m)[A]["events"] == 2


def other_events_are_plain(m):
    assert carried(m, as_jp([one("turn_start"), event("plain text")]))[1]["content"] == "plain text"


def a_stream_comes_back(m):
    events = [one(kind, **more) for kind, more in KINDS.items()]
    assert carried(m, as_jp(events)) == events
    assert summarise_events(as_jp(events)).events == len(KINDS)


def unknown_keys_of_the_config(m):
    """JP strips them when it loads, so they are no fault; convsync strips nothing."""
    config = {"assistant": {"name": "JP"}, "of_the_future": {"x": [1.50]}}
    assert carried(m, json.dumps(config).encode(), "base_config.json") == config
    assert check_events(as_jp([one("config_delta", delta={"of_the_future": 1})]), packed=False) == ""
    jp(m).query(A, "still loads")
    sync(m)
    assert json.loads(raw(m, m.silo(), A, "base_config.json")) == config


def a_config_of_another_type(m):
    for body in (b"[]", b"3", b'"x"', b"null", b'{"assistant": 3}'):
        assert check_base_config(body) == ""
    assert carried(m, b'{"assistant": 3}', "base_config.json") == {"assistant": 3}


def a_bad_delta(m):
    bad = one("config_delta", delta=[3])
    assert carried(m, as_jp([bad, event("one")])) == [bad, event("one")]
    assert rows(m)[A]["events"] == 2


def an_unknown_kind(m):
    new = one("of_the_future", anything={"nested": [None, 1e5]})
    assert carried(m, as_jp([event("one"), new]))[1] == new
    assert raw(m, m.silo(), A, "events.json") == as_jp([event("one"), new])


def a_compaction(m):
    body = {"type": "compaction", "timestamp": STARTED, "from_turn": 0, "to_turn": 3, "summary": {"summary": "x"}}
    assert carried(m, as_jp([body]))[0] == body


def every_kind_is_known(_):
    """Each with its required fields is valid, and none of those that have one is without it."""
    for kind, more in KINDS.items():
        assert check_events(as_jp([one(kind, **more)]), packed=False) == "", kind
        for name in more if kind != "config_delta" else ():
            less = {k: v for k, v in more.items() if k != name}
            fault = check_events(as_jp([one(kind, **less)]), packed=False)
            optional = (kind, name) == ("tool_call_request", "arguments")
            assert bool(fault) is not optional, (kind, name)
