"""A plan grouped by the copies it changes: one target, one lock, all that happens to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from convsync_agent import place
from convsync_agent.extras import Carry
from convsync_agent.model import Copy
from convsync_agent.plan import Action, AddExtras, Import, Rename, Update, target_of
from convsync_agent.results import Pending, Result

CHUNK_FILES, CHUNK_BYTES = 256, 48 << 20


@dataclass(slots=True)
class Target:
    """Everything to be done to one copy of one conversation, under one lock."""

    copy: Copy
    jobs: list[place.Job] = field(default_factory=list)
    extras: list[AddExtras] = field(default_factory=list)
    rename: Rename | None = None
    carries: list[Carry] = field(default_factory=list)
    finished: bool = False
    refused: list[Result] = field(default_factory=list)  # extras that stay behind, while the rest goes on

    @property
    def actions(self) -> list[Action]:
        jobs: list[Action] = [j.action for j in self.jobs]
        return [*jobs, *self.extras, *([self.rename] if self.rename else [])]

    @property
    def changes(self) -> list[Action]:
        """What is done as a whole; unmanaged files have results of their own."""
        return [a for a in self.actions if not isinstance(a, AddExtras)]

    @property
    def empty(self) -> bool:
        return not self.changes and not self.carries

    @property
    def size(self) -> int:
        return sum(j.action.size for j in self.jobs)

    @property
    def atomic(self) -> bool:
        """Each step is one rename, of a file with its true age or of the directory: no order of them does any harm.

        So the fsync of its directory, and the note of what is pending, may be shared with others.
        """
        return all(job.single for job in self.jobs) and not self.extras

    @property
    def light(self) -> bool:
        """One rename of a file: there is nothing in between, so nothing can be pending."""
        return self.atomic and len(self.jobs) == 1 and self.rename is None

    @property
    def untouched(self) -> bool:
        return not any(job.placed for job in self.jobs)


_T = TypeVar("_T", Import, Target)


def by_target(action: Action) -> tuple[int, tuple[int, str]]:
    return (action.conversation, target_of(action).order)


def gather(actions: list[Action]) -> Target:
    first = actions[0]
    assert isinstance(first, Update | AddExtras | Rename)  # noqa: S101
    target = Target(first.target)
    for action in actions:
        if isinstance(action, Update):
            target.jobs.append(place.Job(action))
        elif isinstance(action, AddExtras):
            target.extras.append(action)
        elif isinstance(action, Rename):
            target.rename = action
    return target


def pending_of(target: Target) -> Pending:
    """What is pending, without names of directories (R9): the ages still to be set, and whose name to take.

    `digests` and `olds`, of the winner and of the loser by file, say whether it was begun and can be finished.
    """
    units = [
        {
            "ages": place.true_ages(j.action),
            "digests": {f.name: f.digest.hex() for f in j.action.source.unit(j.action.unit).files if f.digest},
            "olds": {f.name: f.digest.hex() for f in j.action.target.unit(j.action.unit).files if f.digest},
        }
        for j in target.jobs
    ]
    rename = target.jobs[-1].action.source.root.path if target.rename and target.jobs else None
    work = json.dumps({"units": units, "name_of": rename})
    return Pending(target.copy.conversation, target.copy.root.path, work)


def chunks(items: Sequence[_T], most: int = CHUNK_FILES) -> Iterator[list[_T]]:
    """Bursts of a bounded number of items and bytes, so that memory stays flat and nobody waits for all."""
    chunk: list[_T] = []
    size = 0
    for item in items:
        chunk.append(item)
        size += item.size
        if len(chunk) >= min(most, CHUNK_FILES) or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
