"""Remove a conversation everywhere because a person said so (contract 6.5, 10.6): `rm`.

What it held is safe first: the durable copy as a kept copy in our trash, whatever else any copy has in the history.
Then its directory goes out of every worktree, and out of the silo last, each in one step; between the last of these
steps and the deletion of its files the tombstone is written. A death before that leaves a whole conversation or one
that was visibly removed under its lock; after that nobody brings it back. Nothing is imported for it.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import NamedTuple

from convsync_agent import fs, setback
from convsync_agent.archiving import away
from convsync_agent.chosen import being_written, look
from convsync_agent.contention import RETRY_SECONDS, lock_held
from convsync_agent.engine import Engine
from convsync_agent.errors import NotFound, StorageProblem, storage_problem
from convsync_agent.guard import locked
from convsync_agent.keepsake import Keepsake, keepable
from convsync_agent.locks import BusyError, HeldLock
from convsync_agent.model import BOTH, EVENTS, Copy, Grade, Readable, Unit
from convsync_agent.names import id_text
from convsync_agent.plan import Bury, Keep, Plan
from convsync_agent.recording import forget
from convsync_agent.results import Postponed
from convsync_agent.rules import DAY_MS
from convsync_agent.settling import settle
from convsync_agent.site import Site
from convsync_agent.summary import count_events
from convsync_agent.withdrawal import require_done, safe_digests, withdraw

WHY = "removed"
BY_COMMAND = "by command"
TRIES, QUIET_TRIES = 30, 20
CLOSES = ("conflict", "lost")


class Gone(NamedTuple):
    """`until_ms`: `trash restore` can bring it back until then; None: what it held is in the history.

    `away`: the worktrees that held it and that are missing or paused.
    """

    until_ms: int | None
    away: tuple[str, ...]


def remove(engine: Engine, site: Site, conversation: int, *, deadline: float) -> Gone:
    """Take it out of every worktree that is there and out of the silo. Left-overs of one that is gone go as well.

    Raises LockHeld, NotFound, Refused (it is being written), StorageProblem; until the first directory is taken out
    nothing has changed.
    """
    with locked(site, conversation, deadline) as lock:
        for _ in range(TRIES):
            try:
                have = _taken_away(engine, site, conversation, lock)
                break
            except BusyError:
                raise lock_held(site, conversation) from None
            except (fs.ChangedError, fs.OddFileError, FileNotFoundError):
                time.sleep(RETRY_SECONDS)
            except OSError as error:
                raise storage_problem(error, site.silo.root.path, "remove it") from None
        else:
            raise being_written(conversation)
        engine.contents.clear()
        with suppress(OSError):  # a convenience (R8): it is removed, and the next cycle finds that out
            _record(engine, site, conversation)
    return Gone(_until(engine, site, conversation) if have else None, tuple(away(site, conversation)))


def _taken_away(engine: Engine, site: Site, conversation: int, lock: HeldLock) -> Keepsake | None:
    """Everything but the records. Returns the kept copy there is of it now."""
    copies = _rested(engine, site, conversation)
    have = _keep(engine, site, copies)
    _save(engine, site, copies, have)
    safe = safe_digests(copies) | ({bytes.fromhex(f.digest) for f in have.files} if have else set())
    kept = engine.history.versions(site.id, conversation)
    known = [(m.unit, m.digest) for m in kept if m.unit in BOTH] + [(u, c.unit(u).digest) for c in copies for u in BOTH]
    last, buried = copies[-1], False

    def bury() -> None:
        nonlocal buried
        engine.removals.bury(site, Bury(conversation, site.silo.root, BY_COMMAND), known)
        buried = True

    try:
        for copy in copies[:-1]:
            withdraw(engine, site, copy, lock, safe=safe, why=WHY, roots=False)
        withdraw(engine, site, last, lock, safe=safe, why=WHY, roots=False, hidden=bury)
    except (OSError, fs.ChangedError, fs.OddFileError):
        if not buried:
            raise
        # It is removed; what could not be read or deleted lies in the staging directory, and is never deleted unread.
    return have


def _rested(engine: Engine, site: Site, conversation: int) -> list[Copy]:
    """Every copy there is, the silo's last; a write that goes on just now gets a moment to end.

    Raises StorageProblem for a worktree that cannot be listed: nobody could say what stays in it.
    """
    for tree in site.watched():
        readable, kind = engine.knower.readable(tree.root.path)
        if readable is Readable.UNREADABLE:
            hint = "check owner and permissions, or: convsync unregister " + tree.worktree.path
            raise StorageProblem("a worktree cannot be listed", where=tree.worktree.path, hint=hint, code=kind)
    for _ in range(QUIET_TRIES):
        engine.contents.clear()
        copies = look(engine, site, conversation)
        if all(c.unit(u).quiet for c in copies for u in BOTH):
            break
        time.sleep(RETRY_SECONDS)
    if not copies:
        raise NotFound("this conversation went away just now", where=id_text(conversation), hint="convsync trash ls")
    return sorted(copies, key=lambda c: (c.root.is_silo, c.root.path))


# -- what it held is safe first -------------------------------------------------------


def _keep(engine: Engine, site: Site, copies: Sequence[Copy]) -> Keepsake | None:
    """The kept copy, made of the durable copy, or of the newest valid one where there was none. None: not kept.

    Where the durable copy is gone, what was kept of it is not replaced by a left-over.
    """
    shelter = engine.vault.shelter
    if not shelter.keep_days:
        return None
    conversation = copies[0].conversation
    durable = [c for c in copies if c.root.is_silo]
    have = _readable(engine, site, conversation)
    if not durable and have is not None and have.whole:
        return have
    best = _best(site, durable) or (None if have else _best(site, copies))
    if best is None:
        return have
    now_ms = time.time_ns() // 1_000_000
    try:
        if have is not None:
            setback.save(engine, site, best)
        events = engine.contents.get(best.stream.file(EVENTS).digest)
        shelter.keep(site.id, best, at_ms=now_ms, events=count_events(events) if events else None)
    except OSError as error:
        raise storage_problem(error, shelter.data_dir, "keep what is to be removed") from None
    return _readable(engine, site, conversation)


def _best(site: Site, copies: Sequence[Copy]) -> Copy | None:
    """The newest that can be kept, if there is one that git did not bring back."""
    able = [c for c in copies if keepable(c)]
    current = [c for c in able if not any((c.conversation, c.root, u) in site.behind for u in BOTH)]
    return max(current or able, key=lambda c: (c.stream.mtime_ns, c.metadata.mtime_ns), default=None)


def _readable(engine: Engine, site: Site, conversation: int) -> Keepsake | None:
    """What is kept, read back to the last byte: soon it is all there is."""
    shelter = engine.vault.shelter
    have = shelter.held(site.id, conversation)
    try:
        if have is not None:
            shelter.read(site.id, conversation)
    except (OSError, ValueError, fs.ChangedError):
        return None
    return have


def _save(engine: Engine, site: Site, copies: Collection[Copy], have: Keepsake | None) -> None:
    """Whatever a copy has that the kept copy does not hold is in the history when this returns.

    The durable copy's stream last: the newest version is what `restore` brings back.
    """
    for copy in copies:
        for unit in (Unit.EXTRAS, Unit.METADATA, Unit.STREAM):
            keep = Keep(copy.conversation, unit, copy, WHY)
            if not _unsaved(copy, unit, have) or engine.knower.is_kept(site.id, keep):
                continue
            for result in engine.perform(site, Plan((keep,))):
                if isinstance(result, Postponed) and result.reason == "unstable":
                    raise fs.ChangedError
                require_done(site, copy.conversation, result)


def _unsaved(copy: Copy, unit: Unit, have: Keepsake | None) -> bool:
    if unit is Unit.EXTRAS:
        held = {(f.name, f.size, f.mtime_ns) for f in have.files} if have else set()
        return not held.issuperset((e.path, e.stamp.size, e.stamp.mtime_ns) for e in copy.extras)
    state = copy.unit(unit)
    if not state.exists or state.grade is Grade.ODD:
        return False  # what is no file has no bytes; a file beside it is read when the directory is taken out
    return have is None or have.digest(unit) != state.digest


# -- afterwards -----------------------------------------------------------------------


def _until(engine: Engine, site: Site, conversation: int) -> int | None:
    shelter = engine.vault.shelter
    have = shelter.held(site.id, conversation)
    if have is None or have.removed_ms is None:
        return None
    return have.removed_ms + shelter.keep_days * DAY_MS


def _record(engine: Engine, site: Site, conversation: int) -> None:
    """Buried, and nothing about it is left for a person to decide."""
    for tree in site.watched():
        forget(engine, site, tree.view, conversation)  # that it went says nothing any more
    for kind in CLOSES:
        engine.ledger.close(kind, site.id, conversation)
    settle(engine, site, {conversation})
    silo = site.silo.root.path
    row = (time.time_ns() // 1_000_000, "remove", site.id, conversation, "all", silo, silo, 0)
    with engine.state.transaction():
        engine.state.log([row])
