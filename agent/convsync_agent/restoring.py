"""Make a chosen content the current one wherever a copy exists: `restore`, `undo` and `accept`.

The content is laid out as a copy of its own below our data directory, dated now, and then goes the way of
every winner (`apply`): loser kept, staged, lock, compare, place, age last. So what is true of a
cycle is true here: at every instant JP's own rule picks something complete.

What is replaced is kept all at once and the durable content last: it is the newest version then, the one that
the next `undo` or `restore` brings back.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from convsync_agent import fs, kernel
from convsync_agent.bulk import digest_of
from convsync_agent.chosen import Contents, being_written, completed, look
from convsync_agent.contention import lock_held, wait_for_lock
from convsync_agent.contest import OUT_OF_REACH
from convsync_agent.engine import Engine
from convsync_agent.errors import Refused, StorageProblem, storage_problem
from convsync_agent.extras import digest_of_extra, read_extra
from convsync_agent.imports import newest_extras
from convsync_agent.model import (
    BOTH,
    UNIT_FILES,
    Copy,
    Digest,
    Extra,
    FileCopy,
    Grade,
    Kind,
    Partition,
    Root,
    Unit,
    UnitCopy,
)
from convsync_agent.names import id_text
from convsync_agent.plan import Action, AddExtras, Import, Keep, Plan, Update
from convsync_agent.recover import recover_site
from convsync_agent.results import Done, Failed, Postponed, Result
from convsync_agent.settling import settle
from convsync_agent.site import Site

PREFIX = "restoring-"
LOCK_RETRY_SECONDS = 0.1
UNSTABLE_TRIES = 30


@dataclass(slots=True)
class Restored:
    """What was written, by root, and the roots that could not be written. `kept`: what the history has by now.

    `spared`: content that stays where it is.
    """

    written: list[str] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    files: int = 0
    kept: set[tuple[Unit, Digest]] = field(default_factory=set)
    spared: Collection[tuple[Root, Unit, Digest]] = ()


def make_current(
    engine: Engine, site: Site, conversation: int, contents: Contents, *, why: str, patience: float
) -> Restored:
    """Put `contents` into the silo and every worktree copy that may be written; what they replace is kept first.

    Waits up to `patience` seconds for JP's lock. Raises LockHeld, Refused, StorageProblem.
    """
    if any(row[:2] == (site.id, conversation) for row in engine.state.pending()):
        recover_site(engine, site)  # who died over this conversation had begun what nobody else knows how to finish
    contents = completed(engine, site, conversation, contents)
    done = put_current(engine, site, conversation, contents, why=why, deadline=time.monotonic() + patience)
    settle(engine, site, {conversation})
    engine.ledger.close("conflict", site.id, conversation)
    return done


def put_current(
    engine: Engine,
    site: Site,
    conversation: int,
    contents: Contents,
    *,
    why: str,
    deadline: float,
    contained: Collection[tuple[Unit, Digest]] = (),
    spared: Collection[tuple[Root, Unit, Digest]] = (),
) -> Restored:
    """The same without what comes before and after: what may be done while JP's lock is held. Nothing is recorded.

    `contained`: what the new content has everything of, so that it need not be kept. `spared`: content that stays
    where it is, as what git brought back does.
    """
    done = Restored(kept=set(contained), spared=spared)
    unstable = 0
    with laid_out(engine.history.data_dir, conversation, contents) as source:
        while True:
            wait_for_lock(site, conversation, deadline)
            copies = look(engine, site, conversation)
            actions = _plan(site, source, copies, contents, done, why)
            results = _keep_losers(engine, site, actions, done, why)
            if not results:
                results = engine.perform(site, Plan(tuple(actions)))
            _note(done, results)
            waiting = {r.reason for r in results if not isinstance(r, Done | Failed)}
            if not waiting and not any(isinstance(a, Import) for a in actions):
                break
            unstable += "unstable" in waiting
            if "locked" in waiting and time.monotonic() >= deadline:
                raise lock_held(site, conversation)
            if unstable > UNSTABLE_TRIES:
                raise being_written(conversation)
            time.sleep(LOCK_RETRY_SECONDS if waiting else 0)
    engine.contents.clear()
    return done


# -- what to do -------------------------------------------------------------------


def _plan(
    site: Site, source: Copy, copies: Sequence[Copy], contents: Contents, done: Restored, why: str
) -> list[Action]:
    """What is still to be done, in order: the silo first; a silo copy that has to be made, alone."""
    conversation = source.conversation
    roots = [c.root for c in copies]
    if len(set(roots)) < len(roots):
        raise Refused(
            "two directories claim this conversation",
            where=id_text(conversation),
            hint="remove one of them, or: convsync restore --into PATH",
            code="doubled",
        )
    silo = next((c for c in copies if c.root.is_silo), None)
    if silo is None:
        return [_import(site, source, copies, contents)]
    done.left.clear()
    actions: list[Action] = []
    for copy in copies:
        for unit in BOTH:
            if unit in contents and _wanted(site, copy, silo, unit, source, done):
                younger = copy.unit(unit).mtime_ns > source.unit(unit).mtime_ns
                actions.append(Update(conversation, unit, source, copy, why=why, younger=younger))
    if Unit.EXTRAS in contents:
        actions += _extras(source, silo)
    return actions


def _wanted(site: Site, copy: Copy, silo: Copy, unit: Unit, source: Copy, done: Restored) -> bool:
    """Whether this copy is to be written: it differs, may be written and can be kept first."""
    if copy.unit(unit).digest == source.unit(unit).digest and copy.unit(unit).grade not in OUT_OF_REACH:
        return False
    if (copy.root, unit, copy.unit(unit).digest) in done.spared:
        return False
    tree = site.trees.get(copy.root.path)
    if tree is not None and (not tree.worktree.refresh or copy.partition is not silo.partition):
        return False
    if not copy.root.is_silo and copy.partition is Partition.ARCHIVED:
        return False
    if copy.unit(unit).grade in OUT_OF_REACH:
        if copy.root.is_silo:
            raise Refused(
                f"the durable copy cannot be replaced: {copy.unit(unit).fault}",
                where=id_text(copy.conversation),
                hint="mend or remove that file first",
                code="held",
            )
        done.left.append((copy.root.path, copy.unit(unit).fault))
        return False
    return True


def _import(site: Site, source: Copy, copies: Sequence[Copy], contents: Contents) -> Import:
    """There is no durable copy: make one, whatever is not restored coming from the newest valid copy."""
    newest = sorted(copies, key=lambda c: (-c.metadata.mtime_ns, c.root.order))

    def best(unit: Unit) -> Copy:
        if unit in contents:
            return source
        fit = [c for c in copies if c.unit(unit).grade is Grade.VALID]
        if not fit:
            raise Refused(
                f"no valid {unit} is left to go with it",
                where=id_text(source.conversation),
                hint=f"convsync restore {id_text(source.conversation)} --into PATH",
                code="incomplete",
            )
        return max(fit, key=lambda c: c.unit(unit).mtime_ns)

    extras = list(newest_extras(copies, None, time.time_ns()))
    if Unit.EXTRAS in contents:
        mine = {e.path for e in source.extras}
        extras = [(c, e) for c, e in extras if e.path not in mine] + [(source, e) for e in source.extras]
    return Import(
        conversation=source.conversation,
        target=site.silo.root,
        partition=newest[0].partition if newest else Partition.LIVE,
        name=newest[0].name if newest else source.name,
        stream=best(Unit.STREAM),
        metadata=best(Unit.METADATA),
        extras=tuple(extras),
    )


def _extras(source: Copy, silo: Copy) -> list[Action]:
    have = {e.path: e for e in silo.extras}
    files = tuple(e for e in source.extras if e.path not in have or not _same_extra(silo, have[e.path], e))
    return [AddExtras(source.conversation, source, silo, files)] if files else []


def _same_extra(silo: Copy, old: Extra, new: Extra) -> bool:
    try:
        return digest_of_extra(silo, old) == new.digest
    except (OSError, fs.ChangedError, fs.OddFileError):
        return False


# -- doing it -----------------------------------------------------------------------


def _keep_losers(engine: Engine, site: Site, actions: Sequence[Action], done: Restored, why: str) -> list[Result]:
    """Everything that these actions replace is in the history, durable, when this returns nothing (R4).

    Else it returns what went wrong, and nothing may be replaced. What is kept here are the bytes that were
    looked at; `apply` compares with them before it replaces anything.
    """
    losers = [(a.unit, a.target) for a in actions if isinstance(a, Update) and a.target.unit(a.unit).exists]
    durable = {(unit, copy.unit(unit).digest) for unit, copy in losers if copy.root.is_silo}
    wanted: list[Action] = []
    for unit, copy in sorted(losers, key=lambda at: (at[1].root.is_silo, at[1].root.path, at[0])):
        content = (unit, copy.unit(unit).digest)
        if content not in done.kept and (copy.root.is_silo or content not in durable):
            wanted.append(Keep(copy.conversation, unit, copy, why))
    try:
        with engine.history.batch():
            results = engine.perform(site, Plan(tuple(wanted)))
            for extras in (a for a in actions if isinstance(a, AddExtras)):
                _keep_extras(engine, site, extras, why)
    except (fs.ChangedError, fs.OddFileError):
        return [Postponed(a, "unstable") for a in actions]
    except OSError as error:
        raise storage_problem(error, engine.history.data_dir, "keep what would be replaced") from None
    failed: list[Result] = [r for r in results if not isinstance(r, Done)]
    if not failed:
        done.kept |= {(a.unit, a.source.unit(a.unit).digest) for a in wanted if isinstance(a, Keep)}
    return failed


def _keep_extras(engine: Engine, site: Site, action: AddExtras, why: str) -> None:
    """Beside the units, not at their own time: versions of one act are recognised by being kept together."""
    there = {e.path: e for e in action.target.extras}
    losing = [(e.path, *read_extra(action.target, there[e.path])) for e in action.files if e.path in there]
    if losing:
        rows = [(path, raw, stamp.mtime_ns) for path, raw, stamp in losing]
        engine.knower.keep(site.id, action.target, Unit.EXTRAS, rows, why)


def _note(done: Restored, results: Sequence[Result]) -> None:
    for result in results:
        if isinstance(result, Failed):
            problem = result.problem
            where = problem.root.path if problem.root else None
            raise StorageProblem(problem.detail, where=where, hint="convsync status", code=problem.kind)
        if isinstance(result, Done):
            action = result.action
            target = action.target if isinstance(action, Import) else None
            root = target if target is not None else _root_of(action)
            if root.path not in done.written:
                done.written.append(root.path)
            done.files += result.files


def _root_of(action: Action) -> Root:
    assert isinstance(action, Update | AddExtras)  # noqa: S101  # nothing else is planned here
    return action.target.root


# -- the content as a copy ------------------------------------------------------------


@contextmanager
def laid_out(data_dir: str, conversation: int, contents: Contents) -> Iterator[Copy]:
    """The content as a directory of its own, dated now: what `apply` can read, check and read again."""
    _sweep(data_dir)
    top = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=data_dir)
    try:
        try:
            copy = _write(Root(Kind.WORKTREE, top), conversation, contents)
        except fs.ChangedError:  # of what is large, and was being written since it was looked at
            raise being_written(conversation) from None
        yield copy
    finally:
        shutil.rmtree(top, ignore_errors=True)


def _write(root: Root, conversation: int, contents: Contents) -> Copy:
    name = str(conversation)
    path = os.path.join(root.path, fs.CONVERSATIONS, name)
    os.makedirs(path)
    now = time.time_ns()
    units = {u: UnitCopy(tuple(FileCopy(n) for n in UNIT_FILES[u]), age_ns=0, closed=True) for u in BOTH}
    extras = []
    for unit, files in contents.items():
        copies = {}
        for file, raw in files:
            with ExitStack() as stack:
                fd = stack.enter_context(fs.opened_dir(path))
                *parents, last = file.split("/")
                for part in parents:
                    fs.make_dir(part, fd)
                    fd = stack.enter_context(fs.opened_dir(part, dir_fd=fd))
                stamp = fs.write_new(last, raw, fd, mtime_ns=now, sync=False)
            copies[file] = FileCopy(file, stamp, digest_of(raw))
            if unit is Unit.EXTRAS:
                extras.append(Extra(file, stamp, digest_of(raw)))
        if unit in units:
            units[unit] = replace(units[unit], files=tuple(copies.get(f.name, f) for f in units[unit].files))
    stream, metadata = units[Unit.STREAM], units[Unit.METADATA]
    inode = os.stat(path).st_ino
    return Copy(root, conversation, name, Partition.LIVE, inode, stream, metadata, tuple(sorted(extras)))


def _sweep(data_dir: str) -> None:
    """What a crash left: copies of what the history or a root has, so they are simply removed."""
    for name in os.listdir(data_dir):
        pid = name.removeprefix(PREFIX).partition("-")[0]
        if name.startswith(PREFIX) and pid.isdigit() and not kernel.alive(int(pid)):
            shutil.rmtree(os.path.join(data_dir, name), ignore_errors=True)
