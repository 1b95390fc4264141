"""A burst is shared with a second process, a huge file is left to it, and whatever becomes of it nothing is lost."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from agents import RunningAgent, in_step, status, until
from convsync_agent import kernel
from convsync_agent.delegation import BURST, HUGE
from machine import as_jp, event, put

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
FIRST, COUNT = 17_000_000_001, 3 * BURST
MANY = range(FIRST, FIRST + COUNT)

shared = pytest.mark.skipif(CORES < 2, reason="one core: nobody shares a burst")
deaths = pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "asked to stop"])
proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are found in /proc")


def deputies(agent: RunningAgent) -> list[int]:
    """Child processes of the agent that are alive."""
    pid = agent.process.pid
    found = [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [c for c in found if b"deputy" in Path(f"/proc/{c}/cmdline").read_bytes()]


@pytest.fixture
def tree(machine):
    """A worktree with many conversations, in step."""
    tree = machine.worktree("a", register=False)
    for conversation in MANY:
        machine.write(tree, conversation, "one")
    machine.ok("register", tree)
    return tree


@pytest.fixture
def storm(machine, tree):
    """Changes every conversation while the agent stands still, so that it finds them all at once."""

    def change(agent, text):
        agent.process.send_signal(signal.SIGSTOP)
        for conversation in MANY:
            put(machine.directory(tree, conversation) / "events.json", as_jp([event("one"), event(text)]))
        agent.process.send_signal(signal.SIGCONT)

    return change


@pytest.fixture
def burst(storm, agent):
    """An agent in the middle of a storm, and the pid of its deputy."""
    running = agent()
    storm(running, "two")
    return running, until(lambda: deputies(running), "a deputy")[0]


def settled(machine):
    """The agent has nothing left to do, and says so."""
    found = status(machine)
    return found["verdict"] == "in-sync" and found["agent"]["queue"] == 0


def comes_to_rest(machine, tree):
    """Every change of the storm is durable, the agent has nothing left to do, and nobody has to look at anything."""
    until(lambda: all(in_step(machine, c, machine.silo(), tree) for c in MANY), "all durable")
    until(lambda: settled(machine), "at rest")
    assert all(machine.questions(machine.silo(), c) == ["one", "two"] for c in MANY)
    assert status(machine)["attention"] == []


def recorded(agent):
    """How many conversations its first look did not find as recorded."""
    return next(line["due"] for line in agent.lines() if line["event"] == "rescan")


@shared
@proc
@pytest.mark.slow
def test_a_burst_is_shared_and_leaves_what_one_process_leaves(machine, tree, burst, agent):
    """Every change is durable, none is done twice, and a restart finds nothing to do."""
    first, _ = burst
    comes_to_rest(machine, tree)

    done = [line for line in first.lines() if line["event"] == "cycle"]
    assert sum(line["written"] for line in done) == COUNT
    assert first.stop() == 0
    again = agent()
    assert recorded(again) == 0


@shared
@proc
@pytest.mark.slow
@deaths
def test_what_a_dead_deputy_had_the_agent_does(machine, tree, burst, death):
    """A deputy that is killed in the middle of a burst costs time, nothing else."""
    running, victim = burst
    os.kill(victim, death)
    comes_to_rest(machine, tree)

    lost = [line for line in running.lines() if line["event"] == "deputy lost"]
    assert lost or death is signal.SIGTERM


@shared
@proc
@pytest.mark.slow
@deaths
def test_a_deputy_ends_with_its_agent(machine, tree, burst, agent, death):
    """Nobody is left behind, and the next agent finishes what is left."""
    first, child = burst
    first.stop(death)
    until(lambda: not kernel.alive(child), "the deputy ended")
    agent()
    comes_to_rest(machine, tree)


@shared
@proc
@pytest.mark.slow
@pytest.mark.usefixtures("burst")
def test_a_burst_goes_on_while_the_registry_changes(machine, tree):
    """Whoever registers another worktree in the middle of it gets it watched, and nothing is missed."""
    other = machine.worktree("b")
    machine.write(other, FIRST, "one", "two", "three", mtime_ns=time.time_ns())
    until(lambda: all(in_step(machine, c, machine.silo(), tree) for c in MANY), "all durable")
    until(lambda: len(machine.questions(tree, FIRST)) == 3, "what the other worktree brought is everywhere")
    until(lambda: settled(machine), "at rest")

    assert machine.questions(machine.silo(), FIRST) == ["one", "two", "three"]
    assert all(machine.questions(machine.silo(), c) == ["one", "two"] for c in MANY[1:])


@proc
@pytest.mark.slow
def test_others_do_not_wait_for_a_huge_file(machine, agent):
    """While a deputy is at a huge stream, however long it takes, everything else becomes durable."""
    tree = machine.worktree("a", register=False)
    huge, small = FIRST, FIRST + 1
    machine.write(tree, huge, event("x" * HUGE))
    machine.write(tree, small, "one")
    machine.ok("register", tree)
    running = agent()
    stream, added = machine.directory(tree, huge) / "events.json", [event("x" * HUGE)]
    child, held = 0, False
    while not held:  # else the deputy was done before it could be stopped
        put(stream, as_jp(added := [*added, event("more")]))
        child = until(lambda: deputies(running), "a deputy")[0]
        os.kill(child, signal.SIGSTOP)
        if not (held := not in_step(machine, huge, machine.silo(), tree)):
            os.kill(child, signal.SIGCONT)
    put(stream, grown := as_jp([*added, event("and more")]))
    put(machine.directory(tree, small) / "events.json", as_jp([event("one"), event("two")]))
    until(lambda: in_step(machine, small, machine.silo(), tree), "the small one is durable")
    assert not in_step(machine, huge, machine.silo(), tree)
    os.kill(child, signal.SIGCONT)
    until(lambda: in_step(machine, huge, machine.silo(), tree), "the huge one, too")
    until(lambda: settled(machine), "at rest")

    assert (machine.directory(machine.silo(), huge) / "events.json").read_bytes() == grown
    assert status(machine)["attention"] == []
