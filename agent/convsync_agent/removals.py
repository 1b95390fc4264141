"""Durable copies that are gone: seen twice, judged, buried or put back; and the kept copies that make it possible.

Absence alone decides nothing (R1): a conversation is missing when two listings at least two seconds apart do
not have it, and `safety.judge` says what that means.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from convsync_agent import fs, kernel, locks, names, safety, scan, staging
from convsync_agent.bulk import whole
from convsync_agent.content import expires_at, title_of
from convsync_agent.contest import fit
from convsync_agent.expiring import Expiring
from convsync_agent.graves import Graves
from convsync_agent.history import History
from convsync_agent.homecoming import taken_away
from convsync_agent.model import (
    BOTH,
    METADATA,
    SECOND,
    Absence,
    Copy,
    Digest,
    Fate,
    Partition,
    Readable,
    Root,
    Unit,
)
from convsync_agent.plan import Bury, Lift, PutBack
from convsync_agent.records import unpack, unpack_digest
from convsync_agent.results import Done, Result
from convsync_agent.safety import BRAKE_NS, LOCK_NS, Projection, Trace, Vanished
from convsync_agent.scan import Missed, View
from convsync_agent.shelter import Shelter
from convsync_agent.site import Site, Tree, TreeState
from convsync_agent.state import State

TRASH = ".trash"
MOST_LOCKED = 1024  # releases of locks, from which on old ones are looked for
WITNESS_NS = 600 * SECOND  # far beyond LOCK_NS: it is asked when the removal is judged, not when it was seen
Wrote = Callable[[Copy, Unit], bool]


@dataclass(slots=True)
class Removals:
    """What is known of disappearances.

    `locked`: when JP's lock on a conversation was last seen released; `expiring`: for which copies JP would remove it.
    """

    state: State
    shelter: Shelter
    graves: Graves
    history: History
    locked: dict[tuple[str, int], int] = field(default_factory=dict)
    expiring: Expiring = field(init=False)
    _decided: dict[tuple[str, int], tuple[Vanished, Fate]] = field(default_factory=dict)
    _trim_at: int = MOST_LOCKED

    def __post_init__(self) -> None:
        self.expiring = Expiring(self.state)

    def released(self, workspace: str, conversation: int) -> None:
        """JP's lock on it was released just now. What was released long ago is no witness any more (`safety`)."""
        now = time.time_ns()
        self.locked[workspace, conversation] = now
        if len(self.locked) > self._trim_at:
            self.locked = {key: at for key, at in self.locked.items() if now - at < WITNESS_NS}
            self._trim_at = max(MOST_LOCKED, 2 * len(self.locked))

    # -- what is gone -------------------------------------------------------------

    def survey(self, site: Site, conversations: Iterable[int]) -> dict[int, Absence]:
        """Of these conversations, and of those buried moments ago, which the silo has lost, and what it means."""
        if site.silo_state is not Readable.YES:
            return {}
        absent = {c for c in conversations if c not in site.silo.listing}
        gone = absent & site.silo.records.keys()
        found = {c: Absence(Fate.BURIED) for c in absent - gone if self._buried(site, c)}
        if gone:
            found |= self._judge(site, gone)
        return found

    def _buried(self, site: Site, conversation: int) -> bool:
        return self.graves.stands(site.id, conversation)

    def _judge(self, site: Site, gone: set[int]) -> dict[int, Absence]:
        gone = self._look_again(site, gone)
        now = time.time_ns()
        # What went in the same seconds counts for the brake, also when it was judged in an earlier batch.
        young = {k: d for k, d in self._decided.items() if now - d[0].missed_ns < BRAKE_NS + 2 * SECOND}
        self._decided = young
        recent = {c: decided for (w, c), decided in young.items() if w == site.id and c not in gone}
        unprojected = {t.root: self.state.unprojected(t.root.path) for t in site.trees.values()}
        missing = [self._facts(site, c, unprojected) for c in sorted(gone)]
        total = len(site.silo.records.keys() | recent.keys())
        absences = {}
        for verdict in safety.judge([*missing, *(v for v, _ in recent.values())], total):
            fate = verdict.fate
            before = recent.get(verdict.conversation)
            if before is not None and not (fate is Fate.BRAKED and before[1] is Fate.REMOVED):
                continue
            kept = self._has_kept(site.id, verdict.conversation)
            absences[verdict.conversation] = Absence(fate, verdict.why, verdict.again_ns, kept)
        for one in missing:
            fate = absences[one.conversation].fate
            if fate is not Fate.WAIT:
                self._decided[site.id, one.conversation] = one, fate
        return absences

    def _look_again(self, site: Site, gone: set[int]) -> set[int]:
        """List every root once more; what is there after all is not gone. Notes when each was missed."""
        for view in site.views():
            began = time.time_ns()
            try:
                view.listing = scan.list_root(view.root.path)
            except OSError:
                if view is site.silo:
                    return set()
                continue
            scan.note_missing(view, began, time.time_ns())
        return gone - site.silo.listing.conversations()

    def _facts(self, site: Site, conversation: int, unprojected: Mapping[Root, Mapping[int, int]]) -> Vanished:
        missed = site.silo.missed[conversation]
        locked = missed.first_ns - self.locked.get((site.id, conversation), 0) <= LOCK_NS
        locked = locked or bool(locks.busy_conversations(site.silo.root.path, [conversation]))
        projections = tuple(_trace(t, conversation, unprojected[t.root].get(conversation)) for t in site.trees.values())
        there = {p.root.path for p in projections if p.trace is Trace.HOLDS}
        due = self._due(site.id, conversation, missed.first_ns)
        return Vanished(
            conversation,
            seen_ns=missed.seen_ns,
            missed_ns=missed.first_ns,
            looked_ns=max(missed.looked_ns, missed.first_ns),
            projections=projections,
            locked=locked,
            commanded=self.graves.stands(site.id, conversation),  # before its directory goes, by `rm`
            trashed=_in_trash(site.silo.root.path, conversation),
            expired=not due and bool(self.expiring.roots(site.id, conversation, missed.first_ns) - there),
            due=due,
        )

    def _due(self, workspace: str, conversation: int, missed_ns: int) -> bool:
        """The durable copy, as it is kept, was to go by then."""
        try:
            kept = self.shelter.read(workspace, conversation, {METADATA})
        except (OSError, ValueError, fs.ChangedError):
            return False
        own = expires_at(whole(kept[0][1])) if kept else None
        return own is not None and own <= missed_ns

    def _has_kept(self, workspace: str, conversation: int) -> bool:
        try:
            have = self.shelter.held(workspace, conversation)
        except OSError:
            return False
        return have is not None and have.whole

    def lifted(self, workspace: str, conversation: int, copies: Iterable[Copy], wrote: Wrote) -> bool:
        """Some left-over has bytes that the lineage never had, and git did not write them.

        Only a whole and valid one (R3): a left-over that is being removed file by file has new bytes at each step.
        """
        stone = self.graves.find(workspace, conversation)
        if stone is None:
            return True
        return any(
            fit(copy, unit) and safety.lifts(stone, unit, copy.unit(unit).digest, written_by_git=wrote(copy, unit))
            for copy in copies
            for unit in BOTH
        )

    # -- what is done about it --------------------------------------------------------

    def bury(self, site: Site, action: Bury, more: Iterable[tuple[Unit, Digest]] = ()) -> list[Result]:
        """A tombstone with every content there ever was, and with `more`; the kept copy's days begin."""
        now_ms = time.time_ns() // 1_000_000
        digests = self._lineage(site, action.conversation)
        for unit, digest in more:
            digests[unit].add(digest)
        self.graves.bury(site.id, action.conversation, digests, at_ms=now_ms, why=action.why)
        self.shelter.removed(site.id, action.conversation, now_ms)
        return [Done(action)]

    def _lineage(self, site: Site, conversation: int) -> dict[Unit, set[Digest]]:
        digests: dict[Unit, set[Digest]] = {Unit.STREAM: set(), Unit.METADATA: set()}
        for unit, raw in self.state.lineage(site.id, conversation):
            digests[Unit(unit)].add(unpack_digest(raw))
        # Where the state was lost, the history still knows what was durable once and was replaced.
        for version in self.history.versions(site.id, conversation):
            if version.unit in digests and version.root == site.silo.root.path:
                digests[version.unit].add(version.digest)
        for view in (site.silo, *(t.view for t in site.trees.values())):
            raw_record = view.records.get(conversation)
            if raw_record is not None:
                agreed = unpack(raw_record).agreed()
                for unit, found in digests.items():
                    digest = agreed.unit(unit)
                    if digest is not None and any(digest):
                        found.add(digest)
        return digests

    def lift(self, site: Site, action: Lift) -> list[Result]:
        """Somebody goes on with it."""
        self.graves.lift(site.id, action.conversation)
        return [Done(action)]

    def put_back(self, site: Site, action: PutBack) -> list[Result]:
        """Build the kept copy whole in staging, rename it into place under JP's lock. Raises OSError, BusyError."""
        silo, conversation = site.silo.root, action.conversation
        with staging.opened(silo) as stage, fs.opened_partition(silo.path, archived=False) as live:
            temp = staging.fresh_name(conversation, "back")
            os.mkdir(temp, 0o755, dir_fd=stage)
            with fs.opened_dir(temp, dir_fd=stage) as fd:
                kept = self.shelter.restore_into(site.id, conversation, fd, sync=True)
                name = action.name or _name_after(fd, conversation)
                kernel.fsync(fd)
            with locks.conversation_lock(silo.path, conversation, site.stores) as lock:
                lock.require()
                if kept.partition is Partition.LIVE:
                    kernel.rename_new(stage, temp, live, name)
                    kernel.fsync(live)
                else:
                    fs.make_dir(fs.ARCHIVE, live)
                    with fs.opened_dir(fs.ARCHIVE, dir_fd=live) as archive:
                        kernel.rename_new(stage, temp, archive, name)
                        kernel.fsync(archive)
        self.graves.lift(site.id, conversation)
        self.shelter.returned(site.id, conversation)
        return [Done(action, len(kept.files))]

    def returned(self, workspace: str, conversation: int) -> None:
        """The silo has it (again): a tombstone that stands is lifted. Raises OSError."""
        if self.graves.stands(workspace, conversation):
            self.graves.lift(workspace, conversation)
            self.shelter.returned(workspace, conversation)


def _trace(tree: Tree, conversation: int, unprojected_ms: int | None) -> Projection:
    """What one worktree says of it. `unprojected_ms`: when a command of ours took the projection away."""
    view = tree.view
    if tree.state is not TreeState.WATCHING:
        return Projection(view.root, Trace.UNKNOWN)
    if conversation in view.listing:
        return Projection(view.root, Trace.HOLDS)
    missed = view.missed.get(conversation)
    if missed is None or (unprojected_ms is not None and _commanded(view, conversation, unprojected_ms, missed)):
        return Projection(view.root, Trace.NEVER)  # what a person had taken away there is no witness
    certain = missed.looked_ns - missed.first_ns >= safety.CERTAIN_NS
    return Projection(view.root, Trace.VANISHED if certain else Trace.MISSING, missed.first_ns)


def _commanded(view: View, conversation: int, said_ms: int, missed: Missed) -> bool:
    raw = view.records.get(conversation)
    return raw is not None and taken_away(said_ms, unpack(raw).written_ns, missed.seen_ns)


def _in_trash(silo: str, conversation: int) -> bool:
    """JP's sanitizer moved it away: it could not load it, and nobody removed it (contract 10)."""
    try:
        with fs.opened_partition(silo, archived=False) as live, fs.opened_dir(TRASH, dir_fd=live) as fd:
            return any(names.parse_dirname(name) == conversation for name in fs.list_names(fd))
    except OSError:
        return False


def _name_after(fd: int, conversation: int) -> str:
    """The name JP gives it: only where no copy has one (contract 3.3)."""
    raw, _ = fs.read_file(METADATA, fd)
    return names.dirname(conversation, title_of(raw))
