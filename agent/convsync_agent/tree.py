"""Watching whole trees (FSEvents): files are told of at once, and the roots looked at once a second.

Knows the ways of watchdog's observers, not watchdog: it gets an observer handed in.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from typing import Any

from convsync_agent.hints import ArmResult, Change, Hint, Verb, Watched, gone, hint_of, locate
from convsync_agent.poll import Key, PollingWatcher

_log = logging.getLogger(__name__)


class _Handler:
    """Turns the events of one observed tree into hints. Runs in the observer's thread: never raises."""

    def __init__(self, put: Callable[[Hint], None], key: Key, path: str) -> None:
        self._put, self._key, self._path = put, key, path

    def dispatch(self, event: Any) -> None:
        try:
            if event.event_type == "moved":
                self._tell(Verb.LEFT, os.fsdecode(event.src_path))
                self._tell(Verb.ARRIVED, os.fsdecode(event.dest_path))
            else:
                self._tell(_VERBS[event.event_type], os.fsdecode(event.src_path))
        except Exception as error:  # noqa: BLE001  # it would end the thread that serves all roots
            _log.warning("event dropped: %s", type(error).__name__)
            self._put(Hint(Change.DEAF, self._key.root, detail=type(error).__name__))

    def _tell(self, verb: Verb, path: str) -> None:
        hint: Hint | None = None
        parts = path.removeprefix(self._path + "/").split("/")
        if path == self._path:
            if verb is Verb.LEFT:
                hint = gone(self._key.place, self._key.root)
        elif len(parts) < path.count("/") + 1:  # it is below
            if self._key.place is Watched.SIGNALS:
                hint = hint_of(Watched.SIGNALS, verb, "", parts[0])
            elif (found := locate(parts, silo=self._key.place is Watched.SILO)) is not None:
                place, room, name = found
                hint = hint_of(place, verb if len(parts) < 4 else Verb.MODIFIED, self._key.root, name, room)
        if hint is not None:
            self._put(hint)


_VERBS = {"created": Verb.CREATED, "modified": Verb.MODIFIED, "closed": Verb.WRITTEN, "deleted": Verb.LEFT}


class ObserverWatcher:
    """A `Watcher` on watchdog's generic observer: one recursive schedule for each root that exists.

    That a root went, came back or became another directory, and what happens in a parent of roots, is
    seen by a shallow look every `interval` seconds: a stream above each root would carry all of the
    checkout. The observer does not tell when it lost events; the scan at an interval makes up for that.
    """

    overflows = 0
    hears_closing = False

    def __init__(self, put: Callable[[Hint], None], observer: Any, kinds: list[type], *, interval: float = 1.0) -> None:
        self._put, self._observer, self._kinds = put, observer, kinds
        self._scheduled: dict[str, Any] = {}
        self._looker = PollingWatcher(put, interval=interval, deep=False)
        if not observer.is_alive():
            observer.start()

    @property
    def watches(self) -> int:
        return len(self._scheduled.keys()) + self._looker.watches

    def arm(self, root: str, *, silo: bool, rooms: frozenset[str] | None = None) -> ArmResult:
        del rooms  # one watch for the whole tree
        self._unschedule(root)
        looked = self._looker.arm(root, silo=silo)  # before the schedule: what changes in between is seen
        return self._schedule(Key(Watched.SILO if silo else Watched.ROOT, root), looked)

    def watch_signals(self, path: str) -> ArmResult:
        self._unschedule(path)
        return self._schedule(Key(Watched.SIGNALS, path), ArmResult(0))

    def watch_parent(self, path: str) -> ArmResult:
        return self._looker.watch_parent(path)

    def _schedule(self, key: Key, looked: ArmResult) -> ArmResult:
        path = os.path.realpath(key.path)  # a stream on a symlink reports nothing
        if not os.path.isdir(path):
            return looked
        try:
            self._scheduled[key.path] = self._observer.schedule(
                _Handler(self._put, key, path), path, recursive=bool(key.root), event_filter=self._kinds
            )
        except Exception as error:  # noqa: BLE001  # each platform raises its own
            number = error.errno if isinstance(error, OSError) else None
            code = errno.errorcode.get(number or 0, "EIO")
            self._put(Hint(Change.DEAF, key.root, detail=code))
            return ArmResult(looked.watches, (*looked.failed, code))
        return ArmResult(looked.watches + 1, looked.failed)

    def _unschedule(self, path: str) -> None:
        """Also before each `schedule`: on a root that was deleted and made anew that does nothing otherwise."""
        watch = self._scheduled.pop(path, None)
        if watch is not None:
            self._observer.unschedule(watch)

    def disarm(self, root: str) -> None:
        self._unschedule(root)
        self._looker.disarm(root)

    def healthy(self) -> bool:
        emitters = all(emitter.is_alive() for emitter in list(self._observer.emitters))
        return bool(self._observer.is_alive()) and emitters and self._looker.healthy()

    def close(self) -> None:
        self._looker.close()
        self._scheduled.clear()
        self._observer.stop()
        self._observer.join(5)
