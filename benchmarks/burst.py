"""Many conversations changed at once by another process: how long until all of them are durable."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

from benchmarks import floors
from benchmarks.bench import Bench
from benchmarks.home import Failed
from benchmarks.report import Row
from benchmarks.workload import EVENTS, appended, edited, read

PATIENCE = 300.0
Change = Callable[[bytes, int], bytes]


def bursts(bench: Bench) -> None:
    """All conversations changed at once by another process, until all of them are durable; of many also a part."""
    for count in sorted({min(1000, bench.count), bench.count}):
        for mode, how in (("append", appended), ("rewrite", edited)):
            what = f"burst of {count:,}, {mode}"
            with bench.step(what) as notes:
                ours, floor = _measure(bench, how, bench.names[:count], bench.times(3), notes)
            kind = f"{bench.floor.kind}, inotify + copy + fsync + rename, same burst"
            bench.add(Row(f"burst-{mode}", what, "s", ours, floor, kind, notes))


def _measure(bench: Bench, how: Change, names: list[str], times: int, notes: dict) -> tuple[list[float], list[float]]:
    """Seconds with an agent, and of the same bursts with the floor.

    Ours end when the agent, asked after the last file was there, says that nothing is left.
    """
    home, ours, floor = bench.home, [], []
    told: dict[str, list[float]] = {"visible_s": [], "written_s": [], "agent_cpu_s": [], "floor_copy_s": []}
    with home.agent() as agent:
        for _ in range(times):
            agent.wait_calm()
            staged, notes["bytes"] = stage(bench, home.conversations("a"), names, how)
            before = agent.use().cpu
            run = Run(staged, home.conversations("a"), f"{home.silo}/conversations")
            run.until_there(PATIENCE)
            agent.wait_calm()
            ours.append(time.perf_counter() - run.began)
            run.require_equal()
            for key, value in zip(told, (run.took, run.wrote, agent.use().cpu - before), strict=False):
                told[key].append(value)
            told["floor_copy_s"].append(bench.floor.copy(staged, bench.empty("copied")))
            one, two = bench.floor_tree("a"), bench.floor_tree("b")
            with bench.floor.mirror(one, two):
                run = Run(staged, one, two)
                run.until_there(PATIENCE)
            floor.append(run.took)
    notes |= told
    return ours, floor


def stage(bench: Bench, tree: str, names: list[str], how: Change) -> tuple[str, int]:
    """The next contents, one file a conversation, on the disk already; and their bytes."""
    staged, total = bench.empty("staged"), 0
    for number, name in enumerate(names):
        raw = how(read(f"{tree}/{name}/{EVENTS}"), number)
        total += len(raw)
        with open(f"{staged}/{name}", "wb") as file:
            file.write(raw)
    os.sync()
    return staged, total


class Run:
    """One burst, written on creation. `began`: just before the writer's first write; `wrote`, `took`: seconds."""

    def __init__(self, staged: str, tree: str, target: str) -> None:
        self._names, self._staged, self._target = sorted(os.listdir(staged)), staged, target
        self._old = {n: os.stat(f"{target}/{n}/{EVENTS}") for n in self._names}
        self._size = {n: os.stat(f"{staged}/{n}").st_size for n in self._names}
        self.took = 0.0
        command = [sys.executable, "-m", "benchmarks.writer", staged, tree]
        writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=floors.ROOT)
        assert writer.stdin is not None
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.3)
        self.began = time.perf_counter()
        writer.stdin.write("go\n")
        writer.stdin.flush()
        writer.stdout.readline()
        self.wrote = time.perf_counter() - self.began
        writer.communicate()

    def until_there(self, patience: float) -> None:
        """Until every target has been replaced by a file of the right size.

        Looked at in order and no further than the first that is not there yet, so that looking costs nothing.

        Raises:
            Failed: some are not there after so many seconds.

        """
        for name in self._names:
            while not self._is_there(name):
                if time.perf_counter() - self.began > patience:
                    raise Failed(f"the burst had not arrived after {patience:.0f} s")
                time.sleep(0.005)
        self.took = time.perf_counter() - self.began

    def _is_there(self, name: str) -> bool:
        try:
            now = os.stat(f"{self._target}/{name}/{EVENTS}")
        except FileNotFoundError:
            return False
        old = self._old[name]
        return (now.st_ino, now.st_mtime_ns) != (old.st_ino, old.st_mtime_ns) and now.st_size == self._size[name]

    def require_equal(self) -> None:
        """Every byte arrived.

        Raises:
            Failed: or not.

        """
        for name in self._names:
            if read(f"{self._staged}/{name}") != read(f"{self._target}/{name}/{EVENTS}"):
                raise Failed(f"{name.partition('-')[0]} is not what was written")
