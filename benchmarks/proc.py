"""What a process costs and what the machine does meanwhile, from /proc."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import NamedTuple

TICK = os.sysconf("SC_CLK_TCK")


class Use(NamedTuple):
    """Sums over a process and what it started, all threads.

    CPU seconds (those of children that are gone in ticks), voluntary switches of threads that live, bytes
    handed to the disk, memory in KiB, inotify watches.
    """

    cpu: float
    wakeups: int
    written: int
    rss: int
    watches: int


def use(*pids: int) -> Use:
    each = [_use(pid) for pid in family(pids)]
    return Use(*(sum(column) for column in zip(*each, strict=True))) if each else Use(0.0, 0, 0, 0, 0)


def _use(pid: int) -> Use:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        wakeups = sum(_if_there(lambda t: _field(f"/proc/{pid}/task/{t}/status", "voluntary_ctxt_switches:"), tasks))
        reaped = sum(int(n) for n in _read(f"/proc/{pid}/stat").rsplit(")", 1)[1].split()[13:15]) / TICK
        open_files = os.listdir(f"/proc/{pid}/fdinfo")
        watches = sum(_if_there(lambda fd: _read(f"/proc/{pid}/fdinfo/{fd}").count("inotify wd:"), open_files))
        written = _field(f"/proc/{pid}/io", "write_bytes:")
        return Use(_cpu(pid) + reaped, wakeups, written, _field(f"/proc/{pid}/status", "VmRSS:"), watches)
    except (OSError, StopIteration):  # it ended meanwhile: what it used is with its parent now
        return Use(0.0, 0, 0, 0, 0)


def _if_there(look: Callable[[str], int], names: Iterable[str]) -> Iterator[int]:
    """Of a thread that ended meanwhile, or a file that was closed, nothing: the process is still there."""
    for name in names:
        with contextlib.suppress(OSError, StopIteration):
            yield look(name)


def _cpu(pid: int) -> float:
    """Seconds, to the nanosecond, threads that ended included: clock_getcpuclockid(3) without the call."""
    return time.clock_gettime((~pid << 3) | 2)


def family(pids: Iterable[int]) -> list[int]:
    """These processes and everything that they started and that still runs."""
    found, todo = [], list(pids)
    while todo:
        pid = todo.pop()
        with contextlib.suppress(OSError):
            tasks = os.listdir(f"/proc/{pid}/task")
            found.append(pid)
            for task in tasks:
                with contextlib.suppress(OSError):  # a thread that ended meanwhile
                    todo += map(int, _read(f"/proc/{pid}/task/{task}/children").split())
    return found


def name_of(pid: int) -> str:
    """The program's name; empty for one that is gone or only waits to be reaped."""
    try:
        head, rest = _read(f"/proc/{pid}/stat").rsplit(")", 1)
    except OSError:
        return ""
    return "" if rest.split()[0] == "Z" else head.split("(", 1)[1]


def end_children() -> None:
    """End what this process started and nobody waited for: an interruption may come between start and care."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        left = [pid for pid in family([os.getpid()]) if pid != os.getpid() and name_of(pid)]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, kind)
        until = time.monotonic() + 10
        while any(map(name_of, left)) and time.monotonic() < until:
            time.sleep(0.01)


@contextmanager
def busy_core() -> Iterator[None]:
    """One core has something else to do while inside."""
    spinner = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        spinner.kill()
        spinner.wait()


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _field(path: str, name: str) -> int:
    return next(int(line.split()[1]) for line in _read(path).splitlines() if line.startswith(name))


class Noise:
    """How much of the machine others took while a step ran, in percent of one core."""

    def __init__(self) -> None:
        self._then, self._ours, self._at = _busy(), _own(), time.monotonic()

    def percent(self) -> float:
        others = (_busy() - self._then) - (_own() - self._ours)
        return round(max(0.0, others) / max(0.01, time.monotonic() - self._at) * 100, 1)


def wait_for_calm(seconds: float, most: float = 25.0) -> None:
    """Until others leave the machine alone for two seconds, or for this long at most."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        noise = Noise()
        time.sleep(2)
        if noise.percent() < most:
            return


def _busy() -> float:
    """Without steal, iowait and idle."""
    user, nice, system, _idle, _wait, irq, soft = (int(n) for n in _read("/proc/stat").split("\n", 1)[0].split()[1:8])
    return (user + nice + system + irq + soft) / TICK


def _own() -> float:
    """CPU seconds of this process, the children it has reaped, and those that run."""
    times = os.times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in _read(f"/proc/self/task/{os.getpid()}/children").split():
        with_children = _read(f"/proc/{child}/stat").rsplit(")", 1)[1].split()[11:15]
        total += sum(int(n) for n in with_children) / TICK
    return total


def describe(base: str) -> dict:
    """The machine, and the versions of everything that is measured."""
    cpu = next((r.split(":", 1)[1].strip() for r in _read("/proc/cpuinfo").splitlines() if "model name" in r), "?")
    return {
        "machine": {
            "cpu": cpu,
            "cores": os.cpu_count(),
            "memory_mib": _field("/proc/meminfo", "MemTotal:") // 1024,
            "system": f"{platform.system()} {platform.release()}",
            "file_system": _file_system(base),
            "load": os.getloadavg(),
        },
        "versions": {
            "convsync": version("convsync"),
            "revision": first_line("git", "-C", os.path.dirname(__file__), "describe", "--always", "--dirty"),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            **{name: version(name) for name in ("watchdog", "pydantic", "click", "structlog")},
            **{tool: said for tool in ("rsync", "find", "cc") if (said := first_line(tool, "--version"))},
        },
    }


def _file_system(path: str) -> str:
    device = os.stat(path).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    rows = [line.split() for line in _read("/proc/self/mountinfo").splitlines()]
    return next((r[r.index("-") + 1] for r in rows if r[2] == name), "?")


def first_line(*argv: str) -> str:
    """Of what a program says; empty where it is not there."""
    try:
        ran = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = (ran.stdout or ran.stderr).splitlines()
    return " ".join(lines[0].split()) if lines else ""
