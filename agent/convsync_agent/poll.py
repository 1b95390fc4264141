"""Watching by looking: for network file systems, and where the kernel has no watches left.

Also what all watchers but inotify share: a tree watcher (FSEvents) tells of files at once, and looks
once a second whether each root is still the directory it was. It gets watchdog's observer handed in.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from convsync_agent.hints import (
    ARCHIVE,
    CONVERSATIONS,
    ID,
    LOCKS,
    ArmResult,
    Change,
    Hint,
    Verb,
    Watched,
    gone,
    hint_of,
    is_room,
    locate,
)
from convsync_agent.model import MANAGED

_log = logging.getLogger(__name__)
_SHARE = 9  # a pass that took long is followed by nine times as much rest
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})


class _Key(NamedTuple):
    place: Watched
    path: str

    @property
    def root(self) -> str:
        return self.path if self.place in (Watched.ROOT, Watched.SILO) else ""


@dataclass(slots=True)
class _Look:
    """One path as it was. A room is a hash of its stamps: there may be 20,000. `failed`: errno names."""

    identity: tuple[object, ...] = ()
    rooms: dict[str, int] = field(default_factory=dict)
    entries: dict[str, int] = field(default_factory=dict)  # .archive, or the directory itself
    locks: frozenset[str] = frozenset()
    failed: set[str] = field(default_factory=set)
    blind: bool = False  # a listing could not be read

    def of(self, path: str, *, content: bool) -> int:
        """A hash of what `stat` says of `path`, 0 where it is absent; without content: which file it is."""
        try:
            st = os.stat(path, follow_symlinks=False)
        except OSError as error:
            self.note(error)
            return 0
        stamp = (st.st_mtime_ns, st.st_size, st.st_ctime_ns) if content else ()
        return hash((st.st_dev, st.st_ino, *stamp))

    def names(self, path: str, *, directories: bool = False) -> list[str]:
        try:
            with os.scandir(path) as entries:
                return [
                    e.name for e in entries if is_room(e.name) and (not directories or e.is_dir(follow_symlinks=False))
                ]
        except OSError as error:
            self.blind |= self.note(error)
            return []

    def note(self, error: OSError) -> bool:
        if error.errno in _ABSENT:
            return False
        self.failed.add(errno.errorcode.get(error.errno or 0, "EIO"))
        return True


def _look(key: _Key, *, deep: bool) -> _Look:
    """See how `key.path` is now; `deep` looks at the conversations too."""
    look, path = _Look(), key.path
    if not key.root:
        look.identity = (look.of(path, content=False),)
        look.entries = {name: look.of(f"{path}/{name}", content=True) for name in look.names(path)}
        return look
    live = f"{path}/{CONVERSATIONS}"
    which = [look.of(at, content=False) for at in (path, live, f"{live}/{ARCHIVE}")]
    look.identity = (*which, look.of(f"{path}/{ID}", content=True))
    if deep:
        for name in look.names(live, directories=True):
            room = f"{live}/{name}"
            look.rooms[name] = hash(
                (look.of(room, content=True), *(look.of(f"{room}/{f}", content=True) for f in MANAGED))
            )
        look.entries = dict.fromkeys(look.names(f"{live}/{ARCHIVE}"), 0)
        if key.place is Watched.SILO:
            look.locks = frozenset(look.names(f"{path}/{LOCKS}"))
    return look


def _differences(key: _Key, old: _Look, new: _Look) -> Iterator[Hint]:
    """What to look at again. What could not be read now says nothing about absence (R1)."""
    for code in sorted(new.failed - old.failed):
        yield Hint(Change.DEAF, key.root, detail=code)
    if new.blind:
        new.rooms, new.entries, new.locks = old.rooms | new.rooms, old.entries | new.entries, old.locks | new.locks
    if new.identity != old.identity:
        yield gone(key.place, key.root)
    for name in old.rooms.keys() ^ new.rooms.keys():
        yield Hint(Change.LISTING, key.root, name)
    for name in old.rooms.keys() & new.rooms.keys():
        if old.rooms[name] != new.rooms[name]:
            yield Hint(Change.TOUCHED, key.root, name)
    for name in sorted(old.locks - new.locks):
        yield Hint(Change.LOCKS, key.root, "", name)
    if key.place is Watched.SIGNALS:
        changed = [(Verb.WRITTEN, name) for name, stamp in new.entries.items() if old.entries.get(name) != stamp]
    else:
        changed = [(Verb.LEFT, name) for name in old.entries.keys() ^ new.entries.keys()]
    place = Watched.ARCHIVE if key.root else key.place
    for verb, name in changed:
        hint = hint_of(place, verb, key.root, name)
        if hint is not None:
            yield hint


class PollingWatcher:
    """A `Watcher` that looks every `interval` seconds, less often where one pass takes a tenth of that.

    `deep` False looks at the roots themselves only. An overwrite that keeps size and times is not seen.
    """

    overflows = 0

    def __init__(self, put: Callable[[Hint], None], *, interval: float = 2.0, deep: bool = True) -> None:
        self._put, self._interval, self._deep = put, interval, deep
        self._looks: dict[_Key, _Look] = {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="convsync-poll", daemon=True)
        self._thread.start()

    @property
    def watches(self) -> int:
        return len(self._looks)

    def arm(self, root: str, *, silo: bool) -> ArmResult:
        self.disarm(root)
        return self._arm(_Key(Watched.SILO if silo else Watched.ROOT, root))

    def watch_signals(self, path: str) -> ArmResult:
        return self._arm(_Key(Watched.SIGNALS, path))

    def watch_parent(self, path: str) -> ArmResult:
        return self._arm(_Key(Watched.NURSERY, path))

    def _arm(self, key: _Key) -> ArmResult:
        look = _look(key, deep=self._deep)
        with self._lock:
            self._looks[key] = look
        for code in sorted(look.failed):
            self._put(Hint(Change.DEAF, key.root, detail=code))
        return ArmResult(1, tuple(sorted(look.failed)))

    def disarm(self, root: str) -> None:
        with self._lock:
            for key in [key for key in self._looks if key.path == root]:
                del self._looks[key]

    def healthy(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)
        with self._lock:
            self._looks.clear()

    def _run(self) -> None:
        pause = self._interval
        while not self._stop.wait(pause):
            started = time.monotonic()
            for key, old in list(self._looks.items()):
                try:
                    self._compare(key, old)
                except Exception as error:  # noqa: BLE001  # a thread that dies unheard would leave everything deaf
                    _log.warning("look failed: %s", type(error).__name__)
                    self._put(Hint(Change.DEAF, key.root, detail=type(error).__name__))
            pause = max(self._interval, _SHARE * (time.monotonic() - started))

    def _compare(self, key: _Key, old: _Look) -> None:
        new = _look(key, deep=self._deep)
        with self._lock:
            if self._looks.get(key) is not old:  # disarmed or armed anew meanwhile
                return
            self._looks[key] = new
            for hint in _differences(key, old, new):
                self._put(hint)


class _Handler:
    """Turns the events of one observed tree into hints. Runs in the observer's thread: never raises."""

    def __init__(self, put: Callable[[Hint], None], key: _Key, path: str) -> None:
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

    def __init__(self, put: Callable[[Hint], None], observer: Any, kinds: list[type], *, interval: float = 1.0) -> None:
        self._put, self._observer, self._kinds = put, observer, kinds
        self._scheduled: dict[str, Any] = {}
        self._looker = PollingWatcher(put, interval=interval, deep=False)
        if not observer.is_alive():
            observer.start()

    @property
    def watches(self) -> int:
        return len(self._scheduled.keys()) + self._looker.watches

    def arm(self, root: str, *, silo: bool) -> ArmResult:
        self._unschedule(root)
        looked = self._looker.arm(root, silo=silo)  # before the schedule: what changes in between is seen
        return self._schedule(_Key(Watched.SILO if silo else Watched.ROOT, root), looked)

    def watch_signals(self, path: str) -> ArmResult:
        self._unschedule(path)
        return self._schedule(_Key(Watched.SIGNALS, path), ArmResult(0))

    def watch_parent(self, path: str) -> ArmResult:
        return self._looker.watch_parent(path)

    def _schedule(self, key: _Key, looked: ArmResult) -> ArmResult:
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
