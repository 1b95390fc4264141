"""What reconcile decided, as plain data: printable, comparable, and with a pure twin of apply (`after`).

Every action carries the stamps it was planned from; apply refuses it when the disk says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from convsync_agent.model import (
    Copy,
    Digest,
    Extra,
    FileCopy,
    Grade,
    Partition,
    Root,
    Snapshot,
    Unit,
    UnitCopy,
)


@dataclass(frozen=True, slots=True)
class Keep:
    """Put the content of one unit into the history; nothing in a root changes (R4)."""

    conversation: int
    unit: Unit
    source: Copy
    why: str


@dataclass(frozen=True, slots=True)
class Import:
    """Create the durable copy: a new directory in the silo, built whole and renamed into place."""

    conversation: int
    target: Root
    partition: Partition
    name: str
    stream: Copy
    metadata: Copy
    extras: tuple[tuple[Copy, Extra], ...] = ()
    why: str = ""  # lost: the durable copy went, and nobody removed it

    @property
    def size(self) -> int:
        return self.stream.stream.size + self.metadata.metadata.size + sum(e.stamp.size for _, e in self.extras)


@dataclass(frozen=True, slots=True)
class Update:
    """Make one unit of an existing copy equal to the winner's, times included.

    `keep`: the target's content goes to the history first, for the reason `why`. `younger`: the
    target is younger than its winner and gets the winner's age minus 1 ns before anything else.
    """

    conversation: int
    unit: Unit
    source: Copy
    target: Copy
    keep: bool = False
    why: str = "replaced"
    younger: bool = False

    @property
    def size(self) -> int:
        have = {f.name: f.digest for f in self.target.unit(self.unit).files if f.stamp}
        files = self.source.unit(self.unit).files
        return sum(f.stamp.size for f in files if f.stamp and have.get(f.name) != f.digest)


@dataclass(frozen=True, slots=True)
class AddExtras:
    """Copy unmanaged files from a worktree to the silo: missing there, or older."""

    conversation: int
    source: Copy
    target: Copy
    files: tuple[Extra, ...]

    @property
    def size(self) -> int:
        return sum(f.stamp.size for f in self.files)


@dataclass(frozen=True, slots=True)
class Rename:
    """Give a directory the name the metadata winner has. A rename, never copy and delete."""

    conversation: int
    target: Copy
    name: str


@dataclass(frozen=True, slots=True)
class Move:
    """Archive or unarchive: the directory is renamed into `partition`, its name and content stay as they are."""

    conversation: int
    target: Copy
    partition: Partition


@dataclass(frozen=True, slots=True)
class PutBack:
    """A durable copy that was lost comes back from the kept copy; a tombstone that stands is lifted."""

    conversation: int
    target: Root
    name: str | None  # of a projection, or None: as JP names it after its title
    why: str


@dataclass(frozen=True, slots=True)
class Bury:
    """The durable copy was removed on purpose: a tombstone with every content it ever had."""

    conversation: int
    target: Root
    why: str


@dataclass(frozen=True, slots=True)
class Lift:
    """What is left over was edited since: the tombstone goes, and the next plan imports it."""

    conversation: int
    target: Root


Action = Keep | Import | Update | AddExtras | Rename | Move | PutBack | Bury | Lift

_STEP = {Keep: 0, Lift: 1, Bury: 1, PutBack: 1, Import: 1, Move: 1, Update: 2, AddExtras: 4, Rename: 5}
_UNIT = {Unit.ALL: 0, Unit.STREAM: 1, Unit.METADATA: 2, Unit.EXTRAS: 3}


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now; looked at again by itself. `reason`: locked, unstable or building."""

    conversation: int
    reason: str
    root: Root | None = None
    again_ns: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """One conversation (or root) that needs a person. `kind` is one of cli.md's attention kinds.

    `lasting` ones stay until acknowledged (a conflict); the others end when the picture does.
    """

    kind: str
    conversation: int | None
    root: Root | None
    detail: str
    lasting: bool = False


class Behind(NamedTuple):
    """A unit that git brought back to something older: known by its digest until its bytes change."""

    conversation: int
    root: Root
    unit: Unit
    digest: Digest


@dataclass(frozen=True, slots=True)
class Plan:
    """The decided actions and everything that could not be decided, in a fixed order."""

    actions: tuple[Action, ...] = ()
    deferred: tuple[Deferred, ...] = ()
    problems: tuple[Problem, ...] = ()
    again: tuple[tuple[int, int], ...] = ()  # (conversation, ns): look once more then, nothing is wrong
    behind: tuple[Behind, ...] = ()

    @property
    def empty(self) -> bool:
        return not self.actions


@dataclass(slots=True)
class Draft:
    """A plan in the making."""

    actions: list[Action] = field(default_factory=list)
    deferred: list[Deferred] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    again: list[tuple[int, int]] = field(default_factory=list)
    behind: list[Behind] = field(default_factory=list)

    def finish(self) -> Plan:
        soonest: dict[tuple[int, str, Root | None], Deferred] = {}
        for one in sorted(self.deferred, key=lambda d: -d.again_ns):
            soonest[one.conversation, one.reason, one.root] = one
        return Plan(
            tuple(sorted(self.actions, key=order)),
            tuple(
                sorted(soonest.values(), key=lambda d: (d.conversation, d.reason, d.root.order if d.root else (-1, "")))
            ),
            tuple(
                sorted(
                    self.problems,
                    key=lambda p: (p.conversation or 0, p.kind, p.root.order if p.root else (-1, ""), p.detail),
                )
            ),
            tuple(sorted(self.again)),
            tuple(sorted(self.behind, key=lambda b: (b.conversation, b.root.order, b.unit))),
        )


def unit_of(action: Action) -> Unit:
    if isinstance(action, Import | Move | PutBack | Bury | Lift):
        return Unit.ALL
    if isinstance(action, AddExtras):
        return Unit.EXTRAS
    return Unit.METADATA if isinstance(action, Rename) else action.unit


def target_of(action: Action) -> Root:
    """The root an action writes to; for `Keep`, the root it saves from."""
    if isinstance(action, Import | PutBack | Bury | Lift):
        return action.target
    return action.source.root if isinstance(action, Keep) else action.target.root


def size_of(action: Action) -> int:
    """How many bytes it writes into a root."""
    return action.size if isinstance(action, Import | Update | AddExtras) else 0


def order(action: Action) -> tuple[int, int, int, tuple[int, str]]:
    """By conversation, step, unit, root: losers kept first, silo before projections, renames last."""
    return (action.conversation, _STEP[type(action)], _UNIT[unit_of(action)], target_of(action).order)


_VERBS = {Partition.ARCHIVED: "archive", Partition.LIVE: "unarchive"}


def as_json(action: Action, path_of: Any) -> dict[str, Any]:
    """One action in the shape of `sync --json` (cli.md). `path_of(root, partition, name)` gives a path."""
    names = {Import: "import", Update: "update", AddExtras: "update", Rename: "rename", Keep: "keep"}
    names |= {PutBack: "import", Bury: "bury", Lift: "lift"}
    source, target, size = "", "", 0
    if isinstance(action, Import):
        source = path_of(action.stream.root, action.partition, action.stream.name)
        target, size = path_of(action.target, action.partition, action.name), action.size
    elif isinstance(action, PutBack | Bury | Lift):
        target = action.target.path
    elif isinstance(action, Rename | Move):
        source = path_of(action.target.root, action.target.partition, action.target.name)
        after = _changed(action.target, action)
        target = path_of(after.root, after.partition, after.name)
    else:
        source = path_of(action.source.root, action.source.partition, action.source.name)
        copy = action.source if isinstance(action, Keep) else action.target
        target = path_of(copy.root, copy.partition, copy.name)
        size = action.source.unit(action.unit).size if isinstance(action, Keep) else action.size
    return {
        "action": _VERBS[action.partition] if isinstance(action, Move) else names[type(action)],
        "conversation": f"jp-c{action.conversation}",
        "unit": str(unit_of(action)),
        "source": source,
        "target": target,
        "bytes": size,
    }


# -- the pure twin of apply ---------------------------------------------------


def after(snapshots: Iterable[Snapshot], plan: Plan) -> tuple[Snapshot, ...]:
    """The snapshots as they are once every action of `plan` has been done. Law: the next plan is empty."""
    done = {s.root: dict(s.copies) for s in snapshots}
    for action in plan.actions:
        if isinstance(action, Import):
            done[action.target][action.conversation] = (_imported(action),)
        elif not isinstance(action, Keep | PutBack | Bury | Lift):
            old = _find(done[action.target.root], action.target)
            _put(done[action.target.root], old, _changed(old, action))
    return tuple(replace(s, copies=done[s.root]) for s in snapshots)


def _find(copies: Mapping[int, tuple[Copy, ...]], like: Copy) -> Copy:
    return next(c for c in copies[like.conversation] if c.inode == like.inode)


def _put(copies: dict[int, tuple[Copy, ...]], old: Copy, new: Copy) -> None:
    copies[old.conversation] = tuple(new if c is old else c for c in copies[old.conversation])


def _imported(action: Import) -> Copy:
    return Copy(
        root=action.target,
        conversation=action.conversation,
        name=action.name,
        partition=action.partition,
        inode=action.stream.inode,
        stream=_settled(action.stream.stream),
        metadata=_settled(action.metadata.metadata),
        extras=tuple(sorted(e for _, e in action.extras)),
    )


def _changed(old: Copy, action: Update | AddExtras | Rename | Move) -> Copy:
    if isinstance(action, Rename):
        return replace(old, name=action.name)
    if isinstance(action, Move):
        return replace(old, partition=action.partition)
    if isinstance(action, AddExtras):
        newer = {e.path: e for e in (*old.extras, *action.files)}
        return replace(old, extras=tuple(newer[p] for p in sorted(newer)))
    new = _settled(action.source.unit(action.unit))
    whole = replace(old, stream=new) if action.unit is Unit.STREAM else replace(old, metadata=new)
    return _regraded(whole)


def _regraded(copy: Copy) -> Copy:
    """A copy that lacked one file is whole once the other unit has come: its grade follows."""
    if copy.whole and Grade.INCOMPLETE in (copy.stream.grade, copy.metadata.grade):
        fixed = [
            replace(u, grade=Grade.VALID) if u.grade is Grade.INCOMPLETE else u for u in (copy.stream, copy.metadata)
        ]
        return replace(copy, stream=fixed[0], metadata=fixed[1])
    return copy


def _settled(unit: UnitCopy) -> UnitCopy:
    files = tuple(FileCopy(f.name, f.stamp, f.digest) for f in unit.files)
    return replace(unit, files=files, closed=True)
