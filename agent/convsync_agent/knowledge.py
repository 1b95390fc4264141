"""What the engine knows beside the snapshots: containment, what the history holds, what is unreadable."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from convsync_agent import fs, growth, locks, piecewise
from convsync_agent.bulk import Content, digest_of
from convsync_agent.errors import kind_of, reason_of
from convsync_agent.extras import digest_of_extra
from convsync_agent.history import History
from convsync_agent.model import (
    BASE_CONFIG,
    BOTH,
    EVENTS,
    METADATA,
    METADATA_FILES,
    STREAM_FILES,
    Agreed,
    Base,
    Copy,
    Digest,
    Extra,
    FileCopy,
    Grade,
    Partition,
    Readable,
    Root,
    Snapshot,
    Unit,
    UnitCopy,
)
from convsync_agent.observe import Contents
from convsync_agent.plan import Keep
from convsync_agent.scan import Place, View
from convsync_agent.site import Site
from convsync_agent.stream_json import count

MAX_VARIANTS = 6  # distinct contents of one unit that are compared with each other
MOST_KEPT, MOST_OF_ONE = 512, 32  # conversations, and contents of one, that are remembered as kept


@dataclass(slots=True)
class Knower:
    """Answers that need bytes or the history. Owns nothing: reads roots, writes only the history."""

    history: History
    contents: Contents
    _kept: dict[tuple[str, int], set[tuple[Unit, Digest]]] = field(default_factory=dict)

    # -- base -------------------------------------------------------------------

    def base(self, site: Site, snapshots: Sequence[Snapshot], agreed: Mapping[tuple[int, Root], Agreed]) -> Base:
        """Everything reconcile wants to know about these conversations."""
        groups: dict[int, list[Copy]] = {}
        for snapshot in snapshots:
            for conversation, found in snapshot.copies.items():
                groups.setdefault(conversation, []).extend(found)
        contains: set[tuple[Unit, Digest, Digest]] = set()
        partial = []
        for conversation, copies in groups.items():
            self._note_split(site, conversation, copies)
            if not all(c.whole for c in copies):
                partial.append(conversation)
            for unit in BOTH:
                contains |= self._containment(unit, copies)
        for conversation in [c for c in site.split_since if any(c in s.scope for s in snapshots if s.scope)]:
            if conversation not in groups:
                del site.split_since[conversation]
        busy = locks.busy_conversations(site.silo.root.path, partial) if partial else frozenset()
        kept = frozenset((c, u, d) for c in groups for u, d in self._kept.get((site.id, c), ()))
        return Base(agreed, frozenset(contains), dict(site.split_since), kept, busy)

    @staticmethod
    def _note_split(site: Site, conversation: int, copies: Sequence[Copy]) -> None:
        if len({c.partition for c in copies}) > 1:
            site.split_since.setdefault(conversation, min(time.time_ns(), _last_change(copies)))
        else:
            site.split_since.pop(conversation, None)

    def _containment(self, unit: Unit, copies: Sequence[Copy]) -> set[tuple[Unit, Digest, Digest]]:
        """Which content has everything of which other. Only read where contents differ, newest first."""
        variants: dict[Digest, Copy] = {}
        for copy in sorted(copies, key=lambda c: -c.unit(unit).mtime_ns):
            if copy.unit(unit).exists and copy.unit(unit).grade is Grade.VALID:
                variants.setdefault(copy.unit(unit).digest, copy)
        if not 2 <= len(variants) <= MAX_VARIANTS:
            return set()
        same_base = unit is Unit.STREAM and len({d[0] for d in variants}) == 1
        try:
            raw = {d: self._compared(c, unit, same_base=same_base) for d, c in variants.items()}
        except (OSError, fs.ChangedError, fs.OddFileError):
            return set()  # not known to be contained: then the loser is kept

        def holds(outer: Digest, inner: Digest) -> bool:
            if (outer[-1], inner[-1]) in self.contents.apart:
                return False
            return (self._stream_in if unit is Unit.STREAM else _metadata_in)(raw[outer], raw[inner])

        if any(c.root.is_silo for c in copies):
            # Only the newest can win; an import may also prefer an older copy that contains all others.
            newest, *older = raw
            found = {(unit, inner, newest) for inner in older if holds(newest, inner)}
            durable = next(c.unit(unit).digest for c in copies if c.root.is_silo)
            if durable in older and (unit, durable, newest) not in found and _longer(raw[durable], raw[newest]):
                found |= {(unit, newest, durable)} if holds(durable, newest) else set()
            return found
        return {
            (unit, inner, outer) for outer in variants for inner in variants if inner != outer and holds(outer, inner)
        }

    def _stream_in(self, outer: dict[str, Content], inner: dict[str, Content]) -> bool:
        """What cannot be read to its end is not known to be contained: then the loser is kept."""
        one, other = (outer.get(BASE_CONFIG), outer[EVENTS]), (inner.get(BASE_CONFIG), inner[EVENTS])
        try:
            return growth.contains(one, other, self.contents.grown)
        except (OSError, fs.ChangedError, fs.OddFileError):
            return False

    def _compared(self, copy: Copy, unit: Unit, *, same_base: bool) -> dict[str, Content]:
        """The files of a unit; a base config that all have is not read, and is equal."""
        files = [f for f in copy.unit(unit).files if f.stamp]
        alike: dict[str, Content] = {BASE_CONFIG: b"{}"} if same_base else {}
        return {f.name: alike[f.name] if f.name in alike else self.contents.read(copy, f) for f in files}

    def read(self, copy: Copy, unit: Unit) -> dict[str, Content]:
        """The files of a unit as they were looked at. Raises fs.ChangedError, OSError."""
        return {f.name: self.contents.read(copy, f) for f in copy.unit(unit).files if f.stamp}

    # -- the history --------------------------------------------------------------

    def keep(self, workspace: str, copy: Copy, unit: Unit, files: Sequence[tuple[str, Content, int]], why: str) -> None:
        """Put a losing or unsaved unit into the history; durable when this returns (R4)."""
        events = next((count(raw) for name, raw, _ in files if name == EVENTS), None)
        valid = unit is Unit.EXTRAS or copy.unit(unit).grade is Grade.VALID
        self.history.keep(
            workspace,
            copy.conversation,
            unit,
            files,
            root=copy.root.path,
            at_ms=time.time_ns() // 1_000_000,
            why=why,
            valid=valid,
            events=events,
            digests={} if unit is Unit.EXTRAS else {f.name: f.digest for f in copy.unit(unit).files if f.digest},
        )
        if unit is not Unit.EXTRAS:
            self._remember((workspace, copy.conversation), unit, copy.unit(unit).digest)

    def is_kept(self, workspace: str, action: Keep) -> bool:
        """The history has this content of this unit already."""
        key, digest = (workspace, action.conversation), action.source.identity(action.unit)
        if (action.unit, digest) in self._kept.get(key, ()):
            return True
        if not self._holds(workspace, action):
            return False
        self._remember(key, action.unit, digest)
        return True

    def _remember(self, key: tuple[str, int], unit: Unit, digest: Digest) -> None:
        """Forgetting costs a look into the history, nothing else."""
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        mine = self._kept.setdefault(key, set())
        if len(mine) >= MOST_OF_ONE:
            mine.clear()
        mine.add((unit, digest))

    def _holds(self, workspace: str, action: Keep) -> bool:
        copy, conversation = action.source, action.conversation
        if action.unit is Unit.EXTRAS:
            try:
                digests = [digest_of_extra(copy, e) for e in copy.extras]
            except (OSError, fs.ChangedError, fs.OddFileError):
                return False
            return all(self.history.has_content(workspace, conversation, d) for d in digests)
        known = [f.digest for f in copy.unit(action.unit).files if f.stamp and f.digest]
        return self.history.holds(workspace, conversation, action.unit, known)

    def saver(
        self, site: Site, why: str = "found in staging", *, roots: bool = True
    ) -> Callable[[Root, int, str, Content, int], None]:
        """Keeps one stray file of staging, unless the history has these very bytes, or with `roots` any root."""

        def save(root: Root, conversation: int, file: str, raw: Content, mtime_ns: int) -> None:
            digest = digest_of(raw)
            if self.history.has_content(site.id, conversation, digest.hex()):
                return
            if roots and _somewhere(site, conversation, file, digest):
                return
            name = file.removesuffix(".old")
            unit = Unit.METADATA if name == METADATA else Unit.STREAM if name in STREAM_FILES else Unit.EXTRAS
            now = time.time_ns() // 1_000_000
            rows = [(name, raw, mtime_ns)]
            valid = unit is Unit.EXTRAS  # of a unit it may be half
            self.history.keep(
                site.id, conversation, unit, rows, root=root.path, at_ms=now, why=why, valid=valid, events=None
            )

        return save

    # -- what cannot be read --------------------------------------------------------

    @staticmethod
    def readable(path: str) -> tuple[Readable, str]:
        """Whether a root can be listed now. Missing and unreadable prove nothing about what is in it."""
        try:
            with fs.opened_dir(path):
                try:
                    with fs.opened_partition(path, archived=False):  # O_RDONLY: who may open it may list it
                        return Readable.YES, ""
                except FileNotFoundError:
                    return Readable.YES, ""
        except (FileNotFoundError, NotADirectoryError):
            return Readable.MISSING, ""
        except OSError as error:
            return Readable.UNREADABLE, kind_of(error)

    @staticmethod
    def unreadable(view: View, conversation: int, place: Place, error: OSError) -> tuple[Copy, int]:
        """A copy of which nothing could be learned: neither source nor target, and never "absent"."""
        fault = f"{kind_of(error)}: {reason_of(error)}"

        def blank(names: tuple[str, ...]) -> UnitCopy:
            return UnitCopy(tuple(FileCopy(n) for n in names), Grade.UNREADABLE, fault=fault)

        partition = Partition.ARCHIVED if place.archived else Partition.LIVE
        stream, metadata = blank(STREAM_FILES), blank(METADATA_FILES)
        return Copy(view.root, conversation, place.name, partition, -1, stream, metadata), 0

    def with_extra_digests(self, snapshots: Sequence[Snapshot]) -> list[Snapshot]:
        """Fill in digests of unmanaged files that the silo and a worktree both have with different stamps."""
        silo = next(s for s in snapshots if s.root.is_silo)
        durable = {c: {e.path: e for copy in copies for e in copy.extras} for c, copies in silo.copies.items()}
        if not any(durable.values()):
            return list(snapshots)
        wanted: set[tuple[int, str]] = set()
        for snapshot in snapshots:
            for conversation, copies in snapshot.copies.items():
                for extra in (e for copy in copies for e in copy.extras):
                    other = durable.get(conversation, {}).get(extra.path)
                    if other and other.stamp.mtime_ns < extra.stamp.mtime_ns and not snapshot.root.is_silo:
                        wanted.add((conversation, extra.path))
        return [_digested(s, wanted) for s in snapshots] if wanted else list(snapshots)


def _last_change(copies: Sequence[Copy]) -> int:
    """When the last of these directories was renamed or written to, ns: a split is no younger than that.

    So who only starts now, a `sync` without an agent, need not wait once more.
    """
    latest = 0
    for copy in copies:
        try:
            with fs.opened_copy(copy) as fd:
                latest = max(latest, os.fstat(fd).st_ctime_ns)
        except OSError:
            return time.time_ns()
    return latest


def _digested(snapshot: Snapshot, wanted: set[tuple[int, str]]) -> Snapshot:
    def one(copy: Copy, extra: Extra) -> Extra:
        if (copy.conversation, extra.path) not in wanted:
            return extra
        try:
            return extra._replace(digest=digest_of_extra(copy, extra))
        except (OSError, fs.ChangedError, fs.OddFileError):
            return extra

    copies = {
        c: tuple(replace(copy, extras=tuple(one(copy, e) for e in copy.extras)) for copy in group)
        for c, group in snapshot.copies.items()
    }
    return replace(snapshot, copies=copies)


def _longer(outer: dict[str, Content], inner: dict[str, Content]) -> bool:
    return sum(map(len, outer.values())) > sum(map(len, inner.values()))


def _metadata_in(outer: dict[str, Content], inner: dict[str, Content]) -> bool:
    return growth.metadata_contains(outer[METADATA], inner[METADATA])


def _somewhere(site: Site, conversation: int, file: str, digest: bytes) -> bool:
    """Some root holds these bytes under this file name now: read, not remembered."""
    for view in site.views():
        for place in view.listing.places(conversation):
            try:
                where = fs.opened_partition(view.root.path, archived=place.archived)
                with where as part, fs.opened_dir(place.name, dir_fd=part) as fd:
                    found = piecewise.digest_in(file, fd)
            except (OSError, fs.ChangedError, fs.OddFileError):
                continue
            if found == digest:
                return True
    return False
