"""Kept copies are made in quiet moments: which are due, and one step of making them.

The last durable content of a conversation is kept some seconds after its last change, not at once: a stream
that grows twenty times a second is compressed once, and no edit waits for it. A link would be there at once, but
it changes the durable file's ctime, twice, and a write in place goes through it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convsync_agent import fs, setback
from convsync_agent.keepsake import keepable
from convsync_agent.model import EVENTS
from convsync_agent.progress import Count, Stage
from convsync_agent.records import unpack
from convsync_agent.shelter import Shelter
from convsync_agent.site import Site
from convsync_agent.summary import count_events

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convsync_agent.engine import Engine

QUIET_SECONDS, LATEST_SECONDS = 5.0, 30.0
STEP_SECONDS = 0.02
TOGETHER = 8  # kept copies: from so many on one wait for the disk is cheaper
CALM_SECONDS, OVERDUE_SECONDS = 0.25, 30.0  # compressing holds up the loop: not between two edits, if it can wait


@dataclass(slots=True)
class Due:
    """Monotonic seconds."""

    first: float
    last: float

    @property
    def at(self) -> float:
        return min(self.last + QUIET_SECONDS, self.first + LATEST_SECONDS)


class Vault:
    """Owns what is due. `step` does a little of it and never raises: a kept copy is a net, not the promise."""

    def __init__(self, data_dir: str, keep_days: int) -> None:
        self.shelter = Shelter(data_dir, keep_days=keep_days)
        self.failed = 0
        self._due: dict[tuple[str, int], Due] = {}
        self._calm_at = 0.0

    def disturbed(self) -> None:
        """There was work just now, and where there is some there is often more."""
        self._calm_at = time.monotonic() + CALM_SECONDS

    def _ready_at(self, due: Due) -> float:
        return max(due.at, min(self._calm_at, due.at + OVERDUE_SECONDS))

    def note(self, workspace: str, conversation: int) -> None:
        """Its durable copy changed."""
        now = time.monotonic()
        due = self._due.setdefault((workspace, conversation), Due(now, now))
        due.last = now

    def note_all(self, site: Site) -> None:
        """At a start: whatever has no kept copy yet."""
        have = self.shelter.conversations(site.id) if self.shelter.keep_days else site.silo.records.keys()
        for conversation in site.silo.records.keys() - have:
            self.note(site.id, conversation)

    def wait(self) -> float:
        """Seconds until something is due."""
        if not self._due:
            return float("inf")
        return max(0.0, min(map(self._ready_at, self._due.values())) - time.monotonic())

    def step(self, engine: Engine, sites: Mapping[str, Site], *, everything: bool = False) -> int:
        """Keep what is due, for some milliseconds, or `everything` there is. Returns how many copies were made.

        What is given up for it and is nowhere else goes into the history first (`setback`).
        """
        began, made = time.monotonic(), 0
        due = [k for k, d in self._due.items() if everything or self._ready_at(d) <= began]
        if everything and len(due) >= TOGETHER:
            return self._all(engine, sites, due)
        for key in due:
            del self._due[key]
            site = sites.get(key[0])
            if site is not None:
                made += self._keep(engine, site, key[1])
            if not everything and time.monotonic() - began > STEP_SECONDS:
                break
        return made

    def _all(self, engine: Engine, sites: Mapping[str, Site], due: list[tuple[str, int]]) -> int:
        """Many: one wait for the disk. When that fails, they are due again."""
        made, count = 0, Count(engine.tell, Stage.KEEP, len(due))
        try:
            with self.shelter.together():
                for key in due:
                    made += key[0] in sites and self._keep(engine, sites[key[0]], key[1])
                    count.add(1)
        except OSError:
            self.failed += made
            return 0
        for key in due:
            del self._due[key]
        return made

    def _keep(self, engine: Engine, site: Site, conversation: int) -> bool:
        eye = engine.eye
        raw = site.silo.records.get(conversation)
        places = site.silo.listing.places(conversation)
        if raw is None or len(places) != 1:
            return False
        try:
            copy, _ = eye.look(site.silo.root, conversation, places[0], unpack(raw))
            if self.shelter.current(site.id, copy):
                return False
            if keepable(copy) and self.shelter.keep_days:
                setback.save(engine, site, copy)
            events = eye.contents.get(copy.stream.file(EVENTS).digest)
            count = count_events(events) if events else None
            return self.shelter.keep(site.id, copy, at_ms=time.time_ns() // 1_000_000, events=count)
        except (OSError, ValueError, fs.ChangedError, fs.OddFileError):
            self.failed += 1  # it changed, or there is no room: the next change is another chance
            return False
