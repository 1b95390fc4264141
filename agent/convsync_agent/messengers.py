"""Commands that the agent runs to tell a person something: beside the loop, for a limited time, nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

GRACE_SECONDS = 1.0

Ended = Callable[[str], None]
"""Told why it failed, '' when it did not: `exit 3`, `signal 9`, `not done in 30 s`, `cannot be run: ENOENT`."""


class Messengers:
    """Each runs in a process group of its own, watched by a thread that waits for it. `send` never waits."""

    def __init__(self) -> None:
        self._running: dict[threading.Thread, subprocess.Popen[bytes] | None] = {}
        self._lock = threading.Lock()
        self._closed = False

    def send(self, argv: Sequence[str], said: bytes, *, limit: float, ended: Ended) -> None:
        """Start it with `said` on stdin; what it prints is thrown away. `ended` is called from another thread."""

        def run() -> None:
            try:
                ended(self._run(argv, said, limit))
            finally:
                with self._lock:
                    self._running.pop(threading.current_thread(), None)

        thread = threading.Thread(target=run, name="messenger", daemon=True)
        with self._lock:
            self._running[thread] = None
        thread.start()

    def _run(self, argv: Sequence[str], said: bytes, limit: float) -> str:
        try:
            process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            return f"cannot be run: {error.strerror}"
        with self._lock:
            self._running[threading.current_thread()] = process
            late = self._closed
        if late:  # it was started while `close` was looking
            _end(process)
        try:
            process.communicate(said, limit)
        except subprocess.TimeoutExpired:
            _end(process)
            return f"not done in {limit:.0f} s"
        code = process.returncode
        return "" if code == 0 else f"exit {code}" if code > 0 else f"signal {-code}"

    def close(self) -> None:
        """A moment for those that run, then their end."""
        deadline = time.monotonic() + GRACE_SECONDS
        with self._lock:
            self._closed = True
            left = dict(self._running)
        for thread in left:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            late = [p for p in self._running.values() if p is not None]
        for process in late:
            _end(process)
        for thread in left:
            thread.join(GRACE_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    """It and everything it started. Its group is its own, and its number is taken as long as nobody waited for it."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
