"""`pause` and `resume` beside a running agent."""

from __future__ import annotations

import time

import pytest

from agents import in_step, runtime, status, until

A = 17_457_886_043


@pytest.fixture
def pair(machine, agent):
    """Two worktrees, a conversation in step in both, an agent that watches them."""
    for name in ("a", "b"):
        machine.write(machine.worktree(name), A, "first")
    machine.quiet()
    machine.running = agent()
    until(lambda: in_step(machine, A, machine.silo(), machine.base / "a", machine.base / "b"))
    return machine


def edit(machine, name, *questions):
    machine.write(machine.base / name, A, *questions, mtime_ns=time.time_ns())


def state_of(machine, name):
    found = runtime(machine)
    trees = [t for w in found["workspaces"] for t in w["worktrees"]] if found else []
    return next((t["state"] for t in trees if t["path"] == str(machine.base / name)), None)


def test_the_agent_leaves_it_alone_from_then_on(pair):
    """`pause` returns when the agent knows; edits meanwhile stay where they are, and meet when it is resumed."""
    knows = pair.ok("pause", pair.base / "a", "--json").json["agent_knows"]
    assert knows is not None
    assert not knows or state_of(pair, "a") == "paused"
    until(lambda: state_of(pair, "a") == "paused")  # a machine that is too busy to answer in time

    edit(pair, "a", "first", "from a")
    pair.quiet(pair.base / "a")
    edit(pair, "b", "first", "from b")
    until(lambda: pair.questions(pair.silo(), A) == ["first", "from b"])
    until(lambda: status(pair)["verdict"] == "in-sync")
    assert pair.questions(pair.base / "a", A) == ["first", "from a"]

    pair.ok("resume", pair.base / "a")
    until(lambda: pair.questions(pair.base / "a", A) == ["first", "from b"])
    kept = [v for v in pair.ok("history", A, "--json").json["versions"] if v["unit"] == "stream"]
    assert kept, "what lost is in the history"

    edit(pair, "a", "first", "from b", "watched again")
    until(lambda: pair.questions(pair.base / "b", A) == ["first", "from b", "watched again"])


def test_the_agent_wakes_when_the_time_is_over(pair):
    """Nobody has to come: what was written meanwhile is taken in at the end of the pause."""
    said = pair.ok("pause", pair.base / "a", "--for", "3s", "--json").json
    edit(pair, "a", "first", "meanwhile")
    until(lambda: pair.questions(pair.base / "b", A) == ["first", "meanwhile"])

    assert time.time_ns() // 1_000_000 >= said["worktrees"][0]["paused_until"]
    until(lambda: state_of(pair, "a") == "watching")
    edit(pair, "a", "first", "meanwhile", "watched again")
    until(lambda: pair.questions(pair.base / "b", A) == ["first", "meanwhile", "watched again"])


def test_a_restart_keeps_it_paused(pair, agent):
    """A pause is in the state: an agent that comes later leaves the worktree alone as well."""
    pair.ok("pause", "--all")
    until(lambda: state_of(pair, "a") == "paused")
    edit(pair, "a", "first", "meanwhile")
    pair.quiet(pair.base / "a")
    pair.running.stop()
    agent()

    assert state_of(pair, "a") == "paused"
    assert pair.questions(pair.silo(), A) == ["first"]
    pair.ok("resume", "--all")
    until(lambda: pair.questions(pair.base / "b", A) == ["first", "meanwhile"])
