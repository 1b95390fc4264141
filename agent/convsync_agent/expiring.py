"""Which copies were last seen with a past `expires_at` that the durable copy does not have.

The attention entry is the memory that outlives a restart; what was seen since is kept here, for JP removes the
worktree's copy first, and by then the entry has ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from convsync_agent.expiry import EXPIRED
from convsync_agent.model import SECOND, Root
from convsync_agent.state import State

RECENT_NS = 5 * SECOND  # JP removes both within moments; what ended earlier has nothing to do with it


class Expiring:
    """By workspace, conversation and path of the root: when it was not so any more (ns), None while it is."""

    def __init__(self, state: State) -> None:
        told = [e for e in state.attention() if e.kind == "held" and e.detail == EXPIRED]
        self._until: dict[tuple[str, int, str], int | None] = {
            (e.workspace, e.conversation, e.root): None for e in told
        }

    def note(self, workspace: str, looked: Iterable[int], expired: Iterable[tuple[int, Root]]) -> None:
        """These conversations were looked at, and these copies of them are such."""
        now, found = time.time_ns(), {(workspace, c, root.path) for c, root in expired}
        if self._until:
            seen = set(looked)
            for key, until in list(self._until.items()):
                if key[0] == workspace and key[1] in seen and key not in found and until is None:
                    self._until[key] = now
                elif until is not None and now - until > 60 * RECENT_NS:
                    del self._until[key]
        self._until |= dict.fromkeys(found)

    def roots(self, workspace: str, conversation: int, missed_ns: int) -> set[str]:
        """The roots that had such a copy when the durable one went, or moments before."""
        return {
            root
            for (w, c, root), until in self._until.items()
            if (w, c) == (workspace, conversation) and (until is None or missed_ns - until <= RECENT_NS)
        }
