"""What a watcher says: "look there again". Vocabulary and meaning only; nothing is watched here.

A hint is never the truth. It may come twice, late, for a change that is already gone, or not at all
after `LOST`; the disk decides (R6). Hints carry directory names, which are chat text: never log one (R9).

How a watcher is used: `arm` every root, *then* scan. Answer `ROOT` with `arm` of that root and a scan
of it, `LOST` with `arm` of every root and a scan of all. `arm` again is cheap and forgets what is stale.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

CONVERSATIONS, ARCHIVE, LOCKS, ID = "conversations", ".archive", "locks", ".id"


class Change(StrEnum):
    """What may have happened."""

    WRITTEN = "written"  # a write is complete: a written file was closed, or one was moved in
    TOUCHED = "touched"  # created or modified, and it may still be open
    GONE = "gone"  # a file was deleted or moved away
    LISTING = "listing"  # an entry of `conversations/` or `.archive/` came, went or was renamed
    ROOT = "root"  # the root, its identity, `.id` or what is above it: arm again and rescan
    LOCKS = "locks"  # a file in the silo's `locks/` went away
    SIGNAL = "signal"  # a file appeared in the signal directory
    LOST = "lost"  # events were lost: arm everything again and rescan everything
    DEAF = "deaf"  # something cannot be watched


class Hint(NamedTuple):
    """Where to look again.

    `root` is the path as it was armed, empty for what concerns all; `conversation_dir` the name of a
    directory in `conversations/` or `.archive/`, empty for none; `file` the entry concerned, empty for
    none or unknown. `detail` is `.archive` with a `LISTING` of that partition, and the name of the errno
    with `DEAF` (or of the exception, when it was not an OS error).
    """

    change: Change
    root: str = ""
    conversation_dir: str = ""
    file: str = ""
    detail: str = ""


class ArmResult(NamedTuple):
    """`watches`: directories now watched for this path. `failed`: errno names of what could not be."""

    watches: int
    failed: tuple[str, ...] = ()


class Watcher(Protocol):
    """Puts a `Hint` for every change of what it was told to watch; made with `put`, which must not block.

    `hears_closing`: a file that was open for writing and is closed is a `SIGNAL`, also when nothing was written.
    """

    hears_closing: bool

    def arm(self, root: str, *, silo: bool, rooms: frozenset[str] | None = None) -> ArmResult:
        """Watch a root, or what exists above it, from now on; again: as it is now.

        `rooms`: where each conversation takes a watch, those by directory name, and no others. None: all. What could
        not be watched is in the result and no hint of it follows.
        """

    def disarm(self, root: str) -> None:
        """Stop watching this path; no hint for it follows."""

    def watch_signals(self, path: str) -> ArmResult:
        """Watch a directory for `SIGNAL`."""

    def watch_parent(self, path: str) -> ArmResult:
        """Watch a directory in which roots come and go: a `ROOT` hint without root, `file` the entry."""

    def healthy(self) -> bool:
        """The threads that bring hints are alive."""

    @property
    def watches(self) -> int:
        """How many watches are held."""

    @property
    def overflows(self) -> int:
        """How often events were lost."""

    def close(self) -> None:
        """Stop everything and give back what the system lent."""


class Watched(StrEnum):
    """What a watched directory is to us."""

    ROOT = "root"  # a worktree's `.jp`
    SILO = "silo"  # the same in the silo, where `locks/` counts too
    CONVERSATIONS = "conversations"
    ARCHIVE = "archive"
    ROOM = "room"  # the directory of one live conversation
    LOCKS = "locks"
    ABOVE = "above"  # an ancestor of a root; only the entry on the way to it is asked about
    NURSERY = "nursery"  # a directory in which roots come and go
    SIGNALS = "signals"


class Verb(StrEnum):
    """What was done to an entry of a watched directory."""

    CREATED = "created"
    MODIFIED = "modified"
    WRITTEN = "written"  # closed after writing
    ARRIVED = "arrived"  # moved in
    LEFT = "left"  # deleted or moved out


_LISTED = frozenset({Verb.CREATED, Verb.ARRIVED, Verb.LEFT})
_IN_ROOM = {
    Verb.CREATED: Change.TOUCHED,
    Verb.MODIFIED: Change.TOUCHED,
    Verb.WRITTEN: Change.WRITTEN,
    Verb.ARRIVED: Change.WRITTEN,
    Verb.LEFT: Change.GONE,
}
_LISTS = {
    Watched.CONVERSATIONS: Change.LISTING,
    Watched.ARCHIVE: Change.LISTING,
    Watched.ABOVE: Change.ROOT,
    Watched.NURSERY: Change.ROOT,
}
_CHILDREN = {
    Watched.ROOT: frozenset({CONVERSATIONS}),
    Watched.SILO: frozenset({CONVERSATIONS, LOCKS}),
    Watched.CONVERSATIONS: frozenset({ARCHIVE}),
}


def is_room(name: str) -> bool:
    """An entry of `conversations/` with this name counts: staging, trash and our own names start with a dot."""
    return not name.startswith(".")


def meaning(place: Watched, verb: Verb, name: str) -> Change | None:
    """What `verb` on the entry `name` of such a directory means; None: nothing to us."""
    if name in _CHILDREN.get(place, ()):
        return Change.ROOT if verb in _LISTED else None
    if place in (Watched.ROOT, Watched.SILO):
        return Change.ROOT if name == ID else None
    if place is Watched.ABOVE:  # the way to a root may lead through a dot directory, and mostly does
        return _LISTS[place] if verb in _LISTED else None
    if name.startswith("."):
        return None
    if place in _LISTS:
        return _LISTS[place] if verb in _LISTED else None
    if place is Watched.LOCKS:
        return Change.LOCKS if verb is Verb.LEFT else None
    if name.endswith(".tmp"):  # JP's half of a write; the rename that ends it is what counts
        return None
    if place is Watched.SIGNALS:
        return None if verb is Verb.LEFT else Change.SIGNAL
    return _IN_ROOM[verb]


def hint_of(place: Watched, verb: Verb, root: str, name: str, room: str = "") -> Hint | None:
    """The hint for `verb` on the entry `name` of a directory; `room` is its conversation, if it is one's."""
    change = meaning(place, verb, name)
    if change is None:
        return None
    if change is Change.LISTING:
        return Hint(change, root, name, "", ARCHIVE if place is Watched.ARCHIVE else "")
    return Hint(change, root, room, "" if place is Watched.ABOVE else name)


def gone(place: Watched, root: str) -> Hint:
    """The hint for a watched directory that itself went or became another one."""
    return Hint(Change.DEAF, detail="ENOENT") if place is Watched.SIGNALS else Hint(Change.ROOT, root)


def locate(parts: Sequence[str], *, silo: bool) -> tuple[Watched, str, str] | None:
    """For watchers that see a whole tree: (directory, conversation, entry) of a path below a root."""
    match tuple(parts):
        case (name,):
            return (Watched.SILO if silo else Watched.ROOT), "", name
        case ("conversations", name):
            return Watched.CONVERSATIONS, "", name
        case ("conversations", ".archive", name):
            return Watched.ARCHIVE, "", name
        case ("conversations", room, name, *_) if is_room(room):
            return Watched.ROOM, room, name
        case ("locks", name) if silo:
            return Watched.LOCKS, "", name
    return None
