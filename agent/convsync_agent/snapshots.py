"""Fresh snapshots of some conversations of one workspace, and how long each unit is known to be unchanged."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from convsync_agent import fs, scan
from convsync_agent.knowledge import Knower
from convsync_agent.model import SECOND, Copy, Readable, Snapshot
from convsync_agent.observe import Eye
from convsync_agent.progress import Count, Stage, Tell
from convsync_agent.records import settled, unpack
from convsync_agent.scan import View
from convsync_agent.site import Site

MOST_SEEN = 1024  # units, from which on those that were seen long ago are looked for
LONG_NS = 60 * SECOND


@dataclass(slots=True)
class Sightings:
    """How long a unit is known to be unchanged, ns: by the clock, or by watching when the clock lies."""

    _seen: dict[tuple[str, int, str], tuple[object, int]] = field(default_factory=dict)
    _trim_at: int = MOST_SEEN

    def age(self, key: tuple[str, int, str], stamps: tuple[object, ...], latest_ctime: int) -> int:
        by_clock = time.time_ns() - latest_ctime
        if by_clock >= 10 * SECOND:
            return by_clock
        now = time.monotonic_ns()
        seen, since = self._seen.get(key, (None, now))
        if seen != stamps:
            since = now
            self._seen[key] = (stamps, now)
            if len(self._seen) > self._trim_at:  # of what was not looked at since: it went, or it rests
                self._seen = {k: v for k, v in self._seen.items() if now - v[1] < LONG_NS}
                self._trim_at = max(MOST_SEEN, 2 * len(self._seen))
        return max(by_clock, now - since)

    def forget(self, key: tuple[str, int, str]) -> None:
        self._seen.pop(key, None)


def take(
    site: Site, eye: Eye, knower: Knower, conversations: Iterable[int], tell: Tell | None = None
) -> tuple[list[Snapshot], list[tuple[Copy, int]]]:
    """Snapshots of just these conversations in every root, and each copy with the mtime of its directory.

    The time is taken before the first stat.
    """
    wanted = sorted(set(conversations))
    snapshots, seen = [], []
    views = [(site.silo, True)] + [(t.view, t.worktree.refresh) for t in site.watched()]
    count = Count(tell, Stage.LOOK, len(views) * len(wanted))
    for view, refresh in views:
        taken = time.time_ns()
        copies: dict[int, tuple[Copy, ...]] = {}
        readable, fault = _readable(site, view, knower)
        for conversation in wanted if readable is Readable.YES else ():
            found = _look_at(site, view, conversation, eye, knower)
            count.add(1)
            if found:
                copies[conversation] = tuple(c for c, _ in found)
                seen.extend(found)
        if view is site.silo:
            eye.durable = {c: group[0] for c, group in copies.items() if len(group) == 1}
        snapshots.append(Snapshot(view.root, taken, copies, readable, refresh, frozenset(wanted), fault))
    return knower.with_extra_digests(snapshots), seen


def _readable(site: Site, view: View, knower: Knower) -> tuple[Readable, str]:
    if view is site.silo and site.silo_state is not Readable.YES:
        return site.silo_state, ""
    return knower.readable(view.root.path)


def _look_at(site: Site, view: View, conversation: int, eye: Eye, knower: Knower) -> list[tuple[Copy, int]]:
    raw = view.records.get(conversation)
    record = unpack(raw) if raw else None
    places = view.listing.places(conversation)
    if raw is not None and len(places) == 1 and settled(raw) and conversation in site.silo.listing.live:
        known = eye.recall(view.root, conversation, places[0], raw)
        if known is not None:
            return [known]
    for _ in range(3):
        try:
            return [eye.look(view.root, conversation, p, record) for p in view.listing.places(conversation)]
        except (FileNotFoundError, NotADirectoryError):
            fs.let_go(view.root.path)
            try:
                view.listing = scan.list_root(view.root.path)
            except OSError:
                return []
        except OSError as error:
            return [knower.unreadable(view, conversation, p, error) for p in view.listing.places(conversation)]
    return []
