"""How often it is asked whether a worktree came back: often, unless there are so many that it would be felt."""

from __future__ import annotations

import time

import pytest

from convsync_agent.agenda import Agenda
from convsync_agent.returning import LONGEST_TICK, TICK_SECONDS, Returning, pause_after
from faults import World


@pytest.mark.parametrize(("cost", "pause"), [(0.0, TICK_SECONDS), (0.001, 2.0), (0.004, 8.0), (1.0, LONGEST_TICK)])
def test_the_pause_follows_the_cost(cost, pause):
    """At most 0.05 % of a core; never oftener than every two seconds, never more rarely than every fifteen."""
    assert pause_after(cost) == pytest.approx(pause)


@pytest.mark.parametrize("dear", [False, True])
def test_many_worktrees_are_asked_about_more_seldom(tmp_path, monkeypatch, dear):
    """It is what asking costs here and now that counts; where asking fails half-way, it is asked again soon."""
    world = World(tmp_path, monkeypatch)
    world.enroll("a")
    world.register("a")
    spent = iter(range(10**6))
    # A second of work at each asking, or none, however fast this machine is.
    monkeypatch.setattr(time, "thread_time", lambda: next(spent) if dear else 0.0)
    with world.engine() as engine:
        asking = Returning()
        asking.run(engine, Agenda())
        assert (asking.wait() > TICK_SECONDS) is dear
        asking.soon()

        def fails(*_):
            raise PermissionError

        monkeypatch.setattr(type(engine.holdings), "refresh", fails)
        with pytest.raises(PermissionError):
            asking.run(engine, Agenda())
        assert asking.wait() <= TICK_SECONDS
