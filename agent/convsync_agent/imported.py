"""Copies that do not exist yet: each built whole under a dot name, then renamed into place.

A burst shares everything that is dear: one barrier for all files, one listing of the root while all their
locks are held, one barrier for the names. A projection goes the same way, without any barrier: it is not durable.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from convsync_agent import fs, kernel, piecewise, place, staging
from convsync_agent.attempt import attempt, barrier
from convsync_agent.bulk import Content, is_large
from convsync_agent.extras import parents, read_extra
from convsync_agent.locks import HeldLock, conversation_lock
from convsync_agent.model import Copy, FileCopy, Partition, Root, Stamp, Unit, UnitCopy
from convsync_agent.plan import Import
from convsync_agent.results import Done, Result, Trust, failed_with

Read = Callable[[Copy, FileCopy], Content]


def read_as_seen(copy: Copy, file: FileCopy) -> Content:
    """One file, which has the stamp it was seen with. Raises ChangedError, OSError; a large one when it is read."""
    if file.digest is not None and file.stamp is not None and is_large(file.name, file.stamp.size):
        return piecewise.of_copy(copy, file)
    with fs.opened_copy(copy) as fd:
        raw, stamp = fs.read_file(file.name, fd)
    if stamp != file.stamp:
        raise fs.ChangedError
    return raw


@dataclass(slots=True)
class Building:
    """A complete directory under a dot name, ready to be renamed to its final one."""

    action: Import
    name: str
    files: int
    written: list[tuple[UnitCopy, str, Stamp]]

    def remove(self, stage_fd: int) -> None:
        """Take the copies away again: every byte of them is still where it came from."""
        with fs.opened_dir(self.name, dir_fd=stage_fd) as fd:
            _empty(fd)
        os.rmdir(self.name, dir_fd=stage_fd)


def build(action: Import, read: Read, stage_fd: int, *, durable: bool) -> Building:
    """Copy the winners' files with their true times. Raises ChangedError, OSError; leaves nothing behind then."""
    name = staging.fresh_name(action.conversation, "new")
    os.mkdir(name, 0o755, dir_fd=stage_fd)
    built = Building(action, name, 0, [])
    try:
        with fs.opened_dir(name, dir_fd=stage_fd) as fd:
            for copy, unit in ((action.stream, Unit.STREAM), (action.metadata, Unit.METADATA)):
                for file in copy.unit(unit).files:
                    if file.stamp:
                        raw = read(copy, file)
                        stamp = fs.write_new(file.name, raw, fd, mtime_ns=file.mtime_ns, sync=durable)
                        built.written.append((copy.unit(unit), file.name, stamp))
                        built.files += 1
            for copy, extra in action.extras:
                raw, stamp = read_extra(copy, extra)
                with ExitStack() as stack:
                    at, last = parents(extra.path, fd, stack, make=True)
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


@dataclass(slots=True)
class Importer:
    """Imports bursts of conversations into one silo. `stores()` lists the `.jp` directories concerned.

    With `into`, a worktree, it is the other way round: their projections are made there.
    """

    silo: Root
    stores: Callable[[], Sequence[str]]
    read: Read
    barrier_from: int
    into: Root | None = None
    trust: Trust | None = None

    def imports(self, actions: Sequence[Import]) -> Iterator[Result]:
        """Every action's result. Nothing has a visible name before its bytes are durable."""
        with ExitStack() as stack:
            try:
                root = self.into or self.silo
                root_fd = stack.enter_context(fs.opened_dir(root.path))
                if fs.make_dir(fs.CONVERSATIONS, root_fd):  # below an open fd of a root that is there
                    kernel.fsync(root_fd)
                live = stack.enter_context(fs.opened_dir(fs.CONVERSATIONS, dir_fd=root_fd))
                stage_fd = stack.enter_context(staging.opened(root))
            except OSError as error:
                yield from (failed_with(a, error) for a in actions)
                return
            few = sum(3 + len(a.extras) for a in actions) < self.barrier_from
            single = few or self.into is not None or not kernel.has_syncfs()
            built: list[Building] = []
            for action in actions:
                yield from attempt([action], self._build, action, stage_fd, single and self.into is None, built)
            failed = [] if single or not built else barrier(stage_fd, [b.action for b in built])
            if failed:
                yield from failed
                _remove(built, stage_fd)
                return
            placed: list[Building] = []
            yield from self._place(built, live, stage_fd, placed)
            if self.into is not None:
                yield from (Done(b.action, b.files) for b in placed)
                return
            archived = {Partition.ARCHIVED} & {b.action.partition for b in placed}
            failed = self._archive_barrier(live, placed) if archived and single else []
            failed = failed or (barrier(live, [b.action for b in placed], directory=single) if placed else [])
            yield from failed or [Done(b.action, b.files) for b in placed]

    def _build(self, action: Import, stage_fd: int, durable: bool, built: list[Building]) -> list[Result]:  # noqa: FBT001
        built.append(build(action, self.read, stage_fd, durable=durable))
        return []

    def _place(self, built: Sequence[Building], live: int, stage_fd: int, placed: list[Building]) -> Iterator[Result]:
        """Take every lock, see what the silo has by now, rename, let go. Milliseconds, whatever the sizes (R7)."""
        with ExitStack() as stack:
            ready: list[tuple[Building, HeldLock]] = []
            for one in built:
                yield from attempt([one.action], self._lock, one, stack, ready)
            there: set[str] = set()
            actions = [one.action for one, _ in ready]
            failed = attempt(actions, _find, live, {str(a.conversation) for a in actions}, there)
            yield from failed
            for one, lock in ready if not failed else ():
                yield from attempt([one.action], self._put, one, lock, there, live, stage_fd, placed)
        _remove([b for b in built if b not in placed], stage_fd)

    def _lock(self, one: Building, stack: ExitStack, ready: list[tuple[Building, HeldLock]]) -> list[Result]:
        lock = stack.enter_context(conversation_lock(self.silo.path, one.action.conversation, self.stores()))
        ready.append((one, lock))
        return []

    def _put(
        self, one: Building, lock: HeldLock, there: set[str], live: int, stage_fd: int, placed: list[Building]
    ) -> list[Result]:
        action = one.action
        if str(action.conversation) in there:
            raise fs.ChangedError  # JP made it meanwhile: of two directories for one id it deletes one by name
        for copy, unit in ((action.stream, Unit.STREAM), (action.metadata, Unit.METADATA)):
            with fs.opened_copy(copy) as fd:
                place.recheck(copy, unit, fd)
        lock.require()
        if action.partition is Partition.LIVE:
            kernel.rename_new(stage_fd, one.name, live, action.name)
        else:
            fs.make_dir(fs.ARCHIVE, live)
            with fs.opened_dir(fs.ARCHIVE, dir_fd=live) as archive:
                kernel.rename_new(stage_fd, one.name, archive, action.name)
        placed.append(one)
        if self.trust is not None:
            for source, name, stamp in one.written:
                self.trust((self.into or self.silo, action.conversation), source, name, stamp)
        return []

    @staticmethod
    def _archive_barrier(live: int, placed: Sequence[Building]) -> list[Result]:
        try:
            with fs.opened_dir(fs.ARCHIVE, dir_fd=live) as archive:
                return barrier(archive, [b.action for b in placed], directory=True)
        except OSError as error:
            return [failed_with(b.action, error) for b in placed]


def _find(live: int, wanted: set[str], there: set[str]) -> list[Result]:
    """Put into `there` the numbers with which some name in the silo begins, in either partition."""
    names = fs.list_names(live)
    with suppress(FileNotFoundError, NotADirectoryError), fs.opened_dir(fs.ARCHIVE, dir_fd=live) as archive:
        names = [*names, *fs.list_names(archive)]
    there |= wanted & {name.partition("-")[0] for name in names}
    return []


def _remove(built: Sequence[Building], stage_fd: int) -> None:
    for one in built:
        with suppress(OSError):  # what stays is swept at the next start
            one.remove(stage_fd)


def _empty(fd: int) -> None:
    for name in fs.list_names(fd):
        if stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
            with fs.opened_dir(name, dir_fd=fd) as sub:
                _empty(sub)
            os.rmdir(name, dir_fd=fd)
        else:
            os.unlink(name, dir_fd=fd)
