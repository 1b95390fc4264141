"""`history`, `restore`, `undo` and `accept` on real directories, with real locks, beside real edits."""

from __future__ import annotations

import shutil
import time

import pytest

from machine import LONG_AGO, WS, as_jp, event, put
from versioned import (
    HOUR,
    ID,
    everywhere,
    kept_questions,
    replaced_once,
    roots,
    versions,
)


@pytest.fixture
def two(machine):
    return replaced_once(machine)


# -- history --------------------------------------------------------------------


def test_history(two):
    """What the sync replaced is listed once, newest first, with where it was, why and how much."""
    document = two.ok("history", str(ID), "--json").json
    only = document["versions"][0]

    assert (document["schema"], document["conversation"], len(document["versions"])) == (1, f"jp-c{ID}", 1)
    assert (only["unit"], only["events"], only["why"], only["valid"]) == ("stream", 1, "replaced", True)
    assert only["from"] in {str(two.silo()), str(two.base / "b")}  # both held these bytes
    assert only["bytes"] == len(as_jp([event("old")])) + len(as_jp({}))
    assert {"version", "unit", "at", "from", "why", "events", "bytes"} <= set(only)
    assert only["version"] in two.ok("history", str(ID)).out


def test_history_without_the_state(two):
    """The history needs no state: by its full id a conversation is found in it where nothing is registered."""
    before = two.ok("history", str(ID), "--json").json
    shutil.rmtree(two.base / "state")

    assert two.ok("history", str(ID), "--json").json == before
    assert two.ok("history", f"jp-c{ID}-{WS}", "--json").json == before
    assert two.run("history", str(ID)[:6]).code == 3
    assert two.run("history", str(ID + 1)).code == 3
    two.ok("restore", str(ID), "--into", two.base / "out")
    for command in ("restore", "undo", "diff"):
        ran = two.run(command, str(ID))
        assert ran.code == 3
        assert "convsync register" in ran.err


def test_restore_after_the_state_was_lost(two):
    """After `register` the versions are there to be restored."""
    shutil.rmtree(two.base / "state")
    two.ok("register", two.base / "a")
    two.ok("register", two.base / "b")

    two.ok("restore", str(ID))

    assert everywhere(two) == [["old"]] * 3


def test_history_of_nothing(machine):
    """A conversation that never lost anything has an empty history, and that is good."""
    machine.write(machine.worktree(register=False), ID, "only")
    machine.ok("register", machine.base / "a")

    assert versions(machine) == []
    assert machine.ok("history", str(ID)).out


# -- restore --------------------------------------------------------------------


def test_restore_makes_a_version_current_everywhere(two):
    """The newest version is what every copy has afterwards, dated now, the same to the last byte."""
    before = time.time_ns()

    done = two.ok("restore", str(ID), "--json").json

    assert everywhere(two) == [["old"]] * 3
    assert done["written"] == [str(r) for r in roots(two)]
    for root in roots(two):
        files = [two.directory(root, ID) / f for f in ("events.json", "base_config.json")]
        assert max(f.stat().st_mtime_ns for f in files) >= before
    assert len({(two.directory(r, ID) / "events.json").stat().st_mtime_ns for r in roots(two)}) == 1


def test_restore_keeps_what_it_replaces(two):
    """A second `restore` swaps back: what the first one replaced became the newest version."""
    two.ok("restore", "last")
    assert kept_questions(two)[0] == ["new", "newer"]

    two.ok("restore", "last")

    assert everywhere(two) == [["new", "newer"]] * 3


def test_restore_is_settled(two):
    """After a restore a sync finds nothing to do, and no conflict is left open."""
    two.ok("restore", str(ID))

    document = two.ok("sync", "--json").json

    assert (document["actions"], document["held"], document["deferred"]) == ([], [], [])
    assert two.ok("status", "--json").json["verdict"] == "in-sync"
    assert two.ok("verify", "--json").json["ok"] is True


def test_restore_by_name(two):
    """`--version` takes a version or the unique beginning of one; an unknown one is exit 3."""
    name = versions(two)[0]["version"]
    two.ok("restore", str(ID), "--version", name[:16])

    assert everywhere(two) == [["old"]] * 3
    assert two.run("restore", str(ID), "--version", "1-stream-00000000").code == 3


def test_restore_touches_one_unit(two):
    """A version of the stream leaves the metadata alone, and the other way round."""
    put(
        two.directory(two.base / "a", ID) / "metadata.json",
        as_jp({"title": "New title", "last_activated_at": "2024-01-01 00:00:00.0"}),
        LONG_AGO + 2 * HOUR,
    )
    two.ok("sync")

    two.ok("restore", str(ID))  # the newest version is the old metadata

    assert two.ok("show", str(ID), "--json").json["title"] == "Old title"
    assert everywhere(two) == [["new", "newer"]] * 3


def test_restore_against_a_future_copy(two):
    """A copy dated ahead of the clock does not win against what a person restored, now or at the next sync."""
    ahead = time.time_ns() + 10 * HOUR
    put(two.directory(two.base / "b", ID) / "events.json", as_jp([event("from 2099")]), ahead)
    two.ok("sync")
    oldest = versions(two)[-1]["version"]

    two.ok("restore", str(ID), "--version", oldest)
    two.ok("sync")

    assert everywhere(two) == [["old"]] * 3


def test_restore_replaces_a_held_copy(two):
    """A broken newest copy is replaced too, and its bytes are kept."""
    broken = two.directory(two.base / "b", ID) / "events.json"
    put(broken, b"<<<<<<< ours\n", LONG_AGO + 5 * HOUR)
    version = versions(two)[0]["version"]

    two.ok("restore", str(ID), "--version", version)

    assert everywhere(two) == [["old"]] * 3
    invalid = [v for v in versions(two) if not v["valid"]]
    assert len(invalid) == 1
    assert invalid[0]["from"] == str(two.base / "b")


def test_no_refresh_is_not_written(two):
    """A worktree registered with --no-refresh keeps what it has."""
    two.ok("register", two.base / "b", "--no-refresh")

    two.ok("restore", str(ID))

    assert everywhere(two) == [["old"], ["old"], ["new", "newer"]]


def test_restore_of_what_is_current_writes_nothing(two):
    """Restoring the content that is there already changes no file."""
    two.ok("restore", str(ID))
    version = versions(two)[1]["version"]
    before = two.inventory(two.base / "a", two.base / "b", two.silo())

    assert two.ok("restore", str(ID), "--version", version, "--json").json["written"] == []

    assert two.inventory(two.base / "a", two.base / "b", two.silo()) == before


def test_restore_of_what_is_gone(two):
    """Where only worktrees are left, the durable copy is made again, under the name it has there."""
    shutil.rmtree(two.directory(two.silo(), ID))

    two.ok("restore", str(ID))

    assert everywhere(two) == [["old"]] * 3
    assert two.directory(two.silo(), ID).name == f"{ID}-talk"


def test_restore_of_what_is_gone_everywhere(two):
    """With no copy left the history gives both units; without one of them it is refused, but not --into."""
    stream = versions(two)[0]["version"]
    put(
        two.directory(two.base / "a", ID) / "metadata.json",
        as_jp({"title": "Other", "last_activated_at": "2024-01-01 00:00:00.0"}),
        LONG_AGO + 2 * HOUR,
    )
    two.ok("sync")
    for root in roots(two):
        shutil.rmtree(two.directory(root, ID))

    two.ok("restore", str(ID), "--version", stream)

    assert two.directory(two.silo(), ID).name == str(ID)
    assert two.questions(two.silo(), ID) == ["old"]
    assert two.ok("show", str(ID), "--json").json["title"] == "Old title"


def test_half_of_a_conversation_is_refused(two):
    """A stream alone is no conversation: exit 4, nothing is written, and the way out is --into."""
    for root in roots(two):
        shutil.rmtree(two.directory(root, ID))

    ran = two.run("restore", str(ID))

    assert ran.code == 4
    assert "--into" in ran.err
    assert two.directory(two.silo(), ID) is None


def test_archived_conversations_are_restored_in_the_silo(two):
    """The archive of the silo is written; an archived projection never is."""
    for root in roots(two):
        live = two.directory(root, ID)
        (live.parent / ".archive").mkdir(exist_ok=True)
        live.rename(live.parent / ".archive" / live.name)

    two.ok("restore", str(ID))

    assert everywhere(two, archived=True) == [["old"], ["new", "newer"], ["new", "newer"]]


def test_extras_come_back_into_the_silo(two):
    """A kept unmanaged file is put back in the silo; the one it replaces is kept."""
    note = two.directory(two.base / "a", ID) / "notes" / "n.md"
    note.parent.mkdir()
    put(note, b"one", LONG_AGO)
    two.ok("sync")
    put(note, b"two", LONG_AGO + HOUR)
    two.ok("sync")
    assert (two.directory(two.silo(), ID) / "notes" / "n.md").read_bytes() == b"two"
    version = next(v["version"] for v in versions(two) if v["unit"] == "extras")

    two.ok("restore", str(ID), "--version", version)

    assert (two.directory(two.silo(), ID) / "notes" / "n.md").read_bytes() == b"one"
    assert len([v for v in versions(two) if v["unit"] == "extras"]) == 2


def test_invalid_versions_are_refused(two):
    """What JP could not load is not made current (4), but can be looked at."""
    put(two.directory(two.base / "b", ID) / "events.json", b"[1", LONG_AGO + 5 * HOUR)
    good = versions(two)[0]["version"]
    two.ok("restore", str(ID), "--version", good)
    bad = next(v["version"] for v in versions(two) if not v["valid"])

    ran = two.run("restore", str(ID), "--version", bad)

    assert ran.code == 4
    assert "convsync restore" in ran.err
    two.ok("restore", str(ID), "--version", bad, "--into", two.base / "out")
    assert (two.base / "out" / f"jp-c{ID}" / "events.json").read_bytes() == b"[1"


def test_no_version_at_all(machine):
    """A conversation of which nothing was kept has nothing to restore: exit 3."""
    machine.write(machine.worktree(register=False), ID, "only")
    machine.ok("register", machine.base / "a")

    assert machine.run("restore", str(ID)).code == 3
