"""`restore --into` writes a copy beside every root; a lock that is held is waited for."""

from __future__ import annotations

import json
import os
import time

import pytest

from convsync_cli.patience import lock_patience, parse_duration
from machine import LONG_AGO, WS
from versioned import (
    ID,
    everywhere,
    replaced_once,
    versions,
)


@pytest.fixture
def two(machine):
    return replaced_once(machine)


# -- restore --into ---------------------------------------------------------------


def test_into_writes_a_copy_and_nothing_else(two):
    """`--into` writes PATH/<id>/ with the times of then, and no root changes."""
    before = two.inventory(two.base / "a", two.base / "b", two.silo())

    done = two.ok("restore", str(ID), "--into", two.base / "x" / "y", "--json").json

    place = two.base / "x" / "y" / f"jp-c{ID}"
    assert done["into"] == str(place)
    assert json.loads((place / "events.json").read_bytes())[0]["content"] == "old"
    assert (place / "events.json").stat().st_mtime_ns == LONG_AGO
    assert two.inventory(two.base / "a", two.base / "b", two.silo()) == before


@pytest.mark.parametrize(
    "where",
    [
        "a/.jp",
        "a/.jp/conversations",
        f"data/jp/workspace/{WS}",
        f"data/jp/workspace/{WS}/x",
        "data/jp/workspace/other",
        "link",
        "data/convsync",
        "unknown/.jp/x",
    ],
)
def test_into_a_root_is_refused(two, where):
    """A copy for looking at must not become a conversation, a symlink there included: exit 4, nothing written."""
    (two.base / "link").symlink_to(two.base / "a" / ".jp")
    before = two.inventory(two.base / "a", two.base / "data")

    assert two.run("restore", str(ID), "--into", two.base / where).code == 4

    assert two.inventory(two.base / "a", two.base / "data") == before
    assert not (two.base / "unknown").exists()


@pytest.mark.parametrize("there", ["a file in it", "a file", "a link to nowhere", "an earlier copy"])
def test_into_writes_only_where_nothing_is(two, there):
    """PATH is new or an empty directory, else exit 4 and nothing is written."""
    out = two.base / "out"
    if there == "a file in it":
        out.mkdir()
        (out / "mine").write_text("mine")
    elif there == "a file":
        out.write_text("mine")
    elif there == "a link to nowhere":
        out.symlink_to(two.base / "nowhere")
    else:
        two.ok("restore", str(ID), "--into", out)
    places = [p for p in two.base.iterdir() if p.name != "state" and p.is_dir()]
    before = two.inventory(*places)

    assert two.run("restore", str(ID), "--into", out).code == 4

    assert two.inventory(*places) == before
    assert not (two.base / "nowhere").exists()


def test_into_an_empty_directory(two):
    """An empty directory that is there is as good as a new one."""
    (two.base / "out").mkdir()

    two.ok("restore", str(ID), "--into", two.base / "out")

    assert (two.base / "out" / f"jp-c{ID}" / "events.json").exists()


# -- the lock ---------------------------------------------------------------------


def test_a_held_lock(two, monkeypatch):
    """A lock that stays held is exit 5 with its holder, and nothing was written or kept."""
    monkeypatch.setenv("JP_LOCK_DURATION", "300ms")
    before = two.inventory(two.base / "a", two.base / "b", two.silo() / "conversations")
    kept = len(versions(two))

    with two.holding(ID, session="getsid-77"):
        started = time.monotonic()
        ran = two.run("restore", str(ID))

    assert ran.code == 5
    assert time.monotonic() - started >= 0.3
    assert str(os.getpid()) in ran.err
    assert "getsid-77" in ran.err
    assert two.inventory(two.base / "a", two.base / "b", two.silo() / "conversations") == before
    assert len(versions(two)) == kept


def test_a_released_lock(two, monkeypatch):
    """A restore waits for the lock and goes on when it is released."""
    monkeypatch.setenv("JP_LOCK_DURATION", "20s")
    with two.holding(ID):
        process = two.spawn("restore", str(ID), env={"JP_LOCK_DURATION": "20s"})
        with pytest.raises(Exception, match="timed out"):
            process.wait(0.7)
        assert everywhere(two) == [["new", "newer"]] * 3

    assert process.wait(120) == 0, process.communicate()
    process.communicate()
    assert everywhere(two) == [["old"]] * 3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("10s", 10),
        ("2m", 120),
        ("1m 30s", 90),
        ("500ms", 0.5),
        ("1h", 3600),
        ("1day", 86400),
        ("10", None),
        ("s", None),
        ("", None),
        ("1x", None),
        ("-1s", None),
    ],
)
def test_durations(text, seconds):
    """Durations are written as JP writes them; a bare number is none, but 0."""
    assert parse_duration(text) == seconds


def test_the_default_patience():
    """Thirty seconds where nothing is said, and a wrong value is bad usage."""
    assert lock_patience({}) == 30
    assert lock_patience({"JP_LOCK_DURATION": "2m"}) == 120


def test_a_bad_patience(two, monkeypatch):
    """A value that is no duration is exit 2 and names the variable."""
    monkeypatch.setenv("JP_LOCK_DURATION", "soon")

    ran = two.run("restore", str(ID))

    assert ran.code == 2
    assert "JP_LOCK_DURATION" in ran.err
