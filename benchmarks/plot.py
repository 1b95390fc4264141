"""`python -m benchmarks.plot FILE... [--into docs/img]`: latency and cost against size, from what `--json` wrote."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from typing import Any

from benchmarks.report import SCHEMA
from benchmarks.svg import Axis, Line, Panel, picture

SIZE = Axis("conversations (logarithmic)")
MS = Axis("milliseconds (logarithmic)")
LEAST = 0.001
CORE = Axis(f"percent of one core (logarithmic; {LEAST} is that or less)")
Results = list[dict[str, Any]]

OURS = (
    ("append, p50", "append", "p50", False),
    ("append, p99", "append", "p99", True),
    ("any edit, p50", "life", "p50", False),
    ("any edit, p99", "life", "p99", True),
    ("other worktree, p50", "append-projected", "p50", False),
)
PROGRAMS = (
    ("convsync", "peer-convsync"),
    ("C, with fsync", "peer-floor"),
    ("watchman + rsync", "peer-watchman"),
    ("inotifywait + rsync", "peer-inotifywait"),
    ("Unison", "peer-unison"),
    ("Syncthing", "peer-syncthing"),
    ("rclone bisync", "peer-rclone"),
    ("lsyncd, one way", "peer-lsyncd"),
)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description="Pictures of results, as SVG.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="what `python -m benchmarks --json FILE` wrote")
    parser.add_argument("--into", default="docs/img", metavar="DIRECTORY", help="where they go (docs/img)")
    options = parser.parse_args(argv)
    results: Results = []
    for path in options.files:
        with open(path, encoding="utf-8") as file:
            said = json.load(file)
        if not isinstance(said, dict) or said.get("schema") != SCHEMA:
            parser.error(f"not a result of this version: {path}")
        results += said["results"]
    os.makedirs(options.into, exist_ok=True)
    for name, panels in (("latency", latency(results)), ("cost", cost(results))):
        with open(f"{options.into}/{name}.svg", "w", encoding="utf-8") as file:
            file.write(picture(panels))
    return 0


def latency(results: Results) -> list[Panel]:
    """A change until it is durable, and the same for all programs."""
    ours = [_line(results, *one) for one in OURS]
    ours.append(_beside(results, "C, with fsync, p50", "append"))
    beside = [_line(results, label, name, "p50") for label, name in PROGRAMS]
    return [
        Panel("From a change to its durable copy", SIZE, MS, _measured(ours)),
        Panel("Edits of any size, until on the other side, p50", SIZE, MS, _measured(beside)),
    ]


def cost(results: Results) -> list[Panel]:
    """Memory, a restart and being there, at each size."""
    restart = [
        _line(results, "in step, to a verdict", "restart", "p50"),
        _line(results, "1 % changed, to durable", "restart-changed", "p50"),
        _beside(results, "find -printf", "restart"),
    ]
    memory = [_line(results, label, f"{name}-rss", "p50") for label, name in PROGRAMS]
    idle = [_line(results, label, f"{name}-idle", "p50") for label, name in PROGRAMS]
    alone = _line(results, "convsync", "idle-rss", "p50"), _line(results, "convsync", "idle-cpu", "p50")
    return [
        Panel("Memory, RSS", SIZE, Axis("MB (logarithmic)"), _measured([alone[0], *memory[1:]])),
        Panel("Restart", SIZE, Axis("seconds (logarithmic)"), _measured(restart)),
        Panel("Idle, CPU", SIZE, CORE, tuple(map(_at_least, _measured([alone[1], *idle[1:]])))),
    ]


def _line(results: Results, label: str, name: str, figure: str, dashed: bool = False) -> Line:  # noqa: FBT001, FBT002
    points = {r["conversations"]: r[figure] for r in results if r["name"] == name}
    return Line(label, tuple(sorted(points.items())), dashed)


def _beside(results: Results, label: str, name: str) -> Line:
    points = {r["conversations"]: r["beside"]["p50"] for r in results if r["name"] == name and r["beside"]}
    return Line(label, tuple(sorted(points.items())), dashed=True)


def _at_least(line: Line) -> Line:
    return Line(line.label, tuple((x, max(LEAST, y)) for x, y in line.points), line.dashed)


def _measured(lines: Iterable[Line]) -> tuple[Line, ...]:
    return tuple(line for line in lines if line.points)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
