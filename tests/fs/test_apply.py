"""A change of the disk: its result, and that no step of it is one at which something can be lost."""

from __future__ import annotations

import errno
import itertools
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from agents import until
from changes import CHANGES, Story, at
from convsync_agent import kernel
from convsync_agent.results import Done, Failed, Postponed
from faults import Faults
from machine import WS

# -- the result ----------------------------------------------------------------------


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "link"])
@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_ends_in_step_and_a_second_sync_writes_nothing(world, kind, exchange, monkeypatch):
    """Bytes, mtimes to the ns, name and extras of the winner in every root; with and without an atomic exchange."""
    if not exchange:
        lack(world, monkeypatch)
    story = Story(world, kind)

    first = world.sync()

    assert [] == first.failed
    story.check_end(kind)
    before = world.inventory(*world.roots())
    assert [] == world.sync().results
    assert before == world.inventory(*world.roots())


@pytest.mark.parametrize("kind", CHANGES)
def test_new_files_have_the_permissions_that_jp_gives(world, kind):
    """What we create has 0666 & ~umask, directories 0755 & ~umask."""
    old = os.umask(0o027)
    try:
        Story(world, kind)
        world.sync()
    finally:
        os.umask(old)
    fresh = [p for p in at(world, "silo").rglob("*") if p.stat().st_ctime_ns > time.time_ns() - 90 * 10**9]

    assert fresh
    assert {0o640, 0o644} >= {p.stat().st_mode & 0o777 for p in fresh if p.is_file()}
    assert {0o750, 0o755} >= {p.stat().st_mode & 0o777 for p in fresh if p.is_dir()}


def lack(world, monkeypatch, *what):
    """The file system of this world cannot do it: NFS and FAT are not at hand, so the kernel is not asked."""
    device = os.stat(world.base).st_dev
    monkeypatch.setattr(kernel, "_lacking", {(w, device) for w in what or ("exchange",)})


# -- every step is a crash point -----------------------------------------------------


def run_with_fault(world, kind, fault, number, monkeypatch):
    """Do the planned change with one fault. Returns the faults, the engine's results and the actions planned."""
    with world.engine() as engine, monkeypatch.context() as patched:
        plan = world.plan(engine)
        assert plan.actions, kind
        faults = Faults(patched, fault, number)
        results = []
        with faults.watching():
            results = engine.perform(engine.sites[WS], plan)
        patched.undo()
        if fault != "die":
            engine.settle_waiting(engine.sites)
    return faults, results, plan.actions


def assert_answered(actions, results, note):
    """Every planned action has a result, whatever happened."""
    assert all(isinstance(r, Done | Failed | Postponed) for r in results), note
    assert [] == [a for a in actions if a not in [r.action for r in results]], note


@pytest.mark.slow
@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "link"])
@pytest.mark.parametrize("kind", CHANGES)
def test_a_death_at_any_step_loses_nothing_and_is_recovered(world, kind, exchange, monkeypatch):
    """At each step: JP reads a whole unit, no byte is gone; a restart ends in step with nothing left behind."""
    story = Story(world, kind)
    for number in itertools.count(1):
        world.set_back()
        if not exchange:
            lack(world, monkeypatch)
        faults, _, _ = run_with_fault(world, kind, "die", number, monkeypatch)
        if not faults.hit:
            break
        note = f"{kind}: died at {number}, {faults.hit}"
        story.check_now(note)
        world.sync()
        story.check_end(note)
    assert number > 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHANGES)
def test_a_full_disk_at_any_step_leaves_nothing_half_done(world, kind, monkeypatch):
    """ENOSPC from any step on: told as data, staging empty, nothing lost; in step once there is space again."""
    story = Story(world, kind)
    for number in itertools.count(1):
        world.set_back()
        faults, results, actions = run_with_fault(world, kind, "full", number, monkeypatch)
        if not faults.hit:
            break
        note = f"{kind}: full at {number}, {faults.hit}"
        assert_answered(actions, results, note)
        story.check_now(note)
        assert [] == world.staged(), note
        assert [] == world.lock_files(), note
        world.sync()
        story.check_end(note)


@pytest.mark.slow
@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES], ids=["EIO", "EACCES"])
@pytest.mark.parametrize("kind", ["both", "packed", "younger", "rename", "import", "extras"])
def test_one_failing_call_loses_nothing(world, kind, code, monkeypatch):
    """Any one call fails: every action has a result, JP reads a whole unit; the next start ends in step."""
    story = Story(world, kind)
    stride = 1 if code == errno.EIO else 7
    for number in itertools.count(1, stride):
        world.set_back()
        faults, results, actions = run_with_fault(world, kind, code, number, monkeypatch)
        if not faults.hit:
            break
        note = f"{kind}: {errno.errorcode[code]} at {number}, {faults.hit}"
        assert_answered(actions, results, note)
        story.check_now(note)
        world.sync()
        story.check_end(note)


# -- killed in earnest ---------------------------------------------------------------


WORKER = """
import sys
from convsync_agent import state
from convsync_agent.engine import Engine
from convsync_agent.recover import recover
from convsync_agent.settling import settle
from convsync_agent.settings import Settings
engine = Engine(state.writer(sys.argv[1]), sys.argv[2], Settings())
recover(engine)
for site in engine.sites.values():
    dirty = engine.rescan(site)
    print("go", flush=True)
    settle(engine, site, dirty)
print("done", flush=True)
"""


@pytest.mark.slow
def test_sigkill_at_any_time_loses_nothing(world):
    """20 seeded rounds over every kind of change: killed somewhere in a real sync, then recovered."""
    seed = 20_251_121
    rng = random.Random(seed)
    kinds = list(CHANGES)
    killed = 0
    world.remember()
    pristine = world.picture.with_name("pristine")
    world.picture.rename(pristine)
    for number in range(20):
        kind = kinds[number % len(kinds)]
        world.picture = pristine
        world.set_back()
        world.picture = pristine.with_name("picture")
        story = Story(world, kind)
        until(lambda: time.time_ns() - newest_ctime(world) > 31 * 10**9, "quiet")  # the real clock is behind ours
        argv = [sys.executable, "-c", WORKER, str(world.state_dir), str(world.data)]
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **world.env}
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"go\n"
            left = rng.random() * 0.04
            time.sleep(left)  # the moment of death is what is drawn
            process.send_signal(signal.SIGKILL)
            killed += b"done" not in process.stdout.read()
        note = f"{kind}: killed after {left:.4f} s (round {number}, seed {seed})"
        story.check_now(note)
        world.sync()
        story.check_end(note)
    assert killed > 3


def newest_ctime(world):
    return max(p.stat().st_ctime_ns for r in world.roots() for p in r.rglob("*.json"))
