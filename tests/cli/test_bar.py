"""Progress: what the engine tells, the line that is made of it, and that nothing of it stays."""

from __future__ import annotations

import os
import pty

import pytest

from convsync_agent.progress import Count, Stage, Step
from convsync_cli.bar import said
from convsync_cli.context import Context
from terminal import everything

FIRST = 17_000_000_001
DRAWN = f"[{'#' * 5}{'.' * 15}]"
LINES = [
    (
        Step(Stage.READ, 50, 200, 150, 3_000_000),
        2.0,
        80,
        f"reading {DRAWN} 25 %, 150 files, 3.0 MB, 1.5 MB/s, 6 s left",
    ),
    (Step(Stage.LOOK, 100, 400), 0.5, 80, f"looking {DRAWN} 25 %, 200/s, 2 s left"),
    (Step(Stage.LOOK, 100, 400), 0.5, 40, "looking 25 %, 200/s, 2 s left"),
    (Step(Stage.WRITE, 0, 10), 0.0, 40, "writing 0 %"),
    (Step(Stage.KEEP, 0, 0), 0.0, 40, "keeping copies 100 %"),
]


@pytest.mark.parametrize(("step", "spent", "columns", "line"), LINES)
def test_the_line(step, spent, columns, line):
    """What is done, how fast, the time left; no drawing where it would not fit."""
    assert said(step, spent, columns) == line


def test_nobody_to_tell():
    """Without anybody nothing is added up."""
    count = Count(None, Stage.LOOK, 9)
    count.add(1, 1, 1)
    assert count.done == 0


@pytest.fixture
def many(machine):
    a = machine.worktree("a", register=False)
    for number in range(40):
        machine.write(a, FIRST + 1000 * number, f"question {number}", slug="private-title")
    return a


def test_the_engine_tells_how_far_it_is(machine, many):
    """Every stage from its beginning to its end, never more than all of it."""
    from convsync_agent.registry import register

    steps: list[Step] = []
    context = Context()
    with context.engine() as engine:
        engine.tell = steps.append
        register(engine, str(many), context.data_dir)

    assert list(dict.fromkeys(s.stage for s in steps)) == [Stage.LOOK, Stage.WRITE]
    assert all(0 < s.done <= s.total for s in steps)
    for stage in (Stage.LOOK, Stage.WRITE):
        mine = [s for s in steps if s.stage is stage]
        assert mine[-1].done == mine[-1].total, stage
    written = [s for s in steps if s.stage is Stage.WRITE]
    files = list((many / ".jp" / "conversations").rglob("*.json"))
    assert (written[-1].files, written[-1].bytes) == (len(files), sum(p.stat().st_size for p in files))


@pytest.mark.parametrize("argv", [["register", "a"], ["sync"], ["verify"]])
def test_nothing_of_it_stays_and_nothing_is_shown_elsewhere(machine, many, argv):
    """On a terminal the last that is written of it takes it away; in a pipe, with -q and --json there is none."""
    machine.ok("register", many)
    ours, theirs = pty.openpty()
    process = machine.spawn(*argv, stdin=theirs, stdout=theirs, stderr=theirs, cwd=machine.base, env={"TERM": "xterm"})
    os.close(theirs)
    seen = everything(ours)
    assert process.wait(30) == 0, seen
    assert " left" not in seen.rpartition("\x1b[K")[2]
    for flags in ([], ["-q"], ["--json"]):
        process = machine.spawn(*flags, *argv, cwd=machine.base)
        assert "\r" not in process.communicate(timeout=30)[1]
