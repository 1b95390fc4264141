"""Does the file system of a root answer? Asked in a thread of its own, which alone hangs where nothing answers.

A dead network mount hangs in `stat`, a frozen file system in whatever writes; no signal and no timeout ends that.
A file without a name is made and let go (O_TMPFILE): nobody hears of it, and nothing is left of it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Iterable

FRESH_SECONDS = 1.0
_UNNAMED = getattr(os, "O_TMPFILE", 0)


class _Probe:
    """One root and the thread that asks it. Any error is an answer."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._questions: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._answered = threading.Event()
        self._answered.set()
        self._fresh_until = {False: 0.0, True: 0.0}
        threading.Thread(target=self._run, name="convsync-pulse", daemon=True).start()

    def ask(self, *, write: bool) -> None:
        """Nothing is asked while an answer is awaited, or was just given."""
        if self._answered.is_set() and self._fresh_until[write] < time.monotonic():
            self._answered.clear()
            self._questions.put(write)

    def answers(self, seconds: float) -> bool:
        return self._answered.wait(max(0.0, seconds))

    def _run(self) -> None:
        while True:
            write = self._questions.get()
            with contextlib.suppress(OSError):
                os.stat(self._path)
                if write and _UNNAMED:
                    os.close(os.open(self._path, _UNNAMED | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            self._fresh_until |= dict.fromkeys({False, write}, time.monotonic() + FRESH_SECONDS)
            self._answered.set()


class Pulse:
    """Asks many roots at once. Only the loop thread calls it."""

    def __init__(self) -> None:
        self._probes: dict[str, _Probe] = {}

    def silent(self, roots: Iterable[str], *, write: bool, patience: float) -> set[str]:
        """The roots that do not answer within `patience` seconds, all together. `write`: as a writer would find it."""
        asked = {root: self._probes.get(root) or self._probes.setdefault(root, _Probe(root)) for root in roots}
        for probe in asked.values():
            probe.ask(write=write)
        deadline = time.monotonic() + patience
        return {root for root, probe in asked.items() if not probe.answers(deadline - time.monotonic())}
