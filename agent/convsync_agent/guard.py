"""One conversation while JP's lock is held: the only way in which a command writes it (contract 6.1, 6.2).

    with held(engine, site, entry, deadline=...) as guard:
        guard.write(Unit.METADATA, [(METADATA, raw)], guard.projection)

What is written carries its projection intent and reaches the disk when the guard is left, by an exception too,
while the lock is still held. Outside of it nothing can be written: a closed guard refuses, and whatever places
files below it asks for the `HeldLock`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from convsync_agent.bulk import Content
from convsync_agent.chosen import Contents, fault_in, look, read_units
from convsync_agent.contention import RETRY_SECONDS, lock_held, wait_for_lock
from convsync_agent.engine import Engine
from convsync_agent.errors import NotFound, Refused, storage_problem
from convsync_agent.growth import metadata_contains
from convsync_agent.index import IndexEntry
from convsync_agent.locks import SESSION, BusyError, HeldLock, conversation_lock
from convsync_agent.model import INTENTS, METADATA, Copy, Digest, Presence, Projection, Root, Unit
from convsync_agent.names import id_text
from convsync_agent.projecting import project, unproject
from convsync_agent.restoring import Restored, put_current
from convsync_agent.settling import settle
from convsync_agent.silos import taking_all
from convsync_agent.site import Site, Tree


class Guard:
    """`projection`: what a write is meant to reach, from the presence when the lock was taken.

    `tree` is the worktree that is meant by it; projections in others are updated where they exist.
    """

    def __init__(
        self, engine: Engine, site: Site, conversation: int, lock: HeldLock, projection: Projection, tree: Tree | None
    ) -> None:
        self.engine, self.site, self.conversation = engine, site, conversation
        self.lock, self.projection, self.tree = lock, projection, tree
        self.written = Restored()
        self._dirty: dict[Unit, Sequence[tuple[str, Content]]] = {}
        self._open = True

    @property
    def dirty(self) -> bool:
        return bool(self._dirty)

    def copies(self) -> list[Copy]:
        """Every copy there is now, the silo's first."""
        self._require_open()
        return look(self.engine, self.site, self.conversation)

    def write(self, unit: Unit, files: Sequence[tuple[str, Content]], projection: Projection) -> None:
        """Make these files the unit, at the next flush. Raises Refused for what JP could not load."""
        self._require_open()
        fault = fault_in({unit: files})
        if fault:
            raise Refused(f"not valid: {fault}", where=id_text(self.conversation), code="not-valid")
        self._dirty[unit] = files
        self.projection = projection

    def flush(self) -> None:
        """Write what is dirty, the silo first. Content that is there already is not written again.

        Raises BusyError when the lock was taken away from under us, LockHeld, Refused, StorageProblem.
        """
        self._require_open()
        if not self._dirty:
            return
        self.lock.require()
        contents, self._dirty = self._dirty, {}
        with taking_all(self.engine):
            done = put_current(
                self.engine,
                self.site,
                self.conversation,
                contents,
                why="edited",
                deadline=time.monotonic(),
                contained=self._contained(contents),
                spared=self._behind(),
            )
        self.written.written += [r for r in done.written if r not in self.written.written]
        self.written.left, self.written.files = done.left, self.written.files + done.files
        if self.tree is not None:
            self.reach(self.tree, self.projection)

    def _behind(self) -> set[tuple[Root, Unit, Digest]]:
        """What git brought back stays as git wrote it, also when the durable copy moves on (docs/design.md, 3)."""
        known = self.site.behind.items()
        return {(root, unit, digest) for (number, root, unit), digest in known if number == self.conversation}

    def _contained(self, contents: Contents) -> set[tuple[Unit, Digest]]:
        """Metadata that says the same but for an earlier activation: a history full of those pushes out what counts."""
        new = dict(contents.get(Unit.METADATA, ())).get(METADATA)
        found = set()
        for copy in self.copies() if new is not None else ():
            try:
                old = dict(read_units(copy)[Unit.METADATA]).get(METADATA)
            except Refused:  # it changes just now: then it is kept
                continue
            if new is not None and old is not None and metadata_contains(new, old):
                found.add((Unit.METADATA, copy.metadata.digest))
        return found

    def reach(self, tree: Tree, projection: Projection) -> bool:
        """Create or delete the projection in one worktree. False: it was so already."""
        self._require_open()
        if projection is Projection.PROJECTED:
            return project(self.engine, self.site, tree, self.conversation)
        return unproject(self.engine, self.site, tree, self.conversation, self.lock)

    def close(self) -> None:
        self._open = False

    def _require_open(self) -> None:
        if not self._open:
            raise RuntimeError("a conversation is written under its lock only")


@contextmanager
def held(
    engine: Engine, site: Site, entry: IndexEntry, *, tree: Tree | None = None, deadline: float
) -> Iterator[Guard]:
    """Hold JP's lock on a conversation that the index knows. `deadline` is of `time.monotonic`.

    Raises LockHeld, NotFound when the entry is stale, OSError where locks cannot work. After it is released the
    records are brought up to date.
    """
    presence = entry.overall if tree is None else entry.presence.get(tree.worktree.path, Presence.USER_LOCAL_ONLY)
    with locked(site, entry.id, deadline) as lock:
        guard = Guard(engine, site, entry.id, lock, INTENTS[presence], tree)
        try:
            if not guard.copies():
                raise NotFound(
                    "this conversation went away just now", where=id_text(entry.id), hint="convsync ls --all"
                )
            try:
                yield guard
            finally:
                guard.flush()
        except BusyError:
            raise lock_held(site, entry.id) from None
        finally:
            guard.close()
    settle(engine, site, {entry.id})


@contextmanager
def locked(site: Site, conversation: int, deadline: float, *, session: str = SESSION) -> Iterator[HeldLock]:
    """JP's lock, waited for until `deadline`; `session` tells others whose. Raises LockHeld, StorageProblem."""
    with ExitStack() as stack:
        while True:
            wait_for_lock(site, conversation, deadline)
            try:
                ours = conversation_lock(site.silo.root.path, conversation, site.stores, session)
                lock = stack.enter_context(ours)
            except BusyError:
                if time.monotonic() >= deadline:
                    raise lock_held(site, conversation) from None
                time.sleep(RETRY_SECONDS)
                continue
            except OSError as error:
                raise storage_problem(error, site.silo.root.path, "take the lock") from None
            break
        yield lock
