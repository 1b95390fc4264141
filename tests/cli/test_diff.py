"""`diff`: what a kept version and what is current differ in, for a terminal of 80 columns and for programs."""

from __future__ import annotations

import json
import os
import pty
import shutil
import unicodedata
from pathlib import Path

import pytest

from machine import LONG_AGO, SECOND, as_jp, event, put
from terminal import everything

ID = 17000000001
HOUR = 3600 * SECOND
CONFIG = {"assistant": {"name": "x"}}
EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202eevil\r\nline"


@pytest.fixture
def one(machine):
    """A conversation of three events in one worktree; `edit` replaces some of it and syncs."""
    a = machine.worktree("a", register=False)
    machine.write(a, ID, "first", "second", "third", slug="talk", title="Old title")
    machine.ok("register", a)
    return machine


def edit(machine, number=1, **files):
    place = machine.directory(machine.base / "a", ID)
    for name, value in files.items():
        raw = value if isinstance(value, bytes) else as_jp(value)
        put(place / f"{name}.json", raw, LONG_AGO + number * HOUR)
    machine.quiet(machine.base / "a")
    machine.ok("sync")


def difference(machine, *version):
    return machine.ok("diff", str(ID), *version, "--json").json


def newest(machine, unit):
    versions = machine.ok("history", str(ID), "--json").json["versions"]
    return next(v["version"] for v in versions if v["unit"] == unit)


def on_a_terminal(machine, *argv, columns=80):
    """What a command prints on a terminal, in a process of its own."""
    ours, theirs = pty.openpty()
    process = machine.spawn(
        *argv,
        env={"COLUMNS": str(columns), "TERM": "xterm", "LANG": "C.UTF-8"},
        stdout=theirs,
        stderr=theirs,
        text=False,
    )
    os.close(theirs)
    seen = everything(ours)
    assert process.wait(120) == 0, seen
    return seen


def test_events(one):
    """Events that only the version has, that only the current content has, and that changed, each with its index."""
    edit(one, events=[event("first"), event("2nd"), event("4th", at="2024-01-01 00:00:00.0")])

    found = difference(one)

    assert (found["schema"], found["conversation"], found["unit"]) == (1, f"jp-c{ID}", "stream")
    assert (found["same"], found["identical"], found["valid"]) == (False, False, True)
    assert found["version"] == newest(one, "stream")
    assert found["current"] == str(one.silo())
    assert (found["versionEvents"], found["currentEvents"]) == (3, 3)
    assert [(e["change"], e["index"]) for e in found["events"]] == [("changed", 1), ("removed", 2), ("added", 2)]
    changed, removed, added = found["events"]
    assert changed["keys"] == ["content"]
    assert (removed["current"], added["version"]) == (None, None)
    assert added["current"]["type"] == "chat_request"
    assert added["current"]["at"] == 1704067200000
    assert added["current"]["bytes"] > 0
    assert (found["keys"], found["lines"]) == ([], [])


def test_json_has_no_text(one):
    """What a program keeps of a difference holds no text of the conversation, and no title."""
    edit(one, events=[event("first"), event("entirely new words")], metadata=metadata("New title"))

    for unit in ("stream", "metadata"):
        raw = one.ok("diff", str(ID), newest(one, unit), "--json").out
        for text in ("second", "third", "entirely", "Old title", "New title"):
            assert text not in raw


def metadata(title):
    return {"title": title, "last_activated_at": "2024-01-01 00:00:00.0"}


def test_metadata_by_key(one):
    """A version of the metadata is compared key by key."""
    edit(one, metadata=metadata("New title"))

    found = difference(one)

    assert found["unit"] == "metadata"
    assert [(k["change"], k["file"], k["path"]) for k in found["keys"]] == [
        ("changed", "metadata.json", "last_activated_at"),
        ("changed", "metadata.json", "title"),
    ]
    assert found["versionEvents"] is None
    assert "Old title" in one.ok("diff", str(ID)).out


def test_base_config_by_key(one):
    """An edit of the config alone shows as keys, not as events."""
    edit(one, base_config=CONFIG)

    found = difference(one)

    assert [(k["change"], k["file"], k["path"]) for k in found["keys"]] == [("added", "base_config.json", "assistant")]
    assert found["events"] == []


def test_a_packed_stream_means_the_same(one):
    """A legacy stream (config packed into the events) equals its split form, though its bytes do not."""
    head = {"type": "config_delta", "timestamp": "2023-11-14 22:13:20.0", "delta": {}}
    place = one.directory(one.base / "a", ID)
    edit(one, events=[event("else")])
    version = newest(one, "stream")
    for root in (place, one.directory(one.silo(), ID)):
        (root / "base_config.json").unlink()
        put(root / "events.json", as_jp([head, event("first"), event("second"), event("third")]), LONG_AGO + 2 * HOUR)

    found = difference(one, version)

    assert (found["same"], found["identical"], found["events"]) == (True, False, [])
    assert "written differently" in one.ok("diff", str(ID), version).out


def test_equal(one):
    """A version that is current says so and shows nothing."""
    edit(one, events=[event("else")])
    edit(one, 2, events=[event("first"), event("second"), event("third")])
    oldest = one.ok("history", str(ID), "--json").json["versions"][-1]["version"]

    found = difference(one, oldest)

    assert (found["same"], found["identical"]) == (True, True)
    assert "byte for byte" in one.ok("diff", str(ID), oldest).out
    assert one.ok("diff", str(ID), oldest, "--quiet").out == ""


def test_an_invalid_version(one):
    """Raw bytes that were kept are compared by lines; nothing fails."""
    broken = as_jp([event("first"), event("second")])[:-9] + b"\x00\xff\x1b[31m"
    edit(one, events=broken)
    one.ok("accept", str(ID), "--from", "silo")
    assert one.ok("history", str(ID), "--json").json["versions"][0]["valid"] is False

    found = difference(one)

    assert (found["valid"], found["same"], found["events"]) == (False, False, [])
    assert {line["file"] for line in found["lines"]} == {"events.json"}
    assert (found["versionEvents"], found["currentEvents"]) == (None, 3)
    assert "\x1b" not in one.ok("diff", str(ID)).out


def test_unmanaged_files_by_line(one):
    """A version of unmanaged files is compared by lines, in any directory."""
    note = one.directory(one.base / "a", ID) / "notes" / "n.md"
    note.parent.mkdir()
    put(note, b"one\ntwo\n", LONG_AGO)
    one.ok("sync")
    put(note, b"one\n2\n", LONG_AGO + HOUR)
    one.ok("sync")

    found = difference(one)

    assert found["unit"] == "extras"
    assert [(c["change"], c["file"], c["line"]) for c in found["lines"]] == [
        ("removed", "notes/n.md", 2),
        ("added", "notes/n.md", 2),
    ]


def test_without_a_copy(one):
    """Where no copy is left, everything is only in the version."""
    edit(one, events=[event("else")])
    for root in (one.base / "a", one.silo()):
        shutil.rmtree(one.directory(root, ID))

    found = difference(one)

    assert found["current"] is None
    assert [e["change"] for e in found["events"]] == ["removed"] * 3


def test_nothing_is_written(one):
    """`diff` reads: no root and no history changes."""
    edit(one, events=[event("else")])
    places = [one.base / "a", one.silo(), one.base / "data" / "convsync"]
    before = one.inventory(*places)

    one.ok("diff", str(ID))

    assert one.inventory(*places) == before


@pytest.mark.parametrize(
    ("argv", "code"),
    [(["18000000001"], 3), ([str(ID), "1-stream-00000000"], 3), ([str(ID), "1"], 2), ([str(ID), "x"], 3)],
)
def test_wrong_ones(one, argv, code):
    """An unknown conversation or version is exit 3, an ambiguous version 2."""
    edit(one, events=[event("else")])
    edit(one, 2, events=[event("again")])

    assert one.run("diff", *argv).code == code


def test_nothing_kept(one):
    """Without a version there is nothing to compare with: exit 3."""
    assert one.run("diff", str(ID)).code == 3


def test_on_eighty_columns(one):
    """On a terminal no line is wider than it is, whatever the text, and wide characters count twice."""
    texts = ["word " * 100, "時計" * 100, EVIL * 30, "e\u0301" * 200]
    edit(one, events=[event("first"), *map(event, texts)], base_config={"k" * 200: "v" * 200})

    shown = on_a_terminal(one, "diff", str(ID), "--no-color")

    assert max(map(columns_of, shown.splitlines())) <= 80
    assert min(map(columns_of, on_a_terminal(one, "diff", str(ID), "--no-color", columns=200).splitlines())) >= 0
    assert "\x1b" not in shown


def columns_of(line):
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


@pytest.mark.parametrize("terminal", [True, False])
def test_content_does_not_obey(one, terminal):
    """Escapes in texts, kinds, times, keys and titles never reach the terminal; our own colours do."""
    evil = [event("first"), {"type": EVIL, "timestamp": EVIL, EVIL: EVIL}, event(EVIL)]
    edit(one, events=evil, base_config={EVIL: {EVIL: EVIL}}, metadata=metadata(EVIL))

    for unit in ("stream", "metadata"):
        argv = ["diff", str(ID), newest(one, unit)]
        shown = on_a_terminal(one, *argv) if terminal else one.ok(*argv).out
        for colour in ("31", "32", "33", "2", "0"):
            shown = shown.replace(f"\x1b[{colour}m", "") if terminal else shown
        assert not {c for c in shown if not c.isprintable()} - {"\n"}


def test_a_version_that_lost_its_content(one):
    """A version whose objects are gone is no version: exit 3; damaged ones are a storage problem (6)."""
    edit(one, events=[event("else")])
    version = newest(one, "stream")
    objects = Path(one.base, "data", "convsync", "history").rglob("*.gz")
    for path in objects:
        path.write_bytes(path.read_bytes()[:-8] + b"\0" * 8)

    ran = one.run("diff", str(ID), version)

    assert ran.code in (3, 6)
    assert json.loads(one.run("diff", str(ID), version, "--json").out)["error"]["code"]
