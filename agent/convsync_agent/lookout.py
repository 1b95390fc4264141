"""The watchers the agent has out: the ordinary one, one that looks in turns where that one cannot, their health."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from convsync_agent import publish, ration
from convsync_agent.health import SHORTEST, Health
from convsync_agent.hints import Change, Hint
from convsync_agent.mounts import needs_polling
from convsync_agent.poll import PollingWatcher
from convsync_agent.site import Site, TreeState, pause_over
from convsync_agent.watch import best_watcher, choose_watcher

OUT_OF_WATCHES = "ENOSPC"


class Lookout:
    """Arms roots with the best watcher there is. Only the loop thread calls it; hints come through `put`."""

    def __init__(self, put: Callable[[Hint], None], runtime_dir: str, *, canary_seconds: float = SHORTEST) -> None:
        self._put = put
        self._signals = os.path.join(runtime_dir, publish.SIGNALS)
        self._watcher = choose_watcher(put)
        self._poller: PollingWatcher | None = None
        self._roots: dict[str, bool] = {}  # what is armed, and whether it is a silo
        self._short = False  # something was armed and there were no watches left
        self._shared: frozenset[str] = frozenset()  # the roots among which the watches were shared out
        self._rooms: dict[str, frozenset[str]] = {}  # the conversations that are watched, where not all are
        self._unwatched: dict[str, int] = {}
        self.health = Health(self._watcher, runtime_dir, every=canary_seconds)
        self._watcher.watch_signals(self._signals)

    @property
    def watches(self) -> int:
        return self._watcher.watches + (self._poller.watches if self._poller else 0)

    def arm_site(self, site: Site) -> None:
        """Every root of a workspace; a paused worktree is let go, unless its pause is over: arm, then scan."""
        self._arm(site.silo.root.path, silo=True)
        for store, tree in site.trees.items():
            if tree.state is TreeState.PAUSED and not pause_over(tree.worktree, time.time_ns() // 1_000_000):
                self.disarm(store)
            else:
                self._arm(store, silo=False)
        self._share_out()

    def arm(self, root: str, *, silo: bool) -> None:
        """Watch a root. Out of watches, or a file system that tells us nothing: look at it in turns instead."""
        self._arm(root, silo=silo)
        if self._share_out():
            self._put(Hint(Change.ROOT))  # for a moment some of what is in the other roots was not watched

    def _arm(self, root: str, *, silo: bool) -> None:
        self._roots[root] = silo
        rooms = self._rooms.get(root)
        result = self._watcher.arm(root, silo=silo, rooms=rooms)
        self._short = self._short or OUT_OF_WATCHES in result.failed
        in_turns = bool(result.failed) or needs_polling(root)
        if rooms is not None and not result.failed:
            self.health.armed(root, (OUT_OF_WATCHES,), unwatched=self._unwatched[root])
        else:
            self.health.armed(root, result.failed)
        if in_turns or rooms is not None:
            self._poller = self._poller or PollingWatcher(self._put)
            self._poller.arm_but(root, frozenset() if in_turns else rooms or frozenset(), silo=silo)
        elif self._poller is not None:
            self._poller.disarm(root)

    def _share_out(self) -> bool:
        """Out of watches: they go to the conversations that changed last. True: other ones are watched now.

        Others may take watches, too, so it may not suffice; then whole roots are looked at in turns until the next
        `improve`. Once for the same roots, or two that take them from each other would keep us at it.
        """
        if not self._short or self._shared == self._roots.keys():
            return False
        self._short, self._shared = False, frozenset(self._roots)
        ages = {root: ration.ages(root) for root in self._roots}
        number = ration.rooms_for(self._watcher.watches, len(ages))
        self._rooms = {r: names for r, names in ration.shared(ages, number).items() if len(names) < len(ages[r])}
        self._unwatched = {root: len(ages[root]) - len(names) for root, names in self._rooms.items()}
        for root, rooms in self._rooms.items():  # first let go, then take: the watches are the same ones
            self._watcher.arm(root, silo=self._roots[root], rooms=rooms)
        for root, silo in self._roots.items():
            self._arm(root, silo=silo)
        self._short = False
        return True

    def disarm(self, root: str) -> None:
        self._roots.pop(root, None)
        self._rooms.pop(root, None)
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
        """Out of descriptors or watches once is not out of them for ever. True: arm every root anew."""
        if self._shared:  # the limit may be another one now, and other conversations may have changed last
            self._shared = frozenset()
            self._rooms.clear()
            return True
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
