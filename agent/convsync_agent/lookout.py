"""The watchers the agent has out: the ordinary one, one that looks in turns where that one cannot, their health."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from convsync_agent import publish
from convsync_agent.health import SHORTEST, Health
from convsync_agent.hints import Hint, Watcher
from convsync_agent.mounts import needs_polling
from convsync_agent.poll import PollingWatcher
from convsync_agent.site import Site, TreeState, pause_over
from convsync_agent.watch import best_watcher, choose_watcher


class Lookout:
    """Arms roots with the best watcher there is. Only the loop thread calls it; hints come through `put`."""

    def __init__(self, put: Callable[[Hint], None], runtime_dir: str, *, canary_seconds: float = SHORTEST) -> None:
        self._put = put
        self._signals = os.path.join(runtime_dir, publish.SIGNALS)
        self._watcher = choose_watcher(put)
        self._poller: Watcher | None = None
        self.health = Health(self._watcher, runtime_dir, every=canary_seconds)
        self._watcher.watch_signals(self._signals)

    @property
    def watches(self) -> int:
        return self._watcher.watches + (self._poller.watches if self._poller else 0)

    def arm_site(self, site: Site) -> None:
        """Every root of a workspace; a paused worktree is let go, unless its pause is over: arm, then scan."""
        self.arm(site.silo.root.path, silo=True)
        for store, tree in site.trees.items():
            if tree.state is TreeState.PAUSED and not pause_over(tree.worktree, time.time_ns() // 1_000_000):
                self.disarm(store)
            else:
                self.arm(store, silo=False)

    def arm(self, root: str, *, silo: bool) -> None:
        """Watch a root. Out of watches, or a file system that tells us nothing: look at it in turns instead."""
        result = self._watcher.arm(root, silo=silo)
        self.health.armed(root, result.failed)
        if result.failed or needs_polling(root):
            if self._poller is None:
                self._poller = choose_watcher(self._put, prefer="polling")
            self._poller.arm(root, silo=silo)
        elif self._poller is not None:
            self._poller.disarm(root)

    def disarm(self, root: str) -> None:
        for watcher in (self._watcher, self._poller):
            if watcher is not None:
                watcher.disarm(root)

    def replace(self) -> None:
        """A new watcher for one that died or went deaf. Every root has to be armed anew."""
        self._watcher.close()
        self._watcher = choose_watcher(self._put)
        self.health.replaced(self._watcher)
        self._watcher.watch_signals(self._signals)

    def improve(self) -> bool:
        """Out of descriptors once is not out of them for ever. True: a better watcher is out, every root unarmed."""
        if not isinstance(self._watcher, PollingWatcher):
            return False
        better = best_watcher(self._put)
        if better is None:
            return False
        self._watcher.close()
        self._watcher = better
        self.health.replaced(better)
        better.watch_signals(self._signals)
        return True

    def close(self) -> None:
        self._watcher.close()
        if self._poller is not None:
            self._poller.close()
