"""`trash ls`, `restore` and `empty`, and `accept` of a loss: real removals, real locks, a real terminal."""

from __future__ import annotations

import json
import time

import pytest

from agents import status
from convsync_agent.rules import DAY_MS
from convsync_agent.shelter import Shelter
from convsync_cli.commands.trash import time_left
from machine import WS
from trashed import (
    ID,
    OTHER,
    STAYS,
    TITLE,
    contents,
    data_dir,
    durable,
    kept_in_two,
    listed,
    on_terminal,
    place,
    removed_two,
    rm,
)


@pytest.fixture
def two(machine):
    return kept_in_two(machine)


@pytest.fixture
def gone(two):
    return removed_two(two)


# -- ls -------------------------------------------------------------------------------


def test_a_removal_is_noticed_and_listed(two):
    """Two listings without it, and its projection went with it: it is in the trash, and the left-over says so."""
    rm(two, ID, two.base / "a")
    two.ok("sync")

    [only] = listed(two)
    told = [e for e in status(two)["attention"] if e["kind"] == "removed"]

    assert only["id"] == f"jp-c{ID}"
    assert [(e["conversation"], e["worktree"]) for e in told] == [(f"jp-c{ID}", str(two.base / "b"))]
    assert f"convsync trash restore jp-c{ID}" in told[0]["hint"]


def test_ls_says_what_can_be_brought_back(gone):
    """Ids, times in ms, bytes of the content, events, whether it is whole; only of what is gone."""
    before = time.time_ns() // 1_000_000
    document = gone.ok("trash", "ls", "--json").json
    found = {c["id"]: c for c in document["conversations"]}
    mine = found[f"jp-c{ID}"]

    assert document["schema"] == 1
    assert found.keys() == {f"jp-c{ID}", f"jp-c{OTHER}"}
    assert mine.keys() == {"id", "workspaceId", "removedAt", "until", "bytes", "events", "whole"}
    assert (mine["workspaceId"], mine["events"], mine["whole"]) == (WS, 2, True)
    assert mine["until"] - mine["removedAt"] == 30 * DAY_MS
    assert before - 60_000 < mine["removedAt"] <= before
    assert mine["bytes"] == sum(len(raw) for _, raw in contents(gone.directory(gone.base / "b", ID)).values())


def test_until_follows_the_setting(gone):
    """`trash.keep_days` counts from the removal."""
    assert {c["until"] - c["removedAt"] for c in listed(gone, "--set", "trash.keep_days=7")} == {7 * DAY_MS}


def test_titles_are_for_a_terminal(gone):
    """80 columns with the title of the kept metadata; neither a pipe nor JSON gets it, nor any file of ours (R9)."""
    code, seen = on_terminal(gone, "trash", "ls")
    piped = gone.ok("trash", "ls")

    assert code == 0
    assert TITLE[:12] in seen
    assert "Other title" in seen
    assert max(map(len, seen.splitlines())) <= 80
    assert len(seen.splitlines()) == 3
    for text in (piped.out, piped.err, json.dumps(listed(gone))):
        assert "title" not in text.lower()
    ours = [p for top in ("state", "data/convsync/trash") for p in (gone.base / top).rglob("*") if p.is_file()]
    assert not [p for p in ours if TITLE.encode() in p.read_bytes() or "talk" in str(p)]


def test_an_empty_trash(two):
    """What is there is in no trash; one line says so, none with --quiet."""
    assert listed(two) == []
    assert "empty" in two.ok("trash", "ls").out
    assert two.ok("trash", "ls", "--quiet").out == ""


def test_without_any_registration(machine):
    """A machine that never had anything: empty, exit 0, and nothing is made."""
    before = machine.inventory()

    assert listed(machine) == []
    assert machine.run("trash", "restore", str(ID)).code == 3
    assert machine.inventory() == before


def test_a_damaged_manifest_is_told(gone):
    """What is not understood is named by its id, and the rest is listed."""
    (place(gone) / "manifest.json").write_bytes(b"{")

    ran = gone.ok("trash", "ls", "--json")

    assert f"jp-c{ID}" in ran.err
    assert [c["id"] for c in ran.json["conversations"]] == [f"jp-c{OTHER}"]


def test_time_left():
    """One short unit; right after the removal it is as many days as the setting says."""
    assert [time_left(ms) for ms in (-5, 3_599_999, 7_200_000, 47 * 3_600_000, 30 * DAY_MS - 1)] == [
        "0 h",
        "0 h",
        "2 h",
        "47 h",
        "30 d",
    ]


# -- empty --------------------------------------------------------------------------------


def test_empty_asks(gone):
    """Without a terminal it is exit 2 naming the flag, whatever is in the trash; nothing goes."""
    ran = gone.run("trash", "empty")

    assert ran.code == 2
    assert "--yes" in ran.err
    assert len(listed(gone)) == 2


@pytest.mark.parametrize(("answer", "left"), [(b"n", 2), (b"", 2), (b"y", 0)])
def test_empty_on_a_terminal(gone, answer, left):
    """Only a yes drops anything; no is no error."""
    code, seen = on_terminal(gone, "trash", "empty", answer=answer)

    assert code == 0
    assert "2 removed conversations" in seen
    assert len(listed(gone)) == left


def test_empty_drops_what_is_gone_and_only_that(gone):
    """The bytes that went are told; what is there stays kept, and what was removed stays removed."""
    wanted = sum(c["bytes"] for c in listed(gone))

    done = gone.ok("trash", "empty", "--yes", "--json").json

    assert done == {"schema": 1, "dropped": 2, "bytes": wanted}
    assert listed(gone) == []
    assert [p.name for p in place(gone).iterdir()] == ["tombstone.json"]
    assert (place(gone, OTHER) / "tombstone.json").exists()
    assert (place(gone, STAYS) / "manifest.json").exists()
    gone.ok("sync")
    assert durable(gone) is None
    assert gone.ok("trash", "empty", "--yes", "--json").json["dropped"] == 0


def test_empty_one(gone):
    """TARGET alone goes; one that is there is refused, an unknown one not found."""
    assert "freed" in gone.ok("trash", "empty", str(ID), "--yes").out

    assert [c["id"] for c in listed(gone)] == [f"jp-c{OTHER}"]
    assert gone.run("trash", "empty", str(ID), "--yes").code == 3
    assert gone.run("trash", "empty", str(STAYS), "--yes").code == 4
    assert gone.run("trash", "empty", "jp-c19", "--yes").code == 3
    assert (place(gone, STAYS) / "manifest.json").exists()


def test_what_is_back_is_not_emptied(gone):
    """A mark that is out of date counts for nothing: the durable copy is there, so its kept copy stays."""
    gone.write(gone.silo(), OTHER, "again")
    assert Shelter(data_dir(gone)).held(WS, OTHER).removed_ms is not None
    assert [c["id"] for c in listed(gone)] == [f"jp-c{ID}"]

    assert gone.ok("trash", "empty", "--yes", "--json").json["dropped"] == 1

    assert Shelter(data_dir(gone)).held(WS, OTHER).removed_ms is None
