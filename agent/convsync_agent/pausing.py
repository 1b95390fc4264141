"""Pause and resume worktrees: who is paused is neither written nor read, and what vanishes there proves nothing.

A pause that has an end is over at that time for everybody who asks; whoever looks first clears it away.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from convsync_agent import scan
from convsync_agent.site import Site, Tree, TreeState, pause_over

if TYPE_CHECKING:
    from convsync_agent.engine import Engine


def pause(engine: Engine, tree: Tree, until_ms: int | None) -> bool:
    """Note it down; `until_ms` None is until `resume`. True: it was not paused until now. Raises OSError."""
    # RACE: a command of ours that began before this finishes what it decided (milliseconds, seconds for a big
    # `sync`). It writes by the usual rules and loses nothing; a running agent is waited for.
    row = tree.worktree
    since = row.paused_ms if row.paused else _now_ms()
    tree.worktree = row._replace(paused=True, paused_ms=since, until_ms=until_ms)
    with engine.state.transaction():
        engine.state.put_worktree(tree.worktree)
    if not row.paused:
        tree.state, tree.since_ms = TreeState.PAUSED, since or _now_ms()
    return not row.paused


def resume(engine: Engine, site: Site, tree: Tree) -> bool:
    """End it, and find out what is there now. False: it was not paused. Raises OSError."""
    row = tree.worktree
    if not row.paused:
        return False
    with engine.state.transaction():  # over for everybody; the look that follows clears it away
        engine.state.put_worktree(row._replace(until_ms=0))
    tree.worktree = row._replace(until_ms=0)
    engine.locate(site)
    return True


def end(site: Site, now_ms: int) -> list[Tree]:
    """The worktrees whose pause is over; from here on they are not paused. Before anybody looks what is there."""
    over = [t for t in site.trees.values() if pause_over(t.worktree, now_ms)]
    for tree in over:
        tree.worktree = tree.worktree._replace(paused=False, paused_ms=None, until_ms=None)
    return over


def forget_absent(engine: Engine, trees: Iterable[Tree]) -> None:
    """Once it is known what is there: what went during the pause is no witness of a removal.

    In one transaction with the end of the pause, so that no death in between makes a witness of it.
    """
    for tree in trees:
        absent: set[int] = set()
        with contextlib.suppress(OSError):  # nothing to be read there: what it held is a matter of `holdings`
            if tree.state is TreeState.WATCHING:
                listing = scan.list_root(tree.root.path)
                absent = tree.view.records.keys() - listing.conversations()
        for conversation in absent:
            del tree.view.records[conversation]
            tree.view.missed.pop(conversation, None)
        with (
            contextlib.suppress(OSError),
            engine.state.transaction(),
        ):  # a state that takes nothing: over again next time
            row = tree.worktree
            engine.state.drop_records([(row.workspace, tree.root.path, c) for c in absent])
            engine.state.put_worktree(row)


def wait(sites: Mapping[str, Site]) -> float:
    """Seconds until the next pause ends by itself."""
    ends = [t.worktree.until_ms for s in sites.values() for t in s.trees.values() if t.worktree.paused]
    soonest = min((e for e in ends if e is not None), default=None)
    return float("inf") if soonest is None else max(0.0, (soonest - _now_ms()) / 1000)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
