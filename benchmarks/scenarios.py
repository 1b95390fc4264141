"""What is measured. Each scenario adds its rows; none of them judges: budgets are in the table, not asserted."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.bench import Bench
from benchmarks.beside import beside
from benchmarks.burst import bursts
from benchmarks.idle import commands, idle
from benchmarks.latency import latency
from benchmarks.removal import removal
from benchmarks.starts import first_import, restart, restart_changed
from benchmarks.stream import stream
from benchmarks.titles import titles
from benchmarks.wide import wide

SCENARIOS: dict[str, Callable[[Bench], None]] = {
    "import": first_import,
    "restart": restart,
    "restart-changed": restart_changed,
    "idle": idle,
    "commands": commands,
    "burst": bursts,
    "latency": latency,
    "peers": beside,
    "stream": stream,
    "titles": titles,
    "wide": wide,
    "removal": removal,
}
"""In the order in which they must run: later ones change what earlier ones need unchanged."""

ONCE = frozenset({"wide"})
"""Not for each size of a machine: this one has its own conversations."""

AT_THE_END = frozenset({"removal"})
"""After everything else of every size: what is deleted makes the disk slow for minutes (`throw_away`)."""
