"""Programs that write as JP does, in processes of their own, while the agent is killed again and again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import writers
from agents import FILES, status, until
from convsync_agent.history import History
from convsync_agent.names import id_text
from deaths import seed_of_today
from machine import WS

SECONDS = float(os.environ.get("CONVSYNC_STORM_SECONDS", "12"))
CONVERSATIONS = [17_000_000_001 + n for n in range(20)]


def start(machine, number, seed):
    """One writer, in one of the two worktrees; what it is done with is in its file."""
    acks = machine.base / f"acks-{number}"
    argv = [machine.silo(), machine.base / "ab"[number % 2] / ".jp", machine.base / "turns", acks]
    path = os.pathsep.join(p for p in sys.path if p)
    with open(machine.base / f"writer-{number}.log", "wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                writers.__file__,
                *map(str, argv),
                f"{seed}-{number}",
                str(SECONDS),
                *map(str, CONVERSATIONS),
            ],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=log,
            stderr=log,
        )
    return process, acks, Path(log.name)


def said(machine, conversation) -> set[str]:
    """Every text in a root or in the history, where also lies what a dying agent had half staged."""
    whole = [json.loads((machine.directory(r, conversation) / "events.json").read_bytes()) for r in roots(machine)]
    history = History(str(machine.base / "data/convsync"))
    for version in history.versions(WS, conversation):
        for name, raw, _ in history.read(WS, conversation, version.version):
            if name == "events.json":
                with contextlib.suppress(ValueError):
                    whole.append(json.loads(raw))
    return {e.get("content") for events in whole for e in events}


def roots(machine):
    return [machine.silo(), machine.base / "a", machine.base / "b"]


def same(machine, conversation) -> bool:
    """Equal names and bytes everywhere. JP writes each root at a time of its own: equal bytes are in step."""
    found = [machine.directory(r, conversation) for r in roots(machine)]
    try:
        return None not in found and 1 == len({(d.name, *((d / f).read_bytes() for f in FILES)) for d in found})
    except FileNotFoundError:  # renamed just now
        return False


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 110)
def test_no_acknowledged_event_is_lost_however_often_the_agent_dies(machine, agent):
    """Four writers, two worktrees: every event that a writer was done with is in a root or in the history.

    What a writer loads under JP's lock is whole at any moment; in the end the roots are in step, and `verify` agrees.
    """
    seed = seed_of_today()
    rng = random.Random(seed)
    for name in "ab":
        machine.worktree(name, register=False)
        for conversation in CONVERSATIONS:
            machine.write(machine.base / name, conversation, "one")
        machine.ok("register", machine.base / name)
    (machine.base / "turns").mkdir()
    started = [start(machine, number, seed) for number in range(4)]
    kills, one = 0, agent()
    while any(process.poll() is None for process, _, _ in started):
        time.sleep(rng.random() * 1.5)  # the moment of its death is what is drawn
        one.kill()
        kills += 1
        one = agent(wait=False)
    until(one.is_up)
    for process, _, log in started:
        assert process.returncode == 0, (seed, log.read_text())

    until(lambda: all(same(machine, c) for c in CONVERSATIONS), f"in step (seed {seed})", 30)
    until(lambda: status(machine)["agent"]["queue"] == 0, "idle")
    total = 0
    for conversation in CONVERSATIONS:
        rows = [line.split() for _, acks, _ in started for line in acks.read_text().splitlines()]
        mine = {text for c, text in rows if c == str(conversation)}
        assert set() == mine - said(machine, conversation), (seed, id_text(conversation))
        total += len(mine)
    print(f"{total} events, {kills} kills")  # noqa: T201  # with -rP
    assert total > 50 * SECONDS / 12
    assert 0 == machine.run("verify").code, (seed, machine.run("verify").err)
    assert [] == [line for line in one.lines() if line["level"] in ("error", "critical")]
