"""Tombstones on disk: which conversations a person removed, and every content they had.

    <data_dir>/trash/<workspace>/<jp-cID>/tombstone.json

One outlives `state.db` and the kept copy beside it; only `lift` takes it away. When `bury` or `add`
returns, it is durable. One that cannot be read is there all the same: what a person removed is never
brought back by a damaged file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from convsync_agent import kernel, objects
from convsync_agent import plot as places
from convsync_agent.model import UNIT_FILES, Digest, Unit
from convsync_agent.names import id_text
from convsync_agent.plan import Problem
from convsync_agent.plot import Plot
from convsync_agent.safety import Tombstone

TOMBSTONE = "tombstone.json"
SCHEMA = 1
_HEX = re.compile(r"[0-9a-f]{32}")

Lineage = Mapping[Unit, Iterable[Digest]]


class Graves:
    """Every method that writes raises OSError; those that read raise it for what is unreadable above a tombstone."""

    def __init__(self, data_dir: str) -> None:
        self.data_dir = data_dir

    def bury(self, workspace: str, conversation: int, digests: Lineage, *, at_ms: int, why: str) -> Tombstone:
        """Write the tombstone. One that stands there keeps its time and reason, and gets the digests added.

        A damaged one is written anew: what was read of it is nothing, and the person's decision is made again.
        """
        place = self._place(workspace, conversation)
        with places.locked(place, make=True):
            old = _look(place)
            stands = old is not None and not old.damaged
            stone = old if old and stands else Tombstone(workspace, conversation, at_ms, why)
            return _write(place, _with(stone, digests))

    def add(self, workspace: str, conversation: int, digests: Lineage) -> bool:
        """Add contents of the lineage that were found later. False: there is no tombstone that could be read."""
        place = self._place(workspace, conversation)
        try:
            with places.locked(place):
                old = _look(place)
                if old is None or old.damaged:
                    return False
                if (new := _with(old, digests)) != old:
                    _write(place, new)
                return True
        except FileNotFoundError:
            return False

    def lift(self, workspace: str, conversation: int) -> bool:
        """Take the tombstone away, durably. False: there was none."""
        place = self._place(workspace, conversation)
        try:
            with places.locked(place):
                os.unlink(place.file(TOMBSTONE))
                objects.sync_dir(place.path)
                places.leave(place)
        except FileNotFoundError:
            return False
        return True

    def find(self, workspace: str, conversation: int) -> Tombstone | None:
        """The tombstone, `damaged` where it cannot be read; None only where there is none."""
        return _look(self._place(workspace, conversation))

    def stands(self, workspace: str, conversation: int) -> bool:
        """Whether there is one: one stat."""
        return os.path.lexists(self._place(workspace, conversation).file(TOMBSTONE))

    def ls(self, workspace: str | None = None) -> tuple[list[Tombstone], list[Problem]]:
        """Every tombstone by workspace and id, damaged ones too, and what is said of those."""
        found = [s for p in places.plots(self.data_dir, workspace) if (s := _look(p))]
        troubles = [Problem("io", s.conversation, None, "its tombstone is damaged") for s in found if s.damaged]
        return found, troubles

    def _place(self, workspace: str, conversation: int) -> Plot:
        return places.plot(self.data_dir, workspace, conversation)


def _with(stone: Tombstone, digests: Lineage) -> Tombstone:
    """The same with more digests. Of what has no file (None alone) there is nothing to know."""
    units = {u: stone.digests.get(u, frozenset()) | {d for d in digests.get(u, ()) if any(d)} for u in UNIT_FILES}
    return Tombstone(stone.workspace, stone.conversation, stone.at_ms, stone.why, {u: d for u, d in units.items() if d})


def _write(place: Plot, stone: Tombstone) -> Tombstone:
    objects.write(place.file(TOMBSTONE), [_as_json(stone)], kernel.fsync)
    places.sync(place)
    return stone


def _look(place: Plot) -> Tombstone | None:
    try:
        with objects.opened(place.file(TOMBSTONE), os.O_NOFOLLOW | os.O_NONBLOCK) as fd:
            raw = b"".join(iter(partial(os.read, fd, 1 << 16), b""))
        return _parsed(raw, place.workspace, place.conversation)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Tombstone(place.workspace, place.conversation, damaged=True)


def _as_json(stone: Tombstone) -> bytes:
    digests = {str(u): sorted((_hex(d) for d in stone.digests.get(u, ())), key=repr) for u in UNIT_FILES}
    data = {
        "schema": SCHEMA,
        "workspace": stone.workspace,
        "conversation": id_text(stone.conversation),
        "at": stone.at_ms,
        "why": stone.why,
        "digests": digests,
    }
    return json.dumps(data).encode() + b"\n"


def _hex(digest: Digest) -> list[str | None]:
    return [part.hex() if part else None for part in digest]


def _parsed(raw: bytes, workspace: str, conversation: int) -> Tombstone:
    """Raises ValueError, KeyError, TypeError or AttributeError for what is no tombstone of this conversation."""
    data = json.loads(raw)
    whose = (data["schema"], data["workspace"], data["conversation"])
    if whose != (SCHEMA, workspace, id_text(conversation)) or type(data["at"]) is not int:
        raise ValueError
    lengths = {Unit(u): len(UNIT_FILES[Unit(u)]) for u in data["digests"]}
    digests = {u: frozenset(_digest(d, n) for d in data["digests"][u]) for u, n in lengths.items()}
    return Tombstone(workspace, conversation, data["at"], str(data["why"]), {u: d for u, d in digests.items() if d})


def _digest(parts: Any, length: int) -> Digest:
    if len(parts) != length or not all(p is None or _HEX.fullmatch(p) for p in parts):
        raise ValueError
    return tuple(None if p is None else bytes.fromhex(p) for p in parts)
