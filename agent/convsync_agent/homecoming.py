"""What a worktree held when it went, and whether that may be put back now that it is there again (docs/design.md, 7).

Pure: what was seen comes in, a decision goes out. A projection is put back only because a worktree went and came
back, never because one is absent (R1).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from enum import StrEnum
from typing import NamedTuple

from convsync_agent.model import MS, SECOND

RECENT_NS = 60 * SECOND  # what vanished at most so long before the worktree did went with it
QUIET_ROOT_NS = 2 * SECOND  # so long nothing may have happened in the root and in git's directory
MOVED_NS = 60 * SECOND  # a directory seen elsewhere twice, so far apart, has moved there
NO_GIT = ""  # in place of the text of HEAD where there is no git


class Sight(NamedTuple):
    """One look at a worktree: what tells it from another one that was made at the same path.

    `inode` is of `.jp`, `id_mtime` of `.jp/.id`, in ns. The device is no part of it: its number may be another
    after a restart of the machine. An inode number may be used again, the time of the id may be copied; not both.
    """

    inode: int
    id_mtime: int


class Reason(StrEnum):
    """Why what a worktree held is put back now, or is not."""

    NOW = "now"
    SETTLING = "settling"  # git, or somebody, is at work there: looked at again by itself
    ASK = "ask"  # only when a person says so
    NEVER = "never"
    BRANCH = "branch"  # git's HEAD is another one than it went with, or cannot be told
    NO_REFRESH = "no-refresh"  # registered as never to be written into


class Sorted(NamedTuple):
    """What is held, sorted by what is to become of it. `found`: it is there, so it is not held any more."""

    found: frozenset[int]
    due: frozenset[int]
    elsewhere: frozenset[int]  # held under another HEAD
    waiting: frozenset[int]  # no live durable copy now

    @property
    def restorable(self) -> frozenset[int]:
        """What a command can put back."""
        return self.due | self.elsewhere


def made_anew(before: Sight, now: Sight) -> bool:
    """Another directory has the path: the one that was watched is gone, whoever saw that."""
    return before != now


def taken_away(said_ms: int, written_ns: int, seen_ns: int) -> bool:
    """A command took this projection away at `said_ms`: nothing of it was written, and no look saw it, after that.

    `written_ns`: the latest change of a file of the copy that is on record; `seen_ns`: when the last listing that had
    it began. One that somebody made again later is another one.
    """
    return max(written_ns, seen_ns) < (said_ms + 1) * MS


def held_by(
    live: Set[int], missed: Mapping[int, int], went_ns: int, unprojected: Collection[int] = ()
) -> frozenset[int]:
    """The projections last seen at most 60 s before the worktree went, less those that a command took away.

    `live`: every projection there is a record of; `missed`: when a readable listing first lacked one, ns.
    """
    early = {c for c, first_ns in missed.items() if went_ns - first_ns > RECENT_NS}
    return frozenset(live - early - set(unprojected))


def sort_out(held: Mapping[int, str | None], here: Set[int], durable: Set[int], head: str | None) -> Sorted:
    """Sort what is held. `held` maps a conversation to the HEAD it was held under; None is a HEAD that is not known.

    `here`: ids in either partition of the worktree; `durable`: ids with a live durable copy; `head`: HEAD now.
    """
    found = frozenset(held.keys() & here)
    rest = held.keys() - here
    ready = {c for c in rest if c in durable}
    due = {c for c in ready if held[c] is not None and held[c] == head}
    return Sorted(found, frozenset(due), frozenset(ready - due), frozenset(rest - ready))


def judge(setting: str, sorted_out: Sorted, *, refresh: bool, rests: bool) -> Reason:
    """The first that applies. `setting`: recovery.reproject; `rests`: git and the root have been quiet."""
    if not refresh:
        return Reason.NO_REFRESH
    if setting == "never":
        return Reason.NEVER
    if setting == "ask":
        return Reason.ASK
    if not sorted_out.due:
        return Reason.BRANCH
    return Reason.NOW if rests else Reason.SETTLING
