"""One change at a time, as JP makes it, and the moments at which it is durable and at which others see it."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.bench import Bench
from benchmarks.inotify import DELETE, MOVED_TO, Inotify
from benchmarks.workload import EVENTS, FILES, appended, edited, put, read, retimed
from convsync_agent.names import lock_name, parse_dirname

PATIENCE = 20.0
METADATA = "metadata.json"


@dataclass
class Latencies:
    """Milliseconds from just before JP's last rename.

    `durable`: JP's lock was released after the silo had every byte, so the directory is synced and the ages are set.
    `seen`: the bytes were under their name in the silo, somewhat earlier.
    """

    durable: list[float] = field(default_factory=list)
    projected: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    seen: dict = field(default_factory=dict)
    cpu_ms: float = 0.0


class Observer:
    """Waits for the bytes of one conversation to be equal in each target, woken by inotify only."""

    def __init__(self, targets: list[str], names: list[str], locks: str = "") -> None:
        self.targets = targets
        self._inotify = Inotify()
        self._locks = self._inotify.add(locks, DELETE) if locks else -1
        for target in targets:
            for name in names:
                self._inotify.add(f"{target}/{name}", MOVED_TO)

    def forget(self) -> None:
        self._inotify.drain()

    def wait(self, name: str, expected: dict[str, bytes]) -> tuple[dict[str, float], float]:
        """When each target was equal, and when the lock went after the first of them was."""
        equal: dict[str, float] = {}
        released, until = 0.0, time.perf_counter() + PATIENCE
        lock = lock_name(parse_dirname(name) or 0)
        while len(equal) < len(self.targets) or (self._locks >= 0 and not released):
            for event in self._inotify.wait(0.5):
                if event.watch == self._locks:
                    if event.name == lock and self.targets[0] in equal and not released:
                        released = time.perf_counter()
                    continue
                for target in self.targets:
                    if target not in equal and all(read(f"{target}/{name}/{f}") == r for f, r in expected.items()):
                        equal[target] = time.perf_counter()
            if time.perf_counter() > until:
                raise SystemExit(f"never arrived: {name} in {set(self.targets) - equal.keys()}")
        return equal, released

    def close(self) -> None:
        self._inotify.close()


def latencies(bench: Bench, mode: str, edits: int, *, block: int) -> Latencies:
    """`edits` changes with an agent, and as many with the floor, in alternating blocks."""
    found, home = Latencies(), bench.home
    source, names = home.conversations("a"), bench.work.small[: bench.count]
    silo, other = f"{home.silo}/conversations", home.conversations("b")
    one, two, kept = bench.floor_tree("a"), bench.floor_tree("b"), bench.empty("kept") if mode == "edit" else ""
    draw, seen = random.Random(5), []
    with home.agent() as agent, _observing(Observer([silo, other], names, f"{home.silo}/locks")) as ours:
        agent.wait_calm()
        used = 0.0
        for start in range(0, edits, block):
            before = agent.use().cpu
            for number in range(start, min(edits, start + block)):
                name = names[number % len(names)]
                began, expected = _change(f"{source}/{name}", mode, number, ours)
                equal, released = ours.wait(name, expected)
                seen.append((equal[silo] - began) * 1000)
                found.durable.append((released - began) * 1000)
                found.projected.append((equal[other] - began) * 1000)
                time.sleep(draw.uniform(0.02, 0.05))
            used += agent.use().cpu - before
            agent.wait_calm()
            with bench.floor.mirror(one, two, kept), _observing(Observer([two], names)) as floor:
                for number in range(start, min(edits, start + block)):
                    name = names[number % len(names)]
                    began, expected = _change(f"{one}/{name}", mode, number, floor)
                    equal, _ = floor.wait(name, expected)
                    found.floor.append((equal[two] - began) * 1000)
                    time.sleep(draw.uniform(0.02, 0.05))
    found.cpu_ms = round(used / edits * 1000, 2)
    found.seen = _quantiles(seen)
    return found


@contextmanager
def _observing(observer: Observer) -> Iterator[Observer]:
    try:
        yield observer
    finally:
        observer.close()


def _change(directory: str, mode: str, number: int, observer: Observer) -> tuple[float, dict[str, bytes]]:
    """Write as JP does. The time just before the rename that completes it, and the files of the conversation."""
    expected = {f: read(f"{directory}/{f}") for f in FILES}
    expected[EVENTS] = (edited if mode == "edit" else appended)(expected[EVENTS], number)
    put(f"{directory}/{EVENTS}", expected[EVENTS])
    if mode == "turn":
        expected[METADATA] = retimed(expected[METADATA], number)
        put(f"{directory}/{METADATA}", expected[METADATA])
    observer.forget()
    began = time.perf_counter()
    if mode == "turn":
        os.rename(f"{directory}/{METADATA}.tmp", f"{directory}/{METADATA}")
    os.rename(f"{directory}/{EVENTS}.tmp", f"{directory}/{EVENTS}")
    return began, expected


def _quantiles(samples: list[float]) -> dict:
    ranked = sorted(samples)
    return {"p50": round(ranked[len(ranked) // 2], 3), "max": round(ranked[-1], 3)}
