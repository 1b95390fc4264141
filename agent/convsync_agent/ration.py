"""Who gets a watch where there are not enough of them: the conversations that changed last, in whatever root.

What was written a moment ago is what is written next; the others are looked at in turns (`poll`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from convsync_agent.hints import CONVERSATIONS, is_room
from convsync_agent.model import MANAGED

SPOTS = 8  # watches of a root beside those of its conversations: the root, its directories, what is above it
_SPARE = 32  # this part stays free, for what is made next


def rooms_for(watches: int, roots: int) -> int:
    """How many conversations can be watched, by how many watches there are for `roots` roots."""
    return max(0, watches - SPOTS * (roots + 1) - watches // _SPARE)


def ages(root: str) -> dict[str, int]:
    """When each live conversation changed last, mtime in ns, by directory name. Nothing where it cannot be read."""
    found: dict[str, int] = {}
    live = os.path.join(root, CONVERSATIONS)
    with contextlib.suppress(OSError), os.scandir(live) as entries:
        for entry in entries:
            if is_room(entry.name) and entry.is_dir(follow_symlinks=False):
                found[entry.name] = max((_mtime(os.path.join(entry.path, name)) for name in MANAGED), default=0)
    return found


def _mtime(path: str) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_mtime_ns
    except OSError:
        return 0


def shared(ages_of: Mapping[str, Mapping[str, int]], number: int) -> dict[str, frozenset[str]]:
    """The `number` conversations that changed last, as directory names by root; ties in order of root and name."""
    everything = [(-age, root, name) for root, rooms in ages_of.items() for name, age in rooms.items()]
    chosen: dict[str, set[str]] = {root: set() for root in ages_of}
    for _, root, name in sorted(everything)[:number]:
        chosen[root].add(name)
    return {root: frozenset(names) for root, names in chosen.items()}
