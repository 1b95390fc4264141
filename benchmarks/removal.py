"""A worktree goes away with everything in it: how long until that is known, and nothing is left to do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from benchmarks import floors
from benchmarks.bench import Bench
from benchmarks.home import Failed
from benchmarks.proc import Use
from benchmarks.report import Row

PATIENCE = 120.0
QUIET = 1.0


def removal(bench: Bench) -> None:
    """From the first unlink of `rm -rf` to a quiet `missing`: said, nothing queued, and no more CPU for a second."""
    bench.second_worktree()
    home, tree = bench.home, f"{bench.home.base}/a"
    before = set(os.listdir(f"{home.silo}/conversations"))
    with bench.step("worktree removed") as notes, home.agent() as agent:
        agent.wait_calm()
        began, used = time.perf_counter(), agent.use().cpu
        removed = floors.timed(["rm", "-rf", tree])
        while not agent.missing(tree):
            if time.perf_counter() - began > PATIENCE:
                raise Failed("a worktree that is gone was never missing")
            time.sleep(0.01)
        said = time.perf_counter() - began
        agent.wait_calm()
        quiet = _until_quiet(agent.use, began)
        notes |= {"said_s": said, "rm_s": removed, "agent_cpu_s": agent.use().cpu - used}
    if before - set(os.listdir(f"{home.silo}/conversations")):
        raise Failed("durable copies went with the worktree")
    what = f"worktree with {bench.count:,} removed -> missing"
    bench.add(Row("removal", what, "s", [quiet], [removed], "rm -rf itself", notes), worktrees=2)


def _until_quiet(use: Callable[[], Use], began: float) -> float:
    """Seconds from `began` to the moment after which it took less than a hundredth of a core for a second."""
    since, cpu = time.perf_counter(), use().cpu
    while time.perf_counter() - began < PATIENCE:
        time.sleep(0.05)
        now = use().cpu
        if now - cpu > 0.01 * QUIET:
            since, cpu = time.perf_counter(), now
        elif time.perf_counter() - since >= QUIET:
            return since - began
    raise Failed("the agent never came to rest")
