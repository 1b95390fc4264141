"""Build a durable copy that does not exist yet, and carry unmanaged files to the silo."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from convsync_agent import fs, kernel, staging
from convsync_agent.digest import content_digest
from convsync_agent.model import Copy, Extra, FileCopy, Partition, Stamp, Unit
from convsync_agent.plan import AddExtras, Import

Read = Callable[[Copy, FileCopy], bytes]


@dataclass(slots=True)
class Building:
    """A complete directory under a dot name, ready to be renamed to its final one."""

    action: Import
    name: str
    files: int

    def remove(self, stage_fd: int) -> None:
        """Take the copies away again: every byte of them is still where it came from."""
        with fs.opened_dir(self.name, dir_fd=stage_fd) as fd:
            _empty(fd)
        os.rmdir(self.name, dir_fd=stage_fd)


def build(action: Import, read: Read, stage_fd: int, *, durable: bool) -> Building:
    """Copy the winners' files with their true times. Raises ChangedError, OSError; leaves nothing behind then."""
    name = staging.fresh_name(action.conversation, "new")
    os.mkdir(name, 0o755, dir_fd=stage_fd)
    built = Building(action, name, 0)
    try:
        with fs.opened_dir(name, dir_fd=stage_fd) as fd:
            for copy, unit in ((action.stream, Unit.STREAM), (action.metadata, Unit.METADATA)):
                for file in copy.unit(unit).files:
                    if file.stamp:
                        fs.write_new(file.name, read(copy, file), fd, mtime_ns=file.mtime_ns, sync=durable)
                        built.files += 1
            for copy, extra in action.extras:
                raw, stamp = read_extra(copy, extra)
                with ExitStack() as stack:
                    at, last = _parents(extra.path, fd, stack, make=True)
                    fs.write_new(last, raw, at, mtime_ns=stamp.mtime_ns, sync=durable)
                    if durable and at != fd:
                        kernel.fsync(at)
                built.files += 1
            if durable:
                kernel.fsync(fd)
    except BaseException:
        built.remove(stage_fd)
        raise
    return built


def read_extra(copy: Copy, extra: Extra) -> tuple[bytes, Stamp]:
    with ExitStack() as stack:
        archived = copy.partition is Partition.ARCHIVED
        part = stack.enter_context(fs.opened_partition(copy.root.path, archived=archived))
        fd = stack.enter_context(fs.opened_dir(copy.name, dir_fd=part))
        at, last = _parents(extra.path, fd, stack, make=False)
        return fs.read_file(last, at)


def digest_of_extra(copy: Copy, extra: Extra) -> bytes:
    return content_digest(read_extra(copy, extra)[0])


def _parents(path: str, fd: int, stack: ExitStack, *, make: bool) -> tuple[int, str]:
    """The directory fd that holds the last part of `path`, each step opened without following links."""
    *parents, last = path.split("/")
    for part in parents:
        if make:
            fs.make_dir(part, fd)
        fd = stack.enter_context(fs.opened_dir(part, dir_fd=fd))
    return fd, last


def keep_extras_loser(action: AddExtras, fd: int, keep: Callable[..., None]) -> None:
    """What newer unmanaged files would overwrite goes into the history first (R4)."""
    losing = []
    for extra in action.files:
        if any(e.path == extra.path for e in action.target.extras):
            with ExitStack() as stack:
                at, last = _parents(extra.path, fd, stack, make=False)
                raw, stamp = fs.read_file(last, at)
            losing.append((extra.path, raw, stamp.mtime_ns))
    if losing:
        keep(action.target, Unit.EXTRAS, losing, "replaced")


def put_extra(
    action: AddExtras, extra: Extra, source_fd: int, target_fd: int, stage_fd: int
) -> Sequence[staging.Retired]:
    """Copy one unmanaged file with its time. Returns what has to wait in staging before it may go."""
    with ExitStack() as stack:
        at, last = _parents(extra.path, source_fd, stack, make=False)
        raw, stamp = fs.read_file(last, at)
    if stamp != extra.stamp:
        raise fs.ChangedError
    name = staging.fresh_name(action.conversation, extra.path)
    fs.write_new(name, raw, stage_fd, mtime_ns=stamp.mtime_ns, sync=True)
    old = next((e for e in action.target.extras if e.path == extra.path), None)
    left, placed, exchanged = None, False, False
    with ExitStack() as stack:
        try:
            at, last = _parents(extra.path, target_fd, stack, make=True)
            if old is None:
                kernel.rename_new(stage_fd, name, at, last)
            else:
                exchanged = kernel.exchange(stage_fd, name, at, last)
                if not exchanged:
                    os.rename(name, last, src_dir_fd=stage_fd, dst_dir_fd=at)
            placed = True
        finally:
            if not placed:
                fs.unlink_if_there(name, stage_fd)  # still our copy
        if old is not None and exchanged:  # before the sync, which may fail: the history has it
            names, planned = (name, extra.path), (old.stamp, old.digest)
            left = staging.retire(action.target.root, action.conversation, names, planned, stage_fd)
        kernel.fsync(at)
    return () if left is None else (left,)


def _empty(fd: int) -> None:
    for name in fs.list_names(fd):
        if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            with fs.opened_dir(name, dir_fd=fd) as sub:
                _empty(sub)
            os.rmdir(name, dir_fd=fd)
        else:
            os.unlink(name, dir_fd=fd)
