"""A root on disk -> names by conversation id, and which of them are not as recorded. Stats only.

EACCES, EIO and ENOTCONN mean *unreadable*, never *absent* (contract 2.6): they raise here and become a
state of the snapshot. What JP would not list is skipped as JP skips it (contract 3.4).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from convsync_agent import fs
from convsync_agent.fs import ARCHIVE, CONVERSATIONS
from convsync_agent.model import MANAGED, Root
from convsync_agent.names import lookalike_id, parse_dirname
from convsync_agent.records import ABSENT, dir_mtime_of, flat_signature, settled


class Place(NamedTuple):
    """Where one copy lies within a root."""

    name: str
    archived: bool


@dataclass(slots=True)
class Listing:
    """Directory names of one root by conversation id. `doubled`: ids that several directories claim."""

    live: dict[int, str] = field(default_factory=dict)
    archived: dict[int, str] = field(default_factory=dict)
    doubled: dict[int, tuple[Place, ...]] = field(default_factory=dict)
    odd: dict[int, str] = field(default_factory=dict)

    def places(self, conversation: int) -> tuple[Place, ...]:
        if conversation in self.doubled:
            return self.doubled[conversation]
        found = []
        if conversation in self.live:
            found.append(Place(self.live[conversation], archived=False))
        if conversation in self.archived:
            found.append(Place(self.archived[conversation], archived=True))
        return tuple(found)

    def put(self, conversation: int, places: tuple[Place, ...]) -> None:
        """Replace what is known of one conversation."""
        for table in (self.live, self.archived, self.doubled):
            table.pop(conversation, None)
        live = [p for p in places if not p.archived]
        archived = [p for p in places if p.archived]
        if len(live) > 1 or len(archived) > 1 or (live and archived):
            self.doubled[conversation] = places
        if live:
            self.live[conversation] = live[0].name
        if archived:
            self.archived[conversation] = archived[0].name

    def __contains__(self, conversation: int) -> bool:
        return conversation in self.live or conversation in self.archived

    def conversations(self) -> set[int]:
        return self.live.keys() | self.archived.keys()


def list_root(path: str) -> Listing:
    """One listing of each partition. A root without `conversations/` is an empty one. Raises OSError."""
    listing = Listing()
    more: dict[int, list[Place]] = {}
    with fs.opened_dir(path) as root_fd:
        try:
            live_context = fs.opened_dir(CONVERSATIONS, dir_fd=root_fd)
            live_fd = live_context.__enter__()
        except FileNotFoundError:
            return listing
        try:
            _list_partition(live_fd, listing, more, archived=False)
            _list_archive(live_fd, listing, more)
        finally:
            live_context.__exit__(None, None, None)
    for conversation in more.keys() | (listing.live.keys() & listing.archived.keys()):
        listing.put(conversation, tuple(sorted((*listing.places(conversation), *more.get(conversation, ())))))
    return listing


def _list_archive(live_fd: int, listing: Listing, more: dict[int, list[Place]]) -> None:
    try:
        with fs.opened_dir(ARCHIVE, dir_fd=live_fd) as archive_fd:
            _list_partition(archive_fd, listing, more, archived=True)
    except (FileNotFoundError, NotADirectoryError):
        return


def _list_partition(fd: int, listing: Listing, more: dict[int, list[Place]], *, archived: bool) -> None:
    """Note every directory in its table; `more`: those of an id that this table has already."""
    table, odd = listing.archived if archived else listing.live, listing.odd
    with os.scandir(fd) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            conversation = parse_dirname(name)
            if conversation is None:
                _note_lookalike(entry, odd)
            elif entry.is_dir(follow_symlinks=False):
                if table.setdefault(conversation, name) is not name:
                    more.setdefault(conversation, []).append(Place(name, archived))
            else:
                what = "a symlink" if entry.is_symlink() else "a file"
                odd[conversation] = f"{what} stands where JP looks for this conversation's directory"


def _note_lookalike(entry: os.DirEntry[str], odd: dict[int, str]) -> None:
    conversation = lookalike_id(entry.name)
    if conversation is not None and entry.is_dir(follow_symlinks=False):
        odd.setdefault(conversation, "a directory name that JP lists but never finds again (sign or leading zeros)")


def find_places(
    path: str, conversation: int, hinted: tuple[str, ...], known: tuple[Place, ...]
) -> tuple[Place, ...] | None:
    """The places of one conversation, checked by stat only. None: a known one is gone, list the root.

    `hinted` are live directory names that events mentioned. Raises OSError when the root can not be read.
    """
    found = set()
    with fs.opened_dir(path) as root_fd:
        for place in {*known, *(Place(n, archived=False) for n in hinted if parse_dirname(n) == conversation)}:
            prefix = f"{CONVERSATIONS}/{ARCHIVE}" if place.archived else CONVERSATIONS
            try:
                mode = os.stat(f"{prefix}/{place.name}", dir_fd=root_fd, follow_symlinks=False).st_mode
            except (FileNotFoundError, NotADirectoryError):
                if place in known:
                    return None
                continue
            if stat.S_ISDIR(mode):
                found.add(place)
    return tuple(sorted(found))


class Missed(NamedTuple):
    """A recorded conversation that a readable root does not list any more, wall clock ns.

    `first_ns`: when the first listing without it ended; `looked_ns`: when the latest one began; `seen_ns`: when the
    last one before them began.
    """

    first_ns: int
    looked_ns: int
    seen_ns: int = 0


@dataclass(slots=True)
class View:
    """What is remembered of one root: its listing, a packed record per conversation, and which are missing."""

    root: Root
    listing: Listing = field(default_factory=Listing)
    records: dict[int, bytes] = field(default_factory=dict)
    missed: dict[int, Missed] = field(default_factory=dict)
    listed_ns: int = 0  # when the last listing began


def note_missing(view: View, began_ns: int, ended_ns: int) -> None:
    """Note which recorded conversations the fresh listing of a readable root does not have, and since when."""
    there = view.listing.conversations()
    for conversation in [c for c in view.missed if c in there or c not in view.records]:
        del view.missed[conversation]
    for conversation in view.records.keys() - there:
        known = view.missed.get(conversation)
        fresh = Missed(ended_ns, ended_ns, view.listed_ns)
        view.missed[conversation] = known._replace(looked_ns=began_ns) if known else fresh
    view.listed_ns = began_ns


def sweep(view: View, listing: Listing, *, strict: bool = True) -> Iterator[int]:
    """The conversations of `listing` whose stamps are not as recorded, and recorded ones that are gone.

    `strict` also names those whose recorded stamps prove nothing yet (racy), to be read once more.
    """
    records = view.records
    yield from (c for c in records if c not in listing.live and c not in listing.archived)
    yield from listing.doubled
    with fs.opened_dir(view.root.path) as root_fd:
        for table, archived in ((listing.live, False), (listing.archived, True)):
            if not table:
                continue
            prefix = f"{CONVERSATIONS}/{ARCHIVE}" if archived else CONVERSATIONS
            with fs.opened_dir(prefix, dir_fd=root_fd) as fd:
                for conversation, name in table.items():
                    record = records.get(conversation)
                    vague = record is None or (strict and not settled(record))
                    if vague or record is None or not unchanged(record, name, fd, archived=archived):
                        yield conversation


def unchanged(record: bytes, name: str, dir_fd: int, *, archived: bool) -> bool:
    """Every stamp of one copy is the recorded one: four stats, no listing, no content.

    Written out, not composed: a full scan comes here 20,000 times.
    """
    numbers: list[int] = []
    try:
        found = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        if dir_mtime_of(record) != found.st_mtime_ns:
            return False
        for file in MANAGED:
            try:
                s = os.stat(f"{name}/{file}", dir_fd=dir_fd, follow_symlinks=False)
            except FileNotFoundError:
                numbers += ABSENT
            else:
                numbers += (s.st_mtime_ns, s.st_size, s.st_ino, s.st_ctime_ns)
    except OSError:
        return False
    return record.startswith(flat_signature(name, numbers, archived=archived, inode=found.st_ino))
