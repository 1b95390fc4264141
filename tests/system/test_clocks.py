"""A clock that jumps while edits are made."""

from __future__ import annotations

import time

import pytest

from agents import in_step
from convsync_agent.model import SECOND
from faults import World
from machine import as_jp, event, put

A, NEW = 17_000_000_001, 17_000_000_002

HOUR, YEAR = 3600 * SECOND, 365 * 86_400 * SECOND


@pytest.mark.parametrize("jumps", [[HOUR, 0], [-HOUR, 0], [YEAR, -YEAR, 0], [-YEAR, YEAR, 0]], ids=str)
def test_a_clock_that_jumps_loses_nothing(tmp_path, monkeypatch, jumps):
    """Edits, new conversations and losers at any time the clock says: in step at once, nothing gone or removed.

    When the clock is right again nothing is left to say, but for what a person has to see.
    """
    world = World(tmp_path, monkeypatch)
    real = time.time_ns
    for name in "ab":
        world.write(world.enroll(name), A, "one", "two")
    world.register("a", "b")
    ever = world.contents()
    for number, jump in enumerate(jumps):
        monkeypatch.setattr(time, "time_ns", lambda jump=jump: real() + jump)
        edited = "ab"[number % 2]
        put(world.directory(world.base / edited, A) / "events.json", as_jp([event(f"edit {number}")]))
        world.write(world.base / edited, NEW + number, f"new {number}")
        ever |= world.contents()
        world.sync()
        world.sync()
        for root in (world.silo(), world.base / "a", world.base / "b"):
            assert [f"edit {number}"] == world.questions(root, A), (jump, root)
        assert all(in_step(world, NEW + n, world.silo(), world.base / "ab"[n % 2]) for n in range(number + 1))
        assert ever <= world.everywhere(), jump
    with world.engine() as engine:
        kinds = {e.kind for e in engine.ledger.entries.values()}
        assert kinds <= {"conflict"}
        assert world.plan(engine).empty
