"""A second process that reconciles conversations for the agent: a part of a burst, or one with a huge file.

It is given what the agent knows of them, does one cycle, and hands back everything that the cycle left behind, so the
agent goes on as if it had done it. Only what a removal or another decision with a memory does not concern is done
here; the rest is handed back untouched. Two engines at once are safe (`engine`). It ends with the agent.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from typing import NamedTuple

from convsync_agent import locks, state
from convsync_agent.engine import Engine
from convsync_agent.errors import ConvsyncError
from convsync_agent.expiring import Expiring
from convsync_agent.ledger import Ledger, Unwritten
from convsync_agent.model import Absence, Copy, Digest, Root, Snapshot, Unit
from convsync_agent.observe import Fact
from convsync_agent.outcome import Outcome
from convsync_agent.scan import Listing, Place
from convsync_agent.settings import Settings
from convsync_agent.site import Site, resolve
from convsync_agent.staging import Retired
from convsync_agent.state import Attention

FileKey = tuple[str, int, str]


class Charter(NamedTuple):
    """What a deputy is told first."""

    state_dir: str
    data_dir: str
    settings: Settings


class Ready(NamedTuple):
    """It has opened what it needs."""


@dataclass(frozen=True, slots=True)
class Job:
    """One cycle to do. By path of a root: what its records say of these conversations, and where they lie.

    `keep`: their kept copies are due.
    """

    workspace: str
    conversations: frozenset[int]
    records: dict[str, dict[int, bytes]]
    places: dict[str, dict[int, tuple[Place, ...]]]
    closed: set[FileKey]
    silo: tuple[int, int] | None
    given_ns: int
    keep: bool = False


@dataclass(slots=True)
class Answer:
    """What one job left. `refused`: those of which nothing was done."""

    job: Job
    refused: set[int] = field(default_factory=set)
    outcome: Outcome = field(default_factory=Outcome)
    records: dict[str, dict[int, bytes]] = field(default_factory=dict)
    places: dict[str, dict[int, tuple[Place, ...]]] = field(default_factory=dict)
    unwritten: Unwritten = field(default_factory=Unwritten)
    facts: dict[FileKey, Fact] = field(default_factory=dict)
    placed: dict[tuple[Root, int], dict[Unit, Digest]] = field(default_factory=dict)
    unsaved: dict[tuple[str, int], Copy] = field(default_factory=dict)
    closed: set[FileKey] = field(default_factory=set)
    noted: list[tuple[frozenset[int], frozenset[tuple[int, Root]]]] = field(default_factory=list)
    waiting: list[Retired] = field(default_factory=list)
    staged_in: set[Root] = field(default_factory=set)
    stored: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)


class _Notes(Expiring):
    """Who is about to expire is remembered by the agent: it tells a removal of JP's from a loss."""

    def __init__(self) -> None:
        self.noted: list[tuple[frozenset[int], frozenset[tuple[int, Root]]]] = []

    def note(self, workspace: str, looked: Iterable[int], expired: Iterable[tuple[int, Root]]) -> None:  # noqa: ARG002
        self.noted.append((frozenset(looked), frozenset(expired)))

    def roots(self, workspace: str, conversation: int, missed_ns: int) -> set[str]:  # noqa: ARG002
        """It is not known here, where nothing that has gone is judged."""
        return set()


class _Ledger(Ledger):
    """The agent writes what a cycle leaves, in one transaction with its own."""

    def write(self, site: Site, outcome: Outcome, now_ms: int) -> None:
        """Nothing yet."""

    def tell(self, entry: Attention) -> None:
        """The agent does, so that it knows of it, too."""
        self._rows.told.append(entry)


class Deputy(Engine):
    """An engine that knows one job at a time, and remembers nothing of it."""

    def __init__(self, charter: Charter) -> None:
        super().__init__(state.writer(charter.state_dir), charter.data_dir, charter.settings, look=False)
        self.ledger = _Ledger(self.state)
        self.refused: set[int] = set()

    def perform_job(self, job: Job) -> Answer:
        """One cycle; what only the agent can judge is refused."""
        self.refused = set()
        site = self.sites.get(job.workspace)
        if site is None or not self._take_in(site, job):
            return Answer(job, refused=set(job.conversations))
        outcome = self.cycle(site, job.conversations)
        outcome.looked -= self.refused
        if job.keep:
            for conversation in job.conversations - self.refused:
                self.vault.note(site.id, conversation)
            self.vault.step_all(self, self.sites)
        return self._handed_back(site, job, outcome)

    def _take_in(self, site: Site, job: Job) -> bool:
        """Know what the agent knows. False: the silo is not the one that it means."""
        for view in (site.silo, *(t.view for t in site.trees.values())):
            view.records = dict(job.records.get(view.root.path, {}))
            view.listing, view.missed = Listing(), {}
            for conversation, places in job.places.get(view.root.path, {}).items():
                view.listing.put(conversation, places)
        site.behind, site.split_since = {}, {}
        self.closed, self.placed = set(job.closed), {}
        self.losses.copies, self.losses.written = {}, {}
        self.notes = self.removals.expiring = _Notes()
        resolve(site, time.time_ns() // 1_000_000)
        return site.silo_identity == job.silo

    def _see(self, site: Site, todo: set[int]) -> tuple[dict[int, Absence], list[Snapshot], list[tuple[Copy, int]]]:
        """What has gone is left to the agent: whether it was removed is told by what was seen before."""
        gone, snapshots, seen = super()._see(site, todo)
        if not gone:
            return gone, snapshots, seen
        self.refused |= gone.keys()
        todo -= gone.keys()
        there = [
            replace(
                s,
                copies={c: group for c, group in s.copies.items() if c not in gone},
                scope=None if s.scope is None else s.scope - gone.keys(),
            )
            for s in snapshots
        ]
        return {}, there, [(copy, at) for copy, at in seen if copy.conversation not in gone]

    def _handed_back(self, site: Site, job: Job, outcome: Outcome) -> Answer:
        mine = job.conversations
        answer = Answer(
            job,
            self.refused,
            outcome,
            unwritten=self.ledger.handed_over(),
            facts=self.eye.facts_of(mine),
            placed=self.placed,
            unsaved=self.losses.copies,
            closed=self.closed,
            noted=self.notes.noted,
            waiting=self.waiting,
            staged_in=self.staged_in,
            stored=self.history.pressing.handed_over(),
            released=locks.releases(),
        )
        for view in site.views():
            root = view.root.path
            answer.records[root] = {c: raw for c, raw in view.records.items() if c in mine}
            answer.places[root] = {c: view.listing.places(c) for c in mine}
        self.waiting, self.staged_in = [], set()
        return answer


def serve(jobs: Connection, answers: Connection) -> None:
    """Do jobs until nobody asks any more. Raises what the state raises when it cannot be opened."""
    deputy = Deputy(jobs.recv())
    answers.send(Ready())
    waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jobs, waiting), daemon=True).start()
    while (job := waiting.get()) is not None:
        try:
            answer = deputy.perform_job(job)
        except OSError:  # no descriptors, a disk that went: the agent finds out what it is
            answer = Answer(job, refused=set(job.conversations))
        answers.send(answer)


def _listen(jobs: Connection, waiting: queue.SimpleQueue[Job | None]) -> None:
    """Take jobs at once, so that who gives them need not wait."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            waiting.put(jobs.recv())
    waiting.put(None)


def main() -> None:
    """The process, with the other ends of the agent's two pipes as arguments, by descriptor: jobs, answers."""
    for asked_to_stop in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(asked_to_stop, signal.SIG_IGN)  # meant for the agent: it finishes what is in hand, then lets go
    jobs, answers = (int(text) for text in sys.argv[1:])
    with (
        Connection(jobs, writable=False) as asked,
        Connection(answers, readable=False) as told,
        contextlib.suppress(BrokenPipeError, EOFError, ConvsyncError),
    ):
        serve(asked, told)
