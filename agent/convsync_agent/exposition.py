"""Prometheus' text format, version 0.0.4: families of samples to text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from convsync_agent.meter import Histogram

Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: `samples` are (suffix of the name, labels, value)."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: tuple[tuple[str, Labels, float], ...]


def single(name: str, kind: Literal["counter", "gauge"], text: str, value: float, **labels: str) -> Family:
    """A metric with one sample."""
    return Family(name, kind, text, (("", tuple(sorted(labels.items())), value),))


def labelled(
    name: str, kind: Literal["counter", "gauge"], text: str, label: str, values: Mapping[str, float]
) -> Family:
    """A metric with a sample for each value of one label."""
    return Family(name, kind, text, tuple(("", ((label, key),), value) for key, value in sorted(values.items())))


def histogram(name: str, text: str, found: Histogram) -> Family:
    """`_bucket` for each upper end, `_sum`, `_count`."""
    buckets = [("_bucket", (("le", number(end)),), float(count)) for end, count in found.cumulative()]
    return Family(name, "histogram", text, (*buckets, ("_sum", (), found.total), ("_count", (), float(found.count))))


def render(families: Iterable[Family]) -> str:
    """The whole text. A family without samples is left out."""
    lines = []
    for family in families:
        if family.samples:
            text = family.help.replace("\\", "\\\\").replace("\n", "\\n")
            lines += [f"# HELP {family.name} {text}", f"# TYPE {family.name} {family.kind}"]
            lines += [f"{family.name}{suffix}{_labels(labels)} {number(v)}" for suffix, labels, v in family.samples]
    return "".join(line + "\n" for line in lines)


def number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
