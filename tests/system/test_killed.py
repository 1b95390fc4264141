"""Killed in earnest: a real command dies at a system call that changes something, and the next one heals.

A seeded, even sample of the calls is tried. `CONVSYNC_KILLS` is the number for each scene.
"""

from __future__ import annotations

import os

import pytest

from agents import FILES
from deaths import SCENES, Law, at, killing, no_strace, read, run, sample, seed_of_today, silos, steps
from faults import World

KILLS = int(os.environ.get("CONVSYNC_KILLS", "6"))


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES)
def test_killed_at_any_system_call_it_heals(tmp_path, monkeypatch, scene):
    """After SIGKILL JP loads a whole unit; the same command again ends in step, and no content is lost."""
    if no_strace():
        pytest.skip(no_strace())
    seed = seed_of_today()
    world = World(tmp_path, monkeypatch)
    prepare, argv = SCENES[scene]
    for one in prepare:
        one(world)
    world.remember()
    law = Law(world, scene)
    found = steps(world, argv)
    assert len(found) > 30
    winner = {f: read(at(world, silos(world)[0]) / f) for f in FILES}
    law.healed("whole", winner)
    killed = 0
    for name, number in sample(found, KILLS, seed):
        note = f"{scene}: killed at {name} {number} (seed {seed})"
        world.set_back()
        ran = run(world, argv, *killing(name, number))
        assert ran.returncode in (-9, 137, 0), (note, ran)
        killed += ran.returncode != 0
        law.whole(note, winner)
        again = run(world, argv)
        assert again.returncode == 0, (note, again)
        law.healed(note, winner)
    assert killed >= min(KILLS, len(found)) * 3 // 4
