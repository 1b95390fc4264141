"""`rm`: remove conversations from the silo and every worktree, restorable for a while."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from convsync_agent.errors import UsageProblem
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context

if TYPE_CHECKING:
    from convsync_agent.removing import Gone
    from convsync_cli.target import Target

PRESENCE = {"projected": "projected", "user_local_only": "local", "workspace_only": "external"}


@command("rm", example="convsync rm jp-c17457886043", short_help="Remove conversations everywhere; `trash` keeps them.")
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
def rm(context: Context, targets: tuple[str, ...], yes: bool) -> int:  # noqa: FBT001
    """Remove conversations from the silo and from every worktree, archived ones too.

    What a conversation held last stays in the trash for as many days as the setting trash.keep_days says, whatever
    else its copies held in the history. With trash.keep_days=0 all of it goes into the history. A worktree that is
    not there now keeps its copy; it brings nothing back. Waits for JP's lock as long as $JP_LOCK_DURATION says (30 s).
    """
    from convsync_agent.removing import remove  # noqa: PLC0415
    from convsync_cli.batch import as_failed, each, exit_code  # noqa: PLC0415
    from convsync_cli.target import resolve_many  # noqa: PLC0415
    from convsync_cli.waiting import patiently  # noqa: PLC0415

    chosen = resolve_many(context, targets)
    if not yes and not _agreed(context, chosen):
        if context.as_json:
            output.document({"removed": [], "kept_until": None})
        elif not context.quiet:
            output.line("nothing was removed")
        return 0
    with context.engine() as engine:

        def one(target: Target) -> Gone:
            site = engine.sites[target.workspace]
            return patiently(lambda deadline: remove(engine, site, target.conversation, deadline=deadline))

        done, failed = each(chosen, one)
    context.tell_agent()
    untils = [gone.until_ms for _, gone in done]
    if context.as_json:
        until = min((u for u in untils if u is not None), default=None)
        left = [{"conversation": t.id, "worktree": path} for t, gone in done for path in gone.away]
        document = {"removed": [t.id for t, _ in done], "kept_until": until, "left": left}
        output.document(document | as_failed(failed))
    elif not context.quiet:
        _tell(context, done)
    return exit_code(failed, as_json=context.as_json)


def _agreed(context: Context, chosen: Sequence[Target]) -> bool:
    """What the person at the terminal lets go: all of it, or nothing. Titles are read live, for the screen only."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageProblem("there is no terminal to ask on", hint="convsync rm TARGET... --yes", code="no-tty")
    from convsync_agent.index import describe, load_index  # noqa: PLC0415
    from convsync_cli.target import open_sites  # noqa: PLC0415

    sites = open_sites(context)
    entries = {(w, e.id): e for w in {t.workspace for t in chosen} for e in load_index(sites[w])}
    for target in chosen:
        entry = entries.get((target.workspace, target.conversation))
        if entry is not None:
            row = describe(sites[target.workspace], entry)
            where = PRESENCE[str(row.presence)] + (", archived" if str(entry.partition) == "archived" else "")
            title = output.title_text(row.title)[:40]
            output.note(f"  {target.id}  {output.plural(row.events, 'event')}  {where}  {title}")
    days = context.settings.trash_keep_days
    kept = f"restorable for {output.plural(days, 'day')}" if days else "kept in the history only"
    what = "this conversation" if len(chosen) == 1 else f"these {len(chosen)} conversations"
    return click.confirm(f"remove {what} everywhere ({kept})?", err=True)


def _tell(context: Context, done: Sequence[tuple[Target, Gone]]) -> None:
    for target, gone in done:
        if gone.until_ms is not None:
            days = output.plural(context.settings.trash_keep_days, "day")
            output.line(f"removed {target.id}; for {days}: convsync trash restore {target.id}")
        else:
            output.line(f"removed {target.id}; what it held is in the history: convsync history {target.id}")
        for path in gone.away:
            output.line(f"  {output.tilde(path)} is not there now; what it has of it stays there")
