"""Objects are stored uncompressed while somebody waits, and made small when nobody does.

The name and the content that it stands for stay the same; the new file replaces the old one in one step, durable
before it does. A thread does it, or a large object would keep everything else waiting: compressing needs no
interpreter.
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator
from hashlib import blake2b

from convsync_agent import digest, kernel, objects

MOST = 10_000  # paths remembered; what is forgotten stays as it is until retention comes by
CALM_SECONDS = 1.0  # since the last work: it takes a core and the disk


class Pressing:
    """Owns what is still to be compressed. Never raises: an object that stays as it is takes room, nothing else."""

    def __init__(self) -> None:
        self._due: deque[str] = deque(maxlen=MOST)
        self._stop = threading.Event()
        self._worker: threading.Thread | None = None
        self._calm_at = 0.0

    def __len__(self) -> int:
        return len(self._due)

    def note(self, path: str) -> None:
        """An object that was stored as it is."""
        self._due.append(path)

    def handed_over(self) -> list[str]:
        """What another one is to do."""
        paths = list(self._due)
        self._due.clear()
        return paths

    def note_all(self, paths: list[str]) -> int:
        self._due.extend(paths)
        return len(paths)

    def disturbed(self) -> None:
        """There is work: the object at hand is given up, and is as it was."""
        self._stop.set()
        self._calm_at = time.monotonic() + CALM_SECONDS

    def wait(self) -> float:
        """Seconds until there is something to begin."""
        if not self._due or self._running:
            return float("inf")
        return max(0.0, self._calm_at - time.monotonic())

    def step(self) -> None:
        """Go on, in a thread of its own, until there is work again."""
        if self.wait() == 0:
            self._stop.clear()
            self._worker = threading.Thread(target=self._run, name="pressing", daemon=True)
            self._worker.start()

    def close(self) -> None:
        self._stop.set()
        if self._worker is not None:
            self._worker.join()

    @property
    def _running(self) -> bool:
        return self._worker is not None and self._worker.is_alive()

    def _run(self) -> None:
        while self._due and not self._stop.is_set():
            path = self._due.popleft()
            if not press(path, self._stop) and self._stop.is_set():
                self._due.append(path)


class _GivenUpError(ValueError):
    """Somebody came."""


def press(path: str, stop: threading.Event | None = None) -> bool:
    """Compress one object, if that makes it smaller; True when it did.

    RACE: it is removed, or put aside by who clears the history, between the look and the rename (milliseconds): it
    comes back under its name, with the content that the name says, and the next clearing takes it again.
    """
    if not objects.is_stored(path):
        return False
    try:
        with objects.opened(path) as fd:
            before = os.fstat(fd).st_size
            pieces = _checked(objects.pieces(fd), os.path.basename(path).removesuffix(".gz"), stop)

            def durable(new: int) -> None:
                if os.fstat(new).st_size >= before or not os.path.exists(path):
                    raise _GivenUpError
                kernel.fsync(new)

            objects.write(path, objects.squeezed(pieces, before), durable)
    except (OSError, ValueError, zlib.error):  # gone, damaged (which reading it tells), or no room for a second one
        return False
    return True


def _checked(pieces: Iterator[bytes], wanted: str, stop: threading.Event | None) -> Iterator[bytes]:
    """The same, and at the end it was what it should be."""
    seen = blake2b(digest_size=digest.SIZE)
    for piece in pieces:
        if stop is not None and stop.is_set():
            raise _GivenUpError
        seen.update(piece)
        yield piece
    if seen.hexdigest() != wanted:
        raise _GivenUpError
