"""What is registered, as every command that reads sees it: workspaces, their conversations, and which of it is here."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from convsync_agent.errors import NotFound, UsageProblem
from convsync_agent.names import id_text
from convsync_cli import output
from convsync_cli.context import Context

if TYPE_CHECKING:
    from convsync_agent.index import IndexEntry
    from convsync_agent.session import Session
    from convsync_agent.site import Site, Tree

LIST = "convsync ls --all"


class Target(NamedTuple):
    workspace: str
    conversation: int

    @property
    def id(self) -> str:
        return id_text(self.conversation)


def open_sites(context: Context) -> dict[str, Site]:
    """Every registered workspace, read-only. Empty when nothing was ever registered."""
    from convsync_agent.site import load_sites  # noqa: PLC0415

    opened = context.reader()
    if opened is None:
        return {}
    try:
        return load_sites(opened, time.time_ns() // 1_000_000)
    finally:
        opened.close()


def require_sites(context: Context) -> dict[str, Site]:
    """The same, or a NotFound that says how to begin."""
    sites = open_sites(context)
    if not sites:
        raise nothing_registered()
    return sites


def nothing_registered() -> NotFound:
    return NotFound("no worktree is registered", hint="convsync register <worktree>")


def worktree_here(sites: Mapping[str, Site]) -> tuple[Site, Tree] | None:
    """The registered worktree that the current directory is in."""
    from convsync_agent.index import find_worktree  # noqa: PLC0415

    try:
        return find_worktree(sites.values(), os.getcwd())
    except FileNotFoundError:  # the directory was deleted under the shell
        return None


def site_here(sites: Mapping[str, Site], worktree: str | None = None) -> Site | None:
    """The workspace of a worktree, by default of the current directory's, else the only one that is registered.

    Raises NotFound when nothing is registered, or not that worktree.
    """
    from convsync_agent.index import find_worktree  # noqa: PLC0415

    if not sites:
        raise nothing_registered()
    if worktree is not None:
        named = find_worktree(sites.values(), worktree)
        if named is None:
            raise NotFound("no registered worktree", where=os.path.realpath(worktree), hint="convsync status")
        return named[0]
    here = worktree_here(sites)
    if here is not None:
        return here[0]
    return next(iter(sites.values())) if len(sites) == 1 else None


def require_site(sites: Mapping[str, Site], worktree: str | None = None, *, hint: str) -> Site:
    """The same, or a UsageProblem that names the workspaces to choose from."""
    site = site_here(sites, worktree)
    if site is None:
        raise UsageProblem(
            f"which workspace? there is none of the current directory, and these are registered: {_choice(sites)}",
            hint=hint,
            code="which-workspace",
        )
    return site


def _choice(sites: Mapping[str, Site]) -> str:
    rows = []
    for key in sorted(sites):
        paths = sorted(t.worktree.path for t in sites[key].trees.values())
        rows.append(f"{key} ({paths[0]})" if paths else key)
    return ", ".join(rows)


def load_entries(sites: Mapping[str, Site]) -> list[IndexEntry]:
    """Every conversation of every workspace. Raises StorageProblem when a silo cannot be listed."""
    from convsync_agent.index import load_index, said  # noqa: PLC0415

    found = []
    for key in sorted(sites):
        found += load_index(sites[key], lambda path, error: output.note(f"warning: {said(path, error)}"))
    return found


def session_here() -> Session:
    """The session of this terminal. Raises NotFound where it has none."""
    from convsync_agent.sessions import identify  # noqa: PLC0415

    session = identify(os.environ)
    if session is None:
        raise NotFound("this terminal has no session", hint="give it one: export JP_SESSION=NAME", code="no-session")
    return session
