"""Clearing the history: versions by the rules of retention, then what no manifest needs, and what crashes left.

Who removes an object puts it aside first and looks at the manifests again (see `history`).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

from convsync_agent import rules
from convsync_agent.kept import MANIFEST, Listing, Manifest, Pruned
from convsync_agent.objects import OBJECTS, TEMP, discard, is_stored, names_in, object_path, size_of, sync_dir, unlink

_ASIDE = ".out-"
_OBJECT = re.compile(r"[0-9a-f]{32}\.gz")


class Shelf(NamedTuple):
    """One conversation's place, and what lies there now."""

    place: str
    look: Callable[[], Listing]


def prune(
    shelves: Iterable[Shelf],
    now_ms: int,
    *,
    keep_days: int,
    keep_versions: int,
    max_bytes: int,
    protected: Callable[[Manifest], bool],
) -> Pruned:
    """Apply the rules; then drop what no manifest needs any more. What has lost content neither counts nor goes."""
    found: dict[rules.Version, Shelf] = {}
    for shelf in shelves:
        place = shelf.place
        counted: set[str] = set()  # the oldest go first, so an object counts for the newest that needs it
        for m in shelf.look().versions:
            digests = {f.digest for f in m.files} - counted
            counted |= digests
            size = sum(size_of(object_path(place, d)) for d in digests)
            size += size_of(os.path.join(place, m.version, MANIFEST))
            found[rules.Version(place, m.unit, m.version, m.seen_ms, size, protected(m))] = shelf
    going = rules.to_remove(found, now_ms, keep_days=keep_days, keep_versions=keep_versions, max_bytes=max_bytes)
    freed = sum(discard(os.path.join(v.conversation, v.version)) for v in going)
    for shelf in {v.conversation: found[v] for v in going}.values():
        sync_dir(shelf.place)  # no power failure brings back a manifest without objects
        freed += _collect(shelf)[1]
    return Pruned(len(going), freed)


def stored(shelves: Iterable[Shelf]) -> list[str]:
    """The objects that nobody has compressed yet."""
    folders = [os.path.join(s.place, OBJECTS) for s in shelves]
    return [p for f in folders for n in names_in(f) if _OBJECT.fullmatch(n) and is_stored(p := os.path.join(f, n))]


def sweep(base: str, shelves: Iterable[Shelf]) -> int:
    """Clear what a crash left. Returns how many names went.

    RACE: a `keep` at this moment in another process may lose its unfinished file. Worst case: it raises
    FileNotFoundError and is done again; it never returns without its content being there.
    """
    cleared = 0
    for shelf in shelves:
        for name in names_in(shelf.place):
            if name.startswith(TEMP):
                discard(os.path.join(shelf.place, name))
                cleared += 1
        cleared += _collect(shelf, unfinished=True)[0]
    for name in names_in(base):
        if name.startswith(TEMP):
            cleared += bool(unlink(os.path.join(base, name)))
    return cleared


def _collect(shelf: Shelf, *, unfinished: bool = False) -> tuple[int, int]:
    """Remove objects that no manifest needs: (how many, bytes). None while a manifest cannot be read."""
    objects = os.path.join(shelf.place, OBJECTS)
    refs = shelf.look().refs
    gone = freed = 0
    aside: list[str] = []
    for name in names_in(objects):
        if name.startswith(TEMP) and unfinished:
            freed += unlink(os.path.join(objects, name))
            gone += 1
        elif name.startswith(_ASIDE):
            aside.append(name.removeprefix(_ASIDE))
        elif _OBJECT.fullmatch(name) and refs is not None and name.removesuffix(".gz") not in refs:
            with contextlib.suppress(FileNotFoundError):
                os.rename(os.path.join(objects, name), os.path.join(objects, _ASIDE + name))
                aside.append(name)
    refs = shelf.look().refs if aside else refs
    for name in aside:
        path = os.path.join(objects, _ASIDE + name)
        if refs is not None and name.removesuffix(".gz") not in refs:
            freed += unlink(path)
            gone += 1
        else:
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, os.path.join(objects, name))
                sync_dir(objects)
    return gone, freed
