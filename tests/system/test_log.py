"""The log of a real agent: silent when idle, why on `debug`, a traceback without what it held."""

from __future__ import annotations

import sqlite3
import time

import pytest

from agents import PATIENCE, status, until

A, B = 17_457_886_043, 17_457_990_001
SECRET = "canary-slug-and-text"


@pytest.fixture
def one(machine):
    machine.write(machine.worktree("a"), A, "first")
    machine.quiet()
    machine.ok("sync")
    return machine


@pytest.mark.slow
def test_an_idle_agent_says_nothing(one, agent):
    """Through a whole interval of canary and rescan: no line, not even on `debug`, and no file of its state changes."""
    running = agent("-v")
    until(lambda: status(one)["verdict"] == "in-sync")
    signals = one.base / "run" / "convsync" / "signals"
    state = one.base / "state" / "convsync"

    def still():
        """What is there, when it did not change for a moment."""
        seen = [(running.lines(), {f.name: f.stat().st_mtime_ns for f in state.iterdir()})]
        time.sleep(0.5)  # an interval of doing nothing is what is observed
        seen.append((running.lines(), {f.name: f.stat().st_mtime_ns for f in state.iterdir()}))
        return seen[0] == seen[1] and seen[0]

    for canary in signals.glob("canary*"):
        canary.unlink()
    before = until(still)
    until(lambda: [*signals.glob("canary*")], "the canary went out", patience=180)

    assert until(still) == before


def test_debug_says_why(one, agent):
    """What was done to which conversation in which root; ids and paths of roots only."""
    running = agent("-v")
    one.write(one.base / "a", B, SECRET, slug=SECRET, title=SECRET)
    (done,) = until(lambda: [x for x in running.lines() if x["event"] == "done"])

    assert (done["level"], done["conversation"], done["action"]) == ("debug", f"jp-c{B}", "import")
    assert done["root"] == str(one.silo())
    assert SECRET not in running.log.read_text()


def test_what_waits_is_no_line(one, agent):
    """A conversation that a query holds is looked at again and again; that is `debug`."""
    running = agent("-v")
    with one.holding(A):
        one.write(one.base / "a", A, "first", "second", mtime_ns=time.time_ns())
        until(lambda: [x for x in running.lines() if x["event"] in ("deferred", "postponed")])
        assert not [x for x in running.lines() if x["event"] == "cycle" and not x["done"] and not x["failed"]]
    until(lambda: one.questions(one.silo(), A) == ["first", "second"])


def test_a_fault_of_ours_is_told_with_its_traceback(one, agent):
    """Exit 1, one line of level error, the traceback in it, no local variables."""
    db = sqlite3.connect(one.base / "state" / "convsync" / "state.db")
    db.execute("DROP TABLE held")
    db.commit()
    db.close()
    running = agent(wait=False)

    assert running.process.wait(PATIENCE) == 1
    (told,) = [x for x in running.lines() if x["level"] == "error"]
    assert told["event"] == "gave up"
    frames = told["exception"][0]["frames"]
    assert frames
    assert not any(f.get("locals") for f in frames)
