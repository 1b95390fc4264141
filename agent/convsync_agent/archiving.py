"""Archive and unarchive in every root that is there, because a person said so (contract 6.5, 10.5).

Under JP's lock, each root by one rename, worktrees first, as JP does it: at no moment is the conversation absent
from every place, or JP's sessions would forget it (contract 8.4). Half-way it looks like a `split` of which the
record tells who moved, so an agent ends what died in between, and so does the same command. A worktree that is not
there follows by itself when it is back (`transition`).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection, Sequence

from convsync_agent import fs
from convsync_agent.bulk import whole
from convsync_agent.chosen import being_written, look, read_units
from convsync_agent.contention import wait_for_lock
from convsync_agent.engine import Engine
from convsync_agent.errors import NotFound, Refused, storage_problem
from convsync_agent.guard import Guard, held
from convsync_agent.importing import ensure_durable, take_in
from convsync_agent.index import IndexEntry
from convsync_agent.layout import copy_path
from convsync_agent.model import METADATA, Copy, Grade, Partition, Unit
from convsync_agent.names import id_text
from convsync_agent.plan import Move, Plan
from convsync_agent.rawjson import with_fields
from convsync_agent.site import Site, TreeState
from convsync_agent.strict_json import NotJson
from convsync_agent.summary import format_timestamp
from convsync_agent.withdrawal import keep_unsafe, require_done, safe_digests, withdraw

FIELD = "archived_at"
OVER = "archived over"


def archive(engine: Engine, site: Site, entry: IndexEntry, *, deadline: float) -> bool:
    """Archive it in every root. False: it is archived already. One that only a worktree has is imported first.

    Raises LockHeld, NotFound, Refused (two directories, a name that is taken, not valid), StorageProblem.
    """
    _bring_in_step(engine, site, entry.id, deadline)
    with held(engine, site, entry, deadline=deadline) as guard:
        copies = guard.copies()
        live = _in(copies, Partition.LIVE)
        if not live:
            return False
        _require_durable(copies)
        _require_movable(live, copies, Partition.ARCHIVED)
        roots = {c.root for c in live}
        for old in [c for c in copies if c.partition is Partition.ARCHIVED and c.root in roots]:
            _take_out(guard, old, next(c for c in live if c.root == old.root))
        if any(c.root.is_silo for c in live):
            _set_archived_at(guard, live, format_timestamp(time.time_ns()))
        for copy in _in(guard.copies(), Partition.LIVE):
            _move(guard, copy, Partition.ARCHIVED)
    return True


def unarchive(engine: Engine, site: Site, entry: IndexEntry, *, deadline: float) -> bool:
    """Make it live again in every root whose archive has it. False: it is live already. Raises as `archive`.

    What an unarchive that died left of `archived_at` on a live conversation goes, too.
    """
    _bring_in_step(engine, site, entry.id, deadline)
    with held(engine, site, entry, deadline=deadline) as guard:
        copies = guard.copies()
        archived = _in(copies, Partition.ARCHIVED)
        _require_durable(copies)
        _require_movable(archived, copies, Partition.LIVE)
        for copy in archived:
            _move(guard, copy, Partition.LIVE)
        return _set_archived_at(guard, _in(guard.copies(), Partition.LIVE), None) or bool(archived)


def away(site: Site, conversation: int) -> list[str]:
    """The worktrees that held it when they were last seen and that nobody watches now, by path."""
    trees = [t for t in site.trees.values() if t.state is not TreeState.WATCHING]
    return sorted(t.worktree.path for t in trees if conversation in t.view.records)


def _bring_in_step(engine: Engine, site: Site, conversation: int, deadline: float) -> None:
    """What JP's own archive begins with: a durable copy, and every edit in it. Nothing while the lock is held."""
    wait_for_lock(site, conversation, deadline)
    if not any(c.root.is_silo for c in look(engine, site, conversation)):
        ensure_durable(engine, site, conversation, deadline)
    take_in(engine, site, {conversation})


def _in(copies: Sequence[Copy], partition: Partition) -> list[Copy]:
    """Those of one partition, the silo last: while it has not moved, JP finds every byte where it was."""
    return sorted((c for c in copies if c.partition is partition), key=lambda c: (c.root.is_silo, c.root.path))


def _require_durable(copies: Collection[Copy]) -> None:
    if not any(c.root.is_silo for c in copies):
        name = id_text(next(iter(copies)).conversation)
        raise NotFound("its durable copy went away just now", where=name, hint="convsync status", code="lost")


def _require_movable(moving: Sequence[Copy], copies: Sequence[Copy], there: Partition) -> None:
    """Raises Refused, before anything is changed, where a directory could not take its place."""
    for copy in moving:
        name = id_text(copy.conversation)
        others = [c for c in copies if c.root == copy.root and c is not copy]
        if any(c.partition is copy.partition for c in others):
            hint = f"remove one of them there: convsync show {name}"
            raise Refused("two directories claim it", where=f"{name} in {copy.root.path}", hint=hint, code="doubled")
        if others and there is Partition.LIVE:
            what = "it is live and archived in one place"
            raise Refused(what, where=f"{name} in {copy.root.path}", hint=f"convsync archive {name}", code="doubled")
        ours = any(c.name == copy.name for c in others)
        if not ours and os.path.lexists(copy_path(copy.root, there, copy.name)):
            what = f"cannot become {there}: its name is taken there by something else"
            raise Refused(what, where=f"{name} in {copy.root.path}", hint="move that away", code="taken")


def _set_archived_at(guard: Guard, live: Sequence[Copy], at: str | None) -> bool:
    """Write the field, in every root, over the metadata that JP would load. False: nothing had to be changed."""
    behind = guard.site.behind
    sound = [c for c in live if c.metadata.grade is Grade.VALID]
    usable = [c for c in sound if (c.conversation, c.root, Unit.METADATA) not in behind] or sound
    if not usable:
        raise Refused(
            f"its metadata is not valid: {live[0].metadata.fault}" if live else "it went away just now",
            where=id_text(guard.conversation),
            hint="convsync status",
            code="not-valid",
        )
    newest = min(usable, key=lambda c: (-c.metadata.mtime_ns, c.root.order))
    raw = whole(dict(read_units(newest)[Unit.METADATA])[METADATA])
    try:
        wanted = with_fields(raw, {FIELD: at})
    except NotJson:
        raise being_written(guard.conversation) from None
    if wanted == raw:
        return False
    guard.write(Unit.METADATA, [(METADATA, wanted)], guard.projection)
    guard.flush()
    return True


def _take_out(guard: Guard, old: Copy, instead: Copy) -> None:
    """An older copy in the archive that the live one replaces: JP would delete it, here it goes into the history."""
    for result in keep_unsafe(guard.engine, guard.site, old, instead, OVER):
        require_done(guard.site, old.conversation, result)
    try:
        withdraw(guard.engine, guard.site, old, guard.lock, safe=safe_digests([old, instead]), why=OVER)
    except (fs.ChangedError, fs.OddFileError):
        raise being_written(old.conversation) from None
    except OSError as error:
        raise storage_problem(error, old.root.path, "take an older copy out of the archive") from None


def _move(guard: Guard, copy: Copy, there: Partition) -> None:
    [result] = guard.engine.perform(guard.site, Plan((Move(copy.conversation, copy, there),)))
    require_done(guard.site, copy.conversation, result)
    verb = "archive" if there is Partition.ARCHIVED else "unarchive"
    row = (time.time_ns() // 1_000_000, verb, guard.site.id, copy.conversation, "all", copy.root.path, copy.root.path)
    with contextlib.suppress(OSError), guard.engine.state.transaction():  # a convenience (R8): it is moved
        guard.engine.state.log([(*row, 0)])
