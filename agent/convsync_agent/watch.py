"""The choice of a watcher. Beside `instance` the only module that knows watchdog.

inotify watches single directories and misses nothing of them; a tree watcher (FSEvents) is watchdog's observer
with our eyes on the roots; polling is for network file systems, and where the kernel has no watches left.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Literal

from watchdog import events
from watchdog.observers import Observer
from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

from convsync_agent.hints import Change, Hint, Watcher
from convsync_agent.inotify import InotifyWatcher
from convsync_agent.poll import PollingWatcher
from convsync_agent.tree import ObserverWatcher

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
    return best_watcher(put, put, prefer=prefer) or PollingWatcher(put)


def best_watcher(
    put: Callable[[Hint], None], tell: Callable[[Hint], None] | None = None, *, prefer: str = "auto"
) -> Watcher | None:
    """One that is told of every event, or None. `tell` hears why a better one does not work."""
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
                if code != "ENOSYS" and tell is not None:  # not having it is no fault; EMFILE is one to tell
                    tell(Hint(Change.DEAF, detail=code))
    return None
