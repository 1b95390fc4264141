"""Make a new conversation: a fork of one that is there, or an empty one beside it (contract 6.9, 10.1).

The source is neither locked nor written. The durable copy comes first and complete, under a number that nobody
has; then the projections, where the source has them. Who dies on the way leaves nothing, or all of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from convsync_agent import fs, scan
from convsync_agent.bulk import whole
from convsync_agent.chosen import Contents, being_written, fault_in, look
from convsync_agent.content import title_of
from convsync_agent.contest import newest_first
from convsync_agent.engine import Engine
from convsync_agent.errors import ConvsyncError, NotFound, Refused, StorageProblem, storage_problem
from convsync_agent.locks import BusyError, conversation_lock
from convsync_agent.model import BASE_CONFIG, BOTH, EVENTS, METADATA, UNSTABLE_NS, Copy, Grade, Partition, Root, Unit
from convsync_agent.names import dirname, id_text
from convsync_agent.plan import Import, Plan
from convsync_agent.projecting import archived, project
from convsync_agent.rawjson import as_array, as_object, with_fields
from convsync_agent.restoring import laid_out
from convsync_agent.results import Done, Failed
from convsync_agent.settling import settle
from convsync_agent.site import Site, Tree
from convsync_agent.summary import format_timestamp
from convsync_agent.turns import first_of, last_turns

TENTH_NS = 100_000_000  # what an id counts (contract 3.1)
READ_AGAIN_SECONDS, READ_FOR_SECONDS = 0.02, 3.0
NUMBER_AGAIN_SECONDS = 0.01


class Forked(NamedTuple):
    """`worktrees`: where it is projected. `left`: those that could not be written, each with its error."""

    id: int
    worktrees: tuple[str, ...]
    left: tuple[tuple[str, ConvsyncError], ...]


def fork(engine: Engine, site: Site, source: int, *, turns: int | None = None, here: Tree | None = None) -> Forked:
    """Copy a conversation to a new id; `turns`: only so many of the last ones.

    It is projected in `here` if its source is, as by JP, which knows one checkout; without `here`, and where only a
    worktree has the source, wherever that is.

    Without a cut every event is copied byte for byte. Raises NotFound, Refused (archived, or not valid now),
    StorageProblem.
    """
    copies, found = _read(engine, site, source)
    roots = {c.root for c in copies}
    stream, [(_, metadata)] = dict(found[Unit.STREAM]), found[Unit.METADATA]
    if turns is not None:
        stream[EVENTS] = last_turns(whole(stream[EVENTS]), turns, packed=BASE_CONFIG not in stream)

    def contents(now_ns: int) -> Contents:
        said = {"last_activated_at": format_timestamp(now_ns), "expires_at": None}
        return {Unit.STREAM: list(stream.items()), Unit.METADATA: [(METADATA, with_fields(whole(metadata), said))]}

    durable = any(r.is_silo for r in roots)
    wanted = roots & {here.root} if here is not None and durable else roots
    return _make(engine, site, contents, lambda root: root in wanted, here)


def begin(engine: Engine, site: Site, beside: int, *, here: Tree | None = None) -> Forked:
    """An empty conversation, projected into `here` alone. Raises StorageProblem, Refused.

    Its config is the one that `beside` began with: JP may not load a conversation that has none.
    """
    try:
        _, found = _read(engine, site, beside)
        stream = dict(found[Unit.STREAM])
    except (NotFound, Refused):
        stream = {BASE_CONFIG: as_object({}), EVENTS: as_array([])}
    stream[EVENTS] = as_array([]) if BASE_CONFIG in stream else first_of(whole(stream[EVENTS]))

    def contents(now_ns: int) -> Contents:
        metadata = with_fields(as_object({}), {"last_activated_at": format_timestamp(now_ns)})
        return {Unit.STREAM: list(stream.items()), Unit.METADATA: [(METADATA, metadata)]}

    return _make(engine, site, contents, lambda root: here is not None and root == here.root, here)


# -- the source ------------------------------------------------------------------------


def _read(engine: Engine, site: Site, conversation: int) -> tuple[list[Copy], Contents]:
    """What JP would load of it now: of each unit the newest copy, as it was at one moment.

    A writer may be at work: what is not whole is looked at again, for as long as it goes on changing.
    """
    deadline = time.monotonic() + READ_FOR_SECONDS
    while True:
        copies = look(engine, site, conversation)
        live = [c for c in copies if c.partition is Partition.LIVE]
        if not live:
            raise archived(conversation) if copies else _gone(conversation)
        chosen = {unit: _newest(site, live, unit) for unit in BOTH}
        unfit = [c.unit(u) for u, c in chosen.items() if not c.whole or c.unit(u).grade is not Grade.VALID]
        try:
            if not unfit:
                return live, {unit: [*engine.knower.read(copy, unit).items()] for unit, copy in chosen.items()}
        except (OSError, fs.ChangedError, fs.OddFileError):
            pass
        finally:
            engine.contents.clear()
        if unfit and (min(u.age_ns for u in unfit) > UNSTABLE_NS or time.monotonic() > deadline):
            fault = next((u.fault for u in unfit if u.fault), "a file of it is missing")
            raise Refused(
                f"it is not valid ({fault})",
                where=id_text(conversation),
                hint="convsync status, or an older version: convsync history " + id_text(conversation),
                code="not-valid",
            )
        if time.monotonic() > deadline:
            raise being_written(conversation)
        time.sleep(READ_AGAIN_SECONDS)


def _newest(site: Site, copies: Sequence[Copy], unit: Unit) -> Copy:
    """By JP's rule, but for what only git brought back."""

    def behind(copy: Copy) -> bool:
        return site.behind.get((copy.conversation, copy.root, unit)) == copy.unit(unit).digest

    ranked = newest_first(copies, unit)
    return next((c for c in ranked if not behind(c)), ranked[0])


def _gone(conversation: int) -> NotFound:
    return NotFound("no copy of it is left", where=id_text(conversation), hint="convsync ls --all")


# -- the new one -----------------------------------------------------------------------


def _make(
    engine: Engine, site: Site, contents: Callable[[int], Contents], wanted: Callable[[Root], bool], here: Tree | None
) -> Forked:
    """Write it under a new number: the durable copy, then the projections that are wanted."""
    with _number(engine, site) as number:
        new = contents(time.time_ns())
        fault = fault_in(new)
        if fault:
            raise Refused(f"what is left of it is not valid ({fault})", where=id_text(number), code="not-valid")
        _import(engine, site, number, new)
        trees = [t for t in site.watched() if wanted(t.root) and t.worktree.refresh]
        made, left = [], []
        for tree in sorted(trees, key=lambda t: (t is not here, t.worktree.path)):
            try:
                project(engine, site, tree, number)
                made.append(tree.worktree.path)
            except ConvsyncError as error:  # the durable copy is there: a worktree that is full takes nothing from it
                left.append((tree.worktree.path, error))
    settle(engine, site, {number})
    return Forked(number, tuple(made), tuple(left))


def _import(engine: Engine, site: Site, number: int, contents: Contents) -> None:
    [(_, metadata)] = contents[Unit.METADATA]
    try:
        with laid_out(engine.history.data_dir, number, contents) as copy:
            name = dirname(number, title_of(whole(metadata)))
            action = Import(number, site.silo.root, Partition.LIVE, name, copy, copy)
            [result] = engine.perform(site, Plan((action,)))
    except OSError as error:
        raise storage_problem(error, engine.history.data_dir, "lay out the new conversation") from None
    finally:
        engine.contents.clear()
    if isinstance(result, Failed):
        problem = result.problem
        raise StorageProblem(
            problem.detail, where=site.silo.root.path, hint="free some space, or: convsync status", code=problem.kind
        )
    if not isinstance(result, Done):
        raise being_written(number)


@contextmanager
def _number(engine: Engine, site: Site) -> Iterator[int]:
    """An id that nobody has, with its lock held until the tenth of a second is over that it names.

    RACE: JP takes the time for an id when it starts and the lock when it writes, and reserves nothing (contract
    12.1, K10). One that started in this very tenth of a second and locks after it takes the same id, and writes its
    own conversation over this one; what is replaced is in the history, and its source is untouched.
    """
    tried = 0
    while True:
        number = time.time_ns() // TENTH_NS
        if number == tried:
            time.sleep(NUMBER_AGAIN_SECONDS)
            continue
        tried = number
        with ExitStack() as stack:
            try:
                stack.enter_context(conversation_lock(site.silo.root.path, number, site.stores))
            except BusyError:
                continue
            except OSError as error:
                raise storage_problem(error, site.silo.root.path, "take the lock") from None
            if _taken(engine, site, number):
                continue
            yield number
            while time.time_ns() // TENTH_NS == number:
                time.sleep(NUMBER_AGAIN_SECONDS)
            return


def _taken(engine: Engine, site: Site, number: int) -> bool:
    """Some root has it, or had it: a clock that was set back must not lead to what was removed."""
    for root in (site.silo.root, *(t.root for t in site.trees.values())):
        try:
            listing = scan.list_root(root.path)
        except FileNotFoundError:
            continue
        except OSError as error:
            if root.is_silo:
                raise storage_problem(error, root.path, "list conversations") from None
            continue
        if listing.places(number) or number in listing.odd:
            return True
    return engine.removals.graves.stands(site.id, number) or number in engine.history.conversations(site.id)
