"""Which kept versions are undone together: those that one act left behind.

An act is what replaced something: a program's save, a cycle, a command. It may replace several units, and
each leaves a version of its own; the history does not say which belong together, their times do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from convsync_agent.model import Unit

ACT_MS = 500
"""Versions kept at most this long before the newest one are of its act. What one cycle keeps is milliseconds apart."""


class Candidate(NamedTuple):
    """One kept version. `kept_ms`: when its content was last kept; `current`: it is what its unit holds now."""

    version: str
    unit: Unit
    kept_ms: int
    current: bool
    valid: bool = True


def newest_act(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The newest version that is not current already, and with it the newest of each other unit of its act.

    `candidates` are newest first within each unit. The first of the answer is the newest; an invalid version is
    an answer only as that. Empty when there is nothing that is not current. What a second act replaces is newer
    than everything here, and of the same units: so undoing twice gives back what was.
    """
    heads: dict[Unit, Candidate] = {}
    for one in candidates:
        if not one.current:
            heads.setdefault(one.unit, one)
    newest = max(heads.values(), key=lambda c: (c.kept_ms, c.version), default=None)
    if newest is None:
        return ()
    others = [c for c in heads.values() if c is not newest and c.valid and newest.kept_ms - c.kept_ms <= ACT_MS]
    return (newest, *sorted(others, key=lambda c: c.unit))
