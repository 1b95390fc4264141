"""inotify by ctypes: for the observer, and for the floor where there is no C compiler."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from collections.abc import Iterator
from typing import NamedTuple

CLOSE_WRITE, MOVED_TO, DELETE = 0x8, 0x80, 0x200
_HEAD = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Event(NamedTuple):
    watch: int
    mask: int
    name: str


class Inotify:
    """One instance. `add` gives the number that its events carry."""

    def __init__(self) -> None:
        self.fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._poll = select.poll()
        self._poll.register(self.fd, select.POLLIN)

    def add(self, path: str, mask: int) -> int:
        watch = _libc.inotify_add_watch(self.fd, os.fsencode(path), ctypes.c_uint32(mask))
        if watch < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), path)
        return int(watch)

    def wait(self, seconds: float | None) -> Iterator[Event]:
        """The events that are there, in order; waits for the first one at most this long."""
        self._poll.poll(None if seconds is None else max(0, seconds * 1000))
        try:
            raw = os.read(self.fd, 1 << 18)
        except BlockingIOError:
            return
        at = 0
        while at < len(raw):
            watch, mask, _, size = _HEAD.unpack_from(raw, at)
            at += _HEAD.size
            yield Event(watch, mask, os.fsdecode(raw[at : at + size].rstrip(b"\0")))
            at += size

    def drain(self) -> None:
        """Forget what is there."""
        while list(self.wait(0)):
            pass

    def close(self) -> None:
        os.close(self.fd)
