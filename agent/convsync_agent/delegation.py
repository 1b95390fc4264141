"""Work that is given to a deputy, and what it hands back: the agent's end of a second process.

For a burst, so that two cores share it; for a conversation with a huge file, so that the others need not wait. The
deputy is started when there is such work, and let go when there has been none for a while. Only the loop's thread
calls this, but for the one that listens. Whatever happens to a deputy, what it was given is done by the agent then.
"""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import replace

from convsync_agent import locks, logs
from convsync_agent.agenda import Agenda
from convsync_agent.branch import Branch
from convsync_agent.deputy import Answer, Charter, Job, Ready
from convsync_agent.engine import Engine
from convsync_agent.errors import kind_of
from convsync_agent.fs import ARCHIVE, CONVERSATIONS
from convsync_agent.model import EVENTS
from convsync_agent.outcome import Outcome
from convsync_agent.site import Site

HUGE = 16 << 20  # bytes of one file: from here on reading and copying it would hold up the others
BURST = 128  # conversations due at once: below that a deputy's start takes longer than it helps
SHARE, LEAST = 64, 32  # conversations in one job at most, and due while something is lent for there to be another one
AHEAD = 2  # jobs at a time: the next one is there when one is done
IDLE_SECONDS = 10.0
STOP_SECONDS = 3.0
HANG_SECONDS = 180.0  # without an answer; a file system that hangs is seen elsewhere (`aside`)
MOST_DEATHS, DISTRUST_SECONDS = 3, 600.0

_RUN = "from convsync_agent.deputy import main; main()"  # not -m: what is sent belongs to a module with a name

log = logs.get("agent")

Relocate = Callable[[Site, set[int]], None]
Report = Callable[[Site, Outcome], None]
Told = Answer | Ready | None
"""None: it is over."""


class _Line:
    """One deputy: its process, and what it has been given."""

    def __init__(self, charter: Charter, told: Callable[[_Line, Told], None]) -> None:
        self.branch = Branch(_RUN, lambda said: told(self, said))
        self.jobs: list[Job] = []
        self.ready = False
        self.heard_at = time.monotonic()  # when it handed something back, or was given the first
        self.hung = self.retired = False
        self.branch.send(charter)

    def give(self, job: Job) -> None:
        self.heard_at = self.heard_at if self.jobs else time.monotonic()
        self.jobs.append(job)
        self.branch.send(job)


class Delegation:
    """Owns the deputy and what it has been given. `wake` makes the loop turn."""

    def __init__(self, state_dir: str, data_dir: str, wake: Callable[[], None]) -> None:
        self._state_dir, self._data_dir, self._wake = state_dir, data_dir, wake
        self._line: _Line | None = None  # who gets the next job
        self._retired: list[_Line] = []  # who has something in hand, and gets no more
        self._said: queue.SimpleQueue[tuple[_Line, Told]] = queue.SimpleQueue()
        self._unkept: list[Job] = []  # whoever had them died
        self._own: set[tuple[str, int]] = set()  # what a deputy refused, or died of
        self._deaths: list[float] = []
        self._cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def turn(self, engine: Engine, agenda: Agenda, relocate: Relocate, report: Report) -> None:
        """Take what was handed back, and give away what there is too much of."""
        for answer in self.answers(agenda):
            site = engine.sites.get(answer.job.workspace)
            if site is not None:
                absorb(engine, site, answer)
                report(site, answer.outcome)
        while self._unkept:
            job = self._unkept.pop()
            for conversation in job.conversations:
                engine.vault.note(job.workspace, conversation)
        self._share(engine, agenda, relocate)

    # -- giving -------------------------------------------------------------------

    def _share(self, engine: Engine, agenda: Agenda, relocate: Relocate) -> None:
        """Some of a burst, if there is one: as much at a time as keeps a deputy busy."""
        while self._cores > 1 and (due := agenda.due) >= (LEAST if self.busy else BURST):
            line = self._deputy(engine)
            if line is None or not line.ready or len(line.jobs) >= AHEAD:
                return
            batch = agenda.take(min(SHARE, due // 3))  # less towards the end, so that both are done at once
            if batch is None:
                return
            workspace, chosen = batch
            if workspace in engine.sites:
                relocate(engine.sites[workspace], chosen)
            mine = self._give(line, engine, agenda, workspace, chosen)
            agenda.add_all(workspace, mine)
            if mine:  # the loop does them next
                return

    def without_huge(self, engine: Engine, agenda: Agenda, site: Site, conversations: set[int]) -> set[int]:
        """Give away those with a huge file; the others."""
        found = {c for c in conversations if (site.id, c) not in self._own and _has_huge(site, c)}
        self._own -= {(site.id, c) for c in conversations}
        line = self._deputy(engine) if found else None
        if line is None:
            return conversations
        return (conversations - found).union(*(self._give(line, engine, agenda, site.id, {c}) for c in found))

    def keeps_huge(self, engine: Engine, agenda: Agenda, site: Site, conversation: int) -> bool:
        """Have the kept copy of one with a huge file made: to compare it with the one before takes seconds."""
        if (site.id, conversation) in self._own or not _has_huge(site, conversation):
            return False
        line = self._deputy(engine)
        return line is not None and not self._give(line, engine, agenda, site.id, {conversation}, keep=True)

    def _give(
        self, line: _Line, engine: Engine, agenda: Agenda, workspace: str, given: set[int], *, keep: bool = False
    ) -> set[int]:
        """Those of which the agent knows more than can be told: it keeps them."""
        site = engine.sites.get(workspace)
        if site is None:
            return given
        entries = {e.conversation for e in engine.ledger.entries.values() if e.workspace == workspace}
        special = entries | site.split_since.keys() | site.outrun | {spot[0] for spot in site.behind}
        special |= {c for _, c in engine.placed} | {c for w, c in self._own if w == workspace}
        mine = {c for c in given if c in special or not _plain(site, c)}
        if given - mine:
            line.give(replace(job_of(engine, site, frozenset(given - mine)), keep=keep))
            agenda.lend(workspace, given - mine)
        return mine

    def _deputy(self, engine: Engine) -> _Line | None:
        if self._line is None and not self._distrusted():
            try:
                charter = Charter(self._state_dir, self._data_dir, engine.settings)
                self._line = _Line(charter, self._heard)
                log.debug("deputy started", pid=self._line.branch.pid)
            except OSError as error:
                self._died(kind_of(error))
        return self._line

    def _heard(self, line: _Line, told: Told) -> None:
        """Called by the listener's thread."""
        self._said.put((line, told))
        self._wake()

    # -- taking back ----------------------------------------------------------------

    def answers(self, agenda: Agenda) -> Iterator[Answer]:
        """What was handed back meanwhile. Those that nobody did are due at once, for the agent."""
        with suppress(queue.Empty):
            while True:
                line, told = self._said.get_nowait()
                if isinstance(told, Answer):
                    line.jobs = [j for j in line.jobs if j != told.job]
                    line.heard_at = time.monotonic()
                    self._take_back(agenda, told.job, told.refused)
                    locks.released_for_us(told.released)
                    yield told
                elif told is not None:
                    line.ready = True
                else:
                    self._ended(agenda, line)

    def _ended(self, agenda: Agenda, line: _Line) -> None:
        """It is over. Before somebody let it go, or with something in hand, it died."""
        for job in line.jobs:
            self._take_back(agenda, job, job.conversations)
        self._unkept += [job for job in line.jobs if job.keep]
        if line is self._line or line.jobs:
            self._died("hung" if line.hung else "gone")
        line.branch.let_go()
        self._line = None if line is self._line else self._line
        self._retired = [other for other in self._retired if other is not line]

    def _take_back(self, agenda: Agenda, job: Job, undone: Collection[int]) -> None:
        agenda.give_back(job.workspace, job.conversations)
        self._own |= {(job.workspace, c) for c in undone}
        agenda.add_all(job.workspace, set(undone))

    def _died(self, code: str) -> None:
        self._deaths = [*self._deaths[1 - MOST_DEATHS :], time.monotonic()]
        log.warning("deputy lost", code=code, deaths=len(self._deaths))

    def _distrusted(self) -> bool:
        return len(self._deaths) >= MOST_DEATHS and time.monotonic() - self._deaths[0] < DISTRUST_SECONDS

    # -- waiting --------------------------------------------------------------------

    def _lines(self) -> list[_Line]:
        return [*self._retired, *([self._line] if self._line is not None else [])]

    @property
    def busy(self) -> bool:
        """One has something that it did not hand back yet."""
        return any(line.jobs for line in self._lines())

    @property
    def pid(self) -> int | None:
        """The deputy's process, if there is one."""
        return self._line.branch.pid if self._line is not None else None

    def wait(self) -> float:
        """Seconds until `step` has something to do."""
        return max(0.0, min(map(_patience, self._lines()), default=float("inf")))

    def step(self) -> None:
        """Let a deputy go that has had nothing to do for a while, and end one that hangs: both lose nothing."""
        for line in self._lines():
            if _patience(line) > 0:
                continue
            if line.jobs:
                line.hung = True
                line.branch.kill()
            if line is self._line:
                self.retire()

    def retire(self) -> None:
        """No more jobs for this one: it knows another registry, or is not needed. What it has in hand it finishes."""
        if self._line is not None:
            self._line.retired = True
            self._line.branch.let_go()
            self._retired.append(self._line)
            self._line = None

    def close(self) -> None:
        """The agent ends. One that does not end in time ends by itself."""
        for line in self._lines():
            line.branch.close(STOP_SECONDS)


def _patience(line: _Line) -> float:
    """Seconds until it has had nothing to do, or has said nothing, for too long."""
    if line.hung or (line.retired and not line.jobs):
        return float("inf")
    return line.heard_at + (HANG_SECONDS if line.jobs else IDLE_SECONDS) - time.monotonic()


def absorb(engine: Engine, site: Site, answer: Answer) -> None:
    """Go on as if this engine had done the cycle."""
    mine = answer.job.conversations - answer.refused
    for view in site.views():
        root = view.root.path
        for conversation, raw in answer.records.get(root, {}).items():
            if conversation in mine and view.records.get(conversation) != raw:
                view.records[conversation] = raw
                if view is site.silo:
                    engine.vault.note(site.id, conversation)
        for conversation, places in answer.places.get(root, {}).items():
            if conversation in mine:
                view.listing.put(conversation, places)
    for key in [k for k in engine.losses.copies if k[1] in mine]:
        del engine.losses.copies[key]
    for key in [k for k, at in engine.losses.written.items() if k[1] in mine and at < answer.job.given_ns]:
        del engine.losses.written[key]
    engine.losses.copies |= answer.unsaved
    engine.placed |= answer.placed
    engine.closed -= answer.job.closed - answer.closed
    engine.eye.learn(answer.facts)
    for looked, expired in answer.noted:
        engine.removals.expiring.note(site.id, looked, expired)
    engine.waiting_for(answer.waiting, answer.staged_in)
    engine.history.pressing.note_all(answer.stored)
    engine.ledger.take_over(answer.unwritten)
    engine.commit(site, answer.outcome)


def job_of(engine: Engine, site: Site, conversations: frozenset[int]) -> Job:
    """Everything that a deputy has to know of these."""
    views = site.views()
    return Job(
        site.id,
        conversations,
        {v.root.path: {c: v.records[c] for c in conversations if c in v.records} for v in views},
        {v.root.path: {c: v.listing.places(c) for c in conversations} for v in views},
        {key for key in engine.closed if key[1] in conversations},
        site.silo_identity,
        time.time_ns(),
    )


def _plain(site: Site, conversation: int) -> bool:
    """In the silo as it was recorded, or new and only in worktrees; in one place of each root."""
    durable = conversation in site.silo.listing
    if durable is not (conversation in site.silo.records):
        return False
    return all(len(v.listing.places(conversation)) <= 1 and conversation not in v.listing.odd for v in site.views())


def _has_huge(site: Site, conversation: int) -> bool:
    for view in site.views():
        for place in view.listing.places(conversation):
            part = f"{CONVERSATIONS}/{ARCHIVE}" if place.archived else CONVERSATIONS
            with suppress(OSError):
                if os.stat(f"{view.root.path}/{part}/{place.name}/{EVENTS}").st_size >= HUGE:
                    return True
    return False
