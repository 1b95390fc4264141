"""`--worktree PATH`: which worktree of a conversation's workspace is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convsync_agent.errors import NotFound, Refused

if TYPE_CHECKING:
    from convsync_agent.index import IndexEntry
    from convsync_agent.site import Site, Tree
    from convsync_cli.target import Target


def entry_of(site: Site, target: Target) -> IndexEntry:
    """The conversation as its workspace has it now. Raises NotFound when it went since it was resolved."""
    from convsync_agent.index import load_index  # noqa: PLC0415

    entry = next((e for e in load_index(site) if e.id == target.conversation), None)
    if entry is None:
        raise NotFound("this conversation went away just now", where=target.id, hint="convsync ls --all")
    return entry


def tree_named(sites: dict[str, Site], target: Target, path: str | None) -> Tree | None:
    """The registered worktree at or above PATH; without one that of the current directory, if it is of this workspace.

    Raises NotFound for one that is not registered, Refused for one of another workspace.
    """
    from convsync_agent.index import find_worktree  # noqa: PLC0415
    from convsync_cli.target import worktree_here  # noqa: PLC0415

    if path is None:
        here = worktree_here({target.workspace: sites[target.workspace]})
        return here[1] if here else None
    found = find_worktree(sites.values(), path)
    if found is None:
        raise NotFound("not a registered worktree", where=path, hint="convsync register; convsync status lists them")
    site, tree = found
    if site.id != target.workspace:
        raise Refused(
            f"that worktree is of workspace {site.id}, {target.id} of {target.workspace}",
            where=tree.worktree.path,
            hint="convsync status shows which worktree is of which workspace",
            code="other-workspace",
        )
    return tree
