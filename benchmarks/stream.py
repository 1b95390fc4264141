"""One long stream that grows many times a second, as while an answer comes in."""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from benchmarks.bench import Bench
from benchmarks.home import Failed
from benchmarks.inotify import MOVED_TO, Inotify
from benchmarks.report import Row
from benchmarks.workload import EVENTS, put, read

BYTES = 4 << 20
PER_SECOND = 20
PATIENCE = 30.0
_END = b"\n]\n"


def stream(bench: Bench) -> None:
    """Each append rewrites all of it, as JP does. Late ones may overtake: what counts is that theirs is in it."""
    seconds = 2.0 if bench.quick else 15.0
    name, home = bench.small[-1], bench.home
    one, two = bench.floor_tree("a"), bench.floor_tree("b")
    with bench.step("appends to a long stream") as notes:
        with home.agent() as agent:
            _grow(bench, f"{home.conversations('a')}/{name}/{EVENTS}")
            agent.wait_calm()
            before, began = agent.use(), time.perf_counter()
            ours = _appends(bench, f"{home.conversations('a')}/{name}", f"{home.silo}/conversations/{name}", seconds)
            agent.wait_calm()
            spent, after = time.perf_counter() - began, agent.use()
        _grow(bench, f"{one}/{name}/{EVENTS}")
        with bench.floor.mirror(one, two):
            floor = _appends(bench, f"{one}/{name}", f"{two}/{name}", seconds)
    notes |= {"agent_cpu_percent": round((after.cpu - before.cpu) / spent * 100, 1), "rss_mib": after.rss / 1024}
    notes |= {"versions_seen": ours.versions, "floor_versions_seen": floor.versions, "appends": len(ours.lags)}
    what, kind = f"{BYTES >> 20} MB stream, {PER_SECOND} appends a second", f"{bench.floor.kind}, same appends"
    bench.add(Row("stream", what, "ms", ours.lags, floor.lags, kind, notes))


class Lags(NamedTuple):
    """Milliseconds until an append was in the target, of each; and how many versions of it were there in turn."""

    lags: list[float]
    versions: int


def _grow(bench: Bench, path: str) -> None:
    """Add turns until it is as long as it has to be."""
    parts, number = [read(path).removesuffix(_END)], 0
    while sum(map(len, parts)) < BYTES:
        parts.append(bench.work.turn(number))
        number += 1
    put(path, b",\n".join(parts) + _END)
    os.rename(path + ".tmp", path)


def _appends(bench: Bench, source: str, target: str, seconds: float) -> Lags:
    body = read(f"{source}/{EVENTS}").removesuffix(_END)
    watcher = Inotify()
    watcher.add(target, MOVED_TO)
    due, lags, versions = [], [], 0  # due: (bytes of the file with this append in it, when it was renamed)
    count, began = int(seconds * PER_SECOND), time.perf_counter()
    for number in range(count + 1):
        last = number == count
        until = time.perf_counter() + PATIENCE if last else began + number / PER_SECOND
        while (due if last else True) and (left := until - time.perf_counter()) > 0:
            if any(e.name == EVENTS for e in watcher.wait(left)):
                have, now = os.stat(f"{target}/{EVENTS}").st_size, time.perf_counter()
                lags += [(now - at) * 1000 for size, at in due if size <= have]
                due, versions = [d for d in due if d[0] > have], versions + 1
        if not last:
            body += b",\n" + bench.work.turn(number, long=False)
            put(f"{source}/{EVENTS}", body + _END)
            due.append((len(body) + len(_END), time.perf_counter()))
            os.rename(f"{source}/{EVENTS}.tmp", f"{source}/{EVENTS}")
    watcher.close()
    if due:
        raise Failed("some appends never arrived")
    return Lags(lags, versions)
