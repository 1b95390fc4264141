"""Do a plan: the only place that changes conversations. Silo first, one target at a time.

Each target gets three short phases: `_prepare` (no lock: read, keep the loser, stage), a durability
barrier shared by a burst, and `_commit` (JP's lock, compare, place, ages). Trouble with one
conversation is data: `Done`, `Postponed` or `Failed`, never an exception that stops the rest.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from convsync_agent import fs, kernel, place, staging
from convsync_agent.digest import content_digest
from convsync_agent.fs import ChangedError, OddFileError
from convsync_agent.imported import Building, build, keep_extras_loser, put_extra
from convsync_agent.locks import BusyError, HeldLock, conversation_lock
from convsync_agent.model import Copy, FileCopy, Partition, Root, Stamp, Unit
from convsync_agent.observe import Contents
from convsync_agent.plan import Action, AddExtras, Import, Keep, Plan, Rename, Update, target_of
from convsync_agent.results import Done, Journal, Keeper, Postponed, Result, because_of, failed_with
from convsync_agent.targets import Target, by_target, chunks, gather, pending_work

BARRIER_FROM = 8  # files: from here one syncfs is cheaper than single fsyncs (design 8)


@dataclass(slots=True)
class Applier:
    """Applies plans for one workspace. `stores(conversation)` lists the `.jp` directories concerned."""

    silo: Root
    stores: Callable[[], Sequence[str]]
    keep: Keeper
    journal: Journal
    contents: Contents
    trust: Callable[[Copy, FileCopy, Stamp], None]
    burst: Callable[[], AbstractContextManager[None]]
    waiting: list[staging.Retired] = field(default_factory=list)
    staged_in: set[Root] = field(default_factory=set)

    def apply(self, plan: Plan) -> Iterator[Result]:
        """Every action's result, in the plan's order within a conversation."""
        blocked: dict[int, Result] = {}
        for action in plan.actions:
            if isinstance(action, Keep):
                yield from self._caught([action], self._keep, action)
        for chunk in chunks([a for a in plan.actions if isinstance(a, Import)]):
            yield from self._imports(chunk)
        rest = [a for a in plan.actions if isinstance(a, Update | AddExtras | Rename)]
        for to_silo in (True, False):
            mine = [a for a in rest if target_of(a).is_silo is to_silo]
            for result in self._targets(mine, blocked, durable=to_silo):
                if to_silo and not isinstance(result, Done):
                    blocked.setdefault(result.action.conversation, result)
                yield result

    # -- keep -----------------------------------------------------------------

    def _keep(self, action: Keep) -> list[Result]:
        copy, unit = action.source, action.unit
        self.keep(copy, unit, self._read_unit(copy, unit), action.why)
        return [Done(action)]

    def _read_unit(self, copy: Copy, unit: Unit) -> list[tuple[str, bytes, int]]:
        return [(f.name, self._read(copy, f), f.mtime_ns) for f in copy.unit(unit).files if f.stamp]

    def _read(self, copy: Copy, file: FileCopy) -> bytes:
        """The planned bytes of one file: from this cycle's memory, else from disk, digest checked."""
        raw = self.contents.get(file.digest)
        if raw is not None:
            return raw
        with _opened_copy(copy) as fd:
            raw, _ = fs.read_file(file.name, fd)
        if file.digest is None or content_digest(raw) != file.digest:
            raise ChangedError
        self.contents.put(file.digest, raw)
        return raw

    # -- import ---------------------------------------------------------------

    def _imports(self, actions: Sequence[Import]) -> Iterator[Result]:
        """Build each directory whole under a dot name, one barrier, rename into place, one barrier."""
        silo = self.silo
        self.staged_in.add(silo)
        with ExitStack() as stack:
            try:
                root_fd = stack.enter_context(fs.opened_dir(silo.path))
                fs.make_dir(fs.CONVERSATIONS, root_fd)  # below an open fd of a silo that is there
                live = stack.enter_context(fs.opened_dir(fs.CONVERSATIONS, dir_fd=root_fd))
                stage_fd = stack.enter_context(staging.opened(silo))
            except OSError as error:
                yield from (failed_with(a, error) for a in actions)
                return
            single = not kernel.has_syncfs() or sum(3 + len(a.extras) for a in actions) < BARRIER_FROM
            built: list[Building] = []
            for action in actions:
                made: list[Building] = []
                yield from self._caught([action], self._build, action, stage_fd, single, made)
                built.extend(made)
            placed: list[Building] = []
            failed = [] if single or not built else self._barrier(stage_fd, [b.action for b in built])
            for b in built if failed else ():
                with suppress(OSError):
                    b.remove(stage_fd)
            yield from failed
            for b in built if not failed else ():
                results = list(self._caught([b.action], self._place_import, b, live, stage_fd))
                placed.extend([b] if not results else [])
                yield from results
            failed = self._barrier(live, [b.action for b in placed], directory=single) if placed else []
            yield from failed or [Done(b.action, b.files) for b in placed]

    def _build(self, action: Import, stage_fd: int, durable: bool, made: list[Building]) -> list[Result]:  # noqa: FBT001
        made.append(build(action, self._read, stage_fd, durable=durable))
        return []

    def _place_import(self, built: Building, live: int, stage_fd: int) -> list[Result]:
        action = built.action
        try:
            with ExitStack() as stack:
                lock = stack.enter_context(conversation_lock(self.silo.path, action.conversation, self.stores()))
                self._recheck_import(action)
                lock.require()
                into = live
                if action.partition is Partition.ARCHIVED:
                    fs.make_dir(fs.ARCHIVE, live)
                    into = stack.enter_context(fs.opened_dir(fs.ARCHIVE, dir_fd=live))
                kernel.rename_new(stage_fd, built.name, into, action.name)
                if into is not live:
                    kernel.fsync(into)
        except FileExistsError:
            built.remove(stage_fd)
            raise ChangedError from None
        except BaseException:
            built.remove(stage_fd)
            raise
        return []

    def _recheck_import(self, action: Import) -> None:
        for copy, unit in ((action.stream, Unit.STREAM), (action.metadata, Unit.METADATA)):
            with _opened_copy(copy) as fd:
                place.recheck(copy, unit, fd)

    # -- update, extras, rename -------------------------------------------------

    def _targets(self, actions: Sequence[Action], blocked: dict[int, Result], *, durable: bool) -> Iterator[Result]:
        targets: list[Target] = []
        for action in actions:
            if action.conversation in blocked:
                before = blocked[action.conversation]
                yield because_of(action, before)
        live = [a for a in actions if a.conversation not in blocked]
        for _, group in groupby(sorted(live, key=by_target), key=by_target):
            targets.append(gather(list(group)))
        for chunk in chunks(targets):
            yield from self._chunk(chunk, durable=durable)

    def _chunk(self, targets: Sequence[Target], *, durable: bool) -> Iterator[Result]:
        """One burst: stage all, one barrier, commit each; light ones share the last directory barrier."""
        many = kernel.has_syncfs() and sum(len(t.jobs) for t in targets) >= BARRIER_FROM
        shared = many and durable
        ready: list[Target] = []
        try:
            with self.burst() if many else nullcontext():  # losers kept in a burst share one barrier, too
                for target in targets:
                    sync = durable and not shared
                    results = list(self._caught(target.actions, self._prepare, target, sync))
                    if results:
                        self._clean(target)  # what was staged before it failed
                    ready.extend([target] if not results else [])
                    yield from results
        except OSError as error:
            for target in ready:
                self._clean(target)
            yield from (failed_with(a, error) for t in ready for a in t.actions)
            return
        if shared and ready:
            with fs.opened_dir(self.silo.path) as fd:
                failed = self._barrier(fd, [a for t in ready for a in t.actions])
            if failed:
                for target in ready:
                    self._clean(target)
                yield from failed
                return
        done: list[Result] = []
        for target in ready:
            late = shared and target.light
            results = list(self._caught(target.actions, self._commit, target, durable and not late))
            done.extend(results if late else [])
            if not late:
                yield from results
        if done:
            with fs.opened_dir(self.silo.path) as fd:
                yield from self._barrier(fd, [r.action for r in done if isinstance(r, Done)]) or done

    def _prepare(self, target: Target, sync: bool) -> list[Result]:  # noqa: FBT001
        copy = target.copy
        self.staged_in.add(copy.root)
        for job in target.jobs:
            action = job.action
            with _opened_copy(action.target) as fd:
                place.recheck(action.target, action.unit, fd)
            if action.keep:
                self.keep(action.target, action.unit, self._read_unit(action.target, action.unit), action.why)
            with staging.opened(copy.root) as fd:
                place.stage(job, self._read, fd, durable=sync)
        return []

    def _commit(self, target: Target, durable: bool) -> list[Result]:  # noqa: FBT001
        copy = target.copy
        try:
            with ExitStack() as stack:
                lock = stack.enter_context(conversation_lock(self.silo.path, copy.conversation, self.stores()))
                part = stack.enter_context(
                    fs.opened_partition(copy.root.path, archived=copy.partition is Partition.ARCHIVED)
                )
                fd = stack.enter_context(fs.opened_dir(copy.name, dir_fd=part))
                stage_fd = stack.enter_context(staging.opened(copy.root))
                if os.fstat(fd).st_ino != copy.inode:
                    raise ChangedError
                for job in target.jobs:
                    place.recheck(job.action.target, job.action.unit, fd)
                    with _opened_copy(job.action.source) as source_fd:
                        place.recheck(job.action.source, job.action.unit, source_fd)
                if not target.light:
                    self.journal.put(copy.conversation, copy.root.path, pending_work(target))
                files = sum(self._put(job, lock, (fd, stage_fd), durable=durable) for job in target.jobs)
                files += self._extras(target, lock, fd, stage_fd)
                if target.rename is not None:
                    self._rename(target.rename, lock, part, durable=durable)
            if not target.light:
                self.journal.drop(copy.conversation, copy.root.path)
        finally:
            self._clean(target)
        results: list[Result] = [Done(a) for a in target.actions]
        results[0] = Done(target.actions[0], files)
        return results

    def _put(self, job: place.Job, lock: HeldLock, fds: tuple[int, int], *, durable: bool) -> int:
        """Content, then durability, then age: no order of writes may show a new age on old content (R5)."""
        fd, stage_fd = fds
        place.place(job, lock, fd, stage_fd)
        job.placed = True
        if durable:
            kernel.fsync(fd)
        files = job.action.target.unit(job.action.unit).files
        inodes = {f.name: f.stamp.inode for f in files if f.stamp} | {
            s.file: s.inode for s in job.staged if s.inode >= 0
        }
        place.set_ages(place.true_ages(job.action), inodes, fd, durable=durable and not job.single)
        self._trust(job, fd)
        return len(job.staged)

    def _trust(self, job: place.Job, fd: int) -> None:
        """What we placed need not be read back: its inode is ours, its digest was checked when it was staged."""
        source = job.action.source.unit(job.action.unit)
        for item in job.staged:
            stamp = fs.stat_file(item.file, fd) if item.inode >= 0 else None
            if stamp is not None and stamp.inode == item.inode:
                self.trust(job.action.target, source.file(item.file), stamp)

    def _extras(self, target: Target, lock: HeldLock, fd: int, stage_fd: int) -> int:
        count = 0
        for action in target.extras:
            keep_extras_loser(action, fd, self.keep)
            with _opened_copy(action.source) as source_fd:
                for extra in action.files:
                    lock.require()
                    self.waiting.extend(put_extra(action, extra, source_fd, fd, stage_fd))
                    count += 1
        return count

    def _rename(self, action: Rename, lock: HeldLock, part: int, *, durable: bool) -> None:
        lock.require()
        if os.stat(action.target.name, dir_fd=part, follow_symlinks=False).st_ino != action.target.inode:
            raise ChangedError
        kernel.rename_new(part, action.target.name, part, action.name)
        if durable:
            kernel.fsync(part)

    def _clean(self, target: Target) -> None:
        try:
            with staging.opened(target.copy.root) as fd:
                for job in target.jobs:
                    self.waiting.extend(place.clean_up(job, fd))
        except (OSError, OddFileError):
            return  # the root went away, or a stranger's file lies there: the sweep at start looks again

    # -- shared -----------------------------------------------------------------

    def _barrier(self, fd: int, actions: Sequence[Action], *, directory: bool = False) -> list[Result]:
        """Make everything durable at once. A failed barrier fails every action it stood for."""
        try:
            if directory:
                kernel.fsync(fd)
            else:
                kernel.sync_file_system(fd)
        except OSError as error:
            return [failed_with(a, error) for a in actions]
        return []

    def _caught(self, actions: Sequence[Action], work: Callable[..., list[Result]], *facts: Any) -> Iterable[Result]:
        try:
            return work(*facts)
        except BusyError:
            return [Postponed(a, "locked") for a in actions]
        except (ChangedError, OddFileError, FileNotFoundError, FileExistsError, NotADirectoryError):
            return [Postponed(a, "unstable") for a in actions]
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EBUSY, errno.ESTALE):
                return [Postponed(a, "unstable") for a in actions]
            return [failed_with(a, error) for a in actions]


@contextmanager
def _opened_copy(copy: Copy) -> Iterator[int]:
    """The directory of a copy as an fd, no symlink followed below its root."""
    archived = copy.partition is Partition.ARCHIVED
    with fs.opened_partition(copy.root.path, archived=archived) as part, fs.opened_dir(copy.name, dir_fd=part) as fd:
        yield fd
