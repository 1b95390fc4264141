"""Take one copy of a conversation out of its root: what `unproject` and `rm` do, because a person said so.

In one step for everybody who looks: the directory is renamed into our staging directory and emptied there, so no
partial copy is ever seen (contract 10.4, 10.6). Nothing goes unread: a file whose bytes are not known to be safe
is in the history before it goes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection
from contextlib import nullcontext

from convsync_agent import fs, kernel, piecewise, staging
from convsync_agent.bulk import Content, digest_of
from convsync_agent.chosen import being_written
from convsync_agent.contention import lock_held
from convsync_agent.engine import Engine
from convsync_agent.errors import StorageProblem
from convsync_agent.locks import HeldLock
from convsync_agent.model import BOTH, Copy, Partition
from convsync_agent.plan import Action, Keep, Plan
from convsync_agent.results import Done, Failed, Result
from convsync_agent.site import Site

Save = Callable[[str, Content, int], None]


def keep_unsafe(engine: Engine, site: Site, copy: Copy, safe: Copy | None, why: str) -> list[Result]:
    """Put into the history what this copy has and neither `safe` nor the history has. What went wrong is returned."""
    wanted: list[Action] = []
    for unit in BOTH:
        keep = Keep(copy.conversation, unit, copy, why)
        known = safe is not None and safe.unit(unit).digest == copy.unit(unit).digest
        if copy.unit(unit).exists and not known and not engine.knower.is_kept(site.id, keep):
            wanted.append(keep)
    return [r for r in engine.perform(site, Plan(tuple(wanted))) if not isinstance(r, Done)]


def safe_digests(copies: Collection[Copy]) -> set[bytes]:
    """The digests of every managed file of these copies."""
    return {f.digest for c in copies for u in BOTH for f in c.unit(u).files if f.digest is not None}


def withdraw(
    engine: Engine,
    site: Site,
    copy: Copy,
    lock: HeldLock,
    *,
    safe: Collection[bytes],
    why: str,
    roots: bool = True,
    hidden: Callable[[], None] = lambda: None,
) -> None:
    """The directory of `copy` is gone when this returns. `safe`: digests of what is kept elsewhere.

    `roots`: what another root has is safe there; not so when those are to go next.

    `hidden` is called when nobody sees it any more and nothing of it is deleted yet; when that raises, it is put back.
    Raises fs.ChangedError when it is not the directory that was looked at; BusyError; OSError.

    RACE: a program that has a file of it open goes on writing into a file without a name, as it would after
    JP's own removal (contract 6.5). What it wrote until the file is read here is in the history.
    """
    keep = engine.knower.saver(site, why, roots=roots)

    def save(file: str, raw: Content, mtime_ns: int) -> None:
        if digest_of(raw) not in safe:
            keep(copy.root, copy.conversation, file, raw, mtime_ns)

    archived = copy.partition is Partition.ARCHIVED
    engine.staged_in.add(copy.root)
    with staging.opened(copy.root) as stage, fs.opened_partition(copy.root.path, archived=archived) as part:
        lock.require()
        if os.stat(copy.name, dir_fd=part, follow_symlinks=False).st_ino != copy.inode:
            raise fs.ChangedError
        name = staging.fresh_name(copy.conversation, "gone")
        kernel.rename_new(part, copy.name, stage, name)
        if copy.root.is_silo:  # first where it is now, or a power failure may leave it nowhere
            kernel.fsync(stage)
            kernel.fsync(part)
        try:
            hidden()
        except BaseException:
            kernel.rename_new(stage, name, part, copy.name)
            raise
        with fs.opened_dir(name, dir_fd=stage) as fd:
            _empty(fd, save, "")
        os.rmdir(name, dir_fd=stage)
    view = site.view_at(copy.root.path)
    if view is not None:
        left = tuple(p for p in view.listing.places(copy.conversation) if (p.name, p.archived) != (copy.name, archived))
        view.listing.put(copy.conversation, left)


def _empty(fd: int, save: Save, prefix: str) -> None:
    """Links and devices are no content: they just go. What cannot be read stays where it is, and raises."""
    for name in fs.list_names(fd):
        mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            with fs.opened_dir(name, dir_fd=fd) as sub:
                _empty(sub, save, f"{prefix}{name}/")
            os.rmdir(name, dir_fd=fd)
            continue
        if stat.S_ISREG(mode):
            raw, stamp = piecewise.look(name, lambda: nullcontext(fd))
            save(prefix + name, raw, stamp.mtime_ns)
        os.unlink(name, dir_fd=fd)


def require_done(site: Site, conversation: int, result: Result) -> None:
    """Raises StorageProblem, LockHeld or Refused for what did not happen."""
    if isinstance(result, Failed):
        problem = result.problem
        where = problem.root.path if problem.root else site.silo.root.path
        raise StorageProblem(problem.detail, where=where, hint="convsync status", code=problem.kind)
    if not isinstance(result, Done):
        raise lock_held(site, conversation) if result.reason == "locked" else being_written(conversation)
