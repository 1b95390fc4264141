"""A first import, a restart with everything in step, a restart after some of it changed."""

from __future__ import annotations

import os
import time

from benchmarks import floors
from benchmarks.bench import Bench
from benchmarks.home import Agent, Failed
from benchmarks.report import Row
from benchmarks.workload import EVENTS, appended, put, read

PATIENCE = 120.0


def first_import(bench: Bench) -> None:
    """`register` of a worktree whose conversations have no durable copy."""
    ours, floor, plain = [], [], []
    with bench.step("first import") as notes:
        for _ in range(bench.times(3)):
            bench.home = bench.fresh_home()
            ours.append(bench.home.run("register", f"{bench.home.base}/a")[0])
            plain.append(bench.floor.copy(bench.master, bench.empty("copied")))
            floor.append(floors.rsync(bench.master, bench.empty("rsynced")) or plain[-1])
    notes |= {"bytes": bench.bytes, "floor_copy_s": plain}
    what = "rsync -a --fsync" if floor != plain else f"{bench.floor.kind}, copy + fsync"
    bench.add(Row("import", f"first import of {bench.count:,}", "s", ours, floor, what, notes))
    bench.add(Row("import-floor", "  rsync -a --fsync, beside a plain copy", "s", floor, plain, "copy + fsync"))


def restart(bench: Bench) -> None:
    """From exec to `status --json` giving a verdict from a finished scan; everything in step, two roots."""
    _settle(bench)
    home, ours, floor = bench.home, [], []
    scanned, cpu, verdicts = [], [], []
    with bench.step("restart in step") as notes:
        for _ in range(bench.times(7, quick=3)):
            floor.append(floors.find(home.conversations("a"), f"{home.silo}/conversations"))
            agent = Agent(home)
            try:
                scanned.append(agent.wait_started())
                verdicts.append(home.status()["verdict"])
                ours.append(time.perf_counter() - agent.started)
                cpu.append(agent.use().cpu)
            finally:
                agent.stop()
    notes |= {"scanned_s": scanned, "agent_cpu_s": cpu, "verdicts": sorted(set(verdicts))}
    bench.add(Row("restart", "restart in step, to a verdict", "s", ours, floor, "find -printf of both trees", notes))


def restart_changed(bench: Bench) -> None:
    """From exec to every change being in the silo that was made while no agent ran: one conversation in a hundred."""
    _settle(bench)
    home, ours, floor = bench.home, [], []
    some = bench.names[:: min(100, bench.count)]
    with bench.step("restart after changes") as notes:
        for number in range(bench.times(5)):
            wanted = {}
            for name in some:
                path = f"{home.conversations('a')}/{name}/{EVENTS}"
                wanted[f"{home.silo}/conversations/{name}/{EVENTS}"] = raw = appended(read(path), number)
                put(path, raw)
                os.rename(path + ".tmp", path)
            floor.append(floors.find(home.conversations("a"), f"{home.silo}/conversations"))
            agent = Agent(home)
            try:
                _until_equal(wanted)
                ours.append(time.perf_counter() - agent.started)
                agent.wait_started()
                agent.wait_calm()
            finally:
                agent.stop()
    notes |= {"changed": len(some)}
    what = f"restart, {len(some):,} changed meanwhile"
    bench.add(Row("restart-changed", what, "s", ours, floor, "find -printf of both trees", notes))


def _settle(bench: Bench) -> None:
    """The first start after an import settles what was written a moment ago."""
    with bench.home.agent() as agent:
        agent.wait_calm()


def _until_equal(wanted: dict[str, bytes]) -> None:
    until = time.perf_counter() + PATIENCE
    for path, raw in wanted.items():
        while os.stat(path).st_size != len(raw) or read(path) != raw:
            if time.perf_counter() > until:
                raise Failed("what changed meanwhile never arrived")
            time.sleep(0.002)
