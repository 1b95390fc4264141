"""A tiny notation for pictures of one conversation, so that a rule of the reconciler is one row of a table.

A unit is written `CONTENT@AGE` with flags behind: `ab@10` is content "ab" with mtime 10 s. Content "abc"
contains "ab" (it starts with it), as an appended stream contains the shorter one. Flags:
`!` invalid   `~` written this moment   `^` unfit but young   `?` unreadable   `*` packed (no base config)
`-` alone: the unit is absent. A copy is `STREAM METADATA [name] [archived]`.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace

from convsync_agent.model import (
    BASE_CONFIG,
    EVENTS,
    METADATA,
    SECOND,
    Agreed,
    Base,
    Copy,
    Digest,
    Evidence,
    FileCopy,
    Grade,
    Kind,
    Partition,
    Policy,
    Root,
    Snapshot,
    Stamp,
    Unit,
    UnitCopy,
    Verdict,
)
from convsync_agent.plan import AddExtras, Import, Keep, Move, Plan, Rename, Update

S = Root(Kind.SILO, "/silo")
W = Root(Kind.WORKTREE, "/w/.jp")
X = Root(Kind.WORKTREE, "/x/.jp")
NAMES = {S: "S", W: "W", X: "X"}
ID = 17_000_000_001
NOW = 1_000_000 * SECOND
_inodes = itertools.count(100)


def digest_of(content: str) -> bytes:
    return hashlib.blake2b(content.encode(), digest_size=16).digest()


def stamp(age: int) -> Stamp:
    return Stamp(age * SECOND, 1, next(_inodes), age * SECOND)


def unit(text: str, kind: Unit) -> UnitCopy:
    """One unit from its notation."""
    names = (BASE_CONFIG, EVENTS) if kind is Unit.STREAM else (METADATA,)
    if text == "-":
        return UnitCopy(tuple(FileCopy(n) for n in names), Grade.INCOMPLETE, fault=f"no {names[-1]}")
    content, _, rest = text.partition("@")
    flags = rest.lstrip("0123456789")
    age = int(rest[: len(rest) - len(flags)])
    grade = Grade.UNREADABLE if "?" in flags else Grade.INVALID if "!" in flags else Grade.VALID
    quiet_ns = 0 if "~" in flags else SECOND if "^" in flags else 3600 * SECOND
    last = FileCopy(names[-1], stamp(age), digest_of(content))
    files = (last,)
    if kind is Unit.STREAM:
        base = FileCopy(BASE_CONFIG) if "*" in flags else FileCopy(BASE_CONFIG, stamp(1), digest_of("base"))
        files = (base, last)
    fault = {Grade.INVALID: "broken", Grade.UNREADABLE: "denied: Permission denied"}.get(grade, "")
    return UnitCopy(files, grade, quiet_ns, fault=fault)


def copy(root: Root, text: str) -> Copy:
    """One copy from its notation."""
    stream, metadata, *rest = text.split()
    archived = "archived" in rest
    name = next((f"{ID}-{r}" for r in rest if r != "archived"), f"{ID}-t")
    part = Partition.ARCHIVED if archived else Partition.LIVE
    one, two = unit(stream, Unit.STREAM), unit(metadata, Unit.METADATA)
    if not two.exists and one.grade is Grade.VALID:
        one = replace(one, grade=Grade.INCOMPLETE)
    return Copy(root, ID, name, part, next(_inodes), one, two)


def snapshots(
    silo: str = "", w: str = "", x: str = "", *, now: int = NOW, no_refresh: tuple[Root, ...] = ()
) -> list[Snapshot]:
    """The silo and two worktrees; an empty text means: no copy there. `|` separates two directories."""
    found = []
    for root, text in ((S, silo), (W, w), (X, x)):
        copies = tuple(copy(root, t) for t in text.split("|") if t.strip())
        found.append(Snapshot(root, now, {ID: copies} if copies else {}, refresh=root not in no_refresh))
    return found


def base(shots: list[Snapshot], agreed: dict[Root, str] | None = None, **facts: object) -> Base:
    """What was settled before, by root (`STREAM METADATA` contents, no ages), and all containment there is."""
    known = {}
    for root, text in (agreed or {}).items():
        stream, metadata = text.split()
        packed = stream.endswith("*")
        first = None if packed else digest_of("base")
        known[ID, root] = Agreed((first, digest_of(stream.rstrip("*"))), (digest_of(metadata),), Partition.LIVE, 0)
    return Base(known, containment(shots), **facts)  # type: ignore[arg-type]


def git_says(**said: str) -> dict[tuple[int, Root, Unit], Evidence]:
    """What git says of the stream in some worktrees: `W="wrote"`."""
    roots = {name: root for root, name in NAMES.items()}
    return {(ID, roots[n], Unit.STREAM): Evidence(Verdict(v), again_ns=7) for n, v in said.items()}


def stream_digest(content: str) -> Digest:
    return (digest_of("base"), digest_of(content))


_WORDS = [a + b + c for a in ("", *"abcdmnp") for b in ("", *"abcdmnp") for c in ("", *"abcdmnp")]
_BY_DIGEST = {digest_of(w): w for w in _WORDS if w}


def containment(shots: list[Snapshot]) -> frozenset[tuple[Unit, Digest, Digest]]:
    found = set()
    copies = [c for s in shots for group in s.copies.values() for c in group]
    for kind in (Unit.STREAM, Unit.METADATA):
        units = [c.unit(kind) for c in copies if c.unit(kind).exists and c.unit(kind).grade is not Grade.UNREADABLE]
        for outer, inner in itertools.permutations(units, 2):
            one, two = _BY_DIGEST[outer.digest[-1] or b""], _BY_DIGEST[inner.digest[-1] or b""]
            if outer.digest != inner.digest and one.startswith(two) and outer.digest[:-1] == inner.digest[:-1]:
                found.add((kind, inner.digest, outer.digest))
    return frozenset(found)


def said(plan: Plan) -> list[str]:
    """A plan in words: `update stream W>S keep`."""
    words = [_action(a) for a in plan.actions]
    words += [f"defer {d.reason}" for d in plan.deferred]
    return words + sorted({f"{p.kind} {NAMES[p.root] if p.root else '-'}" for p in plan.problems})


def _action(action: object) -> str:
    if isinstance(action, Import):
        parts = {NAMES[action.stream.root], NAMES[action.metadata.root]}
        return f"import {'+'.join(sorted(parts))}>S"
    if isinstance(action, Update):
        flags = (" keep" if action.keep else "") + (" conflict" if action.why == "conflict" else "")
        flags += " younger" if action.younger else ""
        return f"update {action.unit} {NAMES[action.source.root]}>{NAMES[action.target.root]}{flags}"
    if isinstance(action, Keep):
        return f"keep {action.unit} {NAMES[action.source.root]}"
    if isinstance(action, Rename):
        return f"rename {NAMES[action.target.root]}"
    if isinstance(action, Move):
        return f"{'archive' if action.partition is Partition.ARCHIVED else 'unarchive'} {NAMES[action.target.root]}"
    assert isinstance(action, AddExtras)
    return f"extras {NAMES[action.source.root]}>S"


__all__ = ["ID", "NOW", "Policy", "S", "W", "X", "base", "copy", "said", "snapshots"]
