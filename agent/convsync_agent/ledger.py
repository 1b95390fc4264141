"""Attention, records and the log, gathered during a cycle and committed in one transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convsync_agent.model import BOTH, Copy, Digest, Root, Unit
from convsync_agent.plan import Action, AddExtras, Import, Keep, Update, size_of, target_of, unit_of
from convsync_agent.records import pack_digest
from convsync_agent.results import Done, Pending
from convsync_agent.state import Attention, State

if TYPE_CHECKING:
    from convsync_agent.outcome import Outcome
    from convsync_agent.site import Site

Key = tuple[str, str, int, str]
Spot = tuple[int, Root, Unit]


@dataclass(frozen=True, slots=True)
class Unwritten:
    """What a cycle left and is not in the state yet: records, those to be dropped, lineage, what was told beside it."""

    records: list[tuple[str, str, int, bytes]] = field(default_factory=list)
    dropped: list[tuple[str, str, int]] = field(default_factory=list)
    lineage: list[tuple[str, int, str, bytes]] = field(default_factory=list)
    told: list[Attention] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.records or self.dropped or self.lineage)


class Ledger:
    """What a person may have to look at, in memory and in `state.db` alike."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.entries: dict[Key, Attention] = {key_of(e): e for e in state.attention()}
        self._rows = Unwritten()
        self.version = 0  # moves whenever `entries` does

    def put_record(self, workspace: str, root: str, conversation: int, raw: bytes) -> None:
        self._rows.records.append((workspace, root, conversation, raw))

    def drop_record(self, workspace: str, root: str, conversation: int) -> None:
        self._rows.dropped.append((workspace, root, conversation))

    def put_lineage(self, workspace: str, conversation: int, copy: Copy) -> None:
        """What a durable copy holds now: when git brings it back later, it is not an edit (design 3)."""
        for unit in BOTH:
            if copy.unit(unit).exists and None not in [f.digest for f in copy.unit(unit).files if f.stamp]:
                self._rows.lineage.append((workspace, conversation, str(unit), pack_digest(copy.unit(unit).digest)))

    def note_durable(self, workspace: str, action: Action) -> None:
        """A content that was durable for a moment belongs to the lineage, too."""
        if isinstance(action, Update) and action.target.root.is_silo:
            self.put_lineage(workspace, action.conversation, action.source)

    def handed_over(self) -> Unwritten:
        """What another ledger is to write."""
        rows, self._rows = self._rows, Unwritten()
        return rows

    def take_over(self, rows: Unwritten) -> None:
        """To be written with the next cycle, and what was told at once."""
        for entry in rows.told:
            self.tell(entry)
        self._rows.records.extend(rows.records)
        self._rows.dropped.extend(rows.dropped)
        self._rows.lineage.extend(rows.lineage)

    def put_pending(self, workspace: str, rows: Sequence[Pending]) -> None:
        """Durable before the first rename it speaks of."""
        with self._state.transaction():
            for row in rows:
                self._state.put_pending(workspace, *row)

    def drop_pending(self, workspace: str, rows: Sequence[Pending]) -> None:
        with self._state.transaction():
            for row in rows:
                self._state.drop_pending(workspace, row.conversation, row.target)

    def open_conversations(self, workspace: str) -> set[int]:
        """Conversations with an entry that ends when the picture does: each full scan looks at them again."""
        return {
            e.conversation
            for e in self.entries.values()
            if e.workspace == workspace and e.conversation and not e.lasting
        }

    def troubled(self, workspace: str) -> bool:
        """Something is wrong that concerns no conversation; it may be over, which only a cycle finds out."""
        return any(e.workspace == workspace and not e.conversation and not e.lasting for e in self.entries.values())

    def write(self, site: Site, outcome: Outcome, now_ms: int) -> None:
        """One transaction for a cycle; none at all when nothing changed (an idle agent writes nothing)."""
        new, gone = self._changes(site, outcome, now_ms)
        stale, fresh = _behind_changes(site, outcome)
        rows = [_log_row(site.id, r, now_ms) for r in outcome.done]
        if not (new or gone or rows or stale or fresh or self._rows):
            return
        with self._state.transaction():
            self._state.drop_records(self._rows.dropped)
            self._state.put_records(self._rows.records)
            self._state.put_lineage(self._rows.lineage)
            self._state.put_behind(site.id, [(*_spot(key), pack_digest(d)) for key, d in stale.items()])
            self._state.drop_behind(site.id, [_spot(key) for key in fresh])
            for entry in new:
                self._state.put_attention(entry)
            for key in gone:
                self._state.drop_attention(*key)
            self._state.log(rows)
            if rows:
                self._state.trim_log()
        self._rows = Unwritten()
        site.behind.update(stale)
        for spot in fresh:
            del site.behind[spot]
        for entry in new:
            self.entries[key_of(entry)] = entry
        for key in gone:
            self.entries.pop(key, None)
        self.version += bool(new or gone)

    def _changes(self, site: Site, outcome: Outcome, now_ms: int) -> tuple[list[Attention], list[Key]]:
        found: dict[Key, Attention] = {}
        for p in outcome.problems:
            entry = Attention(
                p.kind, site.id, p.conversation or 0, p.root.path if p.root else "", now_ms, p.detail, p.lasting
            )
            found.setdefault(key_of(entry), entry)
        for key in list(found):
            old = self.entries.get(key)
            if old is not None:
                found[key] = found[key]._replace(since_ms=old.since_ms)
        new = [e for k, e in found.items() if self.entries.get(k) != e]
        waiting = {d.conversation for d in outcome.deferred}
        gone = [
            k
            for k, e in self.entries.items()
            if e.workspace == site.id
            and not e.lasting
            and k not in found
            and (e.conversation in outcome.looked or not e.conversation)
            and e.conversation not in waiting
            and e.kind != "deaf"
        ]
        return new, gone

    def tell(self, entry: Attention) -> None:
        """An entry that no cycle finds. A state that cannot be written keeps it in memory (R8)."""
        self.entries.setdefault(key_of(entry), entry)
        self.version += 1
        with contextlib.suppress(OSError), self._state.transaction():
            self._state.put_attention(entry)

    def close(self, kind: str, workspace: str, conversation: int) -> int:
        """A person acknowledged it: drop every entry of this kind. Returns how many."""
        keys = [
            k
            for k, e in self.entries.items()
            if (e.kind, e.workspace, e.conversation) == (kind, workspace, conversation)
        ]
        with self._state.transaction():
            for key in keys:
                self._state.drop_attention(*key)
        for key in keys:
            del self.entries[key]
        self.version += bool(keys)
        return len(keys)


def _behind_changes(site: Site, outcome: Outcome) -> tuple[dict[Spot, Digest], list[Spot]]:
    """What git brought back since, and what is no longer behind, of the conversations that were looked at."""
    found = {(b.conversation, b.root, b.unit): b.digest for b in outcome.behind}
    waiting = {d.conversation for d in outcome.deferred}
    stale = {spot: digest for spot, digest in found.items() if site.behind.get(spot) != digest}
    there = {t.root for t in site.watched()}
    fresh = [
        spot
        for spot in site.behind
        if spot[0] in outcome.looked and spot not in found and spot[0] not in waiting and spot[1] in there
    ]
    return stale, fresh


def _spot(spot: Spot) -> tuple[int, str, str]:
    return spot[0], spot[1].path, str(spot[2])


def key_of(entry: Attention) -> Key:
    return (entry.kind, entry.workspace, entry.conversation, entry.root)


def _log_row(workspace: str, done: Done, now_ms: int) -> tuple[int, str, str, int, str, str, str, int]:
    action = done.action
    source = action.stream.root if isinstance(action, Import) else None
    if isinstance(action, Keep | Update | AddExtras):
        source = action.source.root
    name = type(action).__name__.lower()
    return (
        now_ms,
        name,
        workspace,
        action.conversation,
        str(unit_of(action)),
        source.path if source else "",
        target_of(action).path,
        size_of(action),
    )
