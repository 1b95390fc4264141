"""`uninstall`: what convsync keeps for itself can go, no conversation ever does."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from editors import A
from machine import LONG_AGO
from terminal import everything

GONE = 17_000_000_009


pytestmark = pytest.mark.usefixtures("no_bus")


@pytest.fixture
def kept(pair):
    """A machine with a kept version, a removed conversation and a config file."""
    pair.write(pair.base / "a", A, "another", mtime_ns=LONG_AGO + 10)
    pair.write(pair.silo(), GONE, "gone")
    pair.quiet()
    pair.ok("sync")
    pair.ok("rm", f"jp-c{GONE}", "--yes")
    config = pair.base / "config" / "convsync" / "config.toml"
    config.parent.mkdir()
    config.write_text('policy = "guarded"\n')
    return pair


def roots(machine):
    return machine.inventory(machine.base / "a", machine.base / "b", machine.silo())


def ours(machine):
    return [machine.base / place / "convsync" for place in ("state", "data", "config", "run")]


def test_without_purge_everything_stays_and_is_named(kept):
    """The service is all that goes; where the rest is, is said."""
    places = [kept.base / name for name in ("a", "b", "data", "config")]
    before = kept.inventory(*places)

    ran = kept.ok("uninstall")
    found = kept.ok("uninstall", "--json").json

    assert kept.inventory(*places) == before
    assert (found["unit"], found["purged"], found["removed"]) == (None, False, [])
    assert {p["what"] for p in found["kept"]} >= {"state", "history and trash", "settings"}
    assert str(kept.silo()) in ran.out
    assert "convsync uninstall --purge" in ran.out


def test_purge_needs_a_yes_and_says_what_is_lost(kept):
    """Kept versions may be the only copy of what was overwritten: without a terminal the flag has to be given."""
    before = kept.inventory()

    ran = kept.run("uninstall", "--purge")

    assert ran.code == 2
    assert "kept version" in ran.err
    assert "(1 of removed conversations)" in ran.err
    assert "--yes" in ran.err
    assert kept.inventory() == before


def test_purge_takes_what_is_ours_and_no_conversation(kept):
    """State, history, trash and settings go with their directories; worktrees and silos stay to the byte."""
    before = roots(kept)

    found = kept.ok("uninstall", "--purge", "--yes", "--json").json

    assert roots(kept) == before
    assert found["purged"] is True
    assert [p for p in ours(kept) if p.exists()] == []
    kept.ok("uninstall", "--purge", "--yes")  # and again, where nothing is left
    assert [p for p in ours(kept) if p.exists()] == []
    kept.ok("register", kept.base / "a")
    assert kept.questions(kept.silo(), A) == ["another"]


def test_purge_leaves_what_is_not_ours(kept, monkeypatch):
    """Directories may be ones that a person chose: other things in them stay, and links are not followed."""
    outside = kept.base / "elsewhere"
    outside.mkdir()
    (outside / "precious").write_text("x")
    state, data, config, _ = ours(kept)
    (data / "thesis.txt").write_text("x")
    (data / "history" / "link").symlink_to(outside)
    (config / "other.toml").write_text("x")
    before = roots(kept)

    kept.ok("uninstall", "--purge", "--yes")

    assert roots(kept) == before
    assert os.listdir(data) == ["thesis.txt"]
    assert os.listdir(config) == ["other.toml"]
    assert (outside / "precious").read_text() == "x"
    assert not state.exists()


def test_purge_is_refused_beside_an_agent(kept, agent):
    """One that runs by hand would go on and write anew what was deleted."""
    agent()
    before = kept.inventory(kept.base / "data")

    ran = kept.run("uninstall", "--purge", "--yes")

    assert ran.code == 4
    assert "pid" in ran.err
    assert kept.inventory(kept.base / "data") == before


def test_purge_is_refused_while_somebody_edits(kept, editor):
    """What is typed there is nowhere else yet."""
    done = kept.base / "refused"
    editor(f"{sys.executable} -m convsync_cli uninstall --purge --yes >/dev/null 2>&1; echo $? >{done}")

    kept.run("edit", f"jp-c{A}")

    assert done.read_text() == "4\n"
    assert kept.ok("history", f"jp-c{A}", "--json").json["versions"]


@pytest.mark.parametrize(("answer", "stays"), [(b"n", True), (b"y", False)])
def test_a_person_is_asked_once_for_all_of_it(kept, answer, stays):
    """On a terminal: each place with its size, what is lost, and a no is a no."""
    mine, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "convsync_cli", "uninstall", "--purge"],
        env={"PATH": os.environ["PATH"], "COLUMNS": "80", **kept.env}, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    text = everything(mine, answer, b"delete all of that?")

    assert process.wait(120) == 0
    assert "history and trash" in text
    assert (kept.base / "data" / "convsync" / "history").exists() is stays
    assert ("nothing was removed" in text) is stays
