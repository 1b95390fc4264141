"""A second process of this program: what is sent to it, what it says, and its end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import Pipe
from typing import Any


class Branch:
    """A process that runs `code` with two pipes: one for what it is sent, one for what it says.

    `heard` gets each thing that it says, and then once None, when it is over; a thread of its own calls it. Raises
    OSError when no process can be had.
    """

    def __init__(self, code: str, heard: Callable[[Any], None]) -> None:
        (theirs_in, self._into), (self._out_of, theirs_out) = Pipe(duplex=False), Pipe(duplex=False)
        with theirs_in, theirs_out:
            fds = (theirs_in.fileno(), theirs_out.fileno())
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", code, *map(str, fds)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=fds,
                cwd="/",
                env={k: v for k, v in os.environ.items() if k != "NOTIFY_SOCKET"},
            )
        self._heard = heard
        threading.Thread(target=self._listen, name="branch", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, what: object) -> None:
        """What cannot be sent, since it is gone, is told by `heard`."""
        with suppress(OSError):
            self._into.send(what)

    def _listen(self) -> None:
        try:
            with suppress(EOFError, OSError), self._out_of:
                while True:
                    self._heard(self._out_of.recv())
        finally:
            self._heard(None)
            self._process.wait()  # here, and not where somebody else would have to wait for it

    def let_go(self) -> None:
        """It ends when it has done what it was sent."""
        self._into.close()

    def kill(self) -> None:
        self._process.kill()

    def close(self, seconds: float) -> None:
        """Let it go and wait for its end. One that does not end in time ends by itself."""
        self.let_go()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
