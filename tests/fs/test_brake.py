"""The brake over more than one batch: what went together is judged together, whoever came first."""

from __future__ import annotations

import shutil

import pytest

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
