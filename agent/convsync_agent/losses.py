"""What a worktree took along when it went: a change that was seen there and was not saved in time. Never hidden.

Nothing can bring it back; what is known of it is told, with sizes and times.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convsync_agent.extras import DRAFT
from convsync_agent.model import BOTH, SECOND, Copy, Kind, Root, Unit
from convsync_agent.plan import Keep
from convsync_agent.site import Site, Tree
from convsync_agent.state import Attention

if TYPE_CHECKING:
    from convsync_agent.engine import Engine

Key = tuple[str, int]
MOST_NOTED = 512  # notes, from which on those are looked for whose conversation is gone
FORGET_NS = 600 * SECOND


@dataclass(slots=True)
class Losses:
    """By (root, conversation): the copies that were looked at and not yet recorded, and writes not yet looked at."""

    engine: Engine
    copies: dict[Key, Copy] = field(default_factory=dict)
    written: dict[Key, int] = field(default_factory=dict)
    trim_at: int = MOST_NOTED

    def wrote(self, root: str, conversation: int, file: str) -> None:
        """A write was seen there just now."""
        if file != DRAFT:
            self.written[root, conversation] = time.time_ns()
            self._trim()

    def looked(self, seen: Iterable[tuple[Copy, int]]) -> None:
        """These copies were read."""
        for copy, _ in seen:
            if not copy.root.is_silo:
                key = (copy.root.path, copy.conversation)
                self.written.pop(key, None)
                self.copies[key] = copy
        self._trim()

    def _trim(self) -> None:
        """Forget what went alone, in a worktree that stayed, long before that one may go: nobody can ask for it."""
        if len(self.copies) + len(self.written) <= self.trim_at:
            return
        young = time.time_ns() - FORGET_NS
        trees = {store: tree for site in self.engine.sites.values() for store, tree in site.trees.items()}
        for key in self.copies.keys() | self.written.keys():
            tree, copy = trees.get(key[0]), self.copies.get(key)
            here = tree is not None and bool(tree.view.listing.places(key[1]))
            if not here and max(self.written.get(key, 0), _last_ns(copy)) < young:
                self.copies.pop(key, None)
                self.written.pop(key, None)
        self.trim_at = max(MOST_NOTED, 2 * (len(self.copies) + len(self.written)))

    def recorded(self, copy: Copy) -> None:
        """What this copy holds is in step: nothing of it would be lost."""
        self.copies.pop((copy.root.path, copy.conversation), None)

    def tell(self, site: Site, went: Iterable[Tree]) -> None:
        """An entry for each conversation of these worktrees whose last change is nowhere."""
        now = time.time_ns()
        for tree in went:
            root = tree.root.path
            for key in sorted(k for k in self.copies.keys() | self.written.keys() if k[0] == root):
                detail = self._lost(site, key, now)
                if detail:
                    entry = Attention("lost", site.id, key[1], root, now // 1_000_000, detail, lasting=True)
                    self.engine.ledger.tell(entry)
                self.copies.pop(key, None)
                self.written.pop(key, None)

    def _lost(self, site: Site, key: Key, now: int) -> str:
        """What to say of it, '' when all of it is saved."""
        durable = self._durable(site, key[1])
        copy, at = self.copies.get(key), self.written.get(key)
        if at is not None and (Root(Kind.WORKTREE, key[0]), key[1]) not in self.engine.placed:
            size = f"it had {_size(copy)} bytes before that" if copy else "its size is not known"
            return f"changed {_seconds(now - at)} before the worktree went, not saved; {size}; {_said(durable)}"
        for unit in BOTH:
            if copy is not None and self._unsaved(site, copy, unit, durable):
                state = copy.unit(unit)
                age = f"its {unit} of {state.size} bytes, changed {_seconds(now - state.mtime_ns)} before,"
                return f"{age} was not saved when the worktree went; {_said(durable)}"
        return ""

    def _durable(self, site: Site, conversation: int) -> Copy | None:
        """The durable copy as it is now, which a cycle that was cut short may not have recorded."""
        for place in site.silo.listing.places(conversation):
            with contextlib.suppress(OSError):
                return self.engine.eye.look(site.silo.root, conversation, place, None)[0]
        return None

    def _unsaved(self, site: Site, copy: Copy, unit: Unit, durable: Copy | None) -> bool:
        """Newer than the durable unit, other bytes, and not in the history. An older one lost, and was kept then."""
        state = copy.unit(unit)
        if not state.exists:
            return False
        if durable is not None and (
            durable.unit(unit).digest == state.digest or state.mtime_ns <= durable.unit(unit).mtime_ns
        ):
            return False
        return not self.engine.knower.is_kept(site.id, Keep(copy.conversation, unit, copy, ""))


def _last_ns(copy: Copy | None) -> int:
    """When a file of it was changed last, by a time that no program can set."""
    files = (*copy.stream.files, *copy.metadata.files) if copy is not None else ()
    return max((f.stamp.ctime_ns for f in files if f.stamp), default=0)


def _size(copy: Copy) -> int:
    return copy.stream.size + copy.metadata.size


def _said(durable: Copy | None) -> str:
    if durable is None:
        return "there is no durable copy"
    return f"the durable copy has {_size(durable)} bytes, {durable.stream.size} of them its stream"


def _seconds(ns: int) -> str:
    return f"{max(0, ns) / SECOND:.1f} s"
