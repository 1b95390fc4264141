"""The line of progress: on a terminal, once something takes longer than a moment, and gone at its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from convsync_cli import output

if TYPE_CHECKING:
    from convsync_agent.progress import Stage, Step

SHOW_AFTER_SECONDS = 0.5
SHOW_EVERY_SECONDS = 0.1
CELLS = 20
ROOM_FOR_CELLS = 70


class Bar:
    """Takes every step and shows some. Each stage has its own rate; the moment counts for all of them."""

    def __init__(self) -> None:
        self.began = self.shown = time.monotonic()
        self.stage: Stage | None = None
        self.since = self.began

    def __call__(self, step: Step) -> None:
        now = time.monotonic()
        if step.stage is not self.stage:
            self.stage, self.since = step.stage, now
        if now - self.began < SHOW_AFTER_SECONDS or now - self.shown < SHOW_EVERY_SECONDS:
            return
        self.shown = now
        output.progress(said(step, now - self.since, output.error_width()))


def said(step: Step, spent: float, columns: int) -> str:
    """The line, without the drawing where it would not fit. Pure."""
    share = step.done / step.total if step.total else 1.0
    full = round(share * CELLS)
    drawn = f" [{'#' * full}{'.' * (CELLS - full)}]" if columns >= ROOM_FOR_CELLS else ""
    parts = [f"{step.done * 100 // step.total if step.total else 100} %"]
    if step.files:
        parts.append(output.plural(step.files, "file"))
        parts.append(output.size(step.bytes))
    if spent > 0:
        parts.append(f"{output.size(round(step.bytes / spent))}/s" if step.bytes else f"{step.done / spent:.0f}/s")
        if step.done:
            parts.append(f"{spent / step.done * (step.total - step.done):.0f} s left")
    return f"{step.stage}{drawn} {', '.join(parts)}"
