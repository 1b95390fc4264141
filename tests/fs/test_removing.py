"""Removed, archived, unarchived: a fault or a death at every step. Nothing is lost, and again it ends as it should."""

from __future__ import annotations

import errno
import time
from contextlib import nullcontext, suppress

import pytest

from convsync_agent.archiving import archive, unarchive
from convsync_agent.errors import ConvsyncError
from convsync_agent.graves import Graves
from convsync_agent.index import load_index
from convsync_agent.removing import remove
from convsync_agent.shelter import Shelter
from faults import Faults, World
from machine import LONG_AGO, SECOND, WS, as_jp, event, put

C, STAYS = 17_000_000_001, 17_000_000_002


def laid_out(tmp_path, monkeypatch, *, archived=False):
    """Worktrees a and b hold it, b something else; the silo has a draft and a note."""
    made = World(tmp_path, monkeypatch)
    for name in "ab":
        made.write(made.enroll(name), C, "one", "two", slug="t", title="t", archived=archived)
        made.write(made.base / name, STAYS, "stays")
    made.register("a", "b")
    top = made.directory(made.silo(), C, archived=archived)
    put(top / "NOTE.md", b"note", LONG_AGO)
    put(top / "QUERY_MESSAGE.md", b"draft", LONG_AGO)
    put(made.directory(made.base / "b", C, archived=archived) / "only.md", b"only in b", LONG_AGO)
    made.sync()
    put(made.directory(made.base / "b", C, archived=archived) / "events.json", as_jp([event("b")]), LONG_AGO - SECOND)
    return made


def places(world, conversation=C):
    """Root -> how many whole directories it has of it, by partition; what is not whole is -1."""
    found = {}
    for root in world.roots():
        for part in ("", ".archive"):
            top = root / "conversations" / part
            mine = [p for p in top.glob(f"{conversation}*") if p.is_dir()]
            whole = all(
                {"base_config.json", "events.json", "metadata.json"} <= {f.name for f in p.iterdir()} for p in mine
            )
            if mine:
                found[root.parent.name if root.name == ".jp" else "silo", part] = len(mine) if whole else -1
    return found


def held(world):
    """Every content in the trash."""
    shelter = Shelter(str(world.data))
    return {raw for c in (C, STAYS) if shelter.held(WS, c) for _, raw, _ in shelter.read(WS, c)}


def act(world, verb, faults=None, **settings):
    """The command in an engine of its own, as a process has it; what it says is no matter here."""
    with world.engine(**settings) as engine:
        site = engine.sites[WS]
        entry = next((e for e in load_index(site) if e.id == C), None)
        with faults.watching() if faults else nullcontext(), suppress(ConvsyncError, OSError):
            if verb is remove:
                remove(engine, site, C, deadline=time.monotonic() + 1)
            elif entry is not None:
                verb(engine, site, entry, deadline=time.monotonic() + 1)


def stops(first, factor):
    """1, 2, 3 and then farther apart: the later steps of a long way are much alike."""
    number = 1
    while True:
        yield number
        number += 1 if number < first else max(1, number // factor)


@pytest.mark.slow
@pytest.mark.parametrize("keep_days", [30, 0])
@pytest.mark.parametrize("fault", ["die", "full", errno.EIO], ids=["die", "full", "EIO"])
def test_phase6_a_fault_at_any_step_of_rm_loses_nothing(tmp_path, monkeypatch, fault, keep_days):
    """At every moment each directory is whole or out of sight; the same command again removes it, for good."""
    world = laid_out(tmp_path, monkeypatch)
    world.remember()
    before = world.everywhere()
    for number in stops(60, 12):
        world.set_back()
        with monkeypatch.context() as patched:
            faults = Faults(patched, fault, number)
            act(world, remove, faults, trash_keep_days=keep_days)
        note = (number, faults.hit)
        assert before <= world.everywhere() | held(world), note
        there = places(world)
        assert -1 not in there.values(), note
        if there and ("silo", "") not in there:  # a worktree could not be looked at: its copy is left over
            assert fault == errno.EIO, note
            assert Graves(str(world.data)).stands(WS, C), note
        world.sync()
        assert before <= world.everywhere() | held(world), note
        if not there:
            assert places(world) == {}, (note, "it came back")
        act(world, remove, trash_keep_days=keep_days)
        assert places(world) == {}, note
        assert len(places(world, STAYS)) == 3, note
        world.sync()
        assert places(world) == {}, note
        assert Graves(str(world.data)).stands(WS, C), note
        assert before <= world.everywhere() | held(world), note
        assert world.lock_files() == [], note
        if not faults.hit:
            break
    assert number > 30


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["die", "full", errno.EIO], ids=["die", "full", "EIO"])
@pytest.mark.parametrize("verb", [archive, unarchive])
def test_phase6_a_fault_at_any_step_of_a_move_loses_nothing(tmp_path, monkeypatch, fault, verb):
    """Never absent from all four places (contract 8.4); who only starts the agent, or types it again, ends it."""
    world = laid_out(tmp_path, monkeypatch, archived=verb is unarchive)
    world.remember()
    before = world.everywhere()
    end = ".archive" if verb is archive else ""
    wanted = {("silo", end): 1, ("a", end): 1, ("b", end): 1}
    for number in stops(40, 10):
        world.set_back()
        with monkeypatch.context() as patched:
            faults = Faults(patched, fault, number)
            act(world, verb, faults)
        note = (number, faults.hit)
        there = places(world)
        assert sorted(root for root, _ in there) == ["a", "b", "silo"], note
        assert set(there.values()) == {1}, note
        assert not [raw for raw in before - world.everywhere() if b"archived_at" not in raw], note
        world.sync()
        assert len({part for _, part in places(world)}) == 1, note
        act(world, verb)
        assert places(world) == wanted, note
        world.sync()
        assert places(world) == wanted, note
        assert world.staged() == [], note
        assert world.lock_files() == [], note
        if not faults.hit:
            break
    assert number > 30
