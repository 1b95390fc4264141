"""The nouns of convsync as immutable values. No I/O, no clock.

Sizes are bytes, times are nanoseconds since the epoch unless a name says otherwise, digests are raw
blake2b-16 bytes. A `Root` is a directory that holds `conversations/`: the silo or a worktree's `.jp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

BASE_CONFIG, EVENTS, METADATA = "base_config.json", "events.json", "metadata.json"
STREAM_FILES = (BASE_CONFIG, EVENTS)
METADATA_FILES = (METADATA,)
MANAGED = (BASE_CONFIG, EVENTS, METADATA)

MS, SECOND = 1_000_000, 1_000_000_000
QUIET_NS = 200 * MS  # R3: unchanged for this long counts as quiet when no close was seen
UNSTABLE_NS = 2 * SECOND  # R3: an unfit newest copy is deferred this long, then held
UNSAVED_NS = SECOND  # R4: content saved nowhere else for this long goes into the history
SPLIT_NS = 30 * SECOND  # contract 10.5: JP's own archive leaves this picture for moments only
FUTURE_NS = 300 * SECOND  # design 3: mtimes further ahead of the clock are reported


Digest = tuple[bytes | None, ...]
"""Content of one unit: a digest per file in fixed order, None for an absent file."""


class Unit(StrEnum):
    """What is decided as a whole. `ALL` and `EXTRAS` occur in actions and in the history only."""

    ALL = "all"
    STREAM = "stream"
    METADATA = "metadata"
    EXTRAS = "extras"


UNIT_FILES = {Unit.STREAM: STREAM_FILES, Unit.METADATA: METADATA_FILES}
BOTH = (Unit.STREAM, Unit.METADATA)  # what is decided, in the order in which it is written


class Partition(StrEnum):
    LIVE = "live"
    ARCHIVED = "archived"


class Kind(StrEnum):
    SILO = "silo"
    WORKTREE = "worktree"


class Presence(StrEnum):
    """Which roots hold a conversation, per worktree (contract 5.1)."""

    PROJECTED = "projected"
    USER_LOCAL_ONLY = "user_local_only"
    WORKSPACE_ONLY = "workspace_only"


class Projection(StrEnum):
    """What a write is to reach, as JP carries it with its lock (contract 6.2)."""

    LOCAL_ONLY = "local_only"
    PROJECTED = "projected"


INTENTS = {
    Presence.USER_LOCAL_ONLY: Projection.LOCAL_ONLY,
    Presence.PROJECTED: Projection.PROJECTED,
    Presence.WORKSPACE_ONLY: Projection.PROJECTED,  # once it is imported
}
"""The intent that comes with a lock, from what is there when it is taken."""


class Readable(StrEnum):
    """What could be learned of a root. Only `YES` says anything about absence (R1, contract 2.6)."""

    YES = "yes"
    MISSING = "missing"
    UNREADABLE = "unreadable"


class Grade(StrEnum):
    """How good the files of one unit are (contract 4.7, read strictly: R3)."""

    VALID = "valid"
    INVALID = "invalid"  # read, and JP could not use it
    INCOMPLETE = "incomplete"  # a file of the unit, or of the conversation, is missing
    UNREADABLE = "unreadable"  # EACCES, EIO: nothing is known
    ODD = "odd"  # a symlink, FIFO, device or directory where a file should be


class Verdict(StrEnum):
    """Who made the files of a unit what they are."""

    WROTE = "wrote"  # git
    EDIT = "edit"  # somebody else, or nothing is known: an edit either way
    WAIT = "wait"  # git is at work, or has just been


@dataclass(frozen=True, slots=True)
class Evidence:
    """What git says of a copy that may be older than it looks (design 3, *stale*).

    `again_ns`: how long from now until the question is worth asking again (WAIT only).
    `old_lock`: an `index.lock` that nobody seems to hold; the hint is to name it.
    """

    verdict: Verdict
    again_ns: int = 0
    old_lock: bool = False


class Fate(StrEnum):
    """What it means that the silo has no copy of a conversation any more."""

    REMOVED = "removed"  # on purpose: a tombstone, and the left-over projections are `removed`
    LOST = "lost"  # put back the kept copy, without one the newest copy that is not behind
    BRAKED = "braked"  # no tombstone; resolve the silo anew, and if it is there put back as LOST
    WAIT = "wait"  # not certain: neither import, nor put back, nor bury
    BURIED = "buried"  # a tombstone stands


class Absence(NamedTuple):
    """Why the silo has none of a conversation that it had. `kept`: there is a kept copy to put back.

    `lifted`: what is left over has bytes that the lineage never had and that git did not write.
    """

    fate: Fate
    why: str = ""
    again_ns: int = 0
    kept: bool = False
    lifted: bool = False


class Stamp(NamedTuple):
    """What `stat` says of one file. Two equal stamps mean: nobody wrote in between."""

    mtime_ns: int
    size: int
    inode: int
    ctime_ns: int


class Root(NamedTuple):
    """One place that holds `conversations/`. Sorts silo first, then by path, as ties are decided."""

    kind: Kind
    path: str

    @property
    def is_silo(self) -> bool:
        return self.kind is Kind.SILO

    @property
    def order(self) -> tuple[int, str]:
        return (0 if self.kind is Kind.SILO else 1, self.path)


@dataclass(frozen=True, slots=True)
class FileCopy:
    """One managed file of one copy. `stamp` None: it does not exist. `digest` None: not read."""

    name: str
    stamp: Stamp | None = None
    digest: bytes | None = None

    @property
    def mtime_ns(self) -> int:
        """The mtime, or the epoch where the file is absent, as JP compares (contract 5.2)."""
        return self.stamp.mtime_ns if self.stamp else 0


@dataclass(frozen=True, slots=True)
class UnitCopy:
    """One unit of one copy.

    `age_ns` is how long it is known to be unchanged; `closed` that its last write was seen to end.
    `fault` says in words without content why the grade is not `VALID`.
    """

    files: tuple[FileCopy, ...]
    grade: Grade = Grade.VALID
    age_ns: int = SECOND * 3600
    closed: bool = False
    fault: str = ""

    @property
    def mtime_ns(self) -> int:
        return max(f.mtime_ns for f in self.files)

    @property
    def digest(self) -> Digest:
        """Identity of the content: the digests of the files in fixed order, None for an absent one."""
        return tuple(f.digest if f.stamp else None for f in self.files)

    @property
    def exists(self) -> bool:
        return any(f.stamp for f in self.files)

    @property
    def quiet(self) -> bool:
        return self.closed or self.age_ns >= QUIET_NS

    @property
    def size(self) -> int:
        return sum(f.stamp.size for f in self.files if f.stamp)

    def file(self, name: str) -> FileCopy:
        return next(f for f in self.files if f.name == name)


class Extra(NamedTuple):
    """An unmanaged file: its path below the conversation's directory, and its stamp.

    The digest is read only where two roots hold the path with different stamps.
    """

    path: str
    stamp: Stamp
    digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class Copy:
    """One directory of one conversation in one root, as seen."""

    root: Root
    conversation: int
    name: str
    partition: Partition
    inode: int
    stream: UnitCopy
    metadata: UnitCopy
    extras: tuple[Extra, ...] = ()

    def unit(self, unit: Unit) -> UnitCopy:
        return self.stream if unit is Unit.STREAM else self.metadata

    def identity(self, unit: Unit) -> Digest:
        """What the content of a unit is known by; unmanaged files, which are read seldom, by path, time and size."""
        if unit is Unit.EXTRAS:
            return tuple(repr((e.path, e.stamp[:3])).encode(errors="surrogateescape") for e in self.extras)
        return self.unit(unit).digest

    @property
    def whole(self) -> bool:
        """Every managed file is there; a legacy pair (no `base_config.json`) counts (R3)."""
        return self.metadata.exists and self.stream.file(EVENTS).stamp is not None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Stamps of one root at one time. `scope` None means: every conversation of the root was looked at.

    More than one `Copy` for an id means two directories claim it. `refresh` False is a worktree
    registered with `--no-refresh`: it is a source, never a target.
    """

    root: Root
    taken_at: int
    copies: Mapping[int, tuple[Copy, ...]] = field(default_factory=dict)
    readable: Readable = Readable.YES
    refresh: bool = True
    scope: frozenset[int] | None = None
    fault: str = ""  # attention kind when not readable: denied or io


class Agreed(NamedTuple):
    """What one copy held when its conversation was last settled: the base of this root.

    `stamps` of the managed files: with the inode they tell a directory that was renamed from one made anew.
    """

    stream: Digest | None
    metadata: Digest | None
    partition: Partition
    inode: int
    stamps: tuple[Stamp | None, ...] = ()

    def unit(self, unit: Unit) -> Digest | None:
        return self.stream if unit is Unit.STREAM else self.metadata


@dataclass(frozen=True, slots=True)
class Base:
    """What is known beside the snapshots.

    `agreed` maps (conversation, root) to what was there when last settled; `contains` holds pairs
    (unit, inner digest, outer digest): the outer content has everything of the inner one.
    `split_since` maps a conversation to when it was first seen live in one root, archived in another;
    `kept` holds what the history has, `busy` the conversations whose JP lock is held by another process.
    `lineage` holds digests the durable unit had before; `earlier` the copies whose metadata was last activated
    before the durable one; `git` what git says, of suspect copies only; `behind` what was found stale before;
    `expired` the copies whose own `expires_at` is past while the durable copy's is not;
    `absent` the conversations that the silo does not have any more, or that a tombstone stands for.
    """

    agreed: Mapping[tuple[int, Root], Agreed] = field(default_factory=dict)
    contains: frozenset[tuple[Unit, Digest, Digest]] = frozenset()
    split_since: Mapping[int, int] = field(default_factory=dict)
    kept: frozenset[tuple[int, Unit, Digest]] = frozenset()
    busy: frozenset[int] = frozenset()
    lineage: frozenset[tuple[int, Unit, Digest]] = frozenset()
    earlier: frozenset[tuple[int, Root]] = frozenset()
    git: Mapping[tuple[int, Root, Unit], Evidence] = field(default_factory=dict)
    behind: Mapping[tuple[int, Root, Unit], Digest] = field(default_factory=dict)
    expired: frozenset[tuple[int, Root]] = frozenset()
    absent: Mapping[int, Absence] = field(default_factory=dict)

    def of(self, copy: Copy, unit: Unit) -> Digest | None:
        """The digest this copy had when last settled, or None at first sight."""
        known = self.agreed.get((copy.conversation, copy.root))
        return known.unit(unit) if known else None

    def covers(self, unit: Unit, outer: UnitCopy, inner: UnitCopy) -> bool:
        """`outer` has every byte of meaning that `inner` has, so replacing `inner` loses nothing."""
        return outer.digest == inner.digest or not inner.exists or (unit, inner.digest, outer.digest) in self.contains


class ImportPolicy(StrEnum):
    AUTO = "auto"
    ON_WRITE = "on-write"
    MANUAL = "manual"


class Guard(StrEnum):
    GUARDED = "guarded"
    MTIME = "mtime"


@dataclass(frozen=True, slots=True)
class Policy:
    imports: ImportPolicy = ImportPolicy.AUTO
    guard: Guard = Guard.GUARDED
