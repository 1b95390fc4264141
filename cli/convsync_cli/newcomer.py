"""A conversation that was just made: it becomes the one of this session, and what could not be done is said."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from convsync_agent.errors import ConvsyncError
from convsync_cli import output

if TYPE_CHECKING:
    from convsync_agent.engine import Engine
    from convsync_agent.forking import Forked
    from convsync_agent.site import Site, Tree


def tree_here(engine: Engine, site: Site) -> Tree | None:
    """The worktree of this workspace that the current directory is in."""
    from convsync_cli.target import worktree_here  # noqa: PLC0415

    found = worktree_here(engine.sites)
    return found[1] if found is not None and found[0] is site else None


def welcome(site: Site, made: Forked) -> None:
    """It is there and durable, so whatever goes wrong from here on is a warning."""
    for path, error in made.left:
        output.note(f"warning: not projected into {output.tilde(path)}: {error.message}")
    try:
        _activate(site, made.id)
    except ConvsyncError as error:
        output.note(f"warning: the session does not know it: {error}")


def _activate(site: Site, conversation: int) -> None:
    """As JP does with a new one: the session's file alone, its metadata says already when it was activated."""
    from convsync_agent.sessions import Mappings, identify  # noqa: PLC0415

    session = identify(os.environ)
    if session is not None:
        Mappings(site.silo.root.path).activate(session, conversation, time.time_ns())
