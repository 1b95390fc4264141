"""Prometheus' text format 0.0.4, read strictly: what a collector would refuse or misread fails here."""

from __future__ import annotations

import re

_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"'
_SAMPLE = re.compile(rf"({_NAME})(?:\{{({_LABEL}(?:,{_LABEL})*)\}})? (\S+)")
_SUFFIXES = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse(text: str) -> tuple[dict[str, str], Samples]:
    """Types by name, values by (name, labels). Asserts what the format demands."""
    assert text.endswith("\n")
    types: dict[str, str] = {}
    samples: Samples = {}
    family, helped = "", set()
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# HELP "):
            family = line.split(" ", 3)[2]
            assert re.fullmatch(_NAME, family), line
            assert family not in helped, f"{family} comes twice"
            assert line.split(" ", 3)[3].strip(), line
            helped.add(family)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family, "TYPE follows its HELP"
            assert kind in _SUFFIXES
            assert name not in types
            types[name] = kind
        else:
            found = _SAMPLE.fullmatch(line)
            assert found, f"no sample: {line!r}"
            assert found[1] in [family + s for s in _SUFFIXES[types[family]]], f"{line!r} is not of {family}"
            labels = tuple(re.findall(_LABEL, found[2] or ""))
            assert len({name for name, _ in labels}) == len(labels)
            assert (found[1], labels) not in samples, f"{line!r} comes twice"
            samples[found[1], labels] = float(found[found.re.groups])
    assert helped == types.keys()
    for name, kind in types.items():
        assert (kind == "counter") == name.endswith("_total"), name
        if kind == "histogram":
            _histogram(name, samples)
    return types, samples


def _histogram(name: str, samples: Samples) -> None:
    rows = [(float(dict(labels)["le"]), v) for (n, labels), v in samples.items() if n == f"{name}_bucket"]
    assert rows == sorted(rows)
    assert [v for _, v in rows] == sorted(v for _, v in rows), "buckets are cumulative"
    assert rows[-1] == (float("inf"), samples[f"{name}_count", ()])
    assert samples[f"{name}_sum", ()] >= 0
