"""Do a plan: the only place that changes conversations. Silo first, one target at a time.

Each target gets three short phases: `_prepare` (no lock: read, keep the loser, stage), a durability
barrier shared by a burst, and `_commit` (JP's lock, compare, place, ages). Trouble with one
conversation is data: `Done`, `Postponed` or `Failed`, never an exception that stops the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from itertools import groupby

from convsync_agent import fs, kernel, locks, place, staging
from convsync_agent.attempt import attempt, barrier
from convsync_agent.bulk import Content
from convsync_agent.durable import Batch
from convsync_agent.extras import Carry, ClashError, place_extras, read_extra, stage_extras
from convsync_agent.fs import ChangedError, OddFileError
from convsync_agent.imported import Importer
from convsync_agent.locks import HeldLock, conversation_lock
from convsync_agent.model import Copy, FileCopy, Partition, Root, Unit
from convsync_agent.moving import move
from convsync_agent.observe import Contents
from convsync_agent.plan import (
    Action,
    AddExtras,
    Bury,
    Import,
    Keep,
    Lift,
    Move,
    Plan,
    Problem,
    PutBack,
    Rename,
    Update,
    target_of,
)
from convsync_agent.progress import Count
from convsync_agent.results import Done, Failed, Journal, Keeper, Result, Trust, because_of, failed_with
from convsync_agent.targets import Target, by_target, chunks, gather, pending_of

BARRIER_FROM = 8  # files: from here one syncfs is cheaper than single fsyncs (design 8)


@dataclass(slots=True)
class Applier:
    """Applies plans for one workspace. `stores(conversation)` lists the `.jp` directories concerned."""

    silo: Root
    stores: Callable[[], Sequence[str]]
    keep: Keeper
    journal: Journal
    contents: Contents
    trust: Trust
    burst: Callable[[], AbstractContextManager[Batch]]
    rites: Callable[[PutBack | Bury | Lift], list[Result]]
    count: Count
    outrun: set[int]  # conversations whose source changed while it was being copied
    waiting: list[staging.Retired] = field(default_factory=list)
    staged_in: set[Root] = field(default_factory=set)

    def apply(self, plan: Plan) -> Iterator[Result]:
        """Every action's result, in the plan's order within a conversation."""
        blocked: dict[int, Result] = {}
        for action in plan.actions:
            if isinstance(action, Keep):
                yield from attempt([action], self._keep, action)
            elif isinstance(action, PutBack | Bury | Lift):
                yield from attempt([action], self.rites, action)
        importer = Importer(self.silo, self.stores, self._read, BARRIER_FROM, trust=self.trust)
        for chunk in chunks([a for a in plan.actions if isinstance(a, Import)], locks.most_at_once()):
            self.staged_in.add(self.silo)
            yield from importer.imports(chunk)
        for action in [a for a in plan.actions if isinstance(a, Move)]:  # the silo's first, by the plan's order
            before = blocked.get(action.conversation)
            results = [because_of(action, before)] if before else attempt([action], self._move, action)
            if action.target.root.is_silo and not isinstance(results[0], Done):
                blocked[action.conversation] = results[0]
            yield from results
        rest = [a for a in plan.actions if isinstance(a, Update | AddExtras | Rename)]
        for to_silo in (True, False):
            mine = [a for a in rest if target_of(a).is_silo is to_silo]
            for result in self._targets(mine, blocked, durable=to_silo):
                if to_silo and not isinstance(result, Done) and not isinstance(result.action, AddExtras):
                    blocked.setdefault(result.action.conversation, result)
                yield result

    def _move(self, action: Move) -> list[Result]:
        return move(action, self.silo, self.stores())

    # -- keep -----------------------------------------------------------------

    def _keep(self, action: Keep) -> list[Result]:
        copy, unit = action.source, action.unit
        self.keep(copy, unit, self._read_unit(copy, unit), action.why)
        return [Done(action)]

    def _read_unit(self, copy: Copy, unit: Unit) -> list[tuple[str, Content, int]]:
        if unit is Unit.EXTRAS:
            return [(e.path, read_extra(copy, e)[0], e.stamp.mtime_ns) for e in copy.extras]
        return [(f.name, self._read(copy, f), f.mtime_ns) for f in copy.unit(unit).files if f.stamp]

    def _read(self, copy: Copy, file: FileCopy) -> Content:
        """The planned bytes of one file: from this cycle's memory, else from disk, digest checked."""
        raw = self.contents.read(copy, file)
        self.count.add(len(raw), 1, len(raw))
        return raw

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
        """One burst: keep and stage all, one barrier, commit each; light ones share the last directory barrier."""
        steps = sum(len(t.jobs) + (t.rename is not None) for t in targets)
        shared = durable and kernel.has_syncfs() and steps >= BARRIER_FROM
        ready = list(targets)
        try:
            with self.burst() as batch:
                if durable:
                    batch.watch(self.silo.path)
                for target in targets:
                    results = attempt(target.actions, self._prepare, target, batch.wrote if durable else False)
                    if results:
                        self._clean(target)  # what was staged before it failed
                        ready.remove(target)
                    yield from results
        except OSError as error:
            for target in ready:
                self._clean(target)
            yield from (failed_with(a, error) for t in ready for a in t.actions)
            return
        yield from self._placed(ready, durable=durable, shared=shared)

    def _placed(self, targets: Sequence[Target], *, durable: bool, shared: bool) -> Iterator[Result]:
        """What was staged gets its place. What is pending of those that share it is noted once for all of them.

        RACE: who starts between the note and the turn of one of them (a burst: a second) finds it pending and not
        begun. It takes over the name, and nothing else; then the copy is not where we looked, and is looked at again.
        """
        several = [t for t in targets if t.atomic and not t.light]
        try:
            self._note(several)
        except OSError as error:
            targets = [t for t in targets if not t.atomic or t.light]
            for target in several:
                self._clean(target)
                yield from (failed_with(a, error) for a in target.actions)
            several = []
        done: list[Result] = []
        for target in targets:
            late = shared and target.atomic
            results = attempt(target.actions, self._commit, target, durable and not late)
            done.extend(results if late else [])
            if not late:
                yield from results
        placed = [r.action for r in done if isinstance(r, Done)]
        failed = self._silo_barrier(placed) if placed else []
        if not failed:
            self._forget([t for t in several if t.finished or t.untouched])
        yield from [*failed, *(r for r in done if not isinstance(r, Done))] if failed else done

    def _note(self, targets: Sequence[Target]) -> None:
        if targets:
            self.journal.put([pending_of(t) for t in targets])

    def _forget(self, targets: Sequence[Target]) -> None:
        """What is noted and over: whoever looks at it later finds nothing to do."""
        if targets:
            with suppress(OSError):
                self.journal.drop([pending_of(t) for t in targets])

    def _prepare(self, target: Target, sync: Callable[[int], None] | bool) -> list[Result]:  # noqa: FBT001
        copy = target.copy
        self.staged_in.add(copy.root)
        for job in target.jobs:
            action = job.action
            with fs.opened_copy(action.target) as fd:
                place.recheck(action.target, action.unit, fd)
            if action.keep:
                self.keep(action.target, action.unit, self._read_unit(action.target, action.unit), action.why)
            with staging.opened(copy.root) as fd:
                place.stage(job, self._read, fd, sync=sync)
        for extra in target.extras:
            target.refused += attempt([extra], self._stage_extras, extra, target)
        return target.refused if target.empty else []

    def _stage_extras(self, action: AddExtras, target: Target) -> list[Result]:
        target.carries.append(carry := Carry(action))
        with staging.opened(target.copy.root) as fd:
            try:
                stage_extras(carry, self.keep, fd)
            except BaseException:
                target.carries.remove(carry)
                carry.drop(fd)
                raise
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
                    self._recheck_source(job, target)
                if not target.atomic:
                    self._note([target])
                files = sum(self._put(job, lock, (fd, stage_fd), durable=durable) for job in target.jobs)
                results = self._extras(target, lock, (fd, stage_fd))
                if target.rename is not None:
                    self._rename(target.rename, lock, part, durable=durable)
            target.finished = True
            if not target.atomic:
                self.journal.drop([pending_of(target)])
        finally:
            self._clean(target)
        results += [Done(a, files if n == 0 else 0) for n, a in enumerate(target.changes)]
        return [*results, *target.refused]

    def _recheck_source(self, job: place.Job, target: Target) -> None:
        """Raise ChangedError if the winner is not as planned any more: there may be a newer one, or another decision.

        RACE: of a stream that changes more often than it can be copied, what was staged is placed although the source
        has gone on, from the second time on, or nothing of it would be durable until its writer rests. It is what the
        source had a moment ago, under its age of then: as if we had been that moment earlier.
        """
        with fs.opened_copy(job.action.source) as source_fd:
            try:
                place.recheck(job.action.source, job.action.unit, source_fd)
            except ChangedError:
                if target.light and target.copy.conversation in self.outrun:
                    return
                self.outrun.add(target.copy.conversation)
                raise
        self.outrun.discard(target.copy.conversation)

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
                self.trust((job.action.target.root, job.action.conversation), source, item.file, stamp)

    def _extras(self, target: Target, lock: HeldLock, fds: tuple[int, int]) -> list[Result]:
        """Unmanaged files come last: what is wrong with one of them stops nothing that JP reads."""
        results: list[Result] = []
        for carry in target.carries:
            results += attempt([carry.action], self._place_extras, carry, lock, fds)
        return results

    def _place_extras(self, carry: Carry, lock: HeldLock, fds: tuple[int, int]) -> list[Result]:
        action, files = carry.action, len(carry.staged)
        try:
            self.waiting.extend(place_extras(carry, lock, *fds))
        except ClashError as clash:
            detail = f"an unmanaged file stays behind: in the durable copy {clash.strerror}"
            return [Failed(action, Problem("held", action.conversation, action.source.root, detail))]
        return [Done(action, files)]

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
                for carry in target.carries:
                    carry.drop(fd)
        except (OSError, OddFileError):
            return  # the root went away, or a stranger's file lies there: the sweep at start looks again

    def _silo_barrier(self, actions: Sequence[Action]) -> list[Result]:
        try:
            with fs.opened_dir(self.silo.path) as fd:
                return barrier(fd, actions)
        except OSError as error:
            return [failed_with(a, error) for a in actions]
