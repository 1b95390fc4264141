"""What the agent counts since it started, and how long changes took. Numbers only; nothing here looks at a clock."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends, seconds; what took longer than the last is counted above them all."""

_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(slots=True)
class Histogram:
    """How often something took how long. `counts` has one more place than `BUCKETS`."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    total: float = 0.0

    @property
    def count(self) -> int:
        return sum(self.counts)

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[float, int]]:
        """(upper end, how many took at most that long), the last one `inf`."""
        found, so_far = [], 0
        for end, count in zip((*BUCKETS, float("inf")), self.counts, strict=True):
            so_far += count
            found.append((end, so_far))
        return found

    def quantile(self, share: float) -> float | None:
        """About how long that share of them took at most, evenly spread in each bucket; None: there were none."""
        wanted = share * self.count
        below, start = 0, 0.0
        for end, so_far in self.cumulative():
            if so_far and so_far >= wanted and so_far > below:
                if end == float("inf"):
                    return start
                return start + (end - start) * max(0.0, wanted - below) / (so_far - below)
            below, start = so_far, end
        return None


@dataclass(slots=True)
class Meter:
    """Counters since the agent started. `version` moves whenever one of them does."""

    latency: Histogram = field(default_factory=Histogram)
    actions: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    rescans: Counter[str] = field(default_factory=Counter)
    files: int = 0
    bytes: int = 0
    version: int = 0

    def did(self, done: Iterable[tuple[object, int, int]], took: Iterable[float]) -> None:
        """What one cycle did: (action, files, bytes), and seconds from a change to its durable copy."""
        for action, files, size in done:
            self.actions[name_of(action)] += 1
            self.files += files
            self.bytes += size
            self.version += 1
        for seconds in took:
            self.latency.observe(seconds)
            self.version += 1

    def failed(self, code: str) -> None:
        self.errors[code] += 1
        self.version += 1

    def rescanned(self, reason: str) -> None:
        self.rescans[reason] += 1
        self.version += 1

    def as_json(self, overflows: int, replacements: int) -> dict[str, Any]:
        """`metrics` of `status --json`."""
        middle, late = self.latency.quantile(0.5), self.latency.quantile(0.95)
        return {
            "rescans": self.rescans.total(),
            "overflows": overflows,
            "replacements": replacements,
            "actions": dict(sorted(self.actions.items())),
            "errors": dict(sorted(self.errors.items())),
            "files_written": self.files,
            "bytes_written": self.bytes,
            "latency_ms": {"count": self.latency.count, "p50": _ms(middle), "p95": _ms(late)},
        }


def name_of(action: object) -> str:
    """`PutBack` is `put_back`."""
    return _HUMP.sub("_", type(action).__name__).lower()


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
