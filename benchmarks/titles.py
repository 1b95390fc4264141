"""Every title becomes another one: each directory is renamed, and its metadata written, in one worktree."""

from __future__ import annotations

import os
import time

from benchmarks.bench import Bench
from benchmarks.home import Failed
from benchmarks.report import Row
from benchmarks.workload import METADATA, put, read, retitled

PATIENCE = 300.0


def titles(bench: Bench) -> None:
    """Of at most 1,000, until the silo and the other worktree have each name and its metadata."""
    bench.second_worktree()
    home, names = bench.home, bench.names[:1000]
    source, silo, other = home.conversations("a"), f"{home.silo}/conversations", home.conversations("b")
    with bench.step("titles renamed") as notes, home.agent() as agent:
        agent.wait_calm()
        began, wanted = time.perf_counter(), {}
        for number, name in enumerate(names):
            new, raw = retitled(name, read(f"{source}/{name}/{METADATA}"), number)
            os.rename(f"{source}/{name}", f"{source}/{new}")
            put(f"{source}/{new}/{METADATA}", raw)
            os.rename(f"{source}/{new}/{METADATA}.tmp", f"{source}/{new}/{METADATA}")
            wanted[new] = raw
        notes["written_s"] = time.perf_counter() - began
        _until_there([silo], wanted)
        durable = time.perf_counter() - began
        _until_there([silo, other], wanted)
        everywhere = time.perf_counter() - began
        agent.wait_calm()
    bench.work.names = [*wanted, *bench.names[len(wanted) :]]
    what = f"{len(wanted):,} titles renamed -> silo"
    bench.add(Row("titles", what, "s", [durable], notes=notes), worktrees=2)
    bench.add(Row("titles-projected", "  -> other worktree", "s", [everywhere]), worktrees=2)


def _until_there(roots: list[str], wanted: dict[str, bytes]) -> None:
    """In order and no further than the first that is not there yet, so that looking costs nothing."""
    until = time.perf_counter() + PATIENCE
    for name, raw in wanted.items():
        while not all(_is_there(f"{root}/{name}/{METADATA}", raw) for root in roots):
            if time.perf_counter() > until:
                raise Failed("some titles never arrived")
            time.sleep(0.005)


def _is_there(path: str, raw: bytes) -> bool:
    try:
        return read(path) == raw
    except FileNotFoundError:
        return False
