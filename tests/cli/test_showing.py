"""`show` and `path`, and the cheap reading that they and `ls` have in common."""

from __future__ import annotations

import json
import shutil

import pytest

from convsync_agent.index import Status, list_conversations
from convsync_agent.shelf import first_request, glance
from convsync_agent.summary import summarise_events
from listed import BOTH, EXTERNAL, KEYS, LOCAL, STORED, index_of, of_every_kind
from machine import LONG_AGO, as_jp, event


@pytest.fixture
def filled(machine):
    return of_every_kind(machine)


# -- the cheap reading ------------------------------------------------------------


NESTED = {"a": [{"timestamp": "x"}, {}], "b": {"type": "chat_request"}}


STREAMS = {
    "empty": as_jp([]),
    "one": as_jp([event("a")]),
    "many": as_jp([event("a"), event("b", kind="turn_start"), event("c", "2024-01-01 00:00:00.123456789")]),
    "nested": as_jp([event("a", kind="tool_call_request", id="1", name="n", arguments=NESTED), event("q")]),
    "delta first": as_jp([{"type": "config_delta", "timestamp": "2024-01-01 00:00:00.0", "delta": NESTED}, event("q")]),
    "rfc": as_jp([event("a", "2024-01-01T00:00:00+01:00")]),
    "no time": as_jp([event("a"), {"type": "x"}]),
    "bad time": as_jp([event("a", "yesterday")]),
    "empty object": as_jp([event("a"), {}]),
    "number": as_jp([event("a"), 3]),
    "compact": json.dumps([event("a"), event("b")]).encode(),
    "no last line feed": as_jp([event("a")])[:-1],
    "tail of NUL": as_jp([event("a")]) + b"\0" * 20,
    "cut": as_jp([event("a"), event("b")])[:-40],
    "key with a time in its name": as_jp([{"timestamp ": 1, "type": "x"}]),
    "text that looks like layout": as_jp([event('\n  {\n    "timestamp": \n    "type": "chat_request"')]),
    "not an array": as_jp({"timestamp": "2024-01-01 00:00:00.0"}),
}


@pytest.mark.parametrize("raw", STREAMS.values(), ids=STREAMS.keys())
def test_the_cheap_count_agrees_with_the_parser(raw):
    """Counting by layout gives what parsing gives; the first question is found also before a damaged end."""
    parsed, cheap = summarise_events(raw), glance(raw)

    assert (cheap.events, cheap.last_activity_ms) == (parsed.events, parsed.last_activity_ms)
    assert first_request(raw) in ({parsed.first_request} if parsed.events else {None, "a"})


# -- show and path ------------------------------------------------------------------


def test_show(filled):
    """`show` has everything `ls` has, and where the copies lie, how large they are, what is kept."""
    body = filled.ok("show", str(BOTH), "--json").json
    row = next(c for c in filled.ok("ls", "--json").json["conversations"] if c["id"] == f"jp-c{BOTH}")

    assert {k: body[k] for k in KEYS} == row
    assert body["paths"] == [str(filled.directory(r, BOTH)) for r in (filled.silo(), filled.base / "a")]
    assert [f["name"] for f in body["copies"][0]["files"]] == ["base_config.json", "events.json", "metadata.json"]
    assert {f["mtime"] for c in body["copies"] for f in c["files"]} == {LONG_AGO // 1_000_000}
    assert body["bytes"] == sum(f["bytes"] for c in body["copies"] for f in c["files"])
    assert (body["versions"], body["attention"]) == (0, [])


def test_show_for_people(filled):
    """The title is shown on one line, with the id, the status and every place."""
    out = filled.ok("show", str(LOCAL)).out

    assert "Only here" in out
    assert f"jp-c{LOCAL}" in out
    assert str(filled.silo()) in out


@pytest.mark.parametrize(
    ("conversation", "root"), [(BOTH, "a"), (EXTERNAL, "a"), (LOCAL, "silo"), (STORED, "a")], ids=str
)
def test_path_prefers_the_worktree(filled, conversation, root):
    """Projected and external: the worktree's directory; local: the silo's (contract 5.5)."""
    top = filled.silo() if root == "silo" else filled.base / root
    expected = str(filled.directory(top, conversation, archived=conversation == STORED))

    assert filled.ok("path", str(conversation)).out == expected + "\n"
    assert filled.ok("path", str(conversation), "--json").json == {"schema": 1, "path": expected, "paths": [expected]}


def test_path_of_files(filled):
    """Each file that is asked for is a line of its own."""
    top = filled.directory(filled.base / "a", BOTH)

    assert filled.ok("path", str(BOTH), "--events").out == f"{top}/events.json\n"
    lines = filled.ok("path", str(BOTH), "--events", "--metadata", "--base-config").out.splitlines()
    assert sorted(lines) == sorted(str(top / f) for f in ("events.json", "metadata.json", "base_config.json"))


def test_path_prefers_the_current_worktree(filled, monkeypatch):
    """Where several worktrees hold it, the one of the current directory comes first, else the first by path."""
    b = filled.base / "b"
    shutil.copytree(filled.directory(filled.base / "a", BOTH), b / ".jp" / "conversations" / str(BOTH))
    at_first = filled.ok("path", str(BOTH)).out

    monkeypatch.chdir(b)

    assert at_first.startswith(str(filled.base / "a"))
    assert filled.ok("path", str(BOTH)).out.startswith(str(b))


@pytest.mark.parametrize(
    "command",
    [["ls"], ["ls", "--all", "--json"], ["show", "last"], ["path", "18"], ["history", "last"], ["verify"]],
    ids=" ".join,
)
def test_reading_writes_nothing(filled, command):
    """No read-only command writes, imports or touches anything in any root."""
    before = filled.inventory(filled.base / "a", filled.base / "b", filled.base / "data")

    assert filled.run(*command).code in (0, 1)

    assert filled.inventory(filled.base / "a", filled.base / "b", filled.base / "data") == before


def test_library_filter_defaults_to_everything(filled):
    """`Filter()` narrows nothing: the default of `ls` is the command's."""
    rows = list_conversations([index_of(filled)])

    assert {r.entry.id for r in rows} == {BOTH, LOCAL, EXTERNAL, STORED}
    assert {r.status for r in rows} == {Status.IDLE, Status.CLOSED}


@pytest.mark.parametrize(
    "argv", [["--json", "-q", "--no-color", "ls"], ["--json", "ls", "--json", "--quiet"]], ids=" ".join
)
def test_global_options_on_both_sides(machine, argv):
    """A global option may be given before the command, after it, or both."""
    assert machine.ok(*argv).json["conversations"] == []
