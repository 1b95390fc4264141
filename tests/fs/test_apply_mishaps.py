"""A change of the disk that is not as planned any more: what is there now is left alone, or kept."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import time

import pytest

from agents import until
from changes import CHANGES, INTRUDER, LATER, C, Story, at, events_only
from convsync_agent import kernel, place, staging
from convsync_agent.plan import Import
from convsync_agent.results import Done, Postponed
from machine import WS, put


def replaced(path):
    """As JP writes: by a rename."""
    put(path, INTRUDER, LATER + 5)


def edited(path):
    """In place, with the same size and, for an mtime that lies, a later one."""
    raw = path.read_bytes()
    path.write_bytes(INTRUDER[: len(raw)].ljust(len(raw)))


def grown(path):
    with open(path, "ab") as file:
        file.write(b"late")


def moved_away(path):
    path.parent.rename(path.parent.with_name(f"{C}-elsewhere"))


def removed(path):
    path.unlink()


def swapped_for_a_link(path):
    target = path.with_name("target")
    path.rename(target)
    path.symlink_to(target)


def gone(path):
    shutil.rmtree(path.parent)


def managed(world):
    """Every file of every conversation with its mtime and bytes."""
    found = [p for r in world.roots() for p in r.glob(f"conversations/**/{C}*/**/*") if p.is_file()]
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in found}


MISHAPS = {
    "replaced": replaced,
    "edited": edited,
    "grown": grown,
    "moved": moved_away,
    "removed": removed,
    "symlink": swapped_for_a_link,
    "gone": gone,
}


@pytest.mark.parametrize("side", ["silo", "a"])
@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("kind", ["both", "events", "younger"])
def test_what_changed_between_plan_and_change_is_left_alone(world, kind, mishap, side):
    """A target or source that is not as planned: postponed, not one root written; the next pass decides anew."""
    CHANGES[kind](world)
    with world.engine() as engine:
        plan = world.plan(engine)
        victim = at(world, side) / "events.json"
        MISHAPS[mishap](victim)
        before = managed(world)
        contents = world.contents()

        results = engine.perform(engine.sites[WS], plan)

        ours = [r for r in results if not isinstance(r.action, Import) and r.action in plan.actions]
        assert {Postponed} == {type(r) for r in ours}
        engine.settle_waiting(engine.sites)
        assert before == managed(world)
    world.sync()
    if mishap != "gone":
        assert contents <= world.everywhere()
    assert [] == world.staged()
    assert [] == world.lock_files()


@pytest.mark.parametrize("name", ["silo", "stray"])
@pytest.mark.parametrize("kind", ["both", "import", "extras", "rename"])
def test_a_held_lock_postpones_and_changes_nothing(world, kind, name):
    """JP at work: not waited for, nothing written to any root, and a moment later it is done (R7)."""
    story = Story(world, kind)
    path = (world.silo() if name == "silo" else world.base / "a/.jp") / "locks" / f"jp-c{C}.lock"
    path.parent.mkdir(exist_ok=True)
    with subprocess.Popen(["flock", path, "sh", "-c", "echo held; read x"], stdin=-1, stdout=-1) as jp:
        assert jp.stdout.readline() == b"held\n"
        before = managed(world)
        with world.engine() as engine:
            plan = world.plan(engine)
            results = engine.perform(engine.sites[WS], plan)
            assert {"locked"} == {r.reason for r in results if r.action in plan.actions}
            engine.settle_waiting(engine.sites)
        assert before == managed(world)
        jp.stdin.close()
    path.unlink()
    world.sync()
    story.check_end(kind)


def interfere(monkeypatch, step, deed):
    """Do something right before the n-th exchange or rename of ours: another process would hit that moment by luck."""
    real, count = kernel._rename, itertools.count(1)

    def spied(*args):
        if next(count) == step:
            deed()
        return real(*args)

    monkeypatch.setattr(kernel, "_rename", spied)


@pytest.mark.parametrize("step", [1, 2, 3, 4])
@pytest.mark.parametrize("mishap", ["replaced", "grown", "removed", "symlink"])
@pytest.mark.parametrize("kind", ["both", "packed", "split", "younger"])
def test_a_writer_between_the_comparison_and_the_exchange_loses_nothing(world, kind, mishap, step, monkeypatch):
    """What comes out of an exchange is compared, and put back if it is a stranger's; no mixed unit stays."""
    CHANGES[kind](world)
    victim = at(world, "silo") / ("events.json" if step % 2 else "base_config.json")
    if not victim.exists():
        victim = at(world, "silo") / "events.json"
    contents = world.contents() - ({victim.read_bytes()} if mishap in ("grown", "removed") else set())
    with world.engine() as engine, monkeypatch.context() as patched:
        plan = world.plan(engine)
        late = []

        def deed():
            MISHAPS[mishap](victim)
            if victim.exists():
                late.append(victim.read_bytes())

        interfere(patched, step, deed)
        engine.perform(engine.sites[WS], plan)
        patched.undo()
        engine.settle_waiting(engine.sites)
    assert contents | set(late) <= world.everywhere()
    world.sync()
    assert contents | set(late) <= world.everywhere()


@pytest.mark.parametrize("kind", ["both", "events", "younger", "silo", "extras"])
def test_the_late_bytes_of_a_writer_that_keeps_the_replaced_file_open_are_kept(world, kind):
    """No lease is granted then: the file waits in staging, and what was written to it goes into the history."""
    CHANGES[kind](world)
    target = at(world, "a" if kind == "silo" else "silo") / ("old.txt" if kind == "extras" else "events.json")
    with world.engine() as engine, open(target, "r+b") as writer:
        plan = world.plan(engine)
        results = engine.perform(engine.sites[WS], plan)
        assert {Done} == {type(r) for r in results}
        writer.write(b"late bytes")
        writer.flush()
        writer.close()
        until(lambda: engine.settle_waiting(engine.sites) or not engine.waiting, "nothing waits any more")
    assert [raw for raw in world.kept() if raw.startswith(b"late bytes")]
    assert [] == world.staged()


@pytest.mark.parametrize("kind", ["both", "events", "younger", "silo"])
def test_bytes_that_a_writer_adds_between_the_exchange_and_the_end_are_kept(world, kind, monkeypatch):
    """It had the file open, wrote after the exchange and closed before we looked again."""
    CHANGES[kind](world)
    target = at(world, "a" if kind == "silo" else "silo") / "events.json"
    real = place.set_ages
    with world.engine() as engine, open(target, "r+b") as writer:

        def last_words(*args, **kwargs):  # a real writer, at a moment that it would hit by luck only
            if not writer.closed:
                writer.write(b"late bytes")
                writer.close()
            real(*args, **kwargs)

        plan = world.plan(engine)
        monkeypatch.setattr(place, "set_ages", last_words)
        engine.perform(engine.sites[WS], plan)
        until(lambda: engine.settle_waiting(engine.sites) or not engine.waiting, "nothing waits any more")
    assert [raw for raw in world.kept() if raw.startswith(b"late bytes")]


def test_a_writer_that_pauses_for_longer_than_we_wait_loses_nothing(world, monkeypatch):
    """As long as somebody has a replaced file open for writing it stays: an editor may sleep for an hour."""
    monkeypatch.setattr(staging, "SETTLE_SECONDS", 0.01)  # the pause is ten times as long
    events_only(world)
    with world.engine() as engine:
        with open(at(world, "silo") / "events.json", "r+b") as writer:
            engine.perform(engine.sites[WS], world.plan(engine))
            assert engine.waiting
            began = time.monotonic()
            while time.monotonic() < began + 0.1:
                engine.settle_waiting(engine.sites)
            writer.write(b"late bytes")
        until(lambda: engine.settle_waiting(engine.sites) or not engine.waiting, "nothing waits any more")
    assert [raw for raw in world.kept() if raw.startswith(b"late bytes")]
