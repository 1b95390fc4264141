"""Figures, verdicts, one table, one JSON document."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

SCHEMA = 2


@dataclass(frozen=True)
class Budget:
    """Upper limits: `p50` and `p99` in the unit of the row, `ratio` as a multiple of what stands beside it."""

    ratio: float | None = None
    p50: float | None = None
    p99: float | None = None

    def text(self, unit: str) -> str:
        """As the table shows it."""
        parts = [] if self.ratio is None else [multiple(self.ratio).removesuffix(".0") + " x"]
        parts += [] if self.p50 is None else [f"{self.p50:g} {unit}"]
        parts += [] if self.p99 is None else [f"p99 {self.p99:g} {unit}"]
        return ", ".join(parts)


@dataclass
class Row:
    """One thing that was measured, what stands beside it, and what it may be.

    `theirs`: the samples are those of another program and `beside` holds ours, so that the ratio is ours to theirs.
    """

    name: str
    what: str
    unit: str  # s, ms, MB, %, B, /s or # for a count
    samples: list[float]
    beside: list[float] = field(default_factory=list)
    beside_what: str = ""
    notes: dict[str, Any] = field(default_factory=dict)
    budget: Budget | None = None
    theirs: bool = False
    conversations: int = 0
    worktrees: int = 1

    @property
    def ratio(self) -> float | None:
        """Ours to the other, of medians; None where there is none or the other is nothing."""
        if not self.beside:
            return None
        ours, other = quantile(self.samples, 50), quantile(self.beside, 50)
        if self.theirs:
            ours, other = other, ours
        return ours / other if other else None

    @property
    def verdict(self) -> str:
        if self.budget is None:
            return ""
        pairs = (
            (quantile(self.samples, 50), self.budget.p50),
            (quantile(self.samples, 99), self.budget.p99),
            (self.ratio, self.budget.ratio),
        )
        asked = [(have, most) for have, most in pairs if have is not None and most is not None]
        return ("ok" if all(have <= most for have, most in asked) else "over") if asked else ""

    def as_json(self) -> dict[str, Any]:
        limits = self.budget and {k: v for k, v in vars(self.budget).items() if v is not None}
        return {
            "name": self.name, "what": self.what, "unit": self.unit,
            "conversations": self.conversations, "worktrees": self.worktrees, **summary(self.samples),
            "beside": {"what": self.beside_what, **summary(self.beside)} if self.beside else None,
            "ratio": None if self.ratio is None else round(self.ratio, 5), "theirs": self.theirs,
            "budget": limits, "verdict": self.verdict,
            "notes": self.notes, "samples": [round(s, 4) for s in self.samples],
        }  # fmt: skip


def summary(samples: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max by nearest rank: of few samples the high ones are the slowest one."""
    figures = {f"p{q}": quantile(samples, q) for q in (50, 95, 99)} | {"max": max(samples)}
    return {"n": len(samples)} | {k: round(v, 4) for k, v in figures.items()}


def quantile(samples: Sequence[float], percent: int) -> float:
    ranked = sorted(samples)
    return ranked[max(0, -(-len(ranked) * percent // 100) - 1)]


def multiple(ratio: float) -> str:
    """A ratio in a few characters; what is below one as a fraction."""
    if ratio <= 0:
        return "0"
    return _digits(ratio) if ratio >= 0.995 else f"1/{_digits(1 / ratio)}"


def _digits(number: float) -> str:
    return f"{number:.1f}" if number < 9.95 else f"{number:.0f}"


HEADS = ("trees", "p50", "p95", "p99", "max", "beside", "ratio", "budget")
WIDTHS = (40, 6, 10, 10, 10, 10, 10, 7, 16)
WIDE = sum(WIDTHS) + len(" over")


def table(rows: Iterable[Row]) -> str:
    """One line a row, under the size of its machine. A row of one sample has no p95, p99 and max.

    `trees`: how many worktrees were registered; a silo is not counted.
    """
    lines = [_line("", *HEADS, "")]
    for size, group in groupby(rows, key=lambda r: r.conversations):
        lines += ["", f"{size:,} conversations", *map(_of, group)]
    return "\n".join(lines)


def _of(row: Row) -> str:
    show = _shower(row.unit)
    high = [show(quantile(row.samples, q)) for q in (95, 99, 100)] if len(row.samples) > 1 else [""] * 3
    return _line(
        row.what,
        str(row.worktrees),
        show(quantile(row.samples, 50)),
        *high,
        show(quantile(row.beside, 50)) if row.beside else "",
        "" if row.ratio is None else multiple(row.ratio),
        row.budget.text(row.unit) if row.budget else "",
        row.verdict,
    )


def _line(what: str, *cells: str) -> str:
    *numbers, verdict = cells
    shown = "".join(f"{c:>{w}}" for c, w in zip(numbers, WIDTHS[1:], strict=True))
    return f"{what:<{WIDTHS[0]}}{shown} {verdict}".rstrip()


def _shower(unit: str) -> Callable[[float], str]:
    """Three significant digits are more than these figures bear."""
    digits = {"s": 2, "ms": 2, "MB": 1, "%": 3, "B": 0, "/s": 1, "#": 0}[unit]
    name = "" if unit == "#" else f" {unit}"
    return lambda value: f"{value:.{digits if value < 100 else 0}f}{name}"


def document(head: dict[str, Any], rows: Iterable[Row]) -> str:
    return json.dumps({"schema": SCHEMA, **head, "results": [r.as_json() for r in rows]}, indent=1) + "\n"
