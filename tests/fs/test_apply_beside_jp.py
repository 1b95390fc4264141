"""A change of the disk beside a JP, and what lies beside the managed files."""

from __future__ import annotations

import os
import shutil

import pytest

from agents import in_step
from changes import INTRUDER, C, Story, at, events_only, extras
from convsync_agent.plan import AddExtras, Import
from convsync_agent.results import Done, Failed, Pending, Postponed
from machine import LONG_AGO, WS, put


@pytest.mark.parametrize("where", ["live", "archived"])
def test_an_import_beside_a_directory_that_jp_just_made_is_dropped(world, where):
    """Two directories for one id are a defect of which JP deletes one by name (contract 3.5)."""
    shutil.rmtree(at(world, "silo"))
    with world.engine() as engine:
        plan = world.plan(engine)
        assert [Import] == [type(a) for a in plan.actions]
        world.write(world.silo(), C, "by jp", slug="another-title", archived=where == "archived")
        results = engine.perform(engine.sites[WS], plan)
    assert [Postponed] == [type(r) for r in results]
    found = [p.name for p in (world.silo() / "conversations").rglob(f"{C}*")]
    assert found == [f"{C}-another-title"]


def durable_note(world, name):
    """An unmanaged file of the worktree a that the silo has, too."""
    path = at(world, "a") / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("one")
    world.sync()
    return path


@pytest.mark.parametrize("name", ["NOTE.md", "sub/x"])
def test_an_edit_beside_an_unmanaged_file_that_is_durable_already_is_done_at_once(world, name):
    """A file that both have does not get in the way of a change to the stream."""
    durable_note(world, name)
    world.sync()
    events_only(world)
    with world.engine() as engine:
        results = engine.cycle(engine.sites[WS], engine.rescan(engine.sites[WS])).results
    assert {Done} == {type(r) for r in results}
    assert in_step(world, C, world.silo(), world.base / "a", world.base / "b")


CLASHES = {
    "directory": lambda top: (top / "NOTE.md").mkdir(),
    "symlink": lambda top: (top / "NOTE.md").symlink_to("events.json"),
    "file-for-directory": lambda top: (top / "sub").write_text("a file"),
}


@pytest.mark.parametrize("clash", CLASHES)
def test_an_unmanaged_file_that_cannot_go_in_stops_nothing_else(world, clash):
    """The silo has something else under its name: managed files of every root still come in step."""
    CLASHES[clash](at(world, "silo"))
    extras(world, old=False)
    events_only(world)
    world.sync()
    assert in_step(world, C, world.silo(), world.base / "a", world.base / "b")
    assert [] == world.staged()


@pytest.mark.parametrize("name", ["x" * 255, "é" * 120, "sub/" * 8 + "y" * 200], ids=["long", "utf8", "deep"])
def test_an_unmanaged_file_of_any_name_goes_over(world, name):
    """Whatever the file system takes as a name."""
    path = at(world, "a") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("extra")
    outcome = world.sync()
    assert [] == outcome.failed
    assert (at(world, "silo") / name).read_text() == "extra"


@pytest.mark.parametrize("name", ["NOTE.md", "sub/x"])
def test_an_unmanaged_file_that_changes_in_place_goes_over_at_the_next_sync(world, name):
    """The directory does not change with it; the disk is the truth all the same (R6)."""
    path = durable_note(world, name)
    path.write_text("two")
    world.sync()
    assert (at(world, "silo") / name).read_text() == "two"


def test_unmanaged_files_are_read_and_staged_before_the_lock_is_taken(world, monkeypatch):
    """JP's lock is for renames and ages: milliseconds, whatever the size (R7)."""
    extras(world)
    held = []
    real = os.fsync
    with world.engine() as engine:
        plan = world.plan(engine)
        assert [AddExtras] == [type(a) for a in plan.actions]
        path = world.silo() / "locks" / f"jp-c{C}.lock"

        def spied(fd):
            if os.path.exists(path) and os.readlink(f"/proc/self/fd/{fd}").rpartition("/")[0].endswith(".convsync"):
                held.append(fd)
            real(fd)

        monkeypatch.setattr(os, "fsync", spied)
        engine.perform(engine.sites[WS], plan)
    assert [] == held


@pytest.mark.parametrize("ns", [-1, 0, 2**63 - 1, 13_569_465_600_000_000_000], ids=["1969", "1970", "2262", "2400"])
@pytest.mark.parametrize("file", ["events.json", "NOTE.md"])
def test_any_mtime_is_taken_as_it_is(world, ns, file):
    """To the nanosecond, as JP takes them: before the epoch, and beyond what 64 bits of nanoseconds hold."""
    path = at(world, "a") / file
    put(path, INTRUDER, ns)
    if path.stat().st_mtime_ns != ns:
        pytest.skip("this file system has no such time")
    outcome = world.sync()
    assert [] == outcome.failed
    assert path.stat().st_mtime_ns == (ns if ns > 0 or file == "NOTE.md" else LONG_AGO)
    if file == "NOTE.md" or ns > LONG_AGO:
        assert (at(world, "silo") / file).stat().st_mtime_ns == ns


def test_a_state_that_cannot_be_written_stops_no_other_conversation_and_loses_nothing(world, monkeypatch):
    """`state.db` on a full disk: told as data, the root whole, done when there is space again."""
    Story(world, "both")
    with world.engine() as engine:
        plan = world.plan(engine)
        pages = engine.state._db.execute("PRAGMA page_count").fetchone()[0]
        engine.state._db.execute(f"PRAGMA max_page_count = {pages}")
        engine.ledger.put_pending(WS, [Pending(1, "x" * 100, "")])
        # A state that may not grow, and a row for which it would have to.
        long = Pending(1, "x", "x" * 1_000_000)
        monkeypatch.setattr("convsync_agent.apply.pending_of", lambda _: long)
        results = engine.perform(engine.sites[WS], plan)
        assert {Failed} == {type(r) for r in results if r.action in plan.actions}
        assert [] == world.lock_files()
    monkeypatch.undo()
