"""How far a stage of the work is: data for whoever wants to show it, and nothing at all where nobody does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Stage(StrEnum):
    """What is being done, in the words that are shown."""

    LOOK = "looking"
    READ = "reading"
    WRITE = "writing"
    RECONCILE = "reconciling"
    KEEP = "keeping copies"


class Step(NamedTuple):
    """`done` of `total` in the stage's own unit: bytes when writing, else copies or conversations."""

    stage: Stage
    done: int
    total: int
    files: int = 0
    bytes: int = 0


Tell = Callable[[Step], None]


@dataclass(slots=True)
class Count:
    """Adds up what was done in one stage, and tells it."""

    tell: Tell | None
    stage: Stage
    total: int
    done: int = 0
    files: int = 0
    bytes: int = 0

    def add(self, done: int, files: int = 0, size: int = 0) -> None:
        if self.tell is None:
            return
        self.done += done
        self.files += files
        self.bytes += size
        self.tell(Step(self.stage, min(self.done, self.total), self.total, self.files, self.bytes))
