"""`python -m benchmarks [--quick] [--conversations N,N] [--worktrees N,N] [--only NAMES] [--peers NAMES]`."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import textwrap
import time
from pathlib import Path

from benchmarks import proc
from benchmarks.bench import Bench, say
from benchmarks.floors import Floor
from benchmarks.home import Failed, throw_away
from benchmarks.peers import PEERS
from benchmarks.report import WIDE, Row, document, table
from benchmarks.scenarios import AT_THE_END, ONCE, SCENARIOS
from benchmarks.workload import Workload

FULL = {"conversations": (100, 1000, 10_000), "worktrees": (1, 20, 200)}
QUICK = {"conversations": (60,), "worktrees": (1, 5)}


def main(argv: list[str]) -> int:
    options = _options(argv)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        return _run(options)
    except Terminated:  # before anything could be measured
        return Terminated.CODE


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends the measuring as Ctrl-C does, and only the exit code tells them apart."""

    CODE = 128 + signal.SIGTERM


def _terminated(*_: object) -> None:
    _go_on()
    raise Terminated("terminated")


def _go_on() -> None:
    """From here on a SIGTERM stops nothing: what is told and cleared away would be lost half-way."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _run(options: argparse.Namespace) -> int:
    with throw_away() as base:
        head = proc.describe(str(base))
        head["versions"] |= {n: PEERS[n].version() for n in options.peers if not PEERS[n].missing()}
        head["options"] = {k: v for k, v in vars(options).items() if k != "json"}
        floor, began = Floor(base), time.monotonic()
        benches = [_bench(base, count, floor, options) for count in options.conversations]
        trouble, code = "", 0
        try:
            _measure(benches, options.only)
            _go_on()
        except (Failed, KeyboardInterrupt) as why:  # what was measured until then is shown all the same
            trouble, code = str(why) or "interrupted", getattr(why, "CODE", 1)
            _go_on()
        proc.end_children()
        head["trouble"], head["seconds"] = trouble, round(time.monotonic() - began)
        _tell(head, benches, floor, options.json)
    if trouble:
        print(f"error: {trouble}", file=sys.stderr)
    return code


def _bench(base: Path, count: int, floor: Floor, options: argparse.Namespace) -> Bench:
    place = base / str(count)
    place.mkdir()
    few = options.peers if count <= options.peers_up_to else []
    made = Bench(place, count, options.quick, floor, Workload(count, real=not options.generated))
    made.worktrees, made.peers, made.calm = tuple(options.worktrees), tuple(few), options.calm
    return made


def _measure(benches: list[Bench], only: list[str]) -> None:
    for bench in benches:
        for name in only:
            if name not in AT_THE_END and (name not in ONCE or bench is benches[0]):
                SCENARIOS[name](bench)
    for bench in benches:
        for name in only:
            if name in AT_THE_END:
                SCENARIOS[name](bench)


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What convsync costs, beside floors and beside what others cost."
    )
    say_more = parser.add_argument
    say_more("--quick", action="store_true", help="few repeats, one small machine: does it run, not how fast is it")
    say_more("--conversations", metavar="N,N", help="sizes of machines (100,1000,10000; quick: 60)")
    say_more("--worktrees", metavar="N,N", help="how many worktrees, for `wide` (1,20,200; quick: 1,5)")
    say_more("--only", metavar="NAMES", default=",".join(SCENARIOS), help=f"scenarios, some of {','.join(SCENARIOS)}")
    say_more("--peers", metavar="NAMES", default=",".join(PEERS), help=f"none, or some of {','.join(PEERS)}")
    say_more("--peers-up-to", type=int, default=1000, metavar="N", help="no peers on larger machines (1000)")
    say_more("--generated", action="store_true", help="generated conversations, also where there are real ones")
    say_more("--calm", type=float, default=0.0, metavar="S", help="wait so long for a calm moment before a step (0)")
    say_more("--json", metavar="FILE", help="write every figure there")
    options = parser.parse_args(argv)
    if not sys.platform.startswith("linux"):
        parser.error("needs Linux: /proc and inotify tell what is measured here")
    for name, defaults in (QUICK if options.quick else FULL).items():
        setattr(options, name, _numbers(parser, name, getattr(options, name)) or list(defaults))
    options.only = _names(parser, "only", options.only, list(SCENARIOS))
    options.peers = [] if options.peers == "none" else _names(parser, "peers", options.peers, list(PEERS))
    return options


def _numbers(parser: argparse.ArgumentParser, name: str, text: str | None) -> list[int]:
    parts = [part for part in (text or "").split(",") if part]
    if not all(part.isdecimal() and int(part) for part in parts):
        parser.error(f"--{name} takes numbers from 1, with commas")
    return sorted({int(part) for part in parts})


def _names(parser: argparse.ArgumentParser, name: str, text: str, known: list[str]) -> list[str]:
    wanted = set(filter(None, text.split(",")))
    if wanted - set(known) or not wanted:
        parser.error(f"--{name} takes some of {','.join(known)}")
    return [one for one in known if one in wanted]


def _tell(head: dict, benches: list[Bench], floor: Floor, file: str | None) -> None:
    """The table, and the document where one is wanted."""
    rows = sorted((row for bench in benches for row in bench.rows), key=lambda row: row.conversations)
    head["load_after"] = os.getloadavg()
    head["workload"] = {b.count: {"bytes": b.bytes, "source": b.work.source} for b in benches}
    head["remarks"] = sorted({remark for b in benches for remark in b.remarks})
    print(_heading(head, floor))
    print(table(rows))
    print(_footing(head, rows))
    if file:
        Path(file).write_text(document(head, rows), encoding="utf-8")
        say(f"written: {file}")


def _heading(head: dict, floor: Floor) -> str:
    machine, versions = head["machine"], head["versions"]
    tools = ("watchdog", "rsync", *PEERS)
    said = ", ".join(f"{t} {version_number(versions[t])}" for t in tools if t in versions)
    sizes = ", ".join(
        f"{n:,} ({about['source']}, {about['bytes'] / 1e6:.0f} MB)" for n, about in head["workload"].items()
    )
    lines = (
        f"convsync {versions['convsync']} ({versions['revision']}), Python {versions['python']}, floor in {floor.kind}",
        f"{machine['cores']} x {machine['cpu']}, {machine['memory_mib']} MiB, {machine['system']}",
        f"{machine['file_system']}, load {machine['load'][0]:.1f} -> {head['load_after'][0]:.1f}, {head['seconds']} s",
        f"conversations: {sizes}",
        said,
    )
    return "\n".join(textwrap.fill(line, WIDE) for line in (*lines, ""))


def version_number(version: str) -> str:
    """The number in what a program says of its version; else all of it."""
    found = re.search(r"v?\d+(\.\d+)+\S*", version)
    return found[0] if found else version


def _footing(head: dict, rows: list[Row]) -> str:
    over = sum(row.verdict == "over" for row in rows)
    judged = sum(bool(row.verdict) for row in rows)
    return "\n".join(("", f"{judged} budgets, {over} over", *head["remarks"]))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
