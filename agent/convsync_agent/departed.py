"""Conversations that our trash knows and that are gone: which, and what a list shows of them. Read-only.

Gone is what the silo lists in neither partition. Where that cannot be asked (the workspace is not registered,
its silo is not mounted) nothing is known to be there, and whatever the trash knows counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from convsync_agent import fs, grip, scan
from convsync_agent import plot as places
from convsync_agent.bulk import Content, whole
from convsync_agent.content import title_of
from convsync_agent.index import TITLE_CHARS
from convsync_agent.model import EVENTS, METADATA, Readable
from convsync_agent.plan import Problem
from convsync_agent.shelf import first_request
from convsync_agent.shelter import Removed, Shelter
from convsync_agent.site import Site
from convsync_agent.stream_json import count

Key = tuple[str, int]
"""Workspace and conversation."""


class Departed(NamedTuple):
    """`gone`: kept copies, the last removed first; `back`: marked as removed, and there again."""

    gone: list[Removed]
    back: list[Removed]
    troubles: list[Problem]


def departed(shelter: Shelter, sites: Mapping[str, Site]) -> Departed:
    """The kept copies of conversations that were removed. Raises OSError."""
    marked, troubles = shelter.ls()
    there = {w: durable(sites.get(w)) for w in {r.workspace for r in marked}}
    back = [r for r in marked if r.conversation in there[r.workspace]]
    return Departed([r for r in marked if r.conversation not in there[r.workspace]], back, troubles)


def known(data_dir: str, sites: Mapping[str, Site]) -> list[Key]:
    """Whatever is gone and has a tombstone or a kept copy, a removal that nobody has noticed yet included."""
    found = [(p.workspace, p.conversation) for p in places.plots(data_dir)]
    there = {w: durable(sites.get(w)) for w in {w for w, _ in found}}
    return [(w, c) for w, c in found if c not in there[w]]


def durable(site: Site | None) -> set[int]:
    """What the silo lists now; nothing where it cannot be asked."""
    if site is None or site.silo_state is not Readable.YES:
        return set()
    try:
        return scan.list_root(site.silo.root.path).conversations()
    except OSError:
        return set()


def title(shelter: Shelter, removed: Removed) -> str:
    """Of the kept copy: its title, else the beginning of its first question, else ''. For the screen only (R9)."""
    found = title_of(_text(shelter, removed, METADATA))
    return found if found is not None else (first_request(_text(shelter, removed, EVENTS)) or "")[:TITLE_CHARS]


def events(shelter: Shelter, removed: Removed) -> int | None:
    """How many there are; counted now where nobody knew when it was kept. None: that cannot be read."""
    if removed.events is not None:
        return removed.events
    content = _content(shelter, removed, EVENTS)
    return count(content) if content else None


def _text(shelter: Shelter, removed: Removed, name: str) -> bytes:
    try:
        return whole(_content(shelter, removed, name))
    except (OSError, fs.ChangedError):
        return b""


def _content(shelter: Shelter, removed: Removed, name: str) -> Content:
    """One kept file; nothing where there is none, or where it cannot be read."""
    try:
        kept = shelter.held(removed.workspace, removed.conversation)
        file = next((f for f in kept.files if f.name == name), None) if kept else None
        place = places.plot(shelter.data_dir, removed.workspace, removed.conversation).path
        return grip.read(file, place) if file else b""
    except (OSError, fs.ChangedError):
        return b""
