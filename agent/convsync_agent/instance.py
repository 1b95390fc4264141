"""One inotify instance of the kernel, and the thread that reads it: watchdog's, with our eyes.

Beside `watch` the only module that knows watchdog.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import logging
import os
import termios
import time
from collections.abc import Callable

from watchdog.utils import BaseThread, UnsupportedLibcError

try:
    from watchdog.observers.inotify_c import InotifyEvent, InotifyFD, Mask, inotify_add_watch, inotify_rm_watch
except (ImportError, OSError, TypeError, UnsupportedLibcError):  # no inotify in this libc: Instance() says so
    InotifyFD = BaseThread  # type: ignore[assignment,misc]

_log = logging.getLogger(__name__)
_BACKLOG = 64 * 1024  # bytes of unread events at which a sweep waits for the reader; the queue holds >= 256 KiB


class Instance(InotifyFD):
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

    def add(self, path: str, mask: int) -> int:
        """Watch one directory; the same directory again gives the same number."""
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        wd = inotify_add_watch(self._inotify_fd, os.fsencode(path), Mask(mask))
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
