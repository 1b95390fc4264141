"""The words of a TARGET: one conversation (`last`, `prev`), a set (`+pinned`), as JP has them (contract 8.5)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from convsync_agent.errors import ConvsyncError, NotFound
from convsync_agent.model import Partition, Presence
from convsync_cli import output
from convsync_cli.context import Context
from convsync_cli.registered import (
    LIST,
    Target,
    load_entries,
    require_site,
    require_sites,
    session_here,
    site_here,
    worktree_here,
)

if TYPE_CHECKING:
    from convsync_agent.index import IndexEntry
    from convsync_agent.session import Trail
    from convsync_agent.site import Site
    from convsync_agent.summary import Metadata

ONE = {
    "last": "last",
    "last-activated": "last",
    "recent": "last",
    "r": "last",
    "newest": "newest",
    "last-created": "newest",
    "n": "newest",
    "pinned": "pinned",
    "p": "pinned",
    "archived": "archived",
    "a": "archived",
    "active": "active",
    ".": "active",
    "prev": "previous",
    "previous": "previous",
    "session": "previous",
    "s": "previous",
}
SETS = {
    "+live": "live",
    "+l": "live",
    "+session": "session",
    "+s": "session",
    "+pinned": "pinned",
    "+p": "pinned",
    "+archived": "archived",
    "+a": "archived",
    "+external": "external",
}
WHERE_TO = "cd into a worktree of the one that is meant, or name an <id>"


class Scope:
    """What a TARGET can mean where it was typed. Listed when it is asked for, once.

    Inside a registered worktree the words mean conversations of its workspace, as with jp; elsewhere those of all.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.sites = require_sites(context)

    @cached_property
    def entries(self) -> list[IndexEntry]:
        return load_entries(self.sites)

    @cached_property
    def near(self) -> dict[str, Site]:
        here = worktree_here(self.sites)
        return self.sites if here is None else {here[0].id: here[0]}

    def known(self, site: Site) -> dict[int, Partition]:
        return {e.id: e.partition for e in self.entries if e.workspace == site.id}

    def visited(self) -> list[Target]:
        """Every live conversation of this session, latest first, where that can be told: for a picker."""
        if self._trail is None:
            return []
        site, trail = self._trail
        known = self.known(site)
        return [Target(site.id, c) for c in trail.conversations if known.get(c) is Partition.LIVE]

    def current(self, back: int = 0) -> Target | None:
        """What this session works on, or did `back` before that, where it can be told: for a command without TARGET."""
        from convsync_agent.session import walk  # noqa: PLC0415

        if self._trail is None:
            return None
        site, trail = self._trail
        return next((Target(site.id, c) for c in walk(trail, self.known(site))[back:]), None)

    @cached_property
    def _trail(self) -> tuple[Site, Trail] | None:
        """The workspace of here and what this session did in it. What is wrong with its file is only said."""
        from convsync_agent.sessions import Mappings, identify  # noqa: PLC0415

        site, session = site_here(self.sites), identify(os.environ)
        if site is None or session is None:
            return None
        try:
            trail = Mappings(site.silo.root.path).trail(session)
        except ConvsyncError as error:
            output.note(f"warning: {error}")
            return None
        return (site, trail) if trail else None


def one(scope: Scope, text: str) -> Target:
    """The conversation a word means. Raises NotFound, UsageProblem (which workspace), Refused (no session file)."""
    word = ONE[text]
    if word in {"active", "previous"}:
        return _of_session(scope, word, text)
    partition = Partition.ARCHIVED if word == "archived" else Partition.LIVE
    entries = [e for e in scope.entries if e.partition is partition and e.workspace in scope.near]
    rank: Callable[[Metadata], int | None] = {
        "last": lambda m: m.last_activated_ms,
        "newest": lambda _: 0,
        "pinned": lambda m: m.pinned_ms,
        "archived": lambda m: m.archived_ms or 0,
    }[word]
    ranked = [(r, e.id, e.workspace) for e, m in _read(entries, wanted=word != "newest") if (r := rank(m)) is not None]
    if not ranked:
        words = {"last": "activated", "newest": "live"}
        raise NotFound(f"there is no {words.get(word, word)} conversation", where=text, hint=LIST)
    _, conversation, workspace = max(ranked)
    return Target(workspace, conversation)


def _read(entries: Iterable[IndexEntry], *, wanted: bool) -> list[tuple[IndexEntry, Metadata]]:
    from convsync_agent.shelf import Shelf  # noqa: PLC0415
    from convsync_agent.summary import Metadata  # noqa: PLC0415

    with Shelf() as shelf:
        return [(e, shelf.metadata(e.spots) if wanted else Metadata()) for e in entries]


def _of_session(scope: Scope, word: str, text: str) -> Target:
    from convsync_agent.sessions import Mappings  # noqa: PLC0415

    site = require_site(scope.sites, hint=WHERE_TO)
    session = session_here()
    walked = Mappings(site.silo.root.path).walk(session, scope.known(site))
    found = walked[1 if word == "previous" else 0 :]
    if not found:
        raise NotFound(f"this session ({session.source}) has no {word} conversation", where=text, hint=_use(word))
    return Target(site.id, found[0])


def _use(word: str) -> str:
    return "convsync use <id>" if word == "active" else "convsync session show"


def several(scope: Scope, text: str) -> list[Target]:
    """All of a set, by id. Raises NotFound where it is empty, UsageProblem (which workspace)."""
    word = SETS.get(text)
    if word is None:
        raise NotFound("no such set", where=text if text[1:].isalpha() else None, hint=f"one of {', '.join(SETS)}")
    site = require_site(scope.sites, hint=WHERE_TO)
    entries = [e for e in scope.entries if e.workspace == site.id]
    live = [e for e in entries if e.partition is Partition.LIVE]
    chosen: Mapping[str, Callable[[], list[int]]] = {
        "live": lambda: [e.id for e in live],
        "session": lambda: _visited(site, {e.id for e in live}),
        "pinned": lambda: [e.id for e, m in _read(live, wanted=True) if m.pinned_ms is not None],
        "archived": lambda: [e.id for e in entries if e.partition is Partition.ARCHIVED],
        "external": lambda: [e.id for e in live if e.overall is Presence.WORKSPACE_ONLY],
    }
    found = [Target(site.id, c) for c in chosen[word]()]
    if not found:
        raise NotFound("that set is empty", where=text, hint=LIST)
    return found


def _visited(site: Site, live: set[int]) -> list[int]:
    from convsync_agent.sessions import Mappings  # noqa: PLC0415

    trail = Mappings(site.silo.root.path).trail(session_here())
    return sorted(live.intersection(trail.conversations)) if trail else []
