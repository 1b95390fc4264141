"""A start after an end of any kind: what was pending is finished, what was staged is kept or cleared, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from agents import in_step
from convsync_agent import recover as recovering
from convsync_agent import staging
from convsync_agent.digest import content_digest
from convsync_agent.halfway import missing
from convsync_agent.layout import STAGING
from convsync_agent.recover import recover
from convsync_agent.results import Pending
from faults import World
from machine import LONG_AGO, WS, as_jp, event, put

C = 17_000_000_001
TRUE = LONG_AGO + 60_123_456_789


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The silo and the worktrees a and b hold one conversation, in step."""
    made = World(tmp_path, monkeypatch)
    for name in "ab":
        made.write(made.enroll(name), C, "one", slug="t", title="t")
    made.register("a", "b")
    return made


@pytest.fixture
def dead():
    """A pid that nobody has any more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


@pytest.fixture
def alive():
    """A pid that another process has."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as process:
        yield process.pid
        process.stdin.close()


def run(world):
    with world.engine() as engine:
        return recover(engine)


def pending(world, root, units, name_of=None):
    with world.engine() as engine:
        work = json.dumps({"units": units, "name_of": name_of})
        engine.ledger.put_pending(WS, [Pending(C, str(root), work)])


def unit(top, **ages):
    digests = {n.replace("_json", ".json"): None for n in ages}
    digests = {n: content_digest((top / n).read_bytes()).hex() for n in digests}
    return {"ages": {n.replace("_json", ".json"): age for n, age in ages.items()}, "digests": digests}


def rows(world):
    with world.engine() as engine:
        return engine.state.pending()


@pytest.mark.parametrize("what", ["nothing", "staged", "pending"])
def test_a_start_lists_no_root_where_nothing_is_left(world, dead, monkeypatch, what):
    """The scan that follows lists them all; before it they are listed where something is to be finished."""
    listed, list_root = [], recovering.list_root
    monkeypatch.setattr(recovering, "list_root", lambda path: listed.append(path) or list_root(path))
    if what == "staged":
        folder = world.silo() / "conversations" / STAGING
        folder.mkdir()
        put(folder / f"c{C}.{dead}.1.events.json", b"[]")
    if what == "pending":
        pending(world, world.silo(), [])
    run(world)

    roots = {str(world.silo()), str(world.base / "a" / ".jp"), str(world.base / "b" / ".jp")}
    assert set(listed) == (set() if what == "nothing" else roots)


# -- what was pending ---------------------------------------------------------------


@pytest.mark.parametrize("where", ["silo", "b"])
def test_pending_ages_are_set_to_the_nanosecond_and_forgotten(world, where):
    """Equal bytes would never repair an age, so the start does."""
    root = world.silo() if where == "silo" else world.base / "b/.jp"
    top = world.directory(root, C)
    pending(world, root, [unit(top, events_json=TRUE, base_config_json=TRUE - 1), unit(top, metadata_json=TRUE + 1)])
    assert 1 == run(world)
    found = {p.name: p.stat().st_mtime_ns for p in top.iterdir()}
    assert found == {"events.json": TRUE, "base_config.json": TRUE - 1, "metadata.json": TRUE + 1}
    assert [] == rows(world)
    assert [] == world.lock_files()
    assert 0 == run(world)


@pytest.mark.parametrize("change", ["other", "gone"])
def test_ages_of_content_that_is_not_the_placed_one_are_left_alone(world, change):
    """Somebody wrote since: the next reconcile decides on what is there now."""
    top = world.directory(world.silo(), C)
    pending(world, world.silo(), [unit(top, events_json=TRUE, base_config_json=TRUE)])
    if change == "other":
        put(top / "events.json", as_jp([event("since then")]), LONG_AGO + 5)
    else:
        (top / "events.json").unlink()
    before = {p.name: p.stat().st_mtime_ns for p in top.iterdir()}
    assert 1 == run(world)
    assert before == {p.name: p.stat().st_mtime_ns for p in top.iterdir()}
    assert [] == rows(world)


def test_a_legacy_stream_beside_a_base_config_that_is_still_there_gets_no_true_age(world):
    """The mixture of both must stay older than its winner (R5)."""
    top = world.directory(world.silo(), C)
    pending(world, world.silo(), [unit(top, events_json=TRUE)])
    run(world)
    assert LONG_AGO == (top / "events.json").stat().st_mtime_ns


def test_a_pending_rename_is_finished(world):
    """The target takes the name that the source has now: names are not in the state (R9)."""
    a = world.directory(world.base / "a", C)
    a.rename(a.with_name(f"{C}-new-name"))
    pending(world, world.silo(), [], str(world.base / "a/.jp"))
    assert 1 == run(world)
    assert f"{C}-new-name" == world.directory(world.silo(), C).name
    assert [] == rows(world)


def test_a_pending_rename_replaces_nothing(world):
    """Another directory has the name: both stay."""
    a = world.directory(world.base / "a", C)
    a.rename(a.with_name(f"{C}-x"))
    (world.silo() / f"conversations/{C}-x").mkdir()
    pending(world, world.silo(), [], str(world.base / "a/.jp"))
    run(world)
    assert {f"{C}-x", f"{C}-t"} == {p.name for p in (world.silo() / "conversations").glob(f"{C}*")}


def test_what_is_pending_behind_a_held_lock_waits_for_the_next_start(world):
    """Never waited for (R7), never forgotten."""
    top = world.directory(world.silo(), C)
    pending(world, world.silo(), [unit(top, metadata_json=TRUE)])
    with world.holding(C):
        assert 0 == run(world)
        assert LONG_AGO == (top / "metadata.json").stat().st_mtime_ns
    assert 1 == run(world)
    assert TRUE == (top / "metadata.json").stat().st_mtime_ns


# -- what was staged ------------------------------------------------------------------


def stage(world, root, pid, file="events.json", raw=b"only here", serial=1):
    top = root / "conversations" / STAGING
    top.mkdir(exist_ok=True)
    (top / ".gitignore").write_text("*\n")
    path = top / f"c{C}.{pid}.{serial}.{file}"
    path.write_bytes(raw)
    return path


ROOTS = {"silo": lambda w: w.silo(), "a": lambda w: w.base / "a/.jp", "b": lambda w: w.base / "b/.jp"}


@pytest.mark.parametrize("where", ROOTS)
@pytest.mark.parametrize("file", ["events.json", "events.json.old", "metadata.json", "NOTE.md", "sub_x"])
def test_unique_bytes_of_a_dead_process_go_into_the_history_first(world, dead, where, file):
    """Left-over staging is never deleted unread; the directory goes with its last file."""
    path = stage(world, ROOTS[where](world), dead, file)
    assert 1 == run(world)
    assert b"only here" in world.kept()
    assert not path.parent.exists()


@pytest.mark.parametrize("where", ROOTS)
@pytest.mark.parametrize("holder", ROOTS)
def test_bytes_that_some_root_has_are_cleared_without_a_version(world, dead, where, holder):
    """The history holds what would be lost, nothing else: whichever root has the bytes, they are not."""
    raw = as_jp([event("here")])
    put(world.directory(ROOTS[holder](world), C) / "events.json", raw)
    path = stage(world, ROOTS[where](world), dead, raw=raw)
    assert 1 == run(world)
    assert not path.parent.exists()
    assert set() == world.kept()


def test_an_import_that_was_never_placed_is_read_and_cleared(world, dead):
    """Its files are copies, but that is checked, not assumed; nested ones too."""
    top = stage(world, world.silo(), dead).with_name(f"c{C}.{dead}.7.new")
    (top / "sub").mkdir(parents=True)
    (top / "events.json").write_bytes((world.directory(world.silo(), C) / "events.json").read_bytes())
    (top / "sub/x").write_bytes(b"nested, only here")
    assert 2 == run(world)
    assert {b"only here", b"nested, only here"} == world.kept()
    assert [] == world.staged()


@pytest.mark.parametrize("name", ["foreign", "c1.x.2.events.json", ".hidden"])
def test_what_is_not_named_by_us_is_never_touched(world, dead, name):
    """Somebody put it there."""
    path = stage(world, world.silo(), dead).with_name(name)
    path.write_text("theirs")
    run(world)
    assert "theirs" == path.read_text()


def test_files_of_another_live_process_are_its_own(world, alive):
    """An agent and a `sync` work side by side."""
    path = stage(world, world.silo(), alive)
    assert 0 == run(world)
    assert path.exists()
    assert set() == world.kept()


@pytest.mark.parametrize("what", ["symlink", "fifo"])
def test_a_symlink_or_fifo_in_staging_is_not_followed(world, dead, tmp_path, what):
    """It stays, what it leads to stays, and the rest is cleared."""
    secret = tmp_path / "secret"
    secret.write_text("not ours")
    path = stage(world, world.silo(), dead).with_name(f"c{C}.{dead}.9.events.json")
    path.symlink_to(secret) if what == "symlink" else os.mkfifo(path)
    assert 1 == run(world)
    assert os.path.lexists(path)
    assert {b"only here"} == world.kept()


def test_a_staging_directory_that_is_a_symlink_is_not_followed(world, dead, tmp_path):
    """What lies behind it is not ours."""
    other = tmp_path / "other"
    other.mkdir()
    (other / f"c{C}.{dead}.1.events.json").write_text("not ours")
    (world.silo() / "conversations" / STAGING).symlink_to(other)
    run(world)
    assert "not ours" == (other / f"c{C}.{dead}.1.events.json").read_text()


def test_a_lock_file_of_our_crash_is_removed_and_jps_stays(world):
    """Free, with our session name in it."""
    locks = world.silo() / "locks"
    locks.mkdir(exist_ok=True)
    for number, session in ((C, "convsync"), (C + 1, "getsid-1")):
        (locks / f"jp-c{number}.lock").write_text(json.dumps({"pid": 1, "session": session, "acquired_at": "x"}))
    assert 1 == run(world)
    assert [f"jp-c{C + 1}.lock"] == world.lock_files()


@pytest.mark.parametrize("missing", ["a", "silo"])
def test_a_root_that_is_gone_stops_nothing(world, dead, missing):
    """The others are cleared; nothing is made where it was."""
    gone = world.base / "a" if missing == "a" else world.silo()
    gone.rename(gone.with_name("elsewhere"))
    path = stage(world, world.base / "b/.jp", dead)
    run(world)
    assert not path.exists()
    assert not gone.exists()


def test_a_start_after_a_clean_end_writes_nothing(world):
    """No file, no directory, no time."""
    before = world.inventory(*world.roots())
    assert 0 == run(world)
    assert before == world.inventory(*world.roots())
    assert in_step(world, C, *world.roots())


# -- staging by itself -----------------------------------------------------------------


def test_the_staging_directory_ignores_itself_and_goes_when_empty(world):
    """Its first file is a `.gitignore` with `*`, or `git worktree remove` would refuse (design 5)."""
    with world.engine() as engine:
        root = engine.sites[WS].silo.root
        with staging.opened(root):
            assert ["*\n"] == [p.read_text() for p in (world.silo() / "conversations" / STAGING).iterdir()]
        stage(world, world.silo(), os.getpid())
        assert not staging.remove_if_empty(root)
        next((world.silo() / "conversations" / STAGING).glob("c*")).unlink()
        assert staging.remove_if_empty(root)
        assert staging.remove_if_empty(root)


def test_the_gitignore_comes_back_where_a_full_disk_left_it_out(world):
    """A directory of ours without it would be seen by git."""
    (world.silo() / "conversations" / STAGING).mkdir()
    with world.engine() as engine, staging.opened(engine.sites[WS].silo.root):
        assert (world.silo() / "conversations" / STAGING / ".gitignore").exists()


# -- a unit that was half placed ------------------------------------------------------------

NEW, OLD = {"base_config.json": "b2", "events.json": "e2"}, {"base_config.json": "b1", "events.json": "e1"}
PACKED = {"events.json": "e2"}


@pytest.mark.parametrize(
    ("new", "old", "there", "rest"),
    [
        (NEW, OLD, {"base_config.json": "b2", "events.json": "e1"}, ["events.json"]),
        (NEW, PACKED | {"events.json": "e1"}, {"base_config.json": "b2", "events.json": "e1"}, ["events.json"]),
        (PACKED, OLD, {"base_config.json": "b1", "events.json": "e2"}, ["base_config.json"]),
        (NEW, OLD, OLD, []),  # nothing was placed
        (NEW, OLD, NEW, []),  # everything was
        (NEW, OLD, {"base_config.json": "b2", "events.json": "e3"}, []),  # somebody wrote since
        (NEW, OLD, {"base_config.json": "b2", "events.json": None}, []),
        (NEW, NEW | {"events.json": "e1"}, {"base_config.json": "b2", "events.json": "e1"}, []),  # equal from the start
        (PACKED, OLD, {"base_config.json": "b3", "events.json": "e2"}, []),
    ],
)
def test_what_is_missing(new, old, there, rest):
    """The files that are still to be placed or taken out: only of what was begun and that nobody has touched since."""
    assert rest == missing(new, old, there)
