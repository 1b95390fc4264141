"""One change at a time, as JP makes it, and the moments at which it is durable and at which others see it."""

from __future__ import annotations

import contextlib
import random
import time
from dataclasses import dataclass, field

from benchmarks import proc
from benchmarks.bench import Bench
from benchmarks.observer import change, observing
from benchmarks.report import Row, quantile
from benchmarks.workload import EVENTS, METADATA, appended, edited, files_of, retimed, rewritten

MODES = (
    ("append", "append -> durable", False),
    ("turn", "whole turn: metadata, then events", False),
    ("edit", "edit, loser kept", False),
    ("life", "edit of any size, loser kept", False),
    ("append", "append, one busy core", True),
    ("life", "edit of any size, one busy core", True),
)


@dataclass
class Latencies:
    """Milliseconds from just before JP's first rename.

    `durable`: JP's lock was released after the silo had every byte, so the directory is synced and the ages are set.
    `seen`: the bytes were under their name in the silo, somewhat earlier. `projected`: the other worktree had them.
    """

    durable: list[float] = field(default_factory=list)
    seen: list[float] = field(default_factory=list)
    projected: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    cpu_ms: float = 0.0


def latency(bench: Bench) -> None:
    """One change at a time while all conversations are there, with a second worktree."""
    bench.second_worktree()
    edits, block = (15, 15) if bench.quick else (160, 40)
    for mode, what, busy in MODES:
        around = proc.busy_core() if busy else contextlib.nullcontext()
        with bench.step(what) as notes, around:
            found = measure(bench, mode, edits, block)
        notes |= {"seen_p50_ms": round(quantile(found.seen, 50), 3), "agent_cpu_ms_per_edit": found.cpu_ms}
        notes |= {"seen_ms": [round(s, 3) for s in found.seen]}
        kind = f"{bench.floor.kind}, inotify + copy + fsync + rename"
        name = f"{mode}-busy" if busy else mode
        bench.add(Row(name, what, "ms", found.durable, found.floor, kind, notes), worktrees=2)
        other = Row(f"{name}-projected", "  -> other worktree", "ms", found.projected, found.floor, kind)
        bench.add(other, worktrees=2)


def measure(bench: Bench, mode: str, edits: int, block: int) -> Latencies:
    """`edits` changes with an agent, and as many with the floor, in alternating blocks."""
    found, home, draw = Latencies(), bench.home, random.Random(5)
    source, silo, other = home.conversations("a"), f"{home.silo}/conversations", home.conversations("b")
    one, two = bench.floor_tree("a"), bench.floor_tree("b")
    kept = bench.empty("kept") if mode == "edit" else ""
    names = chosen(bench.names if mode == "life" else bench.small, edits, draw, shuffled=mode == "life")
    with home.agent() as agent, observing([silo, other], names, f"{home.silo}/locks") as ours:
        agent.wait_calm()
        used = 0.0
        for start in range(0, edits, block):
            numbers = range(start, min(edits, start + block))
            before = agent.use().cpu
            for number in numbers:
                directory = f"{source}/{names[number]}"
                began, expected = change(directory, next_of(directory, mode, number), ours)
                equal, released = ours.wait(names[number], expected)
                found.seen.append((equal[silo] - began) * 1000)
                found.durable.append((released - began) * 1000)
                found.projected.append((equal[other] - began) * 1000)
                time.sleep(draw.uniform(0.02, 0.05))
            used += agent.use().cpu - before
            agent.wait_calm()
            with bench.floor.mirror(one, two, kept), observing([two], names) as floor:
                for number in numbers:
                    directory = f"{one}/{names[number]}"
                    began, expected = change(directory, next_of(directory, mode, number), floor)
                    equal, _ = floor.wait(names[number], expected)
                    found.floor.append((equal[two] - began) * 1000)
                    time.sleep(draw.uniform(0.02, 0.05))
    found.cpu_ms = round(used / edits * 1000, 2)
    return found


def chosen(names: list[str], count: int, draw: random.Random, *, shuffled: bool) -> list[str]:
    """`count` of them, each as often as any other: in a random order, or one after the other."""
    deck: list[str] = []
    while len(deck) < count:
        deck += draw.sample(names, len(names)) if shuffled else names
    return deck[:count]


def next_of(directory: str, mode: str, number: int) -> dict[str, bytes]:
    """The files that one change of this kind writes."""
    have = files_of(directory)
    how = {"edit": edited, "life": rewritten}.get(mode, appended)
    new = {EVENTS: how(have[EVENTS], number)}
    return new | {METADATA: retimed(have[METADATA], number)} if mode == "turn" else new
