"""What an agent costs that has nothing to do, and what a person waits for who types a command."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks import floors
from benchmarks.bench import Bench
from benchmarks.proc import Use
from benchmarks.report import Row

QUIET_SECONDS = 8.0  # longer than a kept copy waits for more changes
AGE_SECONDS = 75.0  # retention runs once a day, for the first time a minute after the start


def idle(bench: Bench) -> None:
    """CPU, wake-ups, memory, writes and watches of an agent that has nothing to do."""
    seconds, patience = (4.0, 10.0) if bench.quick else (90.0, 90.0)
    with bench.home.agent() as agent:
        agent.wait_calm()
        settle(agent.use, patience)
        if not bench.quick:
            time.sleep(max(0.0, agent.started + AGE_SECONDS - time.perf_counter()))
            settle(agent.use, patience)
        with bench.step(f"idle for {seconds:.0f} s") as notes:
            before = agent.use()
            time.sleep(seconds)
            after = agent.use()
    notes |= {"seconds": seconds}
    bench.add(Row("idle-cpu", "idle: of a core", "%", [share(before, after, seconds)], notes=notes))
    bench.add(Row("idle-wakeups", "idle: wake-ups", "/s", [(after.wakeups - before.wakeups) / seconds]))
    bench.add(Row("idle-writes", "idle: writes", "B", [float(after.written - before.written)]))
    bench.add(Row("idle-rss", "idle: RSS", "MB", [after.rss / 1024]))
    bench.add(Row("idle-watches", "idle: inotify watches", "#", [float(after.watches)]))


def settle(use: Callable[[], Use], patience: float) -> None:
    """Until nothing has been written for some seconds, or `patience` has passed: kept copies are begun late."""
    until, quiet, written = time.monotonic() + patience, time.monotonic(), -1
    while time.monotonic() < until and time.monotonic() - quiet < QUIET_SECONDS:
        now = use().written
        if now != written:
            quiet, written = time.monotonic(), now
        time.sleep(0.1)


def share(before: Use, after: Use, seconds: float) -> float:
    """Percent of one core."""
    return (after.cpu - before.cpu) / seconds * 100


def commands(bench: Bench) -> None:
    """Wall time of what a person types."""
    few = bench.times(15, quick=3)
    with bench.step("commands") as notes:
        click: list[float] = []
        asked = []
        with bench.home.agent() as agent:
            agent.wait_calm()
            for _ in range(few):  # in turn, so that whatever else runs meanwhile meets both
                click.append(floors.bare_click() * 1000)
                asked += _wall(bench, 1, "status", "--json")
        looked = _wall(bench, few, "status", "--json")
        listed = _wall(bench, max(1, few // 3), "ls")
        verified = _wall(bench, max(1, few // 5), "verify", "--quiet")
    for name, what, samples in (
        ("status-agent", "status --json, agent", asked),
        ("status-alone", "status --json, no agent", looked),
        ("ls", "ls", listed),
        ("verify", "verify, every byte", verified),
    ):
        bench.add(Row(name, what, "ms", samples, click, "python -c 'import click'", notes))


def _wall(bench: Bench, times: int, *argv: str) -> list[float]:
    return [bench.home.run(*argv)[0] * 1000 for _ in range(times)]
