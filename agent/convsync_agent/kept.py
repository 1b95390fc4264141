"""What the history says of a kept version: the records, and the manifest as it is published and understood."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

from convsync_agent import objects
from convsync_agent.digest import content_digest
from convsync_agent.durable import Batch
from convsync_agent.model import UNIT_FILES, Digest, Unit
from convsync_agent.names import id_text, parse_id
from convsync_agent.plan import Problem

_T = TypeVar("_T")

README = "README"
README_TEXT = b"""\
convsync keeps here what an overwrite would have lost. Look with `convsync history`, bring back with
`convsync restore`. Without convsync: <workspace>/<conversation>/<version>/manifest.json lists the files of a
version; the content of each is <workspace>/<conversation>/objects/<digest>.gz (gzip).
"""
SCHEMA = 1
MANIFEST = "manifest.json"
VERSION = re.compile(r"([0-9]{1,15})-(stream|metadata|extras)-[0-9a-f]{8}")
WORKSPACE = re.compile(r"[0-9a-z]{1,64}")
_HEX = re.compile(r"[0-9a-f]{32}")
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY})


class KeptFile(NamedTuple):
    name: str
    digest: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One kept version. `root` is where it was; `seen_ms` when the same content was last kept again."""

    workspace: str
    conversation: int
    unit: Unit
    version: str
    root: str
    at_ms: int
    why: str
    valid: bool
    events: int | None
    files: tuple[KeptFile, ...]
    seen_ms: int = 0

    @property
    def size(self) -> int:
        return sum(f.size for f in self.files)

    @property
    def digest(self) -> Digest:
        """The content as `UnitCopy.digest` has it: in the fixed order of the unit, None for an absent file."""
        have = {f.name: bytes.fromhex(f.digest) for f in self.files}
        return tuple(have.get(n) for n in UNIT_FILES.get(self.unit, tuple(have)))


class Kept(NamedTuple):
    version: str
    new: bool


class Pruned(NamedTuple):
    versions: int
    bytes: int


class Listing(NamedTuple):
    """Every whole version, newest first, and what is not one. `refs` None: what is needed is not known."""

    versions: list[Manifest]
    problems: list[Problem]
    refs: frozenset[str] | None


def sound_names(names: Sequence[str]) -> bool:
    """Different relative names that stay below the conversation's directory."""
    parts = [p for n in names for p in n.split("/")]
    return len(set(names)) == len(names) > 0 and not any(p in {"", ".", ".."} or "\0" in p for p in parts)


# -- on disk ------------------------------------------------------------------


def publish(place: str, manifest: Manifest, batch: Batch) -> tuple[str, objects.Stamp]:
    """Put a manifest under a version of its own, built aside and renamed; the batch makes it durable.

    A taken name: one ms later.
    """
    tag = _tag(manifest)
    while True:
        version = f"{manifest.at_ms}-{manifest.unit}-{tag}"
        temp = objects.temp_name(place)
        try:
            objects.make_dir(temp)
            path = os.path.join(temp, MANIFEST)
            stamp = objects.write_in(path, [_as_json(manifest)], batch.wrote, age_ms=manifest.at_ms)
            with objects.opened(temp, os.O_DIRECTORY) as fd:
                batch.wrote(fd)  # by descriptor: it may be pruned before it is durable
            os.rename(temp, os.path.join(place, version))
        except BaseException as error:
            with contextlib.suppress(OSError):
                objects.discard(temp)
            if not isinstance(error, OSError) or error.errno not in _TAKEN:
                raise
            manifest = replace(manifest, at_ms=manifest.at_ms + 1)
        else:
            batch.named(place)
            return version, stamp


def conversations(base: str, workspace: str | None) -> list[tuple[str, int]]:
    """Every workspace, or this one, and conversation that there is a place for."""
    spaces = objects.names_in(base) if workspace is None else [workspace]
    found = [
        (s, parse_id(n)) for s in spaces if WORKSPACE.fullmatch(s) for n in objects.names_in(os.path.join(base, s))
    ]
    return sorted((s, c) for s, c in found if c is not None)


def load(place: str, workspace: str, conversation: int, version: str) -> Manifest:
    """Raises OSError, and ValueError whose text says in a word why not."""
    with objects.opened(os.path.join(place, version, MANIFEST)) as fd:
        written_ms = _written_ms(os.fstat(fd))
        raw = b"".join(iter(partial(os.read, fd, 1 << 16), b""))
    return _parsed(raw, workspace, conversation, version, written_ms)


def load_all(place: str, workspace: str, conversation: int) -> tuple[list[Manifest], list[str]]:
    """Every manifest of a conversation, newest first, and what is said of those that cannot be read."""
    found, troubles = list[Manifest](), list[str]()
    for name in objects.names_in(place):
        if name.startswith(".") or name == objects.OBJECTS:
            continue
        try:
            found.append(load(place, workspace, conversation, name))
        except (OSError, ValueError) as error:
            if isinstance(error, FileNotFoundError) and not os.path.lexists(os.path.join(place, name)):
                continue  # pruned at this moment
            what = f"version {name}" if VERSION.fullmatch(name) else "an entry of another name"
            troubles.append(f"{what} is {'unreadable' if isinstance(error, OSError) else error}")
    return sorted(found, key=lambda m: (m.at_ms, m.version), reverse=True), troubles


def load_newest(place: str, like: Manifest) -> tuple[Manifest | None, int]:
    """The newest readable version of this one's unit if it may have the same files, and when that unit was kept last.

    A version is named after its files, so one with others is not read.
    """
    found = (VERSION.fullmatch(n) for n in objects.names_in(place) if like.unit in n)
    of_unit = sorted(((int(m[1]), m[0]) for m in found if m and m[2] == like.unit), reverse=True)
    tag = _tag(like)
    for _, name in of_unit:
        with contextlib.suppress(OSError, ValueError):
            if not name.endswith(tag):
                return None, max(of_unit[0][0], _written_ms(os.stat(os.path.join(place, name, MANIFEST))))
            newest = load(place, like.workspace, like.conversation, name)
            return newest, max(of_unit[0][0], newest.seen_ms)
    return None, of_unit[0][0] if of_unit else -1


def _written_ms(st: os.stat_result) -> int:
    return st.st_mtime_ns // 1_000_000


def _tag(manifest: Manifest) -> str:
    return content_digest(json.dumps([f[:2] for f in manifest.files]).encode()).hex()[:8]


# -- as text ------------------------------------------------------------------


def _as_json(m: Manifest) -> bytes:
    data = {
        "schema": SCHEMA,
        "workspace": m.workspace,
        "conversation": id_text(m.conversation),
        "unit": str(m.unit),
        "from": m.root,
        "at": m.at_ms,
        "why": m.why,
        "valid": m.valid,
        "events": m.events,
        "files": [f._asdict() for f in m.files],
    }
    return json.dumps(data, indent=1).encode() + b"\n"


def _parsed(raw: bytes, workspace: str, conversation: int, version: str, written_ms: int) -> Manifest:
    """The manifest that lies under this name. Raises ValueError whose text says in a word why not."""
    try:
        data = json.loads(raw)
        schema = _typed(data, "schema", int)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("damaged") from None
    if schema != SCHEMA:
        raise ValueError("of a schema that this convsync does not know")
    try:
        manifest = _manifest(data, version, written_ms)
    except (ValueError, KeyError, TypeError):
        raise ValueError("damaged") from None
    if (manifest.workspace, manifest.conversation) != (workspace, conversation):
        raise ValueError("of another conversation")
    return manifest


def _manifest(data: dict[str, Any], version: str, written_ms: int) -> Manifest:
    kinds = {"name": str, "digest": str, "size": int, "mtime_ns": int}
    files = tuple(KeptFile(*(_typed(f, key, kind) for key, kind in kinds.items())) for f in data["files"])
    conversation, unit, at_ms = parse_id(_typed(data, "conversation", str)), Unit(data["unit"]), _typed(data, "at", int)
    sound = sound_names([f.name for f in files]) and all(_HEX.fullmatch(f.digest) for f in files)
    name = VERSION.fullmatch(version)
    if conversation is None or not sound or name is None or (int(name[1]), name[2]) != (at_ms, unit):
        raise ValueError
    return Manifest(
        workspace=_typed(data, "workspace", str),
        conversation=conversation,
        unit=unit,
        version=version,
        root=_typed(data, "from", str),
        at_ms=at_ms,
        why=_typed(data, "why", str),
        valid=_typed(data, "valid", bool),
        events=None if data["events"] is None else _typed(data, "events", int),
        files=files,
        seen_ms=max(at_ms, written_ms),
    )


def _typed(data: Any, key: str, kind: type[_T]) -> _T:
    value = data[key]
    if type(value) is not kind:
        raise TypeError
    return value
