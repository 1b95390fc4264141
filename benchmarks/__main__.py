"""`python -m benchmarks [--quick] [--conversations N] [--json FILE] [--only NAMES]`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks import proc
from benchmarks.bench import Bench, say
from benchmarks.floors import Floor
from benchmarks.home import throw_away
from benchmarks.report import document, table
from benchmarks.scenarios import SCENARIOS
from benchmarks.workload import Workload


def main() -> int:
    options = _options()
    with throw_away() as base:
        bench = Bench(base, options.conversations, options.quick, Floor(base), Workload(options.conversations))
        bench.calm = options.calm
        head = proc.describe(str(base))
        for name in options.only:
            SCENARIOS[name](bench)
        head["load_after"] = os.getloadavg()
        head["options"] = {"conversations": options.conversations, "quick": options.quick, "only": options.only}
        head["tree_bytes"] = bench.bytes
        print(_heading(head, bench))
        print(table(bench.rows))
        if options.json:
            Path(options.json).write_text(document(head, bench.rows), encoding="utf-8")
            say(f"written: {options.json}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="What convsync costs, beside floors.")
    parser.add_argument("--quick", action="store_true", help="few repeats: does it run, not how fast is it")
    parser.add_argument("--conversations", type=int, default=1000, metavar="N", help="how many there are (1000)")
    parser.add_argument(
        "--calm", type=float, default=0.0, metavar="SECONDS", help="wait so long for a calm moment before each step (0)"
    )
    parser.add_argument("--json", metavar="FILE", help="write every figure there")
    names = ",".join(SCENARIOS)
    parser.add_argument("--only", metavar="NAMES", default=names, help=f"some of {names}")
    options = parser.parse_args()
    wanted = set(filter(None, options.only.split(",")))
    if wanted - SCENARIOS.keys() or not wanted:
        parser.error(f"--only takes some of {names}")
    if options.conversations < 1:
        parser.error("at least one conversation")
    if not sys.platform.startswith("linux"):
        parser.error("needs Linux: /proc and inotify tell what is measured here")
    options.only = [name for name in SCENARIOS if name in wanted]
    return options


def _heading(head: dict, bench: Bench) -> str:
    machine, versions = head["machine"], head["versions"]
    load = f"load {machine['load'][0]:.1f} -> {head['load_after'][0]:.1f}"
    return "\n".join(
        (
            f"convsync {versions['convsync']}, Python {versions['python']}, floor in {bench.floor.kind}",
            f"{machine['cores']} x {machine['cpu']}"[:80],
            f"{machine['system']}, {machine['file_system']}, {load}"[:80],
            f"{bench.count} conversations, {bench.bytes / 1e6:.0f} MB",
            "",
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
