"""What is remembered of one copy, packed: 20,000 of them must fit in a few megabytes.

A record holds the stamps of the managed files, the digests of their content when last settled, and a
short hash of the directory's name (never the name: a slug is chat text, R9). It is kept in memory and,
byte for byte, in `state.db`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from typing import NamedTuple

from convsync_agent.model import MANAGED, Agreed, Copy, Digest, Extra, FileCopy, Grade, Partition, Stamp

_NONE = b"\0" * 16
_SIG = struct.Struct("<B8sQ" + "qqQq" * 3)
_REST = struct.Struct("<q8sB16s16s16s")
SIG_SIZE, SIZE = _SIG.size, _SIG.size + _REST.size
ABSENT = (0, -1, 0, 0)
_GOOD = (Grade.VALID,)
_LAST_NS = 2**63 - 1
EXTRAS = 0x80  # unmanaged files: none of the stamps here vouches for them
FINE_GRANULE_NS, COARSE_GRANULE_NS = 20_000_000, 2_000_000_000


class Record(NamedTuple):
    """One unpacked record. `settled_*`: the unit took part in an agreement, its digest is a base."""

    archived: bool
    inode: int
    stamps: tuple[Stamp | None, ...]  # in the order of MANAGED
    dir_mtime: int
    extras: bytes
    digests: tuple[bytes | None, ...]
    sound: bool  # every unit was valid when it was read
    racy: int  # bit per file: written so shortly before it was read that an equal stamp proves nothing

    def agreed(self) -> Agreed:
        base, events, metadata = (d if s else None for d, s in zip(self.digests, self.stamps, strict=True))
        partition = Partition.ARCHIVED if self.archived else Partition.LIVE
        return Agreed((base, events), (metadata,), partition, self.inode, self.stamps)

    @property
    def written_ns(self) -> int:
        """When a file of it was changed last: no program can set that."""
        return max((s.ctime_ns for s in self.stamps if s), default=0)

    def known(self, name: str, stamp: Stamp) -> bytes | None:
        """The digest of a file if its stamp is still the recorded one."""
        index = MANAGED.index(name)
        return self.digests[index] if self.stamps[index] == stamp and not self.racy >> index & 1 else None


def racy(stamp: Stamp | None, taken_at: int) -> bool:
    """A second write in the same tick of the file system's clock would leave this very stamp (design 3)."""
    if stamp is None:
        return False
    if not -_LAST_NS <= stamp.mtime_ns <= _LAST_NS:
        return True  # before 1677 or after 2262: a record cannot hold it
    coarse = stamp.mtime_ns % 1_000_000_000 == 0 and stamp.ctime_ns % 1_000_000_000 == 0
    return taken_at - stamp.ctime_ns < (COARSE_GRANULE_NS if coarse else FINE_GRANULE_NS)


def pack_digest(digest: Digest) -> bytes:
    """The digest of a unit as `state.db` holds it."""
    return b"".join(d or _NONE for d in digest)


def unpack_digest(raw: bytes) -> Digest:
    parts = [raw[i : i + len(_NONE)] for i in range(0, len(raw), len(_NONE))]
    return tuple(None if part == _NONE else part for part in parts)


def _fitting(ns: int) -> int:
    return min(max(ns, -_LAST_NS), _LAST_NS)


def name_hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()


def extras_hash(extras: Iterable[Extra]) -> bytes:
    text = repr([(e.path, e.stamp[:3]) for e in extras]).encode(errors="surrogateescape")
    return hashlib.blake2b(text, digest_size=8).digest()


def signature(name: str, *, archived: bool, inode: int, stamps: Iterable[Stamp | None]) -> bytes:
    """The part that a scan compares: equal signatures mean that nothing was written or renamed."""
    return flat_signature(name, [n for stamp in stamps for n in stamp or ABSENT], archived=archived, inode=inode)


def flat_signature(name: str, numbers: list[int], *, archived: bool, inode: int) -> bytes:
    """The same of the stamps one after the other, `ABSENT` for none: a scan makes 20,000 of them."""
    try:
        return _SIG.pack(archived, name_hash(name), inode, *numbers)
    except struct.error:  # a time before 1677 or after 2262
        fitting = [n if at % 4 in (1, 2) else _fitting(n) for at, n in enumerate(numbers)]
        return _SIG.pack(archived, name_hash(name), inode, *fitting)


def pack(copy: Copy, dir_mtime: int, taken_at: int) -> bytes:
    files: list[FileCopy] = [*copy.stream.files, *copy.metadata.files]
    sig = signature(
        copy.name, archived=copy.partition is Partition.ARCHIVED, inode=copy.inode, stamps=[f.stamp for f in files]
    )
    sound = copy.whole and copy.stream.grade in _GOOD and copy.metadata.grade in _GOOD
    flags = int(sound) | sum(racy(f.stamp, taken_at) << i + 1 for i, f in enumerate(files))
    flags |= EXTRAS if copy.extras else 0
    digests = (f.digest or _NONE for f in files)
    return sig + _REST.pack(_fitting(dir_mtime), extras_hash(copy.extras), flags, *digests)


def unpack(raw: bytes) -> Record:
    archived, _, inode, *flat = _SIG.unpack_from(raw)
    dir_mtime, extras, flags, *digests = _REST.unpack_from(raw, SIG_SIZE)
    stamps = tuple(Stamp(*flat[i : i + 4]) if flat[i + 1] >= 0 else None for i in (0, 4, 8))
    return Record(
        bool(archived),
        inode,
        stamps,
        dir_mtime,
        extras,
        tuple(None if d == _NONE else d for d in digests),
        bool(flags & 1),
        flags >> 1 & 7,
    )


def settled(raw: bytes) -> bool:
    """Sound, no stamp in it racy, no unmanaged files: an equal signature proves that nothing changed."""
    return raw[SIG_SIZE + 16] == 1


def dir_mtime_of(raw: bytes) -> int:
    return int.from_bytes(raw[SIG_SIZE : SIG_SIZE + 8], "little", signed=True)
