"""What the service manager hears of the agent: ready, alive, what it does. Said by the loop, which does the work.

Alive is said once for each canary that came back, so it says that the watcher hears, that the loop turns, and that
it was the loop which noticed. A loop that hangs says nothing, and neither does one whose watcher went deaf.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from convsync_agent.agenda import Agenda
from convsync_agent.aside import Aside
from convsync_agent.engine import Engine
from convsync_agent.errors import UNWRITTEN
from convsync_agent.health import SHORTEST, Health
from convsync_agent.publish import ATTENTION, verdict
from convsync_agent.sdnotify import Notifier, monotonic_usec
from convsync_agent.site import TreeState

EXTENSION_SECONDS = 120  # how long one step of a start may take: more than the slowest disk needs for a batch
OFTEN_SECONDS = 5.0


class Vigil:
    """Speaks to the service manager, if there is one. Only the loop thread calls it."""

    def __init__(self) -> None:
        self._notifier = Notifier(os.environ)
        self._status = ""
        self._extended = self._told = float("-inf")
        self._heard = 0
        self._ready = False

    @property
    def canary_seconds(self) -> float:
        """How often the watcher has to be tried: twice within what the manager waits for, and once more."""
        limit = self._notifier.watchdog
        return min(SHORTEST, limit / 3) if limit else SHORTEST

    def starting(self, left: int = 0) -> None:
        """A step of the start is done, so it gets on: it may take its time."""
        now = time.monotonic()
        if now - self._extended >= OFTEN_SECONDS:
            self._extended = now
            self._notifier.send(EXTEND_TIMEOUT_USEC=str(EXTENSION_SECONDS * 1_000_000))
        self._say(f"starting: {_counted(left, 'conversation')} to look at" if left else "starting")

    def ready(self) -> None:
        """Watches are armed, the first scan is done and what it found is in step."""
        self._ready = True
        self._notifier.send(READY="1", WATCHDOG="1")

    def busy(self, agenda: Agenda, health: Health) -> None:
        """Between two batches of work: try the watcher when it is time, and say how much is left."""
        if not self._ready:
            self.starting(agenda.size)
            return
        health.call()
        self.alive(health)
        if agenda.size and time.monotonic() - self._told >= OFTEN_SECONDS:
            self._told = time.monotonic()
            self._say(f"catching up: {_counted(agenda.size, 'conversation')} to look at")

    def alive(self, health: Health) -> None:
        """Once for each canary that came back."""
        if self._notifier.watchdog and health.heard != self._heard and health.good():
            self._heard = health.heard
            self._notifier.send(WATCHDOG="1")

    def look(self, engine: Engine, agenda: Agenda, aside: Aside) -> None:
        """After a turn of the loop: what a person sees in `systemctl status`."""
        if self._notifier.wanted:
            self._say(summary(engine, agenda, aside))

    @contextmanager
    def reloading(self) -> Iterator[None]:
        self._notifier.send(RELOADING="1", MONOTONIC_USEC=monotonic_usec())
        try:
            yield
        finally:
            self._notifier.send(READY="1")

    def stopping(self) -> None:
        self._notifier.send(STOPPING="1", STATUS="stopping: finishing what is due")

    def close(self) -> None:
        self._notifier.close()

    def _say(self, status: str) -> None:
        if status != self._status:
            self._status = status
            self._notifier.send(STATUS=status)


def summary(engine: Engine, agenda: Agenda, aside: Aside) -> str:
    """One line for a person: counts and kinds only."""
    sites = [*engine.sites.values(), *aside.sites.values()]
    if not sites:
        return "no worktree is registered yet (convsync register)"
    trees = [tree for site in sites for tree in site.trees.values()]
    watched = sum(1 for t in trees if t.state is TreeState.WATCHING)
    durable = sum(len(s.silo.listing.live) + len(s.silo.listing.archived) for s in sites)
    entries = list(engine.ledger.entries.values())
    found = verdict(
        {e.kind for e in entries},
        missing_silo=any(s.silo_identity is None for s in sites),
        unwritten=any(e.detail.startswith(UNWRITTEN) for e in entries),
        pending=any(agenda.deferred.values()),
    )
    text = (
        f"{found}: {_counted(durable, 'conversation')} durable, {watched} of {_counted(len(trees), 'worktree')} watched"
    )
    kinds = [e.kind for e in entries if e.kind in ATTENTION or found == "degraded"]
    if kinds:
        text += "; " + ", ".join(f"{kinds.count(k)} {k}" for k in sorted(set(kinds))) + " (convsync status)"
    return text


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
