"""What became of an action: done, postponed, or failed. Trouble with one conversation is data, not an exception."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from convsync_agent.bulk import Content
from convsync_agent.errors import UNWRITTEN, kind_of, reason_of
from convsync_agent.model import Copy, Root, Stamp, Unit, UnitCopy
from convsync_agent.plan import Action, AddExtras, Import, Keep, Problem, Update, target_of


@dataclass(frozen=True, slots=True)
class Done:
    action: Action
    files: int = 0


@dataclass(frozen=True, slots=True)
class Postponed:
    action: Action
    reason: str  # locked: the lock is held; unstable: the disk is not as planned


@dataclass(frozen=True, slots=True)
class Failed:
    action: Action
    problem: Problem


Result = Done | Postponed | Failed
Keeper = Callable[[Copy, Unit, Sequence[tuple[str, Content, int]], str], None]
"""Puts (copy, unit, files, why) into the history, durable when it returns."""
Trust = Callable[[tuple[Root, int], UnitCopy, str, Stamp], None]
"""Learns that a file of this unit was placed in (root, conversation), and has this stamp there."""


class Pending(NamedTuple):
    """What is begun in one target: the conversation, the path of the root, and what is to be done there."""

    conversation: int
    target: str
    work: str


@dataclass(slots=True)
class Journal:
    """Where pending work is noted before the first rename of a change that takes several."""

    put: Callable[[Sequence[Pending]], None]
    drop: Callable[[Sequence[Pending]], None]


def because_of(action: Action, before: Result) -> Result:
    """What became of an action whose silo step did not happen: nothing is projected before it is durable."""
    if isinstance(before, Failed):
        return Failed(action, before.problem)
    assert isinstance(before, Postponed)  # noqa: S101
    return Postponed(action, before.reason)


def failed_with(action: Action, error: OSError) -> Failed:
    """What went wrong, and where the content that could not be written stays as it is."""
    target, source = target_of(action), _source_of(action)
    detail = UNWRITTEN + reason_of(error)
    if source is not None and source != target:
        detail += f"; what is newer is safe in {source.path.removesuffix('/.jp')}"
    return Failed(action, Problem(kind_of(error), action.conversation, target, detail))


def _source_of(action: Action) -> Root | None:
    if isinstance(action, Import):
        return action.stream.root
    return action.source.root if isinstance(action, Keep | Update | AddExtras) else None
