"""`fork`: a new conversation with the events of another one."""

from __future__ import annotations

import click

from convsync_agent.names import id_text
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context


@command("fork", example="convsync fork last --last 2", short_help="Copy a conversation to a new id.")
@click.argument("target", default="")
@click.option("--last", type=click.IntRange(min=0), metavar="N", help="Keep the last N turns; 0 keeps the config only.")
def fork(context: Context, target: str, last: int | None) -> int:
    """Copy a conversation to a new id and make it the one of this session.

    Title, labels and config go along, an expiry does not; it is projected where its source is. The source may be
    in use: it is neither locked nor written.
    """
    from convsync_agent import forking  # noqa: PLC0415
    from convsync_cli.newcomer import tree_here, welcome  # noqa: PLC0415
    from convsync_cli.target import resolve_target  # noqa: PLC0415
    from convsync_cli.titlebar import announce  # noqa: PLC0415

    found = resolve_target(context, target)
    with context.engine() as engine:
        site = engine.sites[found.workspace]
        made = forking.fork(engine, site, found.conversation, turns=last, here=tree_here(engine, site))
        welcome(site, made)
        announce(site, made.id)
    context.tell_agent()
    name = id_text(made.id)
    if context.as_json:
        output.document({"id": name, "from": found.id, "worktrees": list(made.worktrees)})
    elif context.quiet:
        output.line(name)
    else:
        where = ", ".join(output.tilde(p) for p in made.worktrees) or "the silo only"
        output.line(f"{name} is a fork of {found.id} ({where})")
    return 6 if made.left else 0
