"""What convsync itself keeps on this machine, and taking that away for good. Never a conversation.

Only what is ours by its name goes: the directories may be ones that a person chose, with other things in them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from convsync_agent import keepsake, locks, plot, scratch
from convsync_agent.dirs import ensure_private
from convsync_agent.errors import Refused, StorageProblem, kind_of, reason_of
from convsync_agent.history import History
from convsync_agent.shelter import Shelter

LOCK = "agent.lock"
_STATE = ("state.db", "state.db-wal", "state.db-shm", "runtime.json", "runtime.json.new", "run", LOCK)
_DATA = ("history", plot.TRASH)
_DATA_PREFIXES = (scratch.PREFIX, "restoring-")


class Place(NamedTuple):
    """One directory or file of ours. `paths`: what goes of it; `bytes`: how much that is."""

    what: str
    path: str
    paths: tuple[str, ...]
    bytes: int


@dataclass(frozen=True, slots=True)
class Belongings:
    """All of it. `versions`: kept versions; `copies`: kept copies; `removed`: those of conversations that are gone;
    `edits`: edits that were never finished; `folders`: what goes with it if nothing else is in there.
    """

    places: tuple[Place, ...]
    versions: int
    copies: int
    removed: int
    edits: int
    folders: tuple[str, ...]

    @property
    def bytes(self) -> int:
        return sum(p.bytes for p in self.places)


def look(state_dir: str, data_dir: str, runtime_dir: str, config: str, logs: Sequence[str] = ()) -> Belongings:
    """What there is. Changes nothing."""
    state, data = _named(state_dir, _STATE), _named(data_dir, _DATA, _DATA_PREFIXES)
    outside = os.path.dirname(runtime_dir) != state_dir
    places = [
        _place("state", state_dir, state),
        _place("history and trash", data_dir, data),
        _place("settings", config, [config] if os.path.lexists(config) else []),
        _place("questions to the agent", runtime_dir, [runtime_dir] if outside and os.path.isdir(runtime_dir) else []),
        *(_place("log", path, [path]) for path in logs if os.path.lexists(path)),
    ]
    history, shelter = History(data_dir), Shelter(data_dir)
    spaces = _subdirectories(history.base)
    gone, _ = shelter.ls()
    return Belongings(
        places=tuple(p for p in places if p.paths),
        versions=sum(len(history.versions(w, c)) for w in spaces for c in history.conversations(w)),
        copies=sum(1 for p in plot.plots(data_dir) if keepsake.stamp_at(p) is not None),
        removed=len(gone),
        edits=sum(1 for p in data if os.path.basename(p).startswith(scratch.PREFIX)),
        folders=(state_dir, data_dir, *(os.path.dirname(p) for p in (config, *logs))),
    )


def purge(found: Belongings, state_dir: str) -> None:
    """Delete it for good. Raises Refused while an agent runs, StorageProblem for what cannot be deleted.

    The lock of the agent is held meanwhile, so that none starts on what is half gone.
    """
    ensure_private(state_dir)
    lock = os.path.join(state_dir, LOCK)
    with locks.single_agent(lock):
        for place in found.places:
            for path in place.paths:
                if path != lock:
                    _remove(path)
        # RACE: an agent that opened the lock file just now may get the lock of a file without a name when we let go,
        # and a second agent that of a new file. Worst case two agents; JP's locks make them safe beside each other.
        _remove(lock)
    for folder in found.folders:
        with contextlib.suppress(OSError):  # not empty: something of somebody else's is in it
            os.rmdir(folder)


def require_no_edit(data_dir: str) -> None:
    """Raises Refused while an editor has a conversation open: what is typed there is not saved yet."""
    there = _named(data_dir, (), (scratch.PREFIX,))
    if not there:
        return
    with scratch.abandoned(data_dir) as left:
        closed = {one.top for one in left}
    if [p for p in there if p not in closed]:
        raise Refused("a conversation is being edited", hint="finish the edit, then: convsync uninstall --purge")


def _named(folder: str, names: Sequence[str], prefixes: tuple[str, ...] = ()) -> list[str]:
    try:
        there = sorted(os.listdir(folder))
    except OSError:
        return []
    return [os.path.join(folder, n) for n in there if n in names or (prefixes and n.startswith(prefixes))]


def _subdirectories(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False) and not e.name.startswith("."))
    except OSError:
        return []


def _place(what: str, path: str, paths: list[str]) -> Place:
    return Place(what, path, tuple(paths), sum(_size(f) for p in paths for f in _files(p)))


def _files(path: str) -> Iterator[str]:
    """Itself, or every file below; no link is followed."""
    if os.path.islink(path) or not os.path.isdir(path):
        yield path
        return
    for top, _, names in os.walk(path):
        yield from (os.path.join(top, name) for name in names)


def _size(path: str) -> int:
    try:
        seen = os.lstat(path)
    except OSError:
        return 0
    return seen.st_size if stat.S_ISREG(seen.st_mode) else 0


def _remove(path: str) -> None:
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageProblem(
            f"cannot delete it: {reason_of(error)}", where=path, hint="check owner and permissions, then again",
            code=kind_of(error),
        ) from error  # fmt: skip
