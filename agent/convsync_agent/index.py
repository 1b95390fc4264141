"""What conversations a workspace has, over all its roots: listed and read live, nothing stored, nothing written.

Presence is a matter of directories alone (contract 5.1); title and events come from the newest copy of
their unit, as JP would load them. Only what is shown or sorted by is read, each file at most once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from convsync_agent import flocks, layout, scan
from convsync_agent.errors import StorageProblem, kind_of, reason_of, storage_problem
from convsync_agent.model import Partition, Presence, Root
from convsync_agent.names import created_ms, id_text, lock_name
from convsync_agent.scan import Listing
from convsync_agent.shelf import Shelf, Spot
from convsync_agent.site import Site, Tree, TreeState
from convsync_agent.summary import Metadata, Summary

TITLE_CHARS = 80


class Status(StrEnum):
    ACTIVE = "active"
    IDLE = "idle"
    CLOSED = "closed"


class Sort(StrEnum):
    ACTIVITY = "activity"
    CREATED = "created"
    ID = "id"
    EVENTS = "events"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One conversation, whatever number of roots hold it. `presence` is by path of the registered worktree.

    `behind`: the worktrees where git brought back an older version, by path, as last recorded.
    Live in one root and archived in another counts as live, as JP's loader takes it (contract 5.4).
    """

    id: int
    presence: Mapping[str, Presence]
    partition: Partition
    spots: tuple[Spot, ...] = ()
    workspace: str = ""
    behind: tuple[str, ...] = ()

    @property
    def worktrees(self) -> tuple[str, ...]:
        """The worktrees that hold a copy, by path."""
        return tuple(s.worktree for s in self.spots if s.worktree)

    @property
    def overall(self) -> Presence:
        """Over all worktrees: projected if any has it beside the silo."""
        durable = any(s.root.is_silo for s in self.spots)
        return _presence(durable=durable, here=bool(self.worktrees))


class Label(NamedTuple):
    """A label to look for. `value` None: any."""

    key: str
    value: str | None = None

    def among(self, labels: Mapping[str, tuple[str, ...]]) -> bool:
        return self.key in labels and (self.value is None or self.value in labels[self.key])


@dataclass(frozen=True, slots=True)
class Filter:
    """What to list; every part narrows. `worktree` is the path of a registered one, None means all."""

    worktree: str | None = None
    statuses: frozenset[Status] | None = None
    presences: frozenset[Presence] | None = None
    prefix: str = ""
    archived: bool = False
    behind: bool = False
    labels: tuple[Label, ...] = ()
    sort: Sort = Sort.ACTIVITY
    reverse: bool = False
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """One row: what is shown of a conversation."""

    entry: IndexEntry
    presence: Presence
    status: Status
    title: str
    events: int
    activity_ms: int
    metadata: Metadata

    def as_json(self) -> dict[str, Any]:
        """One element of `ls --json` (cli.md)."""
        return {
            "id": id_text(self.entry.id),
            "createdAt": created_ms(self.entry.id),
            "lastActivityAt": self.activity_ms,
            "title": self.title,
            "status": str(self.status),
            "workspaceId": self.entry.workspace,
            "presence": str(self.presence),
            "worktrees": list(self.entry.worktrees),
            "events": self.events,
            "cwd": None,
            "behind": list(self.entry.behind),
        }


Report = Callable[[str, OSError], None]
"""Told (path, error) of a worktree that could not be listed: its presence is not known then."""


def load_index(site: Site, report: Report | None = None) -> list[IndexEntry]:
    """Every conversation of a workspace once, by id. Raises StorageProblem when the silo cannot be listed."""
    where = site.silo.root.path
    try:
        silo = scan.list_root(where)
    except FileNotFoundError:
        silo = Listing()
    except OSError as error:
        hint = storage_problem(error, where, "list conversations").hint
        text = f"Failed to list conversations: {reason_of(error)}"
        raise StorageProblem(text, where=where, hint=hint, code=kind_of(error)) from None
    site.silo.listing = silo
    listed: dict[str, Tree] = {}
    for store in sorted(site.trees):
        tree = site.trees[store]
        try:
            tree.view.listing = scan.list_root(store) if _holds(site, tree) else Listing()
        except FileNotFoundError:
            tree.view.listing = Listing()
        except OSError as error:
            if report is not None:
                report(tree.worktree.path, error)
            continue
        listed[tree.worktree.path] = tree
    ids = silo.conversations().union(*(t.view.listing.conversations() for t in listed.values()))
    return [_entry(site, listed, conversation) for conversation in sorted(ids)]


def _holds(site: Site, tree: Tree) -> bool:
    """The path is this workspace's worktree now; a paused one is, though nobody watches it."""
    if tree.state is TreeState.PAUSED:
        return tree.identity is not None and layout.read_id(tree.root.path) == site.id
    return tree.state is TreeState.WATCHING


def _entry(site: Site, trees: Mapping[str, Tree], conversation: int) -> IndexEntry:
    found = [Spot(site.silo.root, "", p) for p in site.silo.listing.places(conversation)]
    for path, tree in trees.items():
        found += [Spot(tree.root, path, p) for p in tree.view.listing.places(conversation)]
    archived = all(s.place.archived for s in found)
    spots: dict[Root, Spot] = {}
    for spot in found:
        if spot.place.archived is archived:
            spots.setdefault(spot.root, spot)
    durable = site.silo.root in spots
    presence = {
        p: _presence(durable=durable, here=t.root in spots) for p, t in trees.items() if durable or t.root in spots
    }
    partition = Partition.ARCHIVED if archived else Partition.LIVE
    stale = {root for c, root, _ in site.behind if c == conversation} if site.behind else set()
    behind = tuple(s.worktree for s in spots.values() if s.root in stale)
    return IndexEntry(conversation, presence, partition, tuple(spots.values()), site.id, behind)


def _presence(*, durable: bool, here: bool) -> Presence:
    if durable and here:
        return Presence.PROJECTED
    return Presence.USER_LOCAL_ONLY if durable else Presence.WORKSPACE_ONLY


def find_worktree(sites: Iterable[Site], path: str) -> tuple[Site, Tree] | None:
    """The registered worktree at or above `path`, also when nothing is there any more."""
    at = os.path.realpath(path)
    found = [
        (site, tree)
        for site in sites
        for tree in site.trees.values()
        if at == tree.worktree.path or at.startswith(tree.worktree.path.rstrip("/") + "/")
    ]
    return max(found, key=lambda pair: len(pair[1].worktree.path), default=None)


# -- rows -----------------------------------------------------------------------


def list_conversations(
    sites: Iterable[Site], wanted: Filter | None = None, report: Report | None = None
) -> list[Conversation]:
    """The rows of `ls`: sorted, ties in the order of ids. Raises StorageProblem when a silo cannot be listed."""
    wanted = wanted or Filter()
    entries: list[tuple[IndexEntry, Presence, Status]] = []
    for site in sites:
        if wanted.worktree is None or any(t.worktree.path == wanted.worktree for t in site.trees.values()):
            busy = flocks.all_busy(site.silo.root.path)
            entries += [(e, *facts) for e in load_index(site, report) if (facts := _selected(e, wanted, busy))]
    with Shelf() as shelf:
        known: dict[int, Metadata] = {}
        if wanted.labels:
            known = {id(e): shelf.metadata(_scoped(e, wanted.worktree)) for e, _, _ in entries}
            entries = [r for r in entries if all(one.among(known[id(r[0])].labels) for one in wanted.labels)]
        seen = {id(e): shelf.summary(_scoped(e, wanted.worktree)) for e, _, _ in entries} if _reads(wanted) else {}
        entries.sort(key=lambda row: _rank(row[0], seen.get(id(row[0])), wanted.sort), reverse=_downwards(wanted))
        chosen = entries if wanted.limit is None else entries[: wanted.limit]
        return [
            _row(shelf, e, (p, s), _scoped(e, wanted.worktree), seen.get(id(e)), known.get(id(e))) for e, p, s in chosen
        ]


def describe(site: Site, entry: IndexEntry) -> Conversation:
    """One conversation as `ls` shows it, whatever its status."""
    busy = flocks.all_busy(site.silo.root.path)
    with Shelf() as shelf:
        return _row(shelf, entry, (entry.overall, _status(entry, busy)), entry.spots)


def _selected(entry: IndexEntry, wanted: Filter, busy: frozenset[str]) -> tuple[Presence, Status] | None:
    """Presence and status of an entry that passes every filter; nothing is read for it."""
    presence = entry.overall if wanted.worktree is None else entry.presence.get(wanted.worktree)
    status = _status(entry, busy)
    if presence is None or (wanted.archived and entry.partition is not Partition.ARCHIVED):
        return None
    if wanted.statuses is not None and status not in wanted.statuses:
        return None
    if wanted.presences is not None and presence not in wanted.presences:
        return None
    if wanted.behind and not (wanted.worktree in entry.behind if wanted.worktree else entry.behind):
        return None
    prefix = wanted.prefix.strip()
    return (presence, status) if id_text(entry.id).startswith(prefix) or str(entry.id).startswith(prefix) else None


def _status(entry: IndexEntry, busy: frozenset[str]) -> Status:
    if entry.partition is Partition.ARCHIVED:
        return Status.CLOSED
    return Status.ACTIVE if lock_name(entry.id) in busy else Status.IDLE


def _scoped(entry: IndexEntry, worktree: str | None) -> tuple[Spot, ...]:
    """The copies that count for what is shown: all, or what JP in that worktree would see."""
    return tuple(s for s in entry.spots if worktree is None or s.worktree in ("", worktree))


def _reads(wanted: Filter) -> bool:
    return wanted.limit is None or wanted.sort in (Sort.ACTIVITY, Sort.EVENTS)


def _rank(entry: IndexEntry, summary: Summary | None, sort: Sort) -> int:
    if sort is Sort.EVENTS:
        return summary.events if summary else 0
    return _activity(entry, summary) if sort is Sort.ACTIVITY and summary else entry.id


def _downwards(wanted: Filter) -> bool:
    """Times and counts start with the greatest, ids with the smallest."""
    return (wanted.sort is not Sort.ID) is not wanted.reverse


def _activity(entry: IndexEntry, summary: Summary) -> int:
    known = summary.last_activity_ms
    return created_ms(entry.id) if known is None else known


def _row(
    shelf: Shelf,
    entry: IndexEntry,
    facts: tuple[Presence, Status],
    spots: Sequence[Spot],
    summary: Summary | None = None,
    metadata: Metadata | None = None,
) -> Conversation:
    summary = summary or shelf.summary(spots)
    metadata = metadata or shelf.metadata(spots)
    title = metadata.title if metadata.title is not None else (shelf.first_request(spots) or "")[:TITLE_CHARS]
    return Conversation(entry, *facts, title, summary.events, _activity(entry, summary), metadata)


def said(path: str, error: OSError) -> str:
    """One line about a root that could not be listed."""
    return f"{path} cannot be listed ({kind_of(error)}: {reason_of(error)}); what it holds is not shown"
