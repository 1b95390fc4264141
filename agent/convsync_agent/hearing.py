"""What a hint of the watcher, or a question of a command, means for the loop: where it is to look.

Only the loop's thread calls this. Nothing is decided here: the disk says what a hint meant (R6).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from convsync_agent import locks, publish
from convsync_agent.hints import Change, Hint
from convsync_agent.model import MANAGED
from convsync_agent.names import parse_dirname

if TYPE_CHECKING:
    from convsync_agent.loop import Agent


def hear(agent: Agent, hint: Hint | None) -> None:
    """Turn a hint into places to look at. The disk decides what it meant (R6)."""
    if hint is None:
        return
    if hint.change is Change.SIGNAL:
        _signal(agent, hint.file)
    elif hint.change is Change.LOST:
        agent.lookout.health.lost()
        agent.agenda.rescan_all("overflow")
    elif hint.change in (Change.ROOT, Change.DEAF):
        _root(agent, hint)
    elif hint.change is Change.LOCKS:
        _of_lock(agent, hint)
    else:
        _content(agent, hint)


def _of_lock(agent: Agent, hint: Hint) -> None:
    """A lock file went: who waits for it goes on, and where it was JP's, a removal right after it is JP's, too.

    RACE: JP lets its lock go while a deputy has the conversation, whose own release looks the same (one cycle; with a
    huge file seconds): if JP removed it then, that is taken for an accident, and it is put back. Nothing is lost.
    """
    conversation = parse_dirname(hint.file.removeprefix("jp-c").removesuffix(".lock"))
    if conversation is None:
        return
    ours = locks.released_by_us(os.path.join(hint.root, "locks", hint.file))
    for site in agent.engine.sites_of(hint.root):
        if not ours and not agent.agenda.lent(site.id, conversation):
            agent.engine.removals.released(site.id, conversation)
        if conversation in agent.agenda.waiting(site.id):
            agent.agenda.add(site.id, conversation, 0.0)


def _content(agent: Agent, hint: Hint) -> None:
    conversation = parse_dirname(hint.conversation_dir)
    for site in agent.engine.sites_of(hint.root):
        view = site.view_at(hint.root)
        if conversation is None or view is None:
            if hint.change is Change.LISTING:
                agent.agenda.relist(hint.root)
            continue
        key = (hint.root, conversation, hint.file)
        if hint.change is Change.WRITTEN and hint.file in MANAGED:
            agent.engine.closed.add(key)
        elif hint.change in (Change.TOUCHED, Change.GONE):
            agent.engine.closed.discard(key)
        agent.agenda.hint(site.id, conversation, hint)
        tree = site.trees.get(hint.root)
        if tree is not None:
            tree.last_change_ms = time.time_ns() // 1_000_000
            if hint.change in (Change.WRITTEN, Change.TOUCHED):
                agent.engine.losses.wrote(hint.root, conversation, hint.file)


def _root(agent: Agent, hint: Hint) -> None:
    if hint.change is Change.DEAF:
        agent.lookout.health.deaf(hint.root, hint.detail)
    if hint.root:
        agent.agenda.rearm(hint.root)
    else:
        agent.agenda.rescan_all("roots")


def _signal(agent: Agent, name: str) -> None:
    if name.startswith(publish.POKE):
        agent.bulletin.asked(name)
    elif name == publish.RELOAD:
        agent.bulletin.answered(name)
        agent.agenda.reload = True
    agent.lookout.health.seen(name)
