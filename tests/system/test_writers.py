"""Programs that write as JP does, in processes of their own, while the agent is killed again and again."""

from __future__ import annotations

import os
import random
import time

import pytest

from agents import status, until
from convsync_agent.names import id_text
from deaths import seed_of_today
from writers import said, same, start

SECONDS = float(os.environ.get("CONVSYNC_STORM_SECONDS", "12"))
CONVERSATIONS = [17_000_000_001 + n for n in range(20)]


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 900)
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
    started = [start(machine, number, seed, CONVERSATIONS, seconds=SECONDS) for number in range(4)]
    kills, one = 0, agent()
    while any(one_of.process.poll() is None for one_of in started):
        time.sleep(rng.random() * 1.5)  # the moment of its death is what is drawn
        one.kill()
        kills += 1
        one = agent(wait=False)
    until(one.is_up)
    for writer in started:
        assert writer.process.returncode == 0, (seed, writer.log.read_text())

    until(lambda: all(same(machine, c) for c in CONVERSATIONS), f"in step (seed {seed})")
    until(lambda: status(machine)["agent"]["queue"] == 0, "idle")
    total = 0
    for conversation in CONVERSATIONS:
        mine = {text for writer in started for c, text in writer.done() if c == conversation}
        assert set() == mine - said(machine, conversation), (seed, id_text(conversation))
        total += len(mine)
    print(f"{total} events, {kills} kills")  # noqa: T201  # with -rP
    assert total > 50 * SECONDS / 12
    assert 0 == machine.run("verify").code, (seed, machine.run("verify").err)
    assert [] == [line for line in one.lines() if line["level"] in ("error", "critical")]


@pytest.mark.parametrize("writes", [100, pytest.param(1000, marks=pytest.mark.slow)], ids=["100", "1000"])
def test_two_agents_at_once(machine, agent, writes):
    """Two writers, each in a worktree of its own, on the same two conversations: no event is lost.

    Every JSON is valid at the end, all roots are equal, and each event is there once, in the order of its writer.
    """
    seed, conversations = seed_of_today(), CONVERSATIONS[:2]
    for name in "ab":
        machine.worktree(name, register=False)
        for conversation in conversations:
            machine.write(machine.base / name, conversation, "one")
        machine.ok("register", machine.base / name)
    one = agent()
    started = [start(machine, number, seed, conversations, writes=writes) for number in range(2)]
    for writer in started:
        writer.process.wait()
        assert writer.process.returncode == 0, (seed, writer.log.read_text())
        assert len(writer.done()) == writes

    until(lambda: all(same(machine, c) for c in conversations), f"in step (seed {seed})")
    until(lambda: status(machine)["agent"]["queue"] == 0, "idle")
    for conversation in conversations:
        texts = machine.questions(machine.silo(), conversation)
        assert len(texts) == len(set(texts))
        for writer in started:
            mine = [text for c, text in writer.done() if c == conversation]
            assert [t for t in texts if t in set(mine)] == mine, (seed, id_text(conversation))
    assert 0 == machine.run("verify").code
    assert [] == [line for line in one.lines() if line["level"] in ("error", "critical")]
