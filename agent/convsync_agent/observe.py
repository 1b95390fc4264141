"""One conversation in one root -> a `Copy`: stamps, digests and grades. Reads only what no stamp vouches for."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from convsync_agent import fs, kernel, piecewise
from convsync_agent.appraisal import appraise
from convsync_agent.bulk import Content, is_large
from convsync_agent.content import check_base_config, check_continued, check_events, check_metadata
from convsync_agent.digest import content_digest
from convsync_agent.errors import kind_of, reason_of
from convsync_agent.extras import list_extras
from convsync_agent.model import (
    BASE_CONFIG,
    EVENTS,
    MANAGED,
    METADATA,
    METADATA_FILES,
    QUIET_NS,
    STREAM_FILES,
    Copy,
    FileCopy,
    Grade,
    Partition,
    Root,
    Stamp,
    UnitCopy,
)
from convsync_agent.records import FINE_GRANULE_NS, Record, unpack
from convsync_agent.scan import Place, unchanged

CACHE_FILES = 4096
MEMORY_LIMIT = 64 << 20
HELD_FILES = 8


@dataclass(slots=True)
class Contents:
    """Bytes read in this cycle, by digest, so that staging need not read again. Bounded."""

    limit: int = MEMORY_LIMIT
    _size: int = 0
    apart: set[tuple[bytes, bytes]] = field(default_factory=set)  # digests; neither stream holds the other
    grown: set[tuple[bytes, bytes]] = field(default_factory=set)  # digests; the second stream begins with the first
    _raw: dict[bytes, bytes] = field(default_factory=dict)
    _held: dict[bytes, piecewise.Held] = field(default_factory=dict)

    def put(self, digest: bytes, raw: bytes) -> None:
        if digest not in self._raw and self._size + len(raw) <= self.limit:
            self._raw[digest] = raw
            self._size += len(raw)

    def hold(self, digest: bytes, file: piecewise.Held) -> None:
        """The same of a large file: whoever replaces it while it is copied, it is what was looked at."""
        if len(self._held) < HELD_FILES:
            self._held[digest] = file

    def get(self, digest: bytes | None) -> bytes | None:
        return self._raw.get(digest) if digest is not None else None

    def read(self, copy: Copy, file: FileCopy) -> Content:
        """A file as it was looked at, digest checked; a large one when it is read. Raises fs.ChangedError, OSError."""
        raw = self.get(file.digest)
        if raw is None:
            if file.digest is not None and file.stamp is not None and is_large(file.name, file.stamp.size):
                held = self._held.get(file.digest)
                return piecewise.of_copy(copy, file) if held is None else held.content(file.digest)
            with fs.opened_copy(copy) as fd:
                raw, _ = fs.read_file(file.name, fd)
            if file.digest is None or content_digest(raw) != file.digest:
                raise fs.ChangedError
            self.put(file.digest, raw)
        return raw

    def clear(self) -> None:
        self.apart.clear()
        self.grown.clear()
        self._held.clear()
        self._raw.clear()
        self._size = 0


@dataclass(frozen=True, slots=True)
class Fact:
    """What the bytes of one file are, as long as its stamp is this one."""

    stamp: Stamp
    digest: bytes
    fault: str
    packed: bool


@dataclass(slots=True)
class Eye:
    """Looks at copies. `closed(root path, conversation, file)` says that a write was seen to end."""

    now: Callable[[], int]
    age: Callable[[tuple[str, int, str], tuple[Stamp | None, ...], int], int]
    closed: Callable[[str, int, str], bool]
    contents: Contents = field(default_factory=Contents)
    durable: dict[int, Copy] = field(default_factory=dict)  # as looked at in this cycle
    settling: bool = False  # looking back at what this cycle itself read and wrote: equal stamps are enough
    _facts: OrderedDict[tuple[str, int, str], Fact] = field(default_factory=OrderedDict)
    _verdicts: OrderedDict[tuple[str, bytes, bool], str] = field(default_factory=OrderedDict)

    def look(self, root: Root, conversation: int, place: Place, record: Record | None) -> tuple[Copy, int]:
        """The copy, and the mtime of its directory. FileNotFoundError when it went, OSError when unreadable."""
        with (
            fs.opened_partition(root.path, archived=place.archived) as part,
            fs.opened_dir(place.name, dir_fd=part) as fd,
        ):
            found = os.fstat(fd)
            stream = self._unit((root, conversation), STREAM_FILES, fd, record, found.st_ctime_ns)
            metadata = self._unit((root, conversation), METADATA_FILES, fd, record, found.st_ctime_ns)
            extras = tuple(sorted(list_extras(fd)))
        copy = Copy(
            root=root,
            conversation=conversation,
            name=place.name,
            partition=Partition.ARCHIVED if place.archived else Partition.LIVE,
            inode=found.st_ino,
            stream=stream,
            metadata=metadata,
            extras=extras,
        )
        return copy, found.st_mtime_ns

    def recall(self, root: Root, conversation: int, place: Place, raw: bytes) -> tuple[Copy, int] | None:
        """The copy from its record, if five stats say that nothing changed since it was settled; else None.

        Its unmanaged files were settled with it, so they are not listed: nothing is to be done about them.
        """
        record, where = unpack(raw), (root, conversation)
        seen = dict(zip(MANAGED, record.stamps, strict=True))
        try:
            with fs.opened_partition(root.path, archived=place.archived) as part:
                if not unchanged(raw, place.name, part, archived=place.archived):
                    return None
                ages = [
                    self._age(where, names, {n: seen[n] for n in names}, record.dir_mtime)
                    for names in (STREAM_FILES, METADATA_FILES)
                ]
                closed = min(ages) >= QUIET_NS
                if not closed:
                    with fs.opened_dir(place.name, dir_fd=part) as fd:
                        closed = self._ended(where, seen, fd)
        except OSError:
            return None
        files = [FileCopy(n, s, d) for n, s, d in zip(MANAGED, record.stamps, record.digests, strict=True)]
        stream = UnitCopy(tuple(files[:2]), age_ns=ages[0], closed=closed)
        metadata = UnitCopy((files[2],), age_ns=ages[1], closed=closed)
        partition = Partition.ARCHIVED if record.archived else Partition.LIVE
        return Copy(root, conversation, place.name, partition, record.inode, stream, metadata), record.dir_mtime

    def _unit(
        self, where: tuple[Root, int], names: tuple[str, ...], fd: int, record: Record | None, dir_ctime: int
    ) -> UnitCopy:
        root, conversation = where
        try:
            stamps = {n: fs.stat_file(n, fd) for n in names}
        except fs.OddFileError as odd:
            return UnitCopy(tuple(FileCopy(n) for n in names), Grade.ODD, fault=f"held: {odd} instead of a file")
        except OSError as error:
            return UnitCopy(tuple(FileCopy(n) for n in names), Grade.UNREADABLE, fault=_said(error))
        age = self._age(where, names, stamps, dir_ctime)
        closed = self._ended(where, stamps, fd)
        files, grade, fault = [], Grade.VALID, ""
        for name, stamp in stamps.items():
            if stamp is None:
                files.append(FileCopy(name))
                continue
            packed = name == EVENTS and stamps[BASE_CONFIG] is None
            try:
                fact = self._fact((root.path, conversation, name), fd, stamp, packed, record)
            except fs.ChangedError:
                return UnitCopy(
                    tuple(FileCopy(n, s) for n, s in stamps.items()), Grade.INVALID, 0, fault="being written"
                )
            except fs.OddFileError as odd:
                return UnitCopy(tuple(FileCopy(n) for n in names), Grade.ODD, fault=f"held: {odd} instead of a file")
            except OSError as error:
                files.append(FileCopy(name, stamp))
                grade, fault = Grade.UNREADABLE, _said(error)
                continue
            files.append(FileCopy(name, stamp, fact.digest))
            if fact.fault and grade is Grade.VALID:
                grade, fault = Grade.INVALID, fact.fault
        required = EVENTS if names is STREAM_FILES else METADATA
        if stamps[required] is None and grade is Grade.VALID:
            grade, fault = Grade.INCOMPLETE, f"no {required}"
        return UnitCopy(tuple(files), grade, age, closed, fault)

    def _ended(self, where: tuple[Root, int], stamps: dict[str, Stamp | None], fd: int) -> bool:
        """The last write of each of these files was seen to end, or is long ago, or nobody can be writing."""
        root, conversation = where
        return all(
            s is None or self._old(s) or self.closed(root.path, conversation, n) or _nobody_writes(n, fd)
            for n, s in stamps.items()
        )

    def _age(self, where: tuple[Root, int], names: tuple[str, ...], stamps: dict[str, Stamp | None], ctime: int) -> int:
        """How long the unit is known to be unchanged. A lacking file counts from the directory's change."""
        there = [s.ctime_ns for s in stamps.values() if s]
        latest = max([*there, ctime] if len(there) < len(stamps) and names[-1] not in _present(stamps) else there)
        return self.age((where[0].path, where[1], names[-1]), tuple(stamps.values()), latest)

    def trust(self, where: tuple[Root, int], unit: UnitCopy, name: str, stamp: Stamp) -> None:
        """A file of this unit that we placed was valid at its source: it need not be read back to be known."""
        digest = unit.file(name).digest
        if digest is not None:
            packed = name == EVENTS and unit.file(BASE_CONFIG).stamp is None
            self._note((where[0].path, where[1], name), Fact(stamp, digest, "", packed))

    def facts_of(self, conversations: Collection[int]) -> dict[tuple[str, int, str], Fact]:
        """What is known of their files, for another one to `learn`."""
        return {key: fact for key, fact in self._facts.items() if key[1] in conversations}

    def learn(self, facts: Mapping[tuple[str, int, str], Fact]) -> None:
        """What another one found out."""
        for key, fact in facts.items():
            self._note(key, fact)

    def _note(self, key: tuple[str, int, str], fact: Fact) -> None:
        self._facts[key] = fact
        self._facts.move_to_end(key)
        if len(self._facts) > CACHE_FILES:
            self._facts.popitem(last=False)

    def _old(self, stamp: Stamp) -> bool:
        return self.now() - stamp.ctime_ns >= QUIET_NS

    def _fact(
        self,
        key: tuple[str, int, str],
        fd: int,
        stamp: Stamp,
        packed: bool,  # noqa: FBT001
        record: Record | None,
    ) -> Fact:
        known = record.known(key[2], stamp) if record and record.sound else None
        if known is not None and packed is (record is not None and record.stamps[0] is None and key[2] == EVENTS):
            return Fact(stamp, known, "", packed)
        cached = self._facts.get(key)
        old = self.settling or self.now() - stamp.ctime_ns > FINE_GRANULE_NS
        if cached and old and cached.stamp == stamp and cached.packed is packed:
            return cached
        if is_large(key[2], stamp.size):
            fact = self._large(key, fd, stamp, packed=packed)
        else:
            raw, at = fs.read_file(key[2], fd)
            if at != stamp:
                raise fs.ChangedError
            digest = content_digest(raw)
            self.contents.put(digest, raw)
            fact = Fact(stamp, digest, self._verdict(key, raw, digest, packed=packed), packed)
        self._note(key, fact)
        return fact

    def _large(self, key: tuple[str, int, str], fd: int, stamp: Stamp, *, packed: bool) -> Fact:
        """The same of a file that is not in memory as a whole, nor in `contents`."""
        _, conversation, name = key
        before = self._before(conversation, packed=packed) if name == EVENTS else None
        file = piecewise.Held(name, fd)
        if file.stamp != stamp:
            raise fs.ChangedError
        found = appraise(name, file, packed, before, lambda digest: self._verdicts.get((name, digest, packed)))
        self.contents.hold(found.digest, file)
        if found.grown_from is not None:
            self.contents.grown.add((found.grown_from, found.digest))
        self._judged((name, found.digest, packed), found.fault)
        return Fact(stamp, found.digest, found.fault, packed)

    def _verdict(self, key: tuple[str, int, str], raw: bytes, digest: bytes, *, packed: bool) -> str:
        """'' or what is wrong. The same bytes are in several roots, and parsing them is the dearest of all."""
        _, conversation, name = key
        known = self._verdicts.get((name, digest, packed))
        if known is None:
            before = self._before(conversation, packed=packed) if name == EVENTS else None
            if isinstance(before, bytes):  # a large one is longer than these bytes
                known, apart = check_continued(raw, before, packed)
                if apart and (other := self.durable[conversation].stream.file(EVENTS).digest):
                    self.contents.apart |= {(digest, other), (other, digest)}
            else:
                known = _check(name, raw, packed=packed)
            self._judged((name, digest, packed), known)
        return known

    def _judged(self, key: tuple[str, bytes, bool], fault: str) -> None:
        self._verdicts[key] = fault
        if len(self._verdicts) > CACHE_FILES:
            self._verdicts.popitem(last=False)

    def _before(self, conversation: int, *, packed: bool) -> Content | None:
        """The durable events, where they are valid: most streams that change have grown from them."""
        durable = self.durable.get(conversation)
        if durable is None or durable.stream.grade is not Grade.VALID:
            return None
        file = durable.stream.file(EVENTS)
        if file.digest is None or packed is not (durable.stream.file(BASE_CONFIG).stamp is None):
            return None
        try:
            return self.contents.read(durable, file)
        except (OSError, fs.ChangedError, fs.OddFileError):
            return None


def _nobody_writes(name: str, dir_fd: int) -> bool:
    """Proof that a file's last write has ended, for one whose events nobody saw. False: not certain."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=dir_fd)
    except OSError:
        return False
    try:
        return kernel.unwritable(fd)
    finally:
        os.close(fd)


def _present(stamps: dict[str, Stamp | None]) -> set[str]:
    return {n for n, s in stamps.items() if s}


def _said(error: OSError) -> str:
    return f"{kind_of(error)}: {reason_of(error)}"


def _check(name: str, raw: bytes, *, packed: bool) -> str:
    if name == EVENTS:
        return check_events(raw, packed=packed)
    return check_metadata(raw) if name == METADATA else check_base_config(raw)
