"""What the loop has to look at, and when: conversations by due time, roots to list, arm or rescan.

A write that JP ends with `events.json` is due at once; another file changed alone waits a few ms for the
rest of its unit; a file still open waits until it would be quiet (design 4). Times are monotonic seconds.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Collection, Iterable

from convsync_agent.hints import Change, Hint
from convsync_agent.model import EVENTS
from convsync_agent.outcome import Outcome
from convsync_agent.plan import target_of

GATHER_SECONDS = 0.003
OPEN_SECONDS = 0.2
BACK_OFF = (2.0, 4.0, 8.0, 16.0, 30.0)
FOREVER = 3600.0
BLIND = frozenset({"io", "denied"})  # a root that is there and cannot be listed
FOREVER_AWAY = float("inf")


class Agenda:
    """The loop's memory of what is due. Not thread-safe: only the loop thread touches it."""

    def __init__(self) -> None:
        self._due: dict[tuple[str, int], float] = {}
        self._names: dict[tuple[str, int], set[str]] = {}
        self._hinted: dict[tuple[str, int], float] = {}
        self._rearm: dict[str, None] = {}
        self._relist: dict[str, None] = {}
        self._rescan = ""
        self._failures: dict[tuple[str, int], int] = {}
        self._later = FOREVER_AWAY
        self._blind: dict[str, int] = {}
        self._lent: set[tuple[str, int]] = set()
        self.deferred: dict[str, set[int]] = {}
        self.reload = False
        self.touched = True

    # -- putting in ---------------------------------------------------------------

    def add(self, workspace: str, conversation: int, delay: float) -> None:
        key = (workspace, conversation)
        due = time.monotonic() + delay
        self._due[key] = min(due, self._due.get(key, due))

    def add_all(self, workspace: str, conversations: set[int]) -> None:
        for conversation in conversations:
            self.add(workspace, conversation, 0.0)

    def hint(self, workspace: str, conversation: int, hint: Hint) -> None:
        if hint.change in (Change.LISTING, Change.GONE):
            self._names.setdefault((hint.root, conversation), set()).add(hint.conversation_dir)
        self._hinted.setdefault((workspace, conversation), time.monotonic())
        self.add(workspace, conversation, delay_of(hint))

    def rearm(self, root: str) -> None:
        self._rearm[root] = None

    def relist(self, root: str) -> None:
        self._relist[root] = None

    def rescan_all(self, reason: str) -> None:
        self._rescan = self._rescan or reason

    def rescan_later(self, times: int = 0) -> None:
        """Look at everything again after a pause that grows; in the end the net does it at its own interval."""
        if times < len(BACK_OFF):
            self._later = min(self._later, time.monotonic() + BACK_OFF[times])

    def lend(self, workspace: str, conversations: set[int]) -> None:
        """Somebody else looks at these: they are not due, whatever is heard of them, until they are given back."""
        self._lent.update((workspace, c) for c in conversations)

    def give_back(self, workspace: str, conversations: Collection[int]) -> None:
        self._lent.difference_update((workspace, c) for c in conversations)

    def lent(self, workspace: str, conversation: int) -> bool:
        """Somebody else looks at it now."""
        return (workspace, conversation) in self._lent

    # -- taking out ---------------------------------------------------------------

    def take(self, limit: int) -> tuple[str, set[int]] | None:
        """The due conversations of one workspace, oldest first, at most `limit`. None: nothing is due."""
        now = time.monotonic()
        ready = [(t, k) for k, t in self._due.items() if t <= now and k not in self._lent]
        if not ready:
            return None
        _, (workspace, _) = min(ready)
        # By time: our own writes make everything due once more, and that can wait for what nobody has looked at yet.
        first = heapq.nsmallest(limit, (r for r in ready if r[1][0] == workspace))
        chosen = {conversation for _, (_, conversation) in first}
        for conversation in chosen:
            del self._due[workspace, conversation]
        return workspace, chosen

    def take_rearm(self) -> list[str]:
        roots, self._rearm = list(self._rearm), {}
        return roots

    def take_relist(self) -> list[str]:
        roots, self._relist = list(self._relist), {}
        return roots

    def take_rescan(self) -> str:
        reason, self._rescan = self._rescan, ""
        if self._later <= time.monotonic():
            self._later, reason = FOREVER_AWAY, reason or "trouble"
        return reason

    def names(self, root: str, conversation: int) -> list[str]:
        return sorted(self._names.get((root, conversation), ()))

    def forget_names(self, conversations: set[int]) -> None:
        for key in [k for k in self._names if k[1] in conversations]:
            del self._names[key]

    # -- after a cycle --------------------------------------------------------------

    def took(self, workspace: str, outcome: Outcome) -> list[float]:
        """Seconds from the first hint of what a cycle made durable until now. What waits is not forgotten."""
        now = time.monotonic()
        durable = {r.action.conversation for r in outcome.done if target_of(r.action).is_silo and r.files}
        since = {c: self._hinted.pop((workspace, c), None) for c in durable | (outcome.looked - outcome.again.keys())}
        return [now - at for c, at in since.items() if at is not None and c in durable]

    def settle(self, workspace: str, outcome: Outcome) -> None:
        """Plan the next looks a cycle asked for; what failed backs off."""
        failed = {r.action.conversation for r in outcome.failed}
        for conversation in outcome.looked:
            if conversation not in failed:
                self._failures.pop((workspace, conversation), None)
        for conversation, wait in outcome.again.items():
            delay = wait / 1e9
            if conversation in failed:
                times = self._failures.get((workspace, conversation), 0)
                self._failures[workspace, conversation] = times + 1
                delay = BACK_OFF[min(times, len(BACK_OFF) - 1)]
            self.add(workspace, conversation, delay)
        self._note_blind(workspace, outcome)
        before = self.deferred.get(workspace, set())
        now = (before - outcome.looked) | {d.conversation for d in outcome.deferred}
        self.deferred[workspace] = now
        self.touched = self.touched or bool(outcome.results or outcome.problems or now != before or outcome.looked)

    def _note_blind(self, workspace: str, outcome: Outcome) -> None:
        """A root that cannot be read: what was asked of it is not known, so all of it is asked again later."""
        if any(p.conversation is None and p.root is not None and p.kind in BLIND for p in outcome.problems):
            times = self._blind.get(workspace, 0)
            if self._later == FOREVER_AWAY:
                self._blind[workspace] = times + 1
                self.rescan_later(times)
        else:
            self._blind.pop(workspace, None)

    # -- asking -----------------------------------------------------------------------

    def waiting(self, workspace: str) -> set[int]:
        """Conversations that are deferred now: a released lock is a reason to look again."""
        return self.deferred.get(workspace, set())

    def ready(self) -> bool:
        """Something is due this moment."""
        now = time.monotonic()
        urgent = bool(self._rearm or self._relist or self._rescan or self.reload or self._later <= now)
        return urgent or any(t <= now for t in self._own_due())

    def idle(self) -> bool:
        return not self._due and not self._lent and not self._rearm and not self._rescan

    def wait(self) -> float:
        """Seconds until the next thing is due."""
        if self._rearm or self._relist or self._rescan or self.reload:
            return 0.0
        soonest = min(self._own_due(), default=FOREVER_AWAY)
        return max(0.0, min(FOREVER, min(soonest, self._later) - time.monotonic()))

    def _own_due(self) -> Iterable[float]:
        """When what is not lent is due."""
        return (t for k, t in self._due.items() if k not in self._lent) if self._lent else self._due.values()

    @property
    def due(self) -> int:
        """How many are due now, or soon, and not lent."""
        return len(self._due) - sum(1 for key in self._lent if key in self._due)

    @property
    def size(self) -> int:
        """What is due, and what somebody else looks at."""
        return len(self._due) + sum(1 for key in self._lent if key not in self._due)


def delay_of(hint: Hint) -> float:
    """How long to gather before a hinted conversation is judged, in seconds."""
    if hint.change is Change.TOUCHED:
        return OPEN_SECONDS
    if hint.change is Change.WRITTEN and hint.file != EVENTS:
        return GATHER_SECONDS
    return 0.0
