"""Kept copies are made in quiet moments: which are due, and one step of making them.

The last durable content of a conversation is kept some seconds after its last change, not at once: a stream
that grows twenty times a second is compressed once, and no edit waits for it. A link would be there at once, but
it changes the durable file's ctime, twice, and a write in place goes through it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from convsync_agent import fs, setback
from convsync_agent.keepsake import keepable
from convsync_agent.model import EVENTS, Copy
from convsync_agent.progress import Count, Stage
from convsync_agent.records import unpack
from convsync_agent.shelter import Shelter
from convsync_agent.site import Site
from convsync_agent.summary import count_events

if TYPE_CHECKING:
    from convsync_agent.engine import Engine

QUIET_SECONDS, LATEST_SECONDS = 5.0, 30.0
STEP_SECONDS, BUSY_SECONDS = 0.02, 0.1
AT_ONCE = 64  # looked at before they are compressed: the bytes that are remembered of them count their events
TROUBLE = (OSError, ValueError, fs.ChangedError, fs.OddFileError)
TOGETHER = 8  # kept copies: from so many on one wait for the disk is cheaper
CALM_SECONDS, OVERDUE_SECONDS = 1.0, 30.0  # it takes a core and the disk: not between two edits, if it can wait


@dataclass(slots=True)
class Due:
    """Monotonic seconds."""

    first: float
    last: float

    @property
    def at(self) -> float:
        return min(self.last + QUIET_SECONDS, self.first + LATEST_SECONDS)


Elsewhere = Callable[[Site, int], bool]


def _nowhere(_site: Site, _conversation: int) -> bool:
    return False


class Wanted(NamedTuple):
    workspace: str
    copy: Copy
    events: int | None


class Vault:
    """Owns what is due. Never raises: a kept copy is a net, not the promise."""

    def __init__(self, data_dir: str, keep_days: int) -> None:
        self.shelter = Shelter(data_dir, keep_days=keep_days)
        self.failed = 0
        self._due: dict[tuple[str, int], Due] = {}
        self._soonest = float("inf")  # nothing that is due is ready before this; to look at all of it costs
        self._calm_at = 0.0
        self._worker: threading.Thread | None = None
        self._stop = threading.Event()
        self._put_off: list[tuple[str, int]] = []  # by the worker, for the loop to take up again
        self._unlooked: dict[str, float] = {}  # workspaces, and when it is looked what has no kept copy there

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
        self._soonest = min(self._soonest, due.at)

    def note_sites(self, sites: Mapping[str, Site]) -> None:
        """What came in beside us, by a `register`, has no kept copy yet."""
        for site in sites.values():
            self.note_all(site)

    def note_all(self, site: Site) -> None:
        """At a start: whatever has no kept copy yet, found out in a calm moment, for somebody asks right after it."""
        if self.shelter.keep_days:
            self._unlooked[site.id] = time.monotonic() + QUIET_SECONDS

    def wait(self) -> float:
        """Seconds until something is due."""
        if self._busy:
            return BUSY_SECONDS
        if self._put_off:
            return 0.0
        return max(0.0, min(self._soonest, *self._unlooked.values(), float("inf")) - time.monotonic())

    def step(self, engine: Engine, sites: Mapping[str, Site], elsewhere: Elsewhere = _nowhere) -> None:
        """Begin to keep some of what is due. A thread reads and compresses it: neither needs the interpreter.

        What is given up for it and is nowhere else goes into the history first (`setback`). `elsewhere`: whether
        somebody else keeps this one, for whom that may take longer.
        """
        if self._busy:
            return
        began = time.monotonic()
        for workspace in [w for w, at in self._unlooked.items() if at <= began]:
            del self._unlooked[workspace]
            if workspace in sites:
                self._begin(self._look_for_all, workspace, frozenset(sites[workspace].silo.records))
                return
        self._take_up(began)
        if began < self._soonest:
            return
        batch: list[Wanted] = []
        ready = (k for k, d in self._due.items() if self._ready_at(d) <= began)
        for key in list(islice(ready, AT_ONCE)):
            del self._due[key]
            if key[0] in sites and not elsewhere(sites[key[0]], key[1]):
                wanted = self._wanted(engine, sites[key[0]], key[1])
                batch.extend([wanted] if wanted else [])
            if len(batch) >= AT_ONCE or time.monotonic() - began > STEP_SECONDS:
                break
        self._look_at_due()
        if batch:
            calm = self._calm_at <= began  # else it is overdue, and is done whatever goes on
            self._begin(self._take_calmly, batch, calm)

    def _look_at_due(self) -> None:
        self._soonest = min(map(self._ready_at, self._due.values()), default=float("inf"))

    def _take_up(self, now: float) -> None:
        """What was put off is due."""
        for key in self._put_off:
            due = self._due.setdefault(key, Due(now - LATEST_SECONDS, now - QUIET_SECONDS))
            self._soonest = min(self._soonest, due.at)
        self._put_off.clear()

    def step_all(self, engine: Engine, sites: Mapping[str, Site]) -> int:
        """Keep everything that is due, and wait for it. Returns how many copies were made."""
        for workspace in self._unlooked.keys() & sites.keys():
            self._look_for_all(workspace, frozenset(sites[workspace].silo.records))
        self._unlooked.clear()
        self._take_up(time.monotonic())
        due, self._soonest = list(self._due), float("inf")
        if len(due) >= TOGETHER:
            return self._all(engine, sites, due)
        self._due.clear()
        wanted = [self._wanted(engine, sites[k[0]], k[1]) for k in due if k[0] in sites]
        return self._take_all([w for w in wanted if w is not None])

    def close(self) -> None:
        """Wait for the copy at hand."""
        self._stop.set()
        if self._worker is not None:
            self._worker.join()

    def _begin(self, work: Callable[..., None], *about: object) -> None:
        self._worker = threading.Thread(target=work, args=about, name="vault", daemon=True)
        self._worker.start()

    def _look_for_all(self, workspace: str, conversations: frozenset[int]) -> None:
        """Which of them have no kept copy: one stat for each."""
        try:
            have = self.shelter.conversations(workspace)
        except TROUBLE:
            self.failed += 1
        else:
            self._put_off.extend((workspace, conversation) for conversation in sorted(conversations - have))

    @property
    def _busy(self) -> bool:
        return self._worker is not None and self._worker.is_alive()

    def _take_calmly(self, batch: list[Wanted], calm: bool) -> None:  # noqa: FBT001
        """As many of them as the calm is long enough for; the others are put off."""
        for wanted in batch:
            if self._stop.is_set() or (calm and self._calm_at > time.monotonic()):
                self._put_off.append((wanted.workspace, wanted.copy.conversation))
            else:
                self._take_all([wanted])

    def _take_all(self, batch: list[Wanted]) -> int:
        results = [self._take(w) for w in batch]
        self.failed += results.count(None)
        return results.count(True)

    def _all(self, engine: Engine, sites: Mapping[str, Site], due: list[tuple[str, int]]) -> int:
        """Many: one wait for the disk, all cores compressing. When that fails, they are due again."""
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # dear to import, and few commands come here

        made, count = 0, Count(engine.tell, Stage.KEEP, len(due))
        try:
            with self.shelter.together(), ThreadPoolExecutor(os.cpu_count()) as pool:
                for at in range(0, len(due), AT_ONCE):
                    wanted = [self._wanted(engine, sites[k[0]], k[1]) for k in due[at : at + AT_ONCE] if k[0] in sites]
                    results = list(pool.map(self._take, filter(None, wanted)))
                    made += results.count(True)
                    self.failed += results.count(None)
                    count.add(len(due[at : at + AT_ONCE]))
        except OSError:
            self.failed += made
            self._look_at_due()
            return 0
        for key in due:
            del self._due[key]
        return made

    def _wanted(self, engine: Engine, site: Site, conversation: int) -> Wanted | None:
        """What has to be kept of it. What only its old kept copy has is in the history when this returns."""
        raw = site.silo.records.get(conversation)
        places = site.silo.listing.places(conversation)
        if raw is None or len(places) != 1:
            return None
        try:
            copy, _ = engine.eye.look(site.silo.root, conversation, places[0], unpack(raw))
            if self.shelter.current(site.id, copy):
                return None
            if keepable(copy) and self.shelter.keep_days:
                setback.save(engine, site, copy)
        except TROUBLE:
            self.failed += 1
            return None
        events = engine.eye.contents.get(copy.stream.file(EVENTS).digest)
        return Wanted(site.id, copy, count_events(events) if events else None)

    def _take(self, wanted: Wanted) -> bool | None:
        """None: it changed, or there is no room; the next change is another chance. Called in threads, too."""
        try:
            now_ms = time.time_ns() // 1_000_000
            return self.shelter.keep(wanted.workspace, wanted.copy, at_ms=now_ms, events=wanted.events)
        except TROUBLE:
            return None
