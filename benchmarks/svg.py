"""Lines over an axis, as SVG: panels beside each other, each line with its name at its end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape

WIDE, HIGH = 460, 330  # one panel, in pixels
LEFT, RIGHT, TOP, BOTTOM = 62, 156, 44, 46  # what is around its plot; the names of the lines are on the right
LETTER = 13  # pixels between two names
LIGHT = ("#0b5fa5", "#b3470c", "#3a7d1e", "#7a3fa0", "#a3174f", "#0f7a7a", "#7d6200", "#555555")
DARK = ("#6cb6ff", "#f69d50", "#8ddb6e", "#d2a8ff", "#ff8fb3", "#5fd6d6", "#e3c341", "#b8b8b8")


@dataclass(frozen=True)
class Axis:
    """`label` names the unit. A logarithmic one shows nothing at or below zero."""

    label: str
    log: bool = True


@dataclass(frozen=True)
class Line:
    label: str
    points: tuple[tuple[float, float], ...]
    dashed: bool = False


@dataclass(frozen=True)
class Panel:
    title: str
    x: Axis
    y: Axis
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Scale:
    """Values between `low` and `high` to pixels between `start` and `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def at(self, value: float) -> float:
        low, high, here = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (here - low) / (high - low) * (self.end - self.start)


def picture(panels: Sequence[Panel]) -> str:
    """A whole SVG document; the colours follow the reader's light or dark."""
    size = f'width="{WIDE * len(panels)}" height="{HIGH}" viewBox="0 0 {WIDE * len(panels)} {HIGH}"'
    body = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="sans-serif" font-size="11">']
    body += [f"<title>{escape('; '.join(p.title for p in panels))}</title>", _style()]
    body += ['<rect class="ground" width="100%" height="100%"/>']
    for number, panel in enumerate(panels):
        body += [f'<g transform="translate({WIDE * number},0)">', *_panel(panel), "</g>"]
    return "\n".join([*body, "</svg>"]) + "\n"


def _style() -> str:
    def colours(ground: str, ink: str, grid: str, palette: Sequence[str]) -> str:
        lines = "".join(f".c{n}{{stroke:{c}}}.f{n}{{fill:{c}}}" for n, c in enumerate(palette))
        return f".ground{{fill:{ground}}}text{{fill:{ink}}}.grid{{stroke:{grid}}}{lines}"

    light, dark = colours("#ffffff", "#1f2328", "#d0d7de", LIGHT), colours("#0d1117", "#e6edf3", "#30363d", DARK)
    return f"<style>path{{fill:none;stroke-width:2}}{light}@media (prefers-color-scheme:dark){{{dark}}}</style>"


def _panel(panel: Panel) -> list[str]:
    shown = [_visible(panel, line) for line in panel.lines]
    xs, ys = ([point[axis] for line in shown for point in line] for axis in (0, 1))
    out = [f'<text x="{LEFT}" y="20" font-size="13" font-weight="bold">{escape(panel.title)}</text>']
    if not xs:
        return [*out, f'<text x="{LEFT}" y="{HIGH / 2}">not measured</text>']
    x = _scale(xs, panel.x.log, LEFT, WIDE - RIGHT)
    y = _scale([*ys, *([] if panel.y.log else [0.0])], panel.y.log, HIGH - BOTTOM, TOP)
    out += _axes(panel, x, y)
    ends = [(y.at(line[-1][1]) if line else 0.0) for line in shown]
    heights = apart(ends, LETTER)
    for number, (line, points) in enumerate(zip(panel.lines, shown, strict=True)):
        if points:
            out += _drawn(line, [(x.at(a), y.at(b)) for a, b in points], number % len(LIGHT), heights[number])
    return out


def _visible(panel: Panel, line: Line) -> list[tuple[float, float]]:
    return sorted(p for p in line.points if (p[0] > 0 or not panel.x.log) and (p[1] > 0 or not panel.y.log))


def _drawn(line: Line, at: list[tuple[float, float]], colour: int, height: float) -> list[str]:
    dash = ' stroke-dasharray="5 4"' if line.dashed else ""
    path = "M" + "L".join(f"{a:.1f},{b:.1f}" for a, b in at)
    marks = [f'<circle class="f{colour}" cx="{a:.1f}" cy="{b:.1f}" r="3"/>' for a, b in at]
    name = f'<text class="f{colour}" x="{WIDE - RIGHT + 12}" y="{height + 4:.1f}">{escape(line.label)}</text>'
    return [f'<path class="c{colour}" d="{path}"{dash}/>', *marks, name]


def _axes(panel: Panel, x: Scale, y: Scale) -> list[str]:
    right, low = WIDE - RIGHT, HIGH - BOTTOM
    out = []
    for value in ticks(y):
        at = y.at(value)
        out.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        out.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_number(value)}</text>')
    for value in ticks(x):
        at = x.at(value)
        out.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{low}"/>')
        out.append(f'<text x="{at:.1f}" y="{low + 16}" text-anchor="middle">{_number(value)}</text>')
    middle = (LEFT + right) / 2
    out.append(f'<text x="{middle}" y="{HIGH - 10}" text-anchor="middle">{escape(panel.x.label)}</text>')
    out.append(f'<text x="{LEFT}" y="{TOP - 8}">{escape(panel.y.label)}</text>')
    return out


def _scale(values: Sequence[float], log: bool, start: float, end: float) -> Scale:  # noqa: FBT001
    low, high = min(values), max(values)
    if log:
        low, high = 10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high))
        return Scale(low, high if high > low else low * 10, start, end, log=True)
    return Scale(low, high * 1.1 if high > low else low + 1, start, end, log=False)


def ticks(scale: Scale) -> list[float]:
    """Where an axis has its numbers: the decades, or four to nine even steps."""
    if scale.log:
        return [10.0**n for n in range(round(math.log10(scale.low)), round(math.log10(scale.high)) + 1)]
    step = 10.0 ** math.floor(math.log10((scale.high - scale.low) / 4))
    while (scale.high - scale.low) / step > 9:
        step *= 2 if (scale.high - scale.low) / step < 18 else 5
    return [n * step for n in range(math.ceil(scale.low / step), math.floor(scale.high / step) + 1)]


def apart(wanted: Sequence[float], least: float) -> list[float]:
    """Heights in the same order with at least so much between any two, each near to where it is wanted."""
    order = sorted(range(len(wanted)), key=lambda n: wanted[n])
    placed = {n: wanted[n] for n in order}
    for above, below in pairwise(order):
        placed[below] = max(placed[below], placed[above] + least)
    bottom = HIGH - BOTTOM
    for n in reversed(order):
        placed[n] = min(placed[n], bottom)
        bottom = placed[n] - least
    return [placed[n] for n in range(len(wanted))]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 and value == round(value) else f"{value:g}"
