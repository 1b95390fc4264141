"""Terminals at work beside a real agent: real processes, each a session of its own."""

from __future__ import annotations

import json

from agents import in_step, status, until
from convsync_agent.session import ENV, Session

A, B = 17_000_000_001, 17_000_000_002
ROUNDS = 6


def prepared(machine):
    """Two worktrees of one workspace; A and B are in `a`, and A in `b`, too."""
    a, b = (machine.worktree(name, register=False) for name in "ab")
    for conversation in (A, B):
        machine.write(a, conversation, "one")
    machine.write(b, A, "one")
    for root in (a, b):
        machine.ok("register", root)
    return a, b


def active_in(machine, name):
    raw = (machine.silo() / "sessions" / f"{Session(ENV, name, 'JP_SESSION').key}.json").read_bytes()
    return [e["id"] for e in json.loads(raw)["history"]]


def test_two_terminals_beside_an_agent(machine, agent):
    """Each keeps its own; every copy is in step, nothing is a conflict, and the history is not filled with it.

    A copy that is being written while it is looked at is kept, whatever it says: that may happen, now and then.
    """
    a, b = prepared(machine)
    agent()
    orders = {"one": (A, B), "two": (B, A)}
    for _ in range(ROUNDS):
        for n in range(2):
            running = [
                machine.spawn("use", order[n], env={"JP_SESSION": name}, cwd=where)
                for (name, order), where in zip(orders.items(), (a, b), strict=True)
            ]
            done = [p.communicate(timeout=120) for p in running]
            assert [p.returncode for p in running] == [0, 0], done

    assert (active_in(machine, "one"), active_in(machine, "two")) == ([B, A], [A, B])
    until(lambda: in_step(machine, A, machine.silo(), a, b) and in_step(machine, B, machine.silo(), a))
    until(lambda: status(machine)["verdict"] == "in-sync")
    assert status(machine)["attention"] == []
    for conversation in (A, B):
        kept = machine.ok("history", conversation, "--json").json["versions"]
        assert {v["unit"] for v in kept} <= {"metadata"}
        assert len(kept) < ROUNDS


def test_many_processes_of_one_terminal(machine):
    """Started at once in one session: each is in its history, and the last that wrote is in front."""
    prepared(machine)
    numbers = [A, B] * 4
    running = [machine.spawn("use", n, env={"JP_SESSION": "same"}) for n in numbers]
    done = [p.communicate(timeout=300) for p in running]

    assert [p.returncode for p in running] == [0] * len(numbers), done
    assert sorted(active_in(machine, "same")) == [A, B]
    assert [p for p in (machine.silo() / "sessions").iterdir() if p.suffix != ".json"] == []
