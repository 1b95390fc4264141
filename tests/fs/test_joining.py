"""A worktree that joins others: what equals the durable copy costs what it holds; the rest is decided as ever."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from agents import until
from convsync_agent import observe, scan
from convsync_agent.registry import register
from faults import World
from machine import LONG_AGO, WS, as_jp, event, put

FIRST = 17_000_000_001
SOME = range(FIRST, FIRST + 6)
SECOND = 1_000_000_000


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The worktrees a and b hold six conversations, in step; c is a copy of a and nobody knows it."""
    made = World(tmp_path, monkeypatch)
    top = made.enroll("a")
    for conversation in SOME:
        made.write(top, conversation, f"text of {conversation}", slug="s")
    shutil.copytree(made.base / "a", made.base / "b", symlinks=True)
    made.register("a", "b")
    shutil.copytree(made.base / "a", made.base / "c", symlinks=True)
    written = newest_change(made.base / "c")
    until(lambda: time.time_ns() - written >= SECOND // 10, "its stamps prove something")
    return made


def newest_change(top):
    return max(p.stat().st_ctime_ns for p in top.rglob("*"))


def touched(world, monkeypatch, name):
    """Register it: what was listed, and of which roots copies were looked at, by how many."""
    listed, looked = [], []
    list_root, look = scan.list_root, observe.Eye.look
    with monkeypatch.context() as patched, world.engine() as engine:
        patched.setattr(scan, "list_root", lambda path: listed.append(path) or list_root(path))
        patched.setattr(observe.Eye, "look", lambda *a: looked.append((a[1].path, a[2])) or look(*a))
        done = register(engine, str(world.base / name), str(world.data))
    return done, set(listed), looked


def root(world, name):
    return str(world.base / name / ".jp")


def test_nothing_of_the_others_is_looked_at(world, monkeypatch):
    """The silo and the new one are listed, each of its copies is looked at once, and nothing is left to do."""
    before = world.contents()
    done, listed, looked = touched(world, monkeypatch, "c")

    assert (done.already_registered, done.created_silo, done.outcome.results) == (False, False, [])
    assert listed == {str(world.silo()), root(world, "c")}
    assert sorted(looked) == [(root(world, "c"), c) for c in SOME]
    assert world.contents() == before
    with world.engine() as engine:
        assert world.plan(engine).empty
        assert engine.sites[WS].trees[root(world, "c")].view.records.keys() == set(SOME)


def test_the_records_are_those_of_a_full_look(world, monkeypatch):
    """Nobody can tell afterwards which way it was."""
    touched(world, monkeypatch, "c")
    with world.engine() as engine:
        site = engine.sites[WS]
        short = dict(site.trees[root(world, "c")].view.records)
        site.trees[root(world, "c")].view.records.clear()
        engine.rescan(site)
        engine.cycle(site, set(SOME))
        assert site.trees[root(world, "c")].view.records == short
        assert short.keys() == set(SOME)


@pytest.mark.parametrize(
    ("change", "everywhere"),
    [("edit", True), ("rename", True), ("extra", False), ("archive", False), ("broken", False), ("future", False)],
)
def test_what_differs_is_decided_with_all_of_its_copies(world, monkeypatch, change, everywhere):
    """An edit and a new name reach the silo and every worktree; whatever else it is, it is not taken for equal."""
    top = world.directory(world.base / "c", FIRST)
    if change == "edit":
        put(top / "events.json", as_jp([event("another")]), LONG_AGO + SECOND)
    elif change == "rename":
        put(top / "metadata.json", as_jp({"last_activated_at": "2023-11-14 22:13:21.0"}), LONG_AGO + SECOND)
        top.rename(top.with_name(f"{FIRST}-another"))
    elif change == "extra":
        put(top / "note.md", b"a note", LONG_AGO)
    elif change == "archive":
        (top.parent / ".archive").mkdir()
        top.rename(top.parent / ".archive" / top.name)
    elif change == "broken":
        put(top / "events.json", b"[", LONG_AGO + SECOND)
    else:
        ahead = time.time_ns() + 3600 * SECOND
        os.utime(top / "events.json", ns=(ahead, ahead))
    done, listed, looked = touched(world, monkeypatch, "c")

    assert listed == {str(world.silo()), *(root(world, n) for n in "abc")}
    assert (root(world, "b"), FIRST) in looked or FIRST in done.outcome.looked
    assert not done.outcome.looked - {FIRST}  # the others are in step, and known to be
    if everywhere:
        with world.engine() as engine:
            assert world.plan(engine).empty
        tops = [world.directory(r, FIRST) for r in (world.silo(), *(world.base / n for n in "abc"))]
        assert len({(t.name, (t / "events.json").read_bytes()) for t in tops}) == 1


def test_what_was_removed_is_not_recorded_as_there(world, monkeypatch):
    """A conversation that the silo lost meanwhile is decided by all who have it: here it is put back, not buried."""
    shutil.rmtree(world.directory(world.silo(), FIRST))
    _, listed, _ = touched(world, monkeypatch, "c")
    assert root(world, "b") in listed
    assert all(world.directory(world.base / n, FIRST) for n in "abc")


def test_a_change_of_the_durable_copy_that_nobody_recorded_is_a_difference(world, monkeypatch):
    """Equal bytes in both, and the record of the silo is of other bytes: it takes the long way."""
    for where in (world.silo(), world.base / "c"):
        put(world.directory(where, FIRST) / "events.json", as_jp([event("another")]), LONG_AGO + SECOND)
    _, listed, _ = touched(world, monkeypatch, "c")
    assert root(world, "a") in listed
    assert world.questions(world.base / "a", FIRST) == world.questions(world.silo(), FIRST)
