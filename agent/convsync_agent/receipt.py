"""What `verify` says: the troubles it found, and the receipt of everything it read."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from convsync_agent.digest import SIZE
from convsync_agent.names import id_text


class Trouble(NamedTuple):
    """One thing that is not as it must be. `worktree` is '' for the silo's own."""

    conversation: int | None
    worktree: str
    kind: str
    detail: str

    def as_json(self) -> dict[str, str | None]:
        conversation = None if self.conversation is None else id_text(self.conversation)
        where = self.worktree or None
        return {"conversation": conversation, "worktree": where, "kind": self.kind, "detail": self.detail}


@dataclass(slots=True)
class Found:
    """What reading one conversation gave."""

    files: int = 0
    bytes: int = 0
    rows: set[tuple[str, str, str]] = field(default_factory=set)
    troubles: list[Trouble] = field(default_factory=list)
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    conversations: int
    files: int
    bytes: int
    digest: str
    at_ms: int
    problems: tuple[Trouble, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def receipt(found: Collection[Found], troubles: Iterable[Trouble], at_ms: int) -> Receipt:
    """What was read in all, under one digest that does not depend on the order or the number of copies."""
    rows = sorted({row for f in found for row in f.rows})
    digest = blake2b(digest_size=SIZE)
    for row in rows:
        digest.update("\0".join(row).encode(errors="surrogateescape") + b"\n")
    return Receipt(
        conversations=sum(1 for f in found if f.files),
        files=sum(f.files for f in found),
        bytes=sum(f.bytes for f in found),
        digest=digest.hexdigest(),
        at_ms=at_ms,
        problems=tuple(sorted(set(troubles), key=lambda t: (t.conversation or 0, t.worktree, t.kind, t.detail))),
    )
