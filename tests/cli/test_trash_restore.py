"""`trash restore` brings a removed conversation back, or a copy of it."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from agents import in_step, status, until
from convsync_cli.removed import matching
from convsync_cli.target import Target
from machine import LONG_AGO, WS, as_jp, event, put
from trashed import (
    HOUR,
    ID,
    OTHER,
    STAYS,
    bury,
    contents,
    durable,
    kept_in_two,
    listed,
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


# -- restore --------------------------------------------------------------------------


def test_restore_brings_it_back_as_it_was(two):
    """The same bytes and times, the tombstone gone, the left-over in step and no longer told; the agent's word too."""
    before = contents(durable(two))
    rm(two, ID, two.base / "a")
    bury(two, ID)
    assert (place(two) / "tombstone.json").exists()

    done = two.ok("trash", "restore", str(ID), "--json").json

    assert contents(durable(two)) == before
    assert durable(two).name == f"{ID}-talk"
    assert in_step(two, ID, two.silo(), two.base / "b")
    assert not (place(two) / "tombstone.json").exists()
    row = {"id": f"jp-c{ID}", "workspaceId": WS, "path": str(durable(two)), "partition": "live", "from": None}
    assert done == {"schema": 1, "restored": [row]}
    assert listed(two) == []
    assert [e for e in status(two)["attention"] if e["kind"] in {"removed", "lost"}] == []
    assert two.ok("sync", "--json").json["actions"] == []
    assert two.directory(two.base / "a", ID) is None


def test_restore_of_what_lay_in_the_silo_only(gone):
    """Unmanaged files come along; without a left-over the directory has the name JP gives after the title."""
    gone.ok("trash", "restore", f"jp-c{OTHER}")

    assert durable(gone, OTHER).name == f"{OTHER}-other-title"
    assert contents(durable(gone, OTHER))["notes/n.md"] == (LONG_AGO, b"note")
    assert gone.questions(gone.silo(), OTHER) == ["three"]


def test_restore_several(gone):
    """Each of them, once, in the order given."""
    done = gone.ok("trash", "restore", str(OTHER), str(ID), str(OTHER), "--json").json["restored"]

    assert [r["id"] for r in done] == [f"jp-c{OTHER}", f"jp-c{ID}"]
    assert durable(gone)
    assert durable(gone, OTHER)
    gone.ok("verify")


def test_restore_before_anybody_noticed(two):
    """A removal that no scan has seen yet is undone all the same."""
    before = contents(durable(two, OTHER))
    rm(two, OTHER)

    two.ok("trash", "restore", str(OTHER))

    assert contents(durable(two, OTHER)) == before


def test_restore_into_the_archive(two):
    """What was archived comes back archived."""
    path = durable(two, OTHER)
    (path.parent / ".archive").mkdir(exist_ok=True)
    path.rename(path.parent / ".archive" / path.name)
    two.ok("sync")
    rm(two, OTHER)
    bury(two, OTHER)

    done = two.ok("trash", "restore", str(OTHER), "--json").json["restored"]

    assert durable(two, OTHER) is None
    assert durable(two, OTHER, archived=True)
    assert done[0]["partition"] == "archived"


@pytest.mark.parametrize("archived", [False, True])
def test_what_is_there_is_never_overwritten(two, archived):
    """A durable copy in either partition: exit 4, and not a byte changes."""
    if archived:
        path = durable(two, OTHER)
        (path.parent / ".archive").mkdir(exist_ok=True)
        path.rename(path.parent / ".archive" / path.name)
    before = two.inventory(two.silo(), two.base / "a", two.base / "b")

    ran = two.run("trash", "restore", str(OTHER))

    assert ran.code == 4
    assert f"convsync history jp-c{OTHER}" in ran.err
    assert two.inventory(two.silo(), two.base / "a", two.base / "b") == before


def test_restore_twice(gone):
    """The second time it is there: exit 4."""
    gone.ok("trash", "restore", str(ID))

    assert gone.run("trash", "restore", str(ID)).code == 4


def test_a_newer_left_over_wins_as_always(gone):
    """The kept copy comes back with its old times, so an edit of the left-over is newer."""
    edited = as_jp([event("one"), event("two"), event("three")])
    put(gone.directory(gone.base / "b", ID) / "events.json", edited, LONG_AGO + HOUR)
    gone.quiet(gone.base / "b")

    gone.ok("trash", "restore", str(ID))

    assert gone.questions(gone.silo(), ID) == ["one", "two", "three"]
    assert in_step(gone, ID, gone.silo(), gone.base / "b")


def test_a_running_agent_agrees(two, agent):
    """The agent buries it, `restore` brings it back, and the agent leaves it there."""
    agent()
    with two.holding(OTHER):
        rm(two, OTHER)
    until((place(two, OTHER) / "tombstone.json").exists, "a tombstone")
    until(lambda: listed(two), "listed")

    two.ok("trash", "restore", str(OTHER))

    until(lambda: status(two)["verdict"] == "in-sync", "in sync")
    assert durable(two, OTHER)
    assert not (place(two, OTHER) / "tombstone.json").exists()
    assert two.ok("sync", "--json").json["actions"] == []


def test_a_held_lock(gone, monkeypatch):
    """A lock that stays held is exit 5 with its holder; nothing is built and the tombstone stands."""
    monkeypatch.setenv("JP_LOCK_DURATION", "300ms")
    before = gone.inventory(gone.silo() / "conversations", gone.base / "b")

    with gone.holding(ID):
        started = time.monotonic()
        ran = gone.run("trash", "restore", str(ID))

    assert ran.code == 5
    assert time.monotonic() - started >= 0.3
    assert str(os.getpid()) in ran.err
    assert gone.inventory(gone.silo() / "conversations", gone.base / "b") == before
    assert (place(gone) / "tombstone.json").exists()


def test_a_silo_that_is_not_there(gone):
    """Not mounted is not removed: exit 6, and no skeleton of a silo is made."""
    away = gone.base / "away"
    gone.silo().rename(away)

    ran = gone.run("trash", "restore", str(ID))

    assert ran.code == 6
    assert not gone.silo().exists()
    assert listed(gone)


def test_a_damaged_kept_copy(gone):
    """Content that is not what was kept comes back nowhere: exit 6, at once, and nothing is left behind."""
    for held in place(gone, OTHER).glob("*.gz"):
        held.write_bytes(held.read_bytes()[:-9])
    before = gone.inventory(gone.silo())

    assert gone.run("trash", "restore", str(OTHER)).code == 6
    assert gone.run("trash", "restore", str(OTHER), "--into", gone.base / "out").code == 6
    assert gone.inventory(gone.silo()) == before


# -- where nothing is kept --------------------------------------------------------------


def test_a_left_over_is_made_durable_where_nothing_is_kept(gone):
    """With an empty trash, and whatever the policy of import, the left-over itself is what can come back."""
    gone.ok("trash", "empty", "--yes")

    done = gone.ok("trash", "restore", str(ID), "--json", "--set", "import.policy=manual").json["restored"]

    assert done[0]["from"] == str(gone.base / "b")
    assert in_step(gone, ID, gone.silo(), gone.base / "b")
    assert not (place(gone) / "tombstone.json").exists()
    assert [e for e in status(gone)["attention"] if e["kind"] == "removed"] == []


def test_a_left_over_that_is_not_whole(gone):
    """JP could not load it: exit 4, and what was removed stays removed."""
    gone.ok("trash", "empty", "--yes")
    put(gone.directory(gone.base / "b", ID) / "events.json", b"[1", LONG_AGO + HOUR)

    ran = gone.run("trash", "restore", str(ID))

    assert ran.code == 4
    assert durable(gone) is None
    assert (place(gone) / "tombstone.json").exists()


def test_nothing_is_left_at_all(gone):
    """A tombstone alone brings nothing back: exit 3, and the way to the history."""
    gone.ok("trash", "empty", "--yes")

    ran = gone.run("trash", "restore", str(OTHER))

    assert ran.code == 3
    assert f"convsync history jp-c{OTHER}" in ran.err


def test_without_the_workspace(gone):
    """Where no worktree is registered any more the content can be looked at, and registering is the way."""
    shutil.rmtree(gone.base / "state")

    ran = gone.run("trash", "restore", str(OTHER))

    assert ran.code == 3
    assert "convsync register" in ran.err
    assert {c["id"] for c in listed(gone)} == {f"jp-c{ID}", f"jp-c{OTHER}"}
    gone.ok("trash", "restore", str(OTHER), "--into", gone.base / "out")
    gone.ok("register", gone.base / "a")
    gone.ok("trash", "restore", str(OTHER))
    assert gone.questions(gone.silo(), OTHER) == ["three"]


# -- --into -----------------------------------------------------------------------------


def test_into_writes_a_copy_and_lifts_nothing(gone):
    """PATH/<id>/ with the files and times of then; no root changes, and what was removed stays removed."""
    before = gone.inventory(gone.base / "a", gone.base / "b", gone.silo())

    done = gone.ok("trash", "restore", str(ID), str(OTHER), "--into", gone.base / "x/y", "--json").json["restored"]

    assert contents(gone.base / f"x/y/jp-c{ID}") == contents(gone.directory(gone.base / "b", ID))
    assert contents(gone.base / f"x/y/jp-c{OTHER}")["notes/n.md"] == (LONG_AGO, b"note")
    assert [r["into"] for r in done] == [str(gone.base / f"x/y/jp-c{c}") for c in (ID, OTHER)]
    assert gone.inventory(gone.base / "a", gone.base / "b", gone.silo()) == before
    assert (place(gone) / "tombstone.json").exists()
    assert len(listed(gone)) == 2


@pytest.mark.parametrize(
    "where", ["a/.jp", "a/.jp/conversations/x", f"data/jp/workspace/{WS}", "data/convsync", "full"]
)
def test_into_a_place_that_is_taken(gone, where):
    """Neither a root nor our own places nor a directory with something in it: exit 4, nothing written."""
    (gone.base / "full").mkdir()
    (gone.base / "full/mine").write_text("mine")
    before = gone.inventory()

    assert gone.run("trash", "restore", str(ID), "--into", gone.base / where).code == 4
    assert {k: v for k, v in gone.inventory().items() if "state" not in k} == {
        k: v for k, v in before.items() if "state" not in k
    }


# -- TARGET -------------------------------------------------------------------------------


def test_which_one_is_meant(gone):
    """An id or a unique beginning; ambiguous is 2 with the matches, unknown 3; what is no id is not repeated."""
    ambiguous = gone.run("trash", "restore", "1700000000")
    unknown = gone.run("trash", "restore", "jp-c19")
    words = gone.run("trash", "restore", f"{ID}-private-words")

    assert (ambiguous.code, unknown.code, words.code) == (2, 3, 3)
    assert f"jp-c{ID}, jp-c{OTHER}" in ambiguous.err
    assert "convsync trash ls" in unknown.err
    assert "private" not in words.err
    assert gone.run("trash", "restore").code == 2
    assert gone.run("trash", "restore", str(STAYS)).code == 4
    gone.ok("trash", "restore", f"jp-c{str(ID)[:-1]}1")


X, Y, Z = Target("aaaaa", 170), Target("bbbbb", 170), Target("aaaaa", 1701)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("170", [X, Y]),
        ("jp-c170", [X, Y]),
        ("jp-c170-aaaaa", [X]),
        ("jp-c1701", [Z]),
        ("1701", [Z]),
        ("17", [X, Y, Z]),
        ("jp-c170-b", [Y]),
        ("", []),
        ("70", []),
        ("last", []),
    ],
)
def test_matching(text, expected):
    """An exact id wins over ids it is the beginning of; of an id in two workspaces the full form tells."""
    assert matching(text, [X, Y, Z]) == expected
