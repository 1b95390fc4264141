"""The power fails: silo, state, history and trash lie on a disk of their own that loses what was not durable."""

from __future__ import annotations

import os
import random
import shutil
import time
from functools import partial

import pytest

from agents import FILES, RunningAgent, in_step, jp_loads, until
from deaths import (
    SCENES,
    C,
    Law,
    at,
    contents,
    killing,
    no_strace,
    read,
    roots,
    run,
    sample,
    seed_of_today,
    silos,
    steps,
    stream,
)
from disks import Disk, no_disks
from faults import World, empty
from machine import as_jp, event, put

CUTS = int(os.environ.get("CONVSYNC_CUTS", "4"))
MANY = [C + 10 + n for n in range(30)]
TEXT = "all that was said " * 50

pytestmark = [pytest.mark.privileged, pytest.mark.slow, pytest.mark.skipif(bool(no_disks()), reason=no_disks())]


class PoweredWorld(World):
    """Its data and state are on a disk whose power can fail; the worktrees are on another one and stay."""

    def __init__(self, base, monkeypatch):
        super().__init__(base, monkeypatch)
        self.disk = Disk(base / "image", self.base / "data")
        (self.base / "state").rmdir()
        (self.base / "data/state").mkdir()
        (self.base / "state").symlink_to("data/state")

    def remember(self):
        self.disk.remember(self.base.parent / "image.old")
        shutil.rmtree(self.picture, ignore_errors=True)
        for tree in self.base.glob("*/.jp"):
            shutil.copytree(tree, self.picture / tree.relative_to(self.base))

    def set_back(self):
        """Every worktree is the very directory that it was."""
        self.disk.set_back(self.base.parent / "image.old")
        for tree in self.picture.glob("*/.jp"):
            same = self.base / tree.relative_to(self.picture)
            empty(same)
            shutil.copytree(tree, same, dirs_exist_ok=True)


@pytest.fixture
def world(tmp_path, monkeypatch):
    made = PoweredWorld(tmp_path, monkeypatch)
    yield made
    made.disk.remove()


@pytest.mark.skipif(bool(no_strace()), reason=no_strace())
@pytest.mark.parametrize("scene", ["edit", "packed", "import", "register"])
def test_after_a_power_failure_jp_loads_a_whole_unit_and_it_heals(world, scene):
    """Old or winner, nothing in between, no content lost; the same command again ends in step.

    And what a command said it did is durable: with exit code 0 the winner is there after the failure.
    """
    seed = seed_of_today()
    prepare, argv = SCENES[scene]
    for one in prepare:
        one(world)
    world.remember()
    law = Law(world, scene)
    found = steps(world, argv)
    world.disk.cut()
    world.disk.again()
    silo = silos(world)[0]
    winner = {f: read(at(world, silo) / f) for f in FILES}
    assert winner["events.json"]
    for name in law.names:
        assert winner == jp_loads(at(world, silo), at(world, world.base / name))
    assert law.contents <= contents(roots(world)) | world.kept()

    for name, number in sample(found, CUTS, seed):
        note = f"{scene}: power failed at {name} {number} (seed {seed})"
        world.set_back()
        ran = run(world, argv, *killing(name, number))
        assert ran.returncode in (-9, 137, 0), (note, ran)
        world.disk.cut()
        world.disk.again()
        law.whole(note, winner)
        again = run(world, argv)
        assert again.returncode == 0, (note, again)
        law.healed(note, winner)


def in_files(directory):
    return tuple(read(directory / f) for f in FILES)


def burst(world, number) -> dict[int, tuple[bytes, ...]]:
    """Every conversation of MANY is another one in the worktree a, and ten are new there. What each is now."""
    a = world.base / "a"
    for conversation in MANY:
        top = world.directory(a, conversation)
        put(top / "base_config.json", as_jp({"assistant": f"{number}"}))
        put(top / "metadata.json", as_jp({"title": f"new {number}", "last_activated_at": "2025-01-01 00:00:00.0"}))
        put(top / "events.json", as_jp([event(f"{TEXT} {number} {conversation}")]))
    fresh = [MANY[-1] + 1 + number * 10 + n for n in range(10)]
    for conversation in fresh:
        world.write(a, conversation, TEXT, title="fresh")
    return {c: in_files(world.directory(a, c)) for c in (*MANY, *fresh)}


def judge(world, conversation, old, new, *, durable, note):
    """The durable copy is the new one where that was seen; JP loads the old or the new unit in each worktree."""
    silo = world.directory(world.silo(), conversation)
    if durable:
        assert new == in_files(silo), note
    for name in "ab":
        loaded = jp_loads(silo, world.directory(world.base / name, conversation))
        assert stream(loaded) in {old[:2], new[:2]}, note
        assert loaded["metadata.json"] in {old[2], new[2]}, note


def test_what_an_agent_called_durable_is_durable(world):
    """A burst of overwrites and imports under a running agent, cut at a random (seeded) moment of it.

    What was in step is durable, JP loads old or new units in each worktree, a new agent brings everything in step,
    and every content is in a root or in the history.
    """
    seed = seed_of_today()
    rng = random.Random(seed)
    a, b = (world.enroll(name) for name in "ab")
    for conversation in MANY:
        world.write(a, conversation, TEXT, title="old")
        world.write(b, conversation, TEXT, title="old")
    world.register("a", "b")
    world.disk.unmount()
    world.disk.mount("commit=1")
    for number in range(2):
        old = {c: in_files(world.directory(a, c)) for c in MANY}
        one = RunningAgent(world)
        new = burst(world, number)
        wanted, deadline, durable = rng.randrange(len(MANY)), time.monotonic() + 15, []
        while len(durable) < wanted and time.monotonic() < deadline:
            durable = [c for c in MANY if in_step(world, c, a, world.silo(), b)]
        world.disk.cut()
        one.kill()
        world.disk.again()

        note = f"round {number} (seed {seed}), {len(durable)} were in step"
        for c in MANY:
            judge(world, c, old[c], new[c], durable=c in durable, note=f"{note}, jp-c{c}")
        again = RunningAgent(world)
        until(partial(healed, world, new), note)
        again.stop()
        assert set() == {raw for files in old.values() for raw in files} - contents(roots(world)) - world.kept(), note
        assert [] == list((world.silo() / "conversations").glob(".convsync/*")), note


def healed(world, new) -> bool:
    silo, a, b = world.silo(), world.base / "a", world.base / "b"
    same = all(in_step(world, c, a, silo, *([b] if c in MANY else [])) for c in new)
    return same and all(new[c] == in_files(world.directory(silo, c)) for c in new)
