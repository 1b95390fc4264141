"""What a kept copy says of itself: the record, and the manifest as it is published and understood.

The manifest is the kept copy: renamed into place it replaces the one before in one step, and only files
that it names hold anything. It has no directory name (a slug is chat text, R9).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from hashlib import blake2b
from typing import Any, TypeVar

from convsync_agent import kernel, objects
from convsync_agent import plot as places
from convsync_agent.kept import sound_names
from convsync_agent.model import EVENTS, MANAGED, METADATA, UNIT_FILES, Copy, Digest, Grade, Partition, Unit
from convsync_agent.names import id_text
from convsync_agent.plot import Plot

_T = TypeVar("_T")

SCHEMA = 1
MANIFEST = "manifest.json"
_HEX = re.compile(r"[0-9a-f]{32}")
_HELD = re.compile(r"[0-9a-f]{32}\.(gz|raw)")


class How(StrEnum):
    """How the content of a file is held."""

    PACKED = "gzip"  # compressed
    CLONE = "reflink"  # a file of its own that shares its blocks


_SUFFIX = {".gz": How.PACKED, ".raw": How.CLONE}


@dataclass(frozen=True, slots=True)
class HeldFile:
    """One file: its path below the conversation's directory, and `held`, the file beside the manifest that has it."""

    name: str
    digest: str
    size: int
    mtime_ns: int
    held: str

    @property
    def how(self) -> How:
        return _SUFFIX[os.path.splitext(self.held)[1]]


@dataclass(frozen=True, slots=True)
class Keepsake:
    """One kept copy. `at_ms`: made then; `removed_ms`: the durable copy is gone since then; `events`: if known."""

    workspace: str
    conversation: int
    partition: Partition
    at_ms: int
    files: tuple[HeldFile, ...]
    removed_ms: int | None = None
    events: int | None = None

    @property
    def size(self) -> int:
        return sum(f.size for f in self.files)

    @property
    def whole(self) -> bool:
        """Every managed file is held, a legacy pair counts."""
        return {EVENTS, METADATA} <= {f.name for f in self.files}

    def digest(self, unit: Unit) -> Digest:
        """The content as `UnitCopy.digest` has it: in the fixed order of the unit, None for an absent file."""
        have = {f.name: bytes.fromhex(f.digest) for f in self.files}
        return tuple(have.get(n) for n in UNIT_FILES.get(unit, tuple(have)))

    @property
    def fingerprint(self) -> bytes:
        return _fingerprint(self.partition, ((f.name, f.digest, f.size, f.mtime_ns) for f in self.files))


def keepable(copy: Copy) -> bool:
    """Only a whole, valid, quiet copy that was read may replace what is kept (R3)."""
    units = (copy.stream, copy.metadata)
    read = all(f.digest for u in units for f in u.files if f.stamp)
    return copy.whole and read and all(u.grade is Grade.VALID and u.quiet for u in units)


def fingerprint_of(copy: Copy) -> bytes:
    """Equal to that of the kept copy that holds this content in this partition. 8 bytes."""
    files = [*copy.stream.files, *copy.metadata.files]
    rows = [(f.name, (f.digest or b"").hex(), f.stamp.size, f.stamp.mtime_ns) for f in files if f.stamp]
    rows += [(e.path, "", e.stamp.size, e.stamp.mtime_ns) for e in copy.extras]
    return _fingerprint(copy.partition, rows)


def _fingerprint(partition: Partition, rows: Iterable[tuple[str, str, int, int]]) -> bytes:
    """Managed files by content alone; unmanaged ones by size and time, for they are read as seldom as can be."""
    known = sorted((n, d) if n in MANAGED else (n, f"{size} {mtime}") for n, d, size, mtime in rows)
    text = repr((str(partition), known)).encode(errors="surrogatepass")
    return blake2b(text, digest_size=8).digest()


# -- on disk ------------------------------------------------------------------


def publish(place: Plot, keepsake: Keepsake, *, sync: bool = True) -> objects.Stamp:
    """The manifest under its name, in one step; with `sync` durable when this returns."""
    stamp = objects.write(place.file(MANIFEST), [_as_json(keepsake)], kernel.fsync if sync else objects.later)
    if sync:
        places.sync(place)
    return stamp


def load(place: Plot) -> Keepsake | None:
    """None: there is none. Raises OSError, and ValueError whose text says in a word why it is not understood."""
    try:
        with objects.opened(place.file(MANIFEST), os.O_NOFOLLOW | os.O_NONBLOCK) as fd:
            raw = b"".join(iter(partial(os.read, fd, 1 << 16), b""))
    except FileNotFoundError:
        return None
    return _parsed(raw, place)


def stamp_at(place: Plot) -> objects.Stamp | None:
    """Of the manifest: another one means that somebody published."""
    try:
        return objects.stamp_of(os.lstat(place.file(MANIFEST)))
    except FileNotFoundError:
        return None


def _as_json(keepsake: Keepsake) -> bytes:
    data = {
        "schema": SCHEMA,
        "workspace": keepsake.workspace,
        "conversation": id_text(keepsake.conversation),
        "partition": str(keepsake.partition),
        "at": keepsake.at_ms,
        "removed": keepsake.removed_ms,
        "events": keepsake.events,
        "files": [
            {"name": f.name, "digest": f.digest, "size": f.size, "mtime_ns": f.mtime_ns, "how": f.how, "held": f.held}
            for f in keepsake.files
        ],
    }
    return json.dumps(data).encode() + b"\n"


def _parsed(raw: bytes, place: Plot) -> Keepsake:
    try:
        data = json.loads(raw)
        if _typed(data, "schema", int) != SCHEMA:
            raise ValueError("of a schema that this convsync does not know")
        files = tuple(_file(f) for f in data["files"])
        whose = (_typed(data, "workspace", str), _typed(data, "conversation", str))
        found = Keepsake(
            place.workspace,
            place.conversation,
            Partition(data["partition"]),
            _typed(data, "at", int),
            files,
            None if data["removed"] is None else _typed(data, "removed", int),
            None if data["events"] is None else _typed(data, "events", int),
        )
    except (KeyError, TypeError, RecursionError, json.JSONDecodeError, UnicodeDecodeError):
        raise ValueError("damaged") from None
    if not sound_names([f.name for f in files]):
        raise ValueError("damaged")
    if whose != (place.workspace, id_text(place.conversation)):
        raise ValueError("of another conversation")
    return found


def _file(data: Any) -> HeldFile:
    kinds = {"name": str, "digest": str, "size": int, "mtime_ns": int, "held": str}
    found = HeldFile(*(_typed(data, key, kind) for key, kind in kinds.items()))
    if not _HEX.fullmatch(found.digest) or not _HELD.fullmatch(found.held):
        raise TypeError
    return found


def _typed(data: Any, key: str, kind: type[_T]) -> _T:
    value = data[key]
    if type(value) is not kind:
        raise TypeError
    return value
