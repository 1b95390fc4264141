"""Create or delete one projection, and say so: `project`, `unproject` and `edit --local`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convsync_agent.model import Projection
from convsync_cli import output

if TYPE_CHECKING:
    from convsync_cli.context import Context

DONE = {Projection.PROJECTED: "projected into", Projection.LOCAL_ONLY: "local now: no longer in"}
ALREADY = {Projection.PROJECTED: "projected there already", Projection.LOCAL_ONLY: "local there already"}


def set_projection(context: Context, text: str, path: str | None, wanted: Projection | None) -> int:
    """`wanted` None turns it round. TARGET and --worktree as typed. Waits for JP's lock."""
    from convsync_agent.model import Presence  # noqa: PLC0415
    from convsync_agent.recover import recover_site  # noqa: PLC0415
    from convsync_agent.toggling import AFTER, meant, other_way, reach  # noqa: PLC0415
    from convsync_cli.target import resolve_target  # noqa: PLC0415
    from convsync_cli.waiting import patiently  # noqa: PLC0415
    from convsync_cli.worktree import entry_of, tree_named  # noqa: PLC0415

    found = resolve_target(context, text)
    with context.engine() as engine:
        site = engine.sites[found.workspace]
        recover_site(engine, site)
        entry = entry_of(site, found)
        tree = meant(site, entry, wanted, tree_named(engine.sites, found, path))
        if tree is None:
            changed, presence, where, held = False, Presence.USER_LOCAL_ONLY, None, False
        else:
            projection = wanted or other_way(entry, tree)
            where, held = tree.worktree.path, entry.id in tree.held
            presence = AFTER[projection]
            changed = patiently(lambda deadline: reach(engine, site, entry, tree, projection, deadline=deadline))
    if held:
        context.tell_agent()  # what a worktree is to get back is in its memory, too
    if context.as_json:
        body = {"conversation": found.id, "worktree": where, "presence": str(presence), "changed": changed}
        output.document(body)
    elif not context.quiet:
        end = Projection.PROJECTED if presence is Presence.PROJECTED else Projection.LOCAL_ONLY
        output.line(_said(found.id, where, end, changed=changed))
    return 0


def _said(name: str, where: str | None, end: Projection, *, changed: bool) -> str:
    if where is None:
        return f"{name} is in no worktree: nothing to take away"
    place = output.tilde(where)
    return f"{name} is {DONE[end]} {place}" if changed else f"{name} is {ALREADY[end]} ({place}); nothing was written"
