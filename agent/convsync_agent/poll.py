"""Watching by looking: for network file systems, and where the kernel has no watches left.

A tree watcher looks at its roots in this way as well (see `tree`).
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

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
)
from convsync_agent.model import MANAGED

_log = logging.getLogger(__name__)
_SHARE = 9  # a pass that took long is followed by nine times as much rest
_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR})


class Key(NamedTuple):
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
    but: frozenset[str] = frozenset()  # rooms that are watched otherwise
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


def _look(key: Key, *, deep: bool, but: frozenset[str] = frozenset()) -> _Look:
    """See how `key.path` is now; `deep` looks at the conversations too, except `but`."""
    look, path = _Look(but=but), key.path
    if not key.root:
        look.identity = (look.of(path, content=False),)
        look.entries = {name: look.of(f"{path}/{name}", content=True) for name in look.names(path)}
        return look
    live = f"{path}/{CONVERSATIONS}"
    which = [look.of(at, content=False) for at in (path, live, f"{live}/{ARCHIVE}")]
    look.identity = (*which, look.of(f"{path}/{ID}", content=True))
    if deep:
        for name in look.names(live, directories=True):
            if name in but:
                continue
            room = f"{live}/{name}"
            look.rooms[name] = hash(
                (look.of(room, content=True), *(look.of(f"{room}/{f}", content=True) for f in MANAGED))
            )
        look.entries = dict.fromkeys(look.names(f"{live}/{ARCHIVE}"), 0)
        if key.place is Watched.SILO:
            look.locks = frozenset(look.names(f"{path}/{LOCKS}"))
    return look


def _differences(key: Key, old: _Look, new: _Look) -> Iterator[Hint]:
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
    hears_closing = False

    def __init__(self, put: Callable[[Hint], None], *, interval: float = 2.0, deep: bool = True) -> None:
        self._put, self._interval, self._deep = put, interval, deep
        self._looks: dict[Key, _Look] = {}
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="convsync-poll", daemon=True)
        self._thread.start()

    @property
    def watches(self) -> int:
        return len(self._looks)

    def arm(self, root: str, *, silo: bool, rooms: frozenset[str] | None = None) -> ArmResult:
        del rooms  # looking takes no watches
        return self.arm_but(root, frozenset(), silo=silo)

    def arm_but(self, root: str, rooms: frozenset[str], *, silo: bool) -> ArmResult:
        """Look at a root and all of its conversations but these, by directory name."""
        self.disarm(root)
        return self._arm(Key(Watched.SILO if silo else Watched.ROOT, root), rooms)

    def watch_signals(self, path: str) -> ArmResult:
        return self._arm(Key(Watched.SIGNALS, path))

    def watch_parent(self, path: str) -> ArmResult:
        return self._arm(Key(Watched.NURSERY, path))

    def _arm(self, key: Key, but: frozenset[str] = frozenset()) -> ArmResult:
        look = _look(key, deep=self._deep, but=but)
        with self._lock:
            self._looks[key] = look
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

    def _compare(self, key: Key, old: _Look) -> None:
        new = _look(key, deep=self._deep, but=old.but)
        with self._lock:
            if self._looks.get(key) is not old:  # disarmed or armed anew meanwhile
                return
            self._looks[key] = new
            for hint in _differences(key, old, new):
                self._put(hint)
