"""Put staged files in place, content first, age last (R5), so that JP's rule always picks a whole unit.

The steps of design 5 for one existing copy: stage with the old age, keep the loser, lock, compare,
place, make durable, set the true ages, unlock. Every comparison that fails drops the action.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from convsync_agent import fs, kernel, staging
from convsync_agent.bulk import Content
from convsync_agent.fs import ChangedError
from convsync_agent.locks import HeldLock
from convsync_agent.model import BASE_CONFIG, Copy, FileCopy, Stamp, Unit, UnitCopy
from convsync_agent.plan import Update


@dataclass(frozen=True, slots=True)
class Staged:
    """One file of the winner, staged beside the target. `old`: the target's file as planned."""

    file: str
    name: str
    inode: int
    digest: bytes | None
    old: FileCopy


@dataclass(slots=True)
class Job:
    """One unit on its way into one target."""

    action: Update
    staged: list[Staged] = field(default_factory=list)
    removals: list[FileCopy] = field(default_factory=list)
    placed: bool = False

    @property
    def single(self) -> bool:
        """One rename does it all: the file carries its true age, no state in between exists."""
        return len(self.staged) == 1 and not self.removals and not self.action.younger


def plan_files(source: UnitCopy, target: UnitCopy) -> tuple[list[FileCopy], list[FileCopy]]:
    """Which files of the winner have to be written, and which of the loser have no place in it, in order.

    base_config.json before events.json, as JP writes; where the winner has no base config (legacy), its
    packed events.json goes first and the other is removed after (design 5, step 3).
    """
    have = {f.name: f for f in target.files}
    write = [f for f in source.files if f.stamp and f.digest != (have[f.name].digest if have[f.name].stamp else None)]
    remove = [f for f in target.files if f.stamp and not source.file(f.name).stamp]
    return sorted(write, key=lambda f: (f.name != BASE_CONFIG, f.name)), remove


def stage(
    job: Job, read: Callable[[Copy, FileCopy], Content], fd: int, *, sync: bool | Callable[[int], None] = False
) -> None:
    """Write the winner's files into the staging directory. `read(copy, file)` has the digest checked."""
    action = job.action
    source, target = action.source.unit(action.unit), action.target.unit(action.unit)
    write, job.removals = plan_files(source, target)
    single = len(write) == 1 and not job.removals and not action.younger
    for file in write:
        old = target.file(file.name)
        raw = read(action.source, file)
        age = file.mtime_ns if single else old_age(old, target, source)
        name = staging.fresh_name(action.conversation, file.name)
        stamp = fs.write_new(name, raw, fd, mtime_ns=age, sync=sync)
        job.staged.append(Staged(file.name, name, stamp.inode, file.digest, old))


def old_age(old: FileCopy, target: UnitCopy, source: UnitCopy) -> int:
    """The age a staged file has until the end: the replaced file's, and always below the winner's."""
    age = old.mtime_ns if old.stamp else target.mtime_ns
    return min(age, source.mtime_ns - 1)


def recheck(copy: Copy, unit: Unit, dir_fd: int, *, but: int | None = None) -> None:
    """Raise ChangedError unless every file of the unit is as planned (`but`: its mtime was set by us)."""
    for file in copy.unit(unit).files:
        try:
            now = fs.stat_file(file.name, dir_fd)
        except fs.OddFileError:
            raise ChangedError from None
        if but is not None and now and file.stamp:
            if (now.mtime_ns, now.size, now.inode) != (but, file.stamp.size, file.stamp.inode):
                raise ChangedError
        elif now != file.stamp:
            raise ChangedError


def place(job: Job, lock: HeldLock, dir_fd: int, stage_fd: int) -> None:
    """Exchange every staged file with its target. On any surprise everything is exchanged back.

    RACE: a file can be replaced between the comparison and the exchange (microseconds). What comes out
    is compared again, and put back at once if it is not what was planned.
    """
    if job.action.younger:
        _make_older(job, dir_fd)
    done: list[Staged] = []
    try:
        for item in job.staged:
            lock.require()
            _swap_in(item, dir_fd, stage_fd, aged=job.action.younger)
            done.append(item)
        for file in job.removals:
            lock.require()
            _take_out(file, job, dir_fd, stage_fd)
    except BaseException:
        for item in reversed(done):
            _swap_back(item, dir_fd, stage_fd)
        raise


def _make_older(job: Job, dir_fd: int) -> None:
    """D is younger than S: from here on JP reads S (design 5)."""
    action = job.action
    age = action.source.unit(action.unit).mtime_ns - 1
    for file in action.target.unit(action.unit).files:
        if file.stamp and file.mtime_ns > age:
            fs.set_mtime(file.name, age, dir_fd, sync=False)


def _swap_in(item: Staged, dir_fd: int, stage_fd: int, *, aged: bool) -> None:
    if item.old.stamp is None:
        try:
            kernel.rename_new(stage_fd, item.name, dir_fd, item.file)
        except FileExistsError:
            raise ChangedError from None
        return
    if not kernel.exchange(stage_fd, item.name, dir_fd, item.file):
        _replace(item, dir_fd, stage_fd, aged=aged)
        return
    planned = False
    try:
        planned = _as_planned(fs.stat_file(item.name, stage_fd), item.old, aged=aged)
    finally:
        if not planned:
            kernel.exchange(stage_fd, item.name, dir_fd, item.file)
    if not planned:
        raise ChangedError


def _as_planned(out: Stamp | None, old: FileCopy, *, aged: bool) -> bool:
    if aged and out and old.stamp:
        return (out.size, out.inode) == (old.stamp.size, old.stamp.inode)
    return fs.same_file(out, old.stamp)


def _replace(item: Staged, dir_fd: int, stage_fd: int, *, aged: bool) -> None:
    """Where names cannot be exchanged: hold the old file by a link, then rename over it.

    RACE: a file that takes the name between the link and the rename is replaced without a link
    (microseconds, file systems without an atomic exchange only).
    """
    held = item.name + ".old"
    os.link(item.file, held, src_dir_fd=dir_fd, dst_dir_fd=stage_fd, follow_symlinks=False)
    if not _as_planned(fs.stat_file(held, stage_fd), item.old, aged=aged):
        os.unlink(held, dir_fd=stage_fd)
        raise ChangedError
    os.rename(item.name, item.file, src_dir_fd=stage_fd, dst_dir_fd=dir_fd)
    os.rename(held, item.name, src_dir_fd=stage_fd, dst_dir_fd=stage_fd)


def _take_out(file: FileCopy, job: Job, dir_fd: int, stage_fd: int) -> None:
    """Move a file that the winner does not have (a legacy winner's base config) into staging."""
    name = staging.fresh_name(job.action.conversation, file.name)
    os.rename(file.name, name, src_dir_fd=dir_fd, dst_dir_fd=stage_fd)
    job.staged.append(Staged(file.name, name, -1, None, file))
    planned = False
    try:
        planned = _as_planned(fs.stat_file(name, stage_fd), file, aged=job.action.younger)
    finally:
        if not planned:
            kernel.rename_new(stage_fd, name, dir_fd, file.name)
    if not planned:
        raise ChangedError


def _swap_back(item: Staged, dir_fd: int, stage_fd: int) -> None:
    """Undo one step. If our file is not what comes out, somebody wrote meanwhile: it stays for the sweep."""
    if item.old.stamp is None:
        os.rename(item.file, item.name, src_dir_fd=dir_fd, dst_dir_fd=stage_fd)
    elif not kernel.exchange(stage_fd, item.name, dir_fd, item.file):
        os.rename(item.name, item.file, src_dir_fd=stage_fd, dst_dir_fd=dir_fd)


def true_ages(action: Update) -> dict[str, int]:
    """The mtimes the target has in the end: the winner's, for every file of the unit."""
    return {f.name: f.mtime_ns for f in action.source.unit(action.unit).files if f.stamp}


def set_ages(ages: dict[str, int], inodes: dict[str, int], dir_fd: int, *, durable: bool) -> None:
    """Give the placed files their true times, last of all. A file somebody replaced meanwhile is left alone."""
    for name, age in ages.items():
        now = fs.stat_file(name, dir_fd)
        if now is not None and now.inode == inodes.get(name, now.inode) and now.mtime_ns != age:
            fs.set_mtime(name, age, dir_fd, sync=durable)


def clean_up(job: Job, fd: int) -> list[staging.Retired]:
    """Dispose of what lies in staging after a job: our own copy, or the files it replaced."""
    waiting = []
    for item in job.staged:
        out = fs.stat_file(item.name, fd)
        if out is None:
            continue
        if out.inode == item.inode and not job.placed:
            os.unlink(item.name, dir_fd=fd)
            continue
        planned = item.old.stamp or Stamp(0, 0, 0, 0)  # nothing was there: what came out is a stranger's
        if job.action.younger:
            age = job.action.source.unit(job.action.unit).mtime_ns - 1
            planned = planned._replace(mtime_ns=min(planned.mtime_ns, age))
        root, conversation = job.action.target.root, job.action.conversation
        left = staging.retire(root, conversation, (item.name, item.file), (planned, item.old.digest), fd)
        if left is not None:
            waiting.append(left)
    return waiting
