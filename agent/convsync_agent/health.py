"""Is the watcher alive, when is the next full rescan due, and did the machine sleep?"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from convsync_agent.hints import Watcher
from convsync_agent.publish import SIGNALS

SHORTEST, LONGEST = 30.0, 600.0
COST_SHARE = 0.001  # of one core, for the full rescan: it may be 0.0015 (design 4), and 0.002 all of an idle agent
CANARY = "canary"


class Due(NamedTuple):
    rescan: bool
    dead: str


class Health:
    """The net under the watcher: a canary file, a full rescan whose interval follows its cost."""

    def __init__(self, watcher: Watcher, runtime_dir: str, *, every: float = SHORTEST) -> None:
        """`every`: seconds between two canaries."""
        self._watcher = watcher
        self._signals = os.path.join(runtime_dir, SIGNALS)
        self._every = every
        self._next_canary = time.monotonic() + every
        self._canary_out: float | None = None
        self.heard = 0
        self._number = 0
        self._interval = SHORTEST
        self._next_scan = time.monotonic() + SHORTEST
        self._asleep = _slept()
        self._deaf: dict[str, tuple[str, int | None]] = {}
        self.overflows = 0
        self.replacements = 0
        if watcher.hears_closing:  # made now, so that an idle agent need not
            with contextlib.suppress(OSError):
                self._close(os.path.join(self._signals, CANARY))

    def wait(self) -> float:
        return max(0.0, min(self._next_canary, self._next_scan) - time.monotonic())

    def due(self) -> Due:
        """What has to be done now. Sends and checks the canary on the way."""
        now = time.monotonic()
        slept = _slept()
        if slept - self._asleep > 5.0:
            self._asleep = slept
            return Due(rescan=True, dead="")
        dead = ""
        if now >= self._next_canary:
            if not self._watcher.healthy():
                dead = "its thread died"
            elif self._canary_out is not None:
                dead = "its canary was not seen"
            else:
                self._send()
            self._next_canary = now + self._every
        return Due(now >= self._next_scan, dead)

    def call(self) -> None:
        """In the middle of long work: send the canary that is due. What did not come back is judged after it."""
        now = time.monotonic()
        if now >= self._next_canary and self._canary_out is None:
            self._send()
            self._next_canary = now + self._every

    def good(self) -> bool:
        """The watcher lives, and every canary came back."""
        return self._canary_out is None and self._watcher.healthy()

    def _send(self) -> None:
        """A file of the runtime directory is closed, or renamed for a watcher that does not hear that.

        Closing writes nothing, wherever that directory is: without a session of the user it is on a disk.

        The directory may be gone, then nobody hears what is put there: made anew, it has to be watched anew, and the
        canary that never comes back sees to that.
        """
        self._canary_out = time.monotonic()
        with contextlib.suppress(OSError):
            os.makedirs(self._signals, 0o700, exist_ok=True)
            if self._watcher.hears_closing:
                self._close(os.path.join(self._signals, CANARY))
            else:
                self._number += 1
                old, new = (os.path.join(self._signals, f"{CANARY}{n % 2}") for n in (self._number - 1, self._number))
                if not os.path.exists(old):
                    self._close(old)
                os.rename(old, new)

    @staticmethod
    def _close(path: str) -> None:
        """Made if it is not there, and not changed if it is."""
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def seen(self, name: str) -> None:
        if name.startswith(CANARY):
            self._canary_out = None
            self.heard += 1

    def scanned(self, cost: float) -> None:
        """A full rescan took `cost` seconds of processor time: the next one is due accordingly."""
        self._interval = min(LONGEST, max(SHORTEST, cost / COST_SHARE))
        self._next_scan = time.monotonic() + self._interval

    def lost(self) -> None:
        self.overflows += 1

    def replaced(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._canary_out = None
        self.replacements += 1

    def armed(self, root: str, failed: Sequence[str], *, unwatched: int | None = None) -> None:
        """`unwatched`: how many of its conversations are not watched; None where the whole root may not be."""
        if failed:
            self._deaf[root] = failed[0], unwatched
        else:
            self._deaf.pop(root, None)

    def deaf(self, root: str, detail: str) -> None:
        if root:
            self._deaf[root] = detail, None

    def deaf_roots(self) -> list[dict[str, Any]]:
        """What is looked at in turns: `root`, `code` and `unwatched`, as `armed` was told."""
        return [{"root": root, "code": code, "unwatched": n} for root, (code, n) in sorted(self._deaf.items())]


def _slept() -> float:
    """Seconds the machine has been suspended since boot, 0 where that cannot be told."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    if boot is None:
        return 0.0
    return time.clock_gettime(boot) - time.monotonic()
