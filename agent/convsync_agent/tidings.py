"""What a person is told, and when: new entries once, no kind more than once an hour. Pure; `herald` does it.

What comes in a burst is told together: an entry is told when it is some seconds old and still there. A kind that
was told within the hour waits for its end; what is open then, and was not told, is told together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

Key = tuple[str, str, int, str]
"""kind, workspace, conversation, root: what makes an entry another one."""

DEGRADED = "degraded"
GATHER_MS = 2_000
HOUR_MS = 3_600_000
SHOWN = 3  # ids that a message names for each kind


@dataclass(frozen=True, slots=True)
class Told:
    """Entries that were told and are still open, and when each kind was told last."""

    keys: frozenset[Key] = frozenset()
    at_ms: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Tidings:
    """`tell`: the entries to tell now. `told`: what is remembered then. `again_ms`: when to ask again, None: never."""

    tell: tuple[Key, ...]
    told: Told
    again_ms: int | None


def tidings(open_now: Mapping[Key, int], told: Told, now_ms: int) -> Tidings:
    """What to tell. `open_now`: since when this agent knows of each open entry, wall clock ms.

    An entry that was closed and comes back is a new one. A clock that was put back makes nobody wait for longer
    than an hour.
    """
    keys = told.keys & open_now.keys()
    tell: list[Key] = []
    again: list[int] = []
    kinds: dict[str, list[Key]] = {}
    for key in sorted(open_now.keys() - keys):
        kinds.setdefault(key[0], []).append(key)
    at_ms = dict(told.at_ms)
    for kind, news in kinds.items():
        last = at_ms.get(kind)
        rest = min(last, now_ms) + HOUR_MS if last is not None else 0
        due = max(rest, min(open_now[k] for k in news) + GATHER_MS)
        if due > now_ms:
            again.append(due)
            continue
        tell += news
        at_ms[kind] = now_ms
    return Tidings(tuple(tell), Told(keys | set(tell), at_ms), min(again, default=None))


def message(tell: Sequence[Key]) -> tuple[str, str]:
    """Title and text of a desktop notification: kinds, counts and ids, never a title or a path (R9)."""
    kinds: dict[str, list[int]] = {}
    for kind, _, conversation, _ in tell:
        kinds.setdefault(kind, []).append(conversation)
    if DEGRADED in kinds:
        del kinds[DEGRADED]
        title = "convsync: something could not be written"
    else:
        title = "convsync: something needs you"
    lines = []
    for kind, found in kinds.items():
        ids = sorted({c for c in found if c})
        named = [f"jp-c{c}" for c in ids[:SHOWN]] + (["..."] if len(ids) > SHOWN else [])
        lines.append(f"{len(found)} {kind}" + (f": {', '.join(named)}" if named else ""))
    return title, "\n".join([*lines, "Type: convsync status"])
