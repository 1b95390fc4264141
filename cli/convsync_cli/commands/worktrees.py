"""`register` and `unregister`."""

from __future__ import annotations

import os
from typing import Any

import click

from convsync_agent.inventory import tally
from convsync_agent.site import count
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context
from convsync_cli.reports import as_deferred, as_held


@command(
    "register",
    example="convsync register ~/code/app",
    short_help="Watch a worktree; its conversations become durable.",
)
@click.argument("path", default=".")
@click.option("--slug", metavar="NAME", help="Name a silo that has to be created NAME-<id> instead of <id>.")
@click.option("--no-refresh", is_flag=True, help="Never write into this worktree; only save what is written there.")
@click.option("--all-worktrees", is_flag=True, help="Every git worktree of the same repository that has a .jp.")
def register(context: Context, path: str, slug: str | None, no_refresh: bool, all_worktrees: bool) -> int:  # noqa: FBT001
    """Register the worktree at or above PATH (default: here).

    Finds or creates the silo of its workspace id, folds sibling silos into one, imports every
    conversation that only the worktree has, and lets a running agent watch it from now on. Running it
    again changes nothing.
    """
    from convsync_agent.registry import register as enroll  # noqa: PLC0415
    from convsync_agent.registry import sibling_worktrees  # noqa: PLC0415

    documents: list[dict[str, Any]] = []
    paused: list[str] = []
    code = 0
    with context.engine(bar=True) as engine:
        for worktree in sibling_worktrees(path) if all_worktrees else [path]:
            done = enroll(engine, worktree, context.data_dir, slug=slug, refresh=not no_refresh)
            site = engine.sites[done.workspace]
            store = os.path.join(done.worktree, ".jp")
            tree = site.trees[store]
            entries = [e for e in engine.ledger.entries.values() if e.workspace == site.id]
            waiting = {d.conversation for d in done.outcome.deferred}
            counts = count(site.silo.listing, tree.view.listing) | tally(entries, store, waiting, tree.view.listing)
            documents.append(
                {
                    "worktree": done.worktree,
                    "workspace": done.workspace,
                    "silo": done.silo,
                    "created_silo": done.created_silo,
                    "merged_silos": done.merged_silos,
                    "already_registered": done.already_registered,
                    "imported": done.imported,
                    "deferred": as_deferred(done.outcome),
                    "held": as_held(done.outcome),
                    "counts": counts,
                }
            )
            paused += [done.worktree] if tree.worktree.paused else []
            code = 6 if done.outcome.failed else code
    context.tell_agent()
    if context.as_json:
        output.document(documents[0] | ({"worktrees": documents} if all_worktrees else {}))
    else:
        for one in documents:
            _tell(context, one)
        for where in map(output.tilde, paused):
            output.note(f"it is still paused: convsync resume {where}")
    return code


def _tell(context: Context, done: dict[str, Any]) -> None:
    counts = done["counts"]
    where = output.tilde(done["worktree"])
    if done["already_registered"] and not done["imported"] and not done["merged_silos"]:
        output.line(f"already registered: {where} (nothing to import)")
    elif not context.quiet:
        made = "created" if done["created_silo"] else "existing, kept"
        output.line(f"workspace {done['workspace']} (from .jp/.id), silo {output.tilde(done['silo'])} ({made})")
        for loser in done["merged_silos"]:
            output.line(f"merged an older silo: {output.tilde(loser)} (now in the trash, nothing deleted)")
        if done["imported"]:
            output.line(f"imported {output.plural(done['imported'], 'conversation')} that had no durable copy")
    present = f"{counts['projected']} projected, {counts['local']} local, {counts['external']} external"
    output.line(f"registered {where}: {present}, {counts['archived']} archived")
    for held in done["held"]:
        output.line(output.colored(f"held: {held['conversation']} {held['detail']}", "yellow"))
    for deferred in done["deferred"]:
        output.line(f"deferred: {deferred['conversation']} ({deferred['reason']}); the agent takes it when it can")


@command(
    "unregister", example="convsync unregister ~/code/old", short_help="Stop watching a worktree; deletes nothing."
)
@click.argument("path", default=".")
def unregister(context: Context, path: str) -> int:
    """Stop watching the worktree at or above PATH. No conversation is deleted, in it or in the silo.

    Works for a worktree that is gone, too.
    """
    from convsync_agent.registry import unregister as leave  # noqa: PLC0415

    with context.engine() as engine:
        gone = leave(engine, path)
    context.tell_agent()
    if context.as_json:
        output.document({"worktree": gone, "unregistered": True})
    else:
        output.line(f"no longer watching {output.tilde(gone)} (its conversations stay where they are)")
    return 0
