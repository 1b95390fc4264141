"""What the history says of a kept version: the records, and the manifest as it is written and understood."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from convsync_agent.model import UNIT_FILES, Digest, Unit
from convsync_agent.names import id_text, parse_id
from convsync_agent.plan import Problem

_T = TypeVar("_T")

SCHEMA = 1
VERSION = re.compile(r"([0-9]{1,15})-(stream|metadata|extras)-[0-9a-f]{8}")
_HEX = re.compile(r"[0-9a-f]{32}")


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


def as_json(m: Manifest) -> bytes:
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


def parsed(raw: bytes, workspace: str, conversation: int, version: str, written_ms: int) -> Manifest:
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
