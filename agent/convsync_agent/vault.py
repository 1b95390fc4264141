"""Kept copies are made in quiet moments: which are due, and one step of making them.

The last durable content of a conversation is kept some seconds after its last change, not at once: a stream
that grows twenty times a second is compressed once, and no edit waits for it. A link would be there at once, but
it changes the durable file's ctime, twice, and a write in place goes through it.

What somebody else replaced in every root at once (a JP that still had an older version in memory, say) is in the
kept copy alone by then: it goes into the history before the kept copy follows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from convsync_agent import fs
from convsync_agent.content import metadata_contains, stream_contains
from convsync_agent.history import History
from convsync_agent.keepsake import Keepsake, keepable
from convsync_agent.model import BASE_CONFIG, EVENTS, METADATA, UNIT_FILES, Copy, Unit
from convsync_agent.observe import Eye
from convsync_agent.records import unpack
from convsync_agent.shelter import Shelter
from convsync_agent.site import Site
from convsync_agent.state import Attention
from convsync_agent.summary import count_events

QUIET_SECONDS, LATEST_SECONDS = 5.0, 30.0
STEP_SECONDS = 0.02
Files = Mapping[str, tuple[bytes, int]]
WENT_BACK = "the durable copy went back to less; what it had is in the history"


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

    def __init__(self, data_dir: str, keep_days: int, history: History, tell: Callable[[Attention], None]) -> None:
        self.history, self.tell = history, tell
        self.shelter = Shelter(data_dir, keep_days=keep_days, links=False)
        self.failed = 0
        self._due: dict[tuple[str, int], Due] = {}

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
        return max(0.0, min(d.at for d in self._due.values()) - time.monotonic())

    def step(self, sites: Mapping[str, Site], eye: Eye, *, everything: bool = False) -> int:
        """Keep what is due, for some milliseconds, or `everything` there is. Returns how many copies were made."""
        began, made = time.monotonic(), 0
        for key in [k for k, d in self._due.items() if everything or d.at <= began]:
            del self._due[key]
            site = sites.get(key[0])
            if site is not None:
                made += self._keep(site, key[1], eye)
            if not everything and time.monotonic() - began > STEP_SECONDS:
                break
        return made

    def _keep(self, site: Site, conversation: int, eye: Eye) -> bool:
        raw = site.silo.records.get(conversation)
        places = site.silo.listing.places(conversation)
        if raw is None or len(places) != 1:
            return False
        try:
            copy, _ = eye.look(site.silo.root, conversation, places[0], unpack(raw))
            if self.shelter.current(site.id, copy):
                return False
            self._save_first(site.id, copy, eye)
            events = eye.contents.get(copy.stream.file(EVENTS).digest)
            count = count_events(events) if events else None
            return self.shelter.keep(site.id, copy, at_ms=time.time_ns() // 1_000_000, events=count).new
        except (OSError, ValueError, fs.ChangedError, fs.OddFileError):
            self.failed += 1  # it changed, or there is no room: the next change is another chance
            return False

    def _save_first(self, workspace: str, copy: Copy, eye: Eye) -> None:
        """What is kept and is neither in this copy nor in the history goes there. Raises OSError, fs.ChangedError."""
        have = self.shelter.held(workspace, copy.conversation)
        changed = [u for u in (Unit.STREAM, Unit.METADATA) if have and have.digest(u) != copy.unit(u).digest]
        if have is None or not changed or not keepable(copy):
            return
        try:
            kept = {name: (raw, mtime_ns) for name, raw, mtime_ns in self.shelter.read(workspace, copy.conversation)}
        except (FileNotFoundError, ValueError, fs.ChangedError):
            return  # nothing that could be saved
        now = _read(copy, eye)
        for unit in changed:
            files = [(n, *kept[n]) for n in UNIT_FILES[unit] if n in kept]
            if files and not self._safe(workspace, copy.conversation, unit, have, kept, now):
                self._save(workspace, copy, unit, files)
                if unit is Unit.STREAM and have.removed_ms is None and not _has_turns(now[EVENTS], kept[EVENTS][0]):
                    where = (workspace, copy.conversation, copy.root.path)
                    self.tell(Attention("conflict", *where, time.time_ns() // 1_000_000, WENT_BACK, lasting=True))

    def _safe(
        self, workspace: str, conversation: int, unit: Unit, have: Keepsake, kept: Files, now: Mapping[str, bytes]
    ) -> bool:
        if unit is Unit.METADATA:
            contained = metadata_contains(now[METADATA], kept[METADATA][0])
        else:
            old_base = kept[BASE_CONFIG][0] if BASE_CONFIG in kept else None
            contained = stream_contains((now.get(BASE_CONFIG), now[EVENTS]), (old_base, kept[EVENTS][0]))
        return contained or self.history.holds(workspace, conversation, unit, [d for d in have.digest(unit) if d])

    def _save(self, workspace: str, copy: Copy, unit: Unit, files: list[tuple[str, bytes, int]]) -> None:
        events = next((count_events(raw) for name, raw, _ in files if name == EVENTS), None)
        self.history.keep(
            workspace,
            copy.conversation,
            unit,
            files,
            root=copy.root.path,
            at_ms=time.time_ns() // 1_000_000,
            why="replaced",
            valid=True,
            events=events,
        )


def _has_turns(now: bytes, before: bytes) -> bool:
    """Whatever became of its base config."""
    return stream_contains((b"{}", now), (b"{}", before))


def _read(copy: Copy, eye: Eye) -> dict[str, bytes]:
    """The managed files of a copy as they were observed. Raises OSError, fs.ChangedError."""
    found = {}
    with fs.opened_copy(copy) as fd:
        for file in (*copy.stream.files, *copy.metadata.files):
            if file.stamp:
                raw = eye.contents.get(file.digest)
                found[file.name] = raw if raw is not None else fs.read_file(file.name, fd)[0]
    return found
