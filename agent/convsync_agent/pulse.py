"""Does the file system of a root answer? Asked in a thread of its own, which alone hangs where nothing answers.

A dead network mount hangs in `stat`, a frozen file system in whatever writes; no signal and no timeout ends that.
A file without a name is made and let go (O_TMPFILE): nobody hears of it, and nothing is left of it.

Roots on one file system answer together, so each file system is asked once, whatever the number of worktrees; the
one that our own state is on is not asked at all, for nothing goes on without it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Set

FRESH_SECONDS = 1.0
_UNNAMED = getattr(os, "O_TMPFILE", 0)


class _Probe:
    """The thread that asks. Any error is an answer. `device`: of the path asked about last; None: nothing is there."""

    def __init__(self) -> None:
        self.device: int | None = None
        self.late = False  # somebody waited for this answer in vain: nobody waits for it again
        self._questions: queue.SimpleQueue[tuple[str, bool] | None] = queue.SimpleQueue()
        self._answered = threading.Event()
        self._answered.set()
        self._fresh_until = {False: 0.0, True: 0.0}
        threading.Thread(target=self._run, name="convsync-pulse", daemon=True).start()

    def ask(self, path: str, *, write: bool) -> None:
        """Nothing is asked while an answer is awaited, or was just given."""
        if not self._answered.is_set():
            return
        self.late = False
        if self._fresh_until[write] < time.monotonic():
            self._answered.clear()
            self._questions.put((path, write))

    def answers(self, seconds: float) -> bool:
        return self._answered.wait(max(0.0, seconds))

    def end(self) -> None:
        self._questions.put(None)

    def _run(self) -> None:
        while (question := self._questions.get()) is not None:
            path, write = question
            device = None
            with contextlib.suppress(OSError):
                device = os.stat(path).st_dev
                if write and _UNNAMED:
                    os.close(os.open(path, _UNNAMED | os.O_WRONLY | os.O_CLOEXEC, 0o600))
            self.device = device
            self._fresh_until |= dict.fromkeys({False, write}, time.monotonic() + FRESH_SECONDS)
            self._answered.set()


class Pulse:
    """Asks many roots at once. Only the loop thread calls it. `ours`: a directory on the file system of our state."""

    def __init__(self, ours: str) -> None:
        self._ours = os.stat(ours).st_dev
        self._devices: dict[str, int] = {}
        self._probes: dict[int | str, _Probe] = {}

    def forget(self) -> None:
        """Something may be mounted elsewhere now: ask of each root again where it is."""
        self._devices.clear()

    def silent(self, roots: Set[str], *, write: bool, patience: float) -> set[str]:
        """Of all roots those that do not answer within `patience` seconds, all together.

        `write`: as a writer would find it.
        What did not answer before is not waited for: one that hangs holds up the others once, and not in every turn.
        """
        for root in self._devices.keys() - roots:
            del self._devices[root]
        groups: dict[int | str, list[str]] = {}
        for root in sorted(roots):
            device = self._devices.get(root)
            if device is None or device != self._ours:
                groups.setdefault(root if device is None else device, []).append(root)
        for key in self._probes.keys() - groups.keys():
            self._probes.pop(key).end()
        for key, group in groups.items():
            if key not in self._probes:
                self._probes[key] = _Probe()
            self._probes[key].ask(group[0], write=write)
        deadline = time.monotonic() + patience
        dead: set[str] = set()
        for key, group in groups.items():
            probe = self._probes[key]
            if not probe.answers(0.0 if probe.late else deadline - time.monotonic()):
                probe.late = True
                dead.update(group)
            elif probe.device is not None and isinstance(key, str):
                self._devices[key] = probe.device
        return dead
