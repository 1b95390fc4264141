"""What is judged beside others, or once more: the brake over several batches, a conversation that is back."""

from __future__ import annotations

import shutil
import time

import pytest

from convsync_agent.reviving import revive
from convsync_agent.settling import settle
from faults import World
from machine import WS

FIRST = 17_000_000_010
MANY = range(FIRST, FIRST + 8)
PROJECTED, LOCAL = MANY[:4], MANY[4:]


@pytest.mark.parametrize("batches", [(PROJECTED, LOCAL), (LOCAL, PROJECTED), (MANY,)], ids=["seen", "local", "all"])
def test_what_went_together_comes_back_whatever_batch_it_was_in(tmp_path, monkeypatch, batches):
    """Eight durable copies go at once, and are judged in two batches: no tombstone stays, all of them are back."""
    world = World(tmp_path, monkeypatch)
    tree = world.enroll("a")
    for conversation in PROJECTED:
        world.write(tree, conversation, f"question {conversation}")
    world.register("a")
    for conversation in LOCAL:
        world.write(world.silo(), conversation, f"question {conversation}")
    world.sync()
    with world.engine() as engine:
        site = engine.sites[WS]
        settle(engine, site, engine.rescan(site))
        for conversation in MANY:
            copy, _ = engine.eye.look(site.silo.root, conversation, site.silo.listing.places(conversation)[0], None)
            engine.vault.shelter.keep(WS, copy, at_ms=1)
        before = world.contents()
        for conversation in MANY:
            shutil.rmtree(world.directory(world.silo(), conversation))
        engine.rescan(site)
        for batch in batches:
            settle(engine, site, set(batch))

        assert world.contents() == before
        assert all(world.directory(world.silo(), c) for c in MANY)
        assert not any(engine.removals.graves.stands(WS, c) for c in MANY)


def test_what_was_brought_back_is_not_taken_for_removed_again(tmp_path, monkeypatch):
    """The projection that went with the first removal says nothing of what happens to the durable copy after."""
    world = World(tmp_path, monkeypatch)
    for name in "ab":
        world.write(world.enroll(name), FIRST, "one")
    world.register("a", "b")
    world.sync()
    with world.engine() as engine:
        site = engine.sites[WS]
        engine.rescan(site)
        copy, _ = engine.eye.look(site.silo.root, FIRST, site.silo.listing.places(FIRST)[0], None)
        engine.vault.shelter.keep(WS, copy, at_ms=1)
        engine.rescan(site)
        shutil.rmtree(world.directory(world.base / "a", FIRST))
        shutil.rmtree(world.directory(world.silo(), FIRST))
        settle(engine, site, engine.rescan(site))
        assert engine.removals.graves.stands(WS, FIRST)
        revive(engine, site, FIRST, patience=1.0)
        settle(engine, site, engine.rescan(site))
        shutil.rmtree(world.directory(world.silo(), FIRST))
        settle(engine, site, engine.rescan(site))

        assert world.directory(world.silo(), FIRST)
        assert world.directory(world.base / "a", FIRST) is None
        assert not engine.removals.graves.stands(WS, FIRST)


def test_a_removal_under_way_is_not_undone_file_by_file(tmp_path, monkeypatch):
    """While files of a durable copy go one by one none of them is put back."""
    world = World(tmp_path, monkeypatch)
    world.write(world.enroll("a"), FIRST, "one")
    world.register("a")
    world.sync()
    durable = world.directory(world.silo(), FIRST)
    monkeypatch.setattr(time, "time_ns", lambda: time.clock_gettime_ns(time.CLOCK_REALTIME))  # no longer ahead
    with world.engine() as engine:
        site = engine.sites[WS]
        for file in ("metadata.json", "events.json"):
            (durable / file).unlink()
            outcome = engine.cycle(site, engine.rescan(site))
            assert outcome.deferred
            assert not (durable / file).exists()
