"""Retention of kept versions: what may go, as a pure function of (versions, now). Never of conversations.

Counted per conversation and unit: a version goes when it is older than the days or beyond the number
to keep; then, where all that is left is too large, the oldest go first. The newest version of each unit
and every protected one stay, whatever the limits say.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from convsync_agent.model import Unit

DAY_MS = 86_400_000


class Version(NamedTuple):
    """One kept version. `conversation` is any key that is unique among the versions looked at.

    `size` is what its removal frees; `protected` that an open attention entry points to it.
    """

    conversation: str
    unit: Unit
    version: str
    at_ms: int
    size: int
    protected: bool = False


def _age(version: Version) -> tuple[int, str, str, str]:
    """Oldest first; equal times are decided by names, so that the order is total."""
    return (version.at_ms, version.version, version.conversation, version.unit)


def to_remove(
    versions: Iterable[Version], now_ms: int, *, keep_days: int, keep_versions: int, max_bytes: int
) -> tuple[Version, ...]:
    """The versions that go, oldest first. A second call with the rest removes nothing."""
    rank: dict[tuple[str, Unit], int] = {}
    removable: list[Version] = []
    going: set[Version] = set()
    total = 0
    for version in sorted(versions, key=_age, reverse=True):
        key = (version.conversation, version.unit)
        newer = rank.get(key, 0)
        rank[key] = newer + 1
        total += version.size
        if newer == 0 or version.protected:
            continue
        removable.append(version)
        if newer >= keep_versions or now_ms - version.at_ms > keep_days * DAY_MS:
            going.add(version)
            total -= version.size
    removable.reverse()
    for version in removable:
        if total <= max_bytes:
            break
        if version not in going:
            going.add(version)
            total -= version.size
    return tuple(v for v in removable if v in going)
