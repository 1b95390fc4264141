"""What is measured. Each scenario adds its rows; none of them judges: budgets are in the table, not asserted."""

from __future__ import annotations

import time

from benchmarks import floors
from benchmarks.bench import Bench
from benchmarks.burst import burst
from benchmarks.home import Agent
from benchmarks.latency import latencies
from benchmarks.report import Budget, Row

DESIGN_BURST = 223e6  # bytes of the burst the budget was set for
MANY = 500  # conversations; below this a burst measures how long an agent takes to answer


def first_import(bench: Bench) -> None:
    """`register` of a worktree whose conversations have no durable copy."""
    ours, floor, plain = [], [], []
    with bench.step("first import") as notes:
        for _ in range(1 if bench.quick else 3):
            bench.home = bench.fresh_home()
            ours.append(bench.home.run("register", f"{bench.home.base}/a")[0])
            plain.append(bench.floor.copy(bench.master, bench.empty("copied")))
            floor.append(floors.rsync(bench.master, bench.empty("rsynced")) or plain[-1])
    notes |= {"bytes": bench.bytes, "floor_copy_s": plain}
    what = "rsync -a --fsync" if floor != plain else f"{bench.floor.kind}, copy + fsync"
    limit = Budget("1.5 x floor", ratio=1.5)
    bench.rows.append(Row("import", f"first import of {bench.count}", "s", ours, floor, what, limit, notes))


def restart(bench: Bench) -> None:
    """From exec to `status --json` giving a verdict from a finished scan; everything in step, two roots."""
    home = bench.home
    with home.agent() as agent:  # the first start after an import settles what was written a moment ago
        agent.wait_calm()
    ours, scanned, cpu, floor, verdicts = [], [], [], [], []
    with bench.step("restart in step") as notes:
        for _ in range(2 if bench.quick else 7):
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
    what = f"restart, {bench.count} x 2 in step"
    bench.rows.append(Row("restart", what, "s", ours, floor, "find -printf", Budget("1.4 s", p50=1.4), notes))


def idle(bench: Bench) -> None:
    """CPU, wakeups, memory and writes of an agent that has nothing to do."""
    seconds = 5.0 if bench.quick else 20.0
    with bench.home.agent() as agent:
        agent.wait_calm()
        time.sleep(1.0 if bench.quick else 4.0)
        with bench.step(f"idle for {seconds:.0f} s") as notes:
            before = agent.use()
            time.sleep(seconds)
            after = agent.use()
    share = (after.cpu - before.cpu) / seconds * 100
    notes |= {"seconds": seconds, "pss_mib": round(after.pss / 1024, 1)}
    wakeups = (after.wakeups - before.wakeups) / seconds
    at = f"idle, {bench.count}: "
    bench.rows += [
        Row("idle-cpu", at + "of a core", "%", [share], budget=Budget("0.2 %", p50=0.2), notes=notes),
        Row("idle-wakeups", at + "wakeups", "/s", [wakeups]),
        Row("idle-rss", at + "RSS", "MB", [after.rss / 1024], budget=Budget("60 MB", p50=60.0)),
        Row("idle-writes", at + "writes", "B", [float(after.written - before.written)], budget=Budget("0 B", p50=0.0)),
    ]


def commands(bench: Bench) -> None:
    """Wall time of what a person types."""
    few = 3 if bench.quick else 15
    alone = 100.0 + 60.0 * bench.count / 1000
    with bench.step("commands") as notes:
        floor = [floors.bare_click() * 1000 for _ in range(few)]
        with bench.home.agent() as agent:
            agent.wait_calm()
            asked = _wall(bench, few, "status", "--json")
        looked = _wall(bench, few, "status", "--json")
        listed = _wall(bench, max(1, few // 3), "ls")
        verified = _wall(bench, max(1, few // 5), "verify", "--quiet")
    for name, what, samples, budget in (
        ("status-agent", "status --json, agent", asked, Budget("100 ms", p50=100.0)),
        ("status-alone", "status --json, no agent", looked, Budget(f"{alone:.0f} ms", p50=alone)),
        ("ls", f"ls, {bench.count}", listed, None),
        ("verify", f"verify, {bench.count}", verified, None),
    ):
        bench.rows.append(Row(name, what, "ms", samples, floor, "python -c 'import click'", budget, notes))


def _wall(bench: Bench, times: int, *argv: str) -> list[float]:
    return [bench.home.run(*argv)[0] * 1000 for _ in range(times)]


def bursts(bench: Bench) -> None:
    """All conversations changed at once by another process, until all of them are durable."""
    for mode in ("append", "rewrite"):
        with bench.step(f"burst, {mode}") as notes:
            found = burst(bench, mode, times=1 if bench.quick else 3)
        notes |= found.notes
        scaled = 2.5 * found.bytes / DESIGN_BURST
        budget = Budget(f"{scaled:.2f} s", p50=scaled) if bench.count >= MANY else None
        what = f"burst of {bench.count}, {mode}"
        row = Row(f"burst-{mode}", what, "s", found.durable, found.floor, f"{bench.floor.kind}, copy + fsync")
        row.budget, row.notes = budget, notes
        bench.rows.append(row)


def latency(bench: Bench) -> None:
    """One change at a time while all conversations are there, with a second worktree."""
    bench.second_worktree()
    edits, tight = (20, 10) if bench.quick else (240, 40)
    for name, mode, what, budget in (
        ("append", "append", "append -> durable", Budget("5 / 20 ms", p50=5.0, p99=20.0)),
        ("turn", "turn", "whole turn -> durable", Budget("5 / 20 ms", p50=5.0, p99=20.0)),
        ("edit", "edit", "edit, loser kept -> durable", Budget("5 / 20 ms", p50=5.0, p99=20.0)),
    ):
        with bench.step(what) as notes:
            found = latencies(bench, mode, edits, block=tight)
        notes |= {"seen_ms": found.seen, "agent_cpu_ms_per_edit": found.cpu_ms}
        kind = f"{bench.floor.kind}, inotify + copy + fsync + rename"
        bench.rows.append(Row(name, what, "ms", found.durable, found.floor, kind, budget, notes))
        limit = Budget("8 ms", p50=8.0)
        bench.rows.append(
            Row(f"{name}-projected", "  -> other worktree", "ms", found.projected, found.floor, kind, limit)
        )


SCENARIOS = {
    "import": first_import,
    "restart": restart,
    "idle": idle,
    "commands": commands,
    "burst": bursts,
    "latency": latency,
}
"""In the order in which they must run: later ones change what earlier ones need unchanged."""
