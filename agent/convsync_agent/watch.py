"""Watching by inotify, and the choice of a watcher. The only module that knows watchdog.

Exactly the directories wanted are watched, one by one and never recursively: the root, `conversations/`,
`.archive/`, every live conversation, the silo's `locks/`, and what is above the root. One inotify
instance, one reader thread; hints leave it with no delay and no pairing of moves.

The table of watches is our own: watchdog's keeps an object and a dictionary for each of them (measured
for 20,000 directories: 12.1 MiB and 0.13 s against 3.2 MiB and 0.10 s).
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import fcntl
import logging
import os
import termios
import threading
import time
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from watchdog import events
from watchdog.observers import Observer
from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper
from watchdog.utils import BaseThread, UnsupportedLibcError

from convsync_agent.hints import (
    ARCHIVE,
    CONVERSATIONS,
    LOCKS,
    ArmResult,
    Change,
    Hint,
    Verb,
    Watched,
    Watcher,
    gone,
    hint_of,
    is_room,
)
from convsync_agent.poll import ObserverWatcher, PollingWatcher

try:
    from watchdog.observers.inotify_c import InotifyEvent, InotifyFD, Mask, inotify_add_watch, inotify_rm_watch
except (ImportError, OSError, TypeError, UnsupportedLibcError):  # no inotify in this libc: _Kernel() says so
    InotifyFD = BaseThread  # type: ignore[assignment,misc]

_log = logging.getLogger(__name__)

_MODIFY, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x8, 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _UNMOUNT, _OVERFLOW, _IGNORED, _ISDIR = 0x400, 0x800, 0x2000, 0x4000, 0x8000, 0x40000000
_ONLYDIR, _DONT_FOLLOW = 0x01000000, 0x02000000
_VERBS = {
    _CREATE: Verb.CREATED,
    _MODIFY: Verb.MODIFIED,
    _CLOSE_WRITE: Verb.WRITTEN,
    _MOVED_TO: Verb.ARRIVED,
    _MOVED_FROM: Verb.LEFT,
    _DELETE: Verb.LEFT,
}
_ENTRY = _CREATE | _MODIFY | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _DELETE
_SELF_GONE = _DELETE_SELF | _MOVE_SELF | _UNMOUNT | _IGNORED
MASK = _ENTRY | _DELETE_SELF | _MOVE_SELF | _ONLYDIR | _DONT_FOLLOW
"""One for all: a second add of the same inode replaces the mask of the first, and would deafen it."""

_NOT_THERE = frozenset({errno.ENOENT})
_NOT_A_DIR = frozenset({errno.ENOENT, errno.ENOTDIR})
_UP_TO = 3  # ancestors watched for each root
_BACKLOG = 64 * 1024  # bytes of unread events at which a sweep waits for the reader; the queue holds >= 256 KiB


class _Kernel(InotifyFD):
    """One inotify instance and its reader thread. `add` and `remove` are called under `lock`."""

    def __init__(self, on_event: Callable[[int, int, bytes], None], on_death: Callable[[], None]) -> None:
        if InotifyFD is BaseThread:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        super().__init__()
        self.name = "convsync-inotify"
        self.lock = self._lock
        self._on_event, self._on_death = on_event, on_death

    @classmethod
    def _create_inotify_fd(cls) -> int:
        fd = super()._create_inotify_fd()
        os.set_inheritable(fd, False)
        return fd

    def handle_event(self, event: InotifyEvent) -> None:
        self._on_event(event.wd, event.mask, event.name)

    def run(self) -> None:
        try:
            super().run()
        except Exception as error:  # noqa: BLE001  # a thread that dies unheard would leave everything deaf
            _log.warning("reader ended: %s", type(error).__name__)
        if self.should_keep_running():
            self._on_death()

    def add(self, path: str) -> int:
        """Watch one directory; the same directory again gives the same number."""
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        wd = inotify_add_watch(self._inotify_fd, os.fsencode(path), Mask(MASK))
        if wd == -1:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        return wd

    def remove(self, wd: int) -> None:
        if not self._closed:
            inotify_rm_watch(self._inotify_fd, wd)  # type: ignore[arg-type]  # EINVAL: the kernel was faster

    def wait_for_reader(self) -> None:
        """Let the reader come near the end of the queue: each removal adds an event, 16,384 fill it."""
        size = array.array("i", [0])
        for _ in range(1000):
            with self.lock:
                if self._closed:
                    return
                fcntl.ioctl(self._inotify_fd, termios.FIONREAD, size)
            if size[0] < _BACKLOG or not self.is_alive():
                return
            time.sleep(0.001)


class _Armed:
    """One path we were told to watch. Its watches carry its term; the next `arm` starts a new one."""

    __slots__ = ("path", "place", "root", "term")

    def __init__(self, root: str) -> None:
        self.root, self.path, self.place, self.term = root, "", Watched.ROOT, ""


class _Spot(NamedTuple):
    term: str
    place: Watched
    name: str  # with ABOVE: the entry that leads to the root


class InotifyWatcher:
    """The `Watcher` for Linux.

    `_rooms` maps a watch to "term/name" of a conversation: one short string for each of 20,000. `_spots`
    has the few others; one directory may be several things there. `arm` and `disarm` come from the loop,
    everything else here runs in the reader; `_kernel.lock` is held for one entry at a time.
    """

    def __init__(self, put: Callable[[Hint], None]) -> None:
        self._put = put
        self._rooms: dict[int, str] = {}
        self._spots: dict[int, tuple[_Spot, ...]] = {}
        self._armed: dict[tuple[Watched, str], _Armed] = {}
        self._terms: dict[str, _Armed] = {}
        self._in_term: dict[str, int] = {}  # how many rooms
        self._last_term = self._overflows = 0
        self._arming = threading.RLock()
        self._kernel = _Kernel(self._on_event, lambda: put(Hint(Change.DEAF, detail="EIO")))
        self._kernel.start()

    @property
    def watches(self) -> int:
        return len(self._rooms.keys() | self._spots.keys()) if self._spots else len(self._rooms)

    @property
    def overflows(self) -> int:
        return self._overflows

    def healthy(self) -> bool:
        return self._kernel.is_alive()

    def close(self) -> None:
        self._kernel.stop()
        self._kernel.join(5)
        with self._kernel.lock:
            for table in (self._rooms, self._spots, self._armed, self._terms, self._in_term):
                table.clear()

    # --- told to watch ---------------------------------------------------------------------------

    def arm(self, root: str, *, silo: bool) -> ArmResult:
        return self._watch(Watched.SILO if silo else Watched.ROOT, root, root)

    def watch_signals(self, path: str) -> ArmResult:
        return self._watch(Watched.SIGNALS, path, "")

    def watch_parent(self, path: str) -> ArmResult:
        return self._watch(Watched.NURSERY, path, "")

    def disarm(self, root: str) -> None:
        with self._arming:
            for key in [key for key in self._armed if key[1] == root]:
                self._end_terms(self._armed.pop(key), but="")

    def _watch(self, place: Watched, path: str, root: str) -> ArmResult:
        failed: list[str] = []
        with self._arming:
            key = (Watched.ROOT if place is Watched.SILO else place, path)
            armed = self._armed.setdefault(key, _Armed(root))
            armed.path, armed.place = os.path.realpath(path), place
            with self._kernel.lock:
                self._last_term += 1
                armed.term = str(self._last_term)
                self._terms[armed.term] = armed
            try:
                self._arm_above(armed, failed)
                self._arm_inside(armed, failed)
            finally:
                self._end_terms(armed, but=armed.term)
            with self._kernel.lock:
                spots = sum(any(s.term == armed.term for s in each) for each in self._spots.values())
                held = spots + self._in_term.get(armed.term, 0)
        return ArmResult(held, tuple(dict.fromkeys(failed)))

    def _arm_above(self, armed: _Armed, failed: list[str]) -> None:
        """Watch the nearest ancestors that exist. RACE: one is made between our look for it and the watch
        above it; so look again, at worst one level of a path under construction waits for the next scan.
        """
        for _ in range(8):
            missing = self._climb(armed, failed)
            if not missing or not os.path.lexists(missing):
                return

    def _climb(self, armed: _Armed, failed: list[str]) -> str:
        """Watch up to three ancestors; the topmost missing one, or nothing."""
        child, found, missing = armed.path, 0, ""
        while found < _UP_TO and child != (parent := os.path.dirname(child)):
            # Higher up a directory that may be passed but not read is normal (`/home` is 0711 on many machines).
            fine = _NOT_A_DIR | {errno.EACCES} if found else _NOT_A_DIR
            if self._add_spot(armed, Watched.ABOVE, parent, failed, name=os.path.basename(child), fine=fine):
                found += 1
            elif not found:
                missing = parent
            child = parent
        return missing

    def _arm_inside(self, armed: _Armed, failed: list[str]) -> None:
        """The listing is watched before it is read, so a directory made meanwhile is seen by one or both."""
        self._add_spot(armed, armed.place, armed.path, failed)
        if armed.place in (Watched.NURSERY, Watched.SIGNALS):
            return
        if armed.place is Watched.SILO:
            self._add_spot(armed, Watched.LOCKS, f"{armed.path}/{LOCKS}", failed)
        self._add_listing(armed, failed)
        try:
            for name in _rooms_in(f"{armed.path}/{CONVERSATIONS}"):
                if "ENOSPC" in failed:  # the rest would fail too
                    return
                self._add_room(armed, name, failed)
        except OSError as error:
            self._deaf(armed, error, failed, fine=_NOT_A_DIR)

    def _end_terms(self, armed: _Armed, *, but: str) -> None:
        """What was not watched again in this term is stale: a directory that moved away, or was missed."""
        with self._kernel.lock:
            over = [term for term, of in self._terms.items() if of is armed and term != but]
            for term in over:
                del self._terms[term]
            stale = [wd for wd, spots in self._spots.items() if any(s.term in over for s in spots)]
            if any(self._in_term.get(term) for term in over):
                stale += [wd for wd, key in self._rooms.items() if key.partition("/")[0] in over]
        for n, wd in enumerate(stale):
            with self._kernel.lock:
                self._drop_stale(wd)
            if n % 256 == 255:
                self._kernel.wait_for_reader()

    # --- the table; all of it under the lock, for one entry at a time -------------------------------

    def _set_room(self, wd: int, key: str | None) -> None:
        old = self._rooms.pop(wd, None)
        if old is not None:
            term = old.partition("/")[0]
            self._in_term[term] -= 1
            if not self._in_term[term]:
                del self._in_term[term]
        if key is not None:
            term = key.partition("/")[0]
            self._rooms[wd] = key
            self._in_term[term] = self._in_term.get(term, 0) + 1

    def _drop_stale(self, wd: int) -> None:
        room = self._rooms.get(wd)
        if room is not None and room.partition("/")[0] not in self._terms:
            self._set_room(wd, None)
        live = tuple(s for s in self._spots.pop(wd, ()) if s.term in self._terms)
        if live:
            self._spots[wd] = live
        elif wd not in self._rooms:
            self._kernel.remove(wd)

    def _forget(self, wd: int) -> None:
        with self._kernel.lock:
            self._set_room(wd, None)
            self._spots.pop(wd, None)
            self._kernel.remove(wd)

    def _add_room(self, armed: _Armed, name: str, failed: list[str]) -> int:
        """Watch one conversation and know it by this name; its number, or 0."""
        try:
            with self._kernel.lock:
                wd = self._kernel.add(f"{armed.path}/{CONVERSATIONS}/{name}")
                self._set_room(wd, f"{armed.term}/{name}")
        except OSError as error:
            self._deaf(armed, error, failed, room=name, fine=_NOT_A_DIR)
            return 0
        return wd

    def _add_spot(
        self,
        armed: _Armed,
        place: Watched,
        path: str,
        failed: list[str],
        *,
        name: str = "",
        fine: frozenset[int] = _NOT_THERE,
    ) -> bool:
        try:
            with self._kernel.lock:
                wd = self._kernel.add(path)
                spot = _Spot(armed.term, place, name)
                others = (
                    s for s in self._spots.get(wd, ()) if self._terms.get(s.term) is not armed or s[1:] != spot[1:]
                )
                self._spots[wd] = (*others, spot)
        except OSError as error:
            self._deaf(armed, error, failed, fine=fine)
            return False
        return True

    def _add_listing(self, armed: _Armed, failed: list[str]) -> None:
        self._add_spot(armed, Watched.CONVERSATIONS, f"{armed.path}/{CONVERSATIONS}", failed)
        self._add_spot(armed, Watched.ARCHIVE, f"{armed.path}/{CONVERSATIONS}/{ARCHIVE}", failed)

    def _deaf(self, armed: _Armed, error: OSError, failed: list[str], *, room: str = "", fine: frozenset[int]) -> None:
        if error.errno not in fine:
            failed.append(errno.errorcode.get(error.errno or 0, "EIO"))
            self._put(Hint(Change.DEAF, armed.root, room, detail=failed[-1]))

    # --- told by the kernel; in the reader, which must neither stop nor wait ---------------------------

    def _on_event(self, wd: int, mask: int, name: bytes) -> None:
        try:
            self._sort(wd, mask, os.fsdecode(name))
        except Exception as error:  # noqa: BLE001  # a reader that stops leaves everything deaf
            _log.warning("event dropped: %s", type(error).__name__)
            with contextlib.suppress(Exception):
                self._put(Hint(Change.DEAF, detail=type(error).__name__))

    def _sort(self, wd: int, mask: int, name: str) -> None:
        if mask & _OVERFLOW:
            self._overflows += 1
            self._put(Hint(Change.LOST))
            return
        with self._kernel.lock:
            room, spots = self._rooms.get(wd), self._spots.get(wd, ())
            term, _, room_name = (room or "").partition("/")
            armed = self._terms.get(term)
            if mask & _IGNORED:
                self._set_room(wd, None)
        if armed is not None:
            self._on_room(wd, armed, room_name, mask, name)
        for spot in spots:
            if (of := self._terms.get(spot.term)) is not None:
                self._on_spot(wd, of, spot, mask, name)

    def _on_room(self, wd: int, armed: _Armed, room: str, mask: int, name: str) -> None:
        if mask & _MOVE_SELF:
            self._follow_room(wd, armed, room)
        elif mask & _UNMOUNT:
            self._put(Hint(Change.LISTING, armed.root, room))
        elif name:
            self._tell(Watched.ROOM, armed, mask, name, room)

    def _follow_room(self, wd: int, armed: _Armed, room: str) -> None:
        """A conversation moved. Its watch went with it: keep it if that is still where we know it to be."""
        if self._add_room(armed, room, []) != wd:
            with self._kernel.lock:
                self._set_room(wd, None)
                if wd not in self._spots:
                    self._kernel.remove(wd)

    def _on_spot(self, wd: int, armed: _Armed, spot: _Spot, mask: int, name: str) -> None:
        if mask & _SELF_GONE:
            self._forget(wd)
            self._put(gone(spot.place, armed.root))
        elif spot.place is not Watched.ABOVE or name == spot.name:
            if mask & _ISDIR and mask & (_CREATE | _MOVED_TO):
                self._follow_new(armed, spot.place, name)
            self._tell(spot.place, armed, mask, name, "")

    def _follow_new(self, armed: _Armed, place: Watched, name: str) -> None:
        """Watch a new directory before the hint is given, so the scan that follows finds what was in it.

        What is in a `conversations/` that appears whole is left to the `arm` that answers `ROOT`.
        """
        if place is Watched.CONVERSATIONS and is_room(name):
            self._add_room(armed, name, [])
        elif place is Watched.SILO and name == LOCKS:
            self._add_spot(armed, Watched.LOCKS, f"{armed.path}/{LOCKS}", [])
        elif (place in (Watched.ROOT, Watched.SILO) and name == CONVERSATIONS) or name == ARCHIVE:
            self._add_listing(armed, [])

    def _tell(self, place: Watched, armed: _Armed, mask: int, name: str, room: str) -> None:
        verb = _VERBS.get(mask & _ENTRY)
        hint = hint_of(place, verb, armed.root, name, room) if verb else None
        if hint is not None:
            self._put(hint)


def _rooms_in(path: str) -> Iterator[str]:
    with os.scandir(path) as entries:
        for entry in entries:
            if is_room(entry.name) and entry.is_dir(follow_symlinks=False):
                yield entry.name


# --- the choice ------------------------------------------------------------------------------------

KINDS: list[type[events.FileSystemEvent]] = [
    events.FileCreatedEvent,
    events.FileModifiedEvent,
    events.FileMovedEvent,
    events.FileDeletedEvent,
    events.FileClosedEvent,
    events.DirCreatedEvent,
    events.DirMovedEvent,
    events.DirDeletedEvent,
]
"""One filter for all schedules. Without it an observer hears itself read; without creations it misses files."""

_UNFIT = frozenset({"watchdog.observers.polling", "watchdog.observers.kqueue"})


def observer_watcher(put: Callable[[Hint], None], *, interval: float = 1.0) -> ObserverWatcher:
    """The `Watcher` on what watchdog has for this platform; OSError where our own polling is better."""
    InotifyMoveEventGrouper.delay = 0.01  # 0.5 s for every event behind a file that was moved out
    observer = Observer()
    if type(observer).__module__ in _UNFIT:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return ObserverWatcher(put, observer, KINDS, interval=interval)


def choose_watcher(
    put: Callable[[Hint], None], *, prefer: Literal["auto", "inotify", "observer", "polling"] = "auto"
) -> Watcher:
    """The best watcher that works here, found by trying; `prefer` skips the better ones."""
    makers: dict[str, Callable[[Callable[[Hint], None]], Watcher]] = {
        "inotify": InotifyWatcher,
        "observer": observer_watcher,
    }
    for name, make in makers.items():
        if prefer in ("auto", name):
            prefer = "auto"
            try:
                return make(put)
            except (OSError, RuntimeError) as error:
                code = errno.errorcode.get(getattr(error, "errno", None) or 0, "EIO")
                if code != "ENOSYS":  # not having it is no fault; EMFILE is one to tell
                    put(Hint(Change.DEAF, detail=code))
    return PollingWatcher(put)
