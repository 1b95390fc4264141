"""What a process costs and what the machine does meanwhile, from /proc."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
import time
from importlib.metadata import version
from typing import NamedTuple

TICK = os.sysconf("SC_CLK_TCK")


class Use(NamedTuple):
    """CPU seconds (all threads, to the nanosecond), voluntary switches, bytes handed to the disk, memory in KiB."""

    cpu: float
    wakeups: int
    written: int
    rss: int
    pss: int


def use(pid: int) -> Use:
    cpu = wakeups = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        cpu += int(_read(f"/proc/{pid}/task/{task}/schedstat").split()[0])
        wakeups += _field(f"/proc/{pid}/task/{task}/status", "voluntary_ctxt_switches:")
    written = _field(f"/proc/{pid}/io", "write_bytes:")
    return Use(
        cpu / 1e9,
        wakeups,
        written,
        _field(f"/proc/{pid}/status", "VmRSS:"),
        _field(f"/proc/{pid}/smaps_rollup", "Pss:"),
    )


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
            "revision": _first("git", "-C", os.path.dirname(__file__), "describe", "--always", "--dirty"),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            **{name: version(name) for name in ("watchdog", "pydantic", "click", "structlog")},
            **{tool: _first(tool, "--version") for tool in ("rsync", "find", "cc") if shutil.which(tool)},
        },
    }


def _file_system(path: str) -> str:
    device = os.stat(path).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    rows = [line.split() for line in _read("/proc/self/mountinfo").splitlines()]
    return next((r[r.index("-") + 1] for r in rows if r[2] == name), "?")


def _first(*argv: str) -> str:
    try:
        lines = subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines()
    except OSError:
        return ""
    return " ".join(lines[0].split()) if lines else ""
