"""Figures, verdicts, one table of 80 columns, one JSON document."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class Budget:
    """Upper limits in the unit of the row, or as a multiple of the floor. `text` is what the table shows."""

    text: str
    p50: float | None = None
    p99: float | None = None
    ratio: float | None = None


@dataclass
class Row:
    """One thing that was measured, what the least program took for it, and what it may take."""

    name: str
    what: str
    unit: str  # s, ms, MB, % or B
    samples: list[float]
    floor: list[float] = field(default_factory=list)
    floor_what: str = ""
    budget: Budget | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        low = quantile(self.floor, 50) if self.floor else 0.0
        return quantile(self.samples, 50) / low if low else None

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
            "name": self.name, "what": self.what, "unit": self.unit, **summary(self.samples),
            "floor": {"what": self.floor_what, **summary(self.floor)} if self.floor else None,
            "ratio": self.ratio and round(self.ratio, 2), "budget": limits, "verdict": self.verdict,
            "notes": self.notes, "samples": [round(s, 4) for s in self.samples],
        }  # fmt: skip


def summary(samples: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max by nearest rank: of few samples the high ones are the slowest one."""
    figures = {f"p{q}": quantile(samples, q) for q in (50, 95, 99)} | {"max": max(samples)}
    return {"n": len(samples)} | {k: round(v, 4) for k, v in figures.items()}


def quantile(samples: Sequence[float], percent: int) -> float:
    ranked = sorted(samples)
    return ranked[max(0, -(-len(ranked) * percent // 100) - 1)]


WIDTHS = (28, 9, 9, 9, 6, 12)


def table(rows: Sequence[Row]) -> str:
    lines = [_line("", "p50", "p99", "floor", "ratio", "budget", "")]
    for row in rows:
        show = _shower(row.unit)
        lines.append(
            _line(
                row.what,
                show(quantile(row.samples, 50)),
                show(quantile(row.samples, 99)),
                show(quantile(row.floor, 50)) if row.floor else "-",
                f"{row.ratio:.1f}" if row.ratio else "-",
                row.budget.text if row.budget else "-",
                row.verdict,
            )
        )
    return "\n".join(lines)


def _line(what: str, *cells: str) -> str:
    *numbers, verdict = cells
    shown = "".join(f"{c:>{w}}" for c, w in zip(numbers, WIDTHS[1:], strict=True))
    return f"{what:<{WIDTHS[0]}}{shown} {verdict}".rstrip()


def _shower(unit: str) -> Callable[[float], str]:
    """Three significant digits are more than these figures bear."""
    digits = {"s": 2, "ms": 2, "MB": 1, "%": 3, "B": 0, "/s": 1}[unit]
    return lambda value: f"{value:.{digits if value < 100 else 0}f} {unit}"


def document(head: dict[str, Any], rows: Sequence[Row]) -> str:
    return json.dumps({"schema": SCHEMA, **head, "results": [r.as_json() for r in rows]}, indent=1) + "\n"
