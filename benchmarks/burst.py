"""Every conversation changed at once by another process: how long until all of them are durable."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks import floors
from benchmarks.bench import Bench
from benchmarks.workload import EVENTS, appended, edited, read

PATIENCE = 300.0


@dataclass
class Burst:
    """Seconds. `durable` ends when the agent, asked after the last file was there, says that nothing is left."""

    durable: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    bytes: int = 0
    notes: dict = field(default_factory=dict)


def burst(bench: Bench, mode: str, times: int) -> Burst:
    """A few bursts with an agent, each followed by the same bytes copied and by the same burst with the mirror."""
    change = {"append": appended, "rewrite": edited}[mode]
    home, found = bench.home, Burst()
    visible, written, mirrored, cpu = [], [], [], []
    with home.agent() as agent:
        for _ in range(times):
            agent.wait_calm()
            staged, found.bytes = _stage(bench, home.conversations("a"), change)
            before = agent.use().cpu
            run = _Run(staged, home.conversations("a"), f"{home.silo}/conversations")
            run.until_there()
            agent.wait_calm()
            found.durable.append(time.perf_counter() - run.began)
            visible.append(run.there - run.began)
            written.append(run.written - run.began)
            cpu.append(agent.use().cpu - before)
            run.require_equal()
            found.floor.append(bench.floor.copy(staged, bench.empty("copied")))
            one, two = bench.floor_tree("a"), bench.floor_tree("b")
            with bench.floor.mirror(one, two):
                run = _Run(staged, one, two)
                run.until_there()
            mirrored.append(run.there - run.began)
    found.notes = {
        "bytes": found.bytes, "visible_s": visible, "written_s": written, "agent_cpu_s": cpu, "mirror_s": mirrored,
        "mirror_what": f"{bench.floor.kind}, inotify + copy + fsync + rename, same burst",
    }  # fmt: skip
    return found


def _stage(bench: Bench, tree: str, change: Callable[[bytes, int], bytes]) -> tuple[str, int]:
    """The next contents, one file a conversation, on the disk already; and their bytes."""
    staged, total = bench.empty("staged"), 0
    for number, name in enumerate(bench.work.names):
        raw = change(read(f"{tree}/{name}/{EVENTS}"), number)
        total += len(raw)
        with open(f"{staged}/{name}", "wb") as file:
            file.write(raw)
    os.sync()
    return staged, total


class _Run:
    """One burst. `began` is just before the writer's first write."""

    def __init__(self, staged: str, tree: str, target: str) -> None:
        self._names, self._staged, self._target = sorted(os.listdir(staged)), staged, target
        self._old = {n: os.stat(f"{target}/{n}/{EVENTS}").st_ino for n in self._names}
        self._size = {n: os.stat(f"{staged}/{n}").st_size for n in self._names}
        command = [sys.executable, "-m", "benchmarks.writer", staged, tree]
        self._writer = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=floors.ROOT
        )
        assert self._writer.stdin is not None
        assert self._writer.stdout is not None
        self._writer.stdout.readline()
        time.sleep(0.3)
        self.began = time.perf_counter()
        self._writer.stdin.write("go\n")
        self._writer.stdin.flush()
        self._writer.stdout.readline()
        self.written = time.perf_counter()
        self.there = self.written
        self._writer.communicate()

    def until_there(self) -> None:
        """Until every target has been replaced by a file of the right size; `there` is that moment.

        Looked at in order and no further than the first that is not there yet, so that looking costs nothing.
        """
        for name in self._names:
            while not self._is_there(name):
                if time.perf_counter() - self.began > PATIENCE:
                    raise SystemExit("the burst never arrived")
                time.sleep(0.005)
        self.there = time.perf_counter()

    def _is_there(self, name: str) -> bool:
        now = os.stat(f"{self._target}/{name}/{EVENTS}")
        return now.st_ino != self._old[name] and now.st_size == self._size[name]

    def require_equal(self) -> None:
        for name in self._names:
            if read(f"{self._staged}/{name}") != read(f"{self._target}/{name}/{EVENTS}"):
                raise SystemExit(f"{name} is not what was written")
