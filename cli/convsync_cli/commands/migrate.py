"""`migrate`: one silo for each workspace, with everything in it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context

if TYPE_CHECKING:
    from convsync_agent.migrating import Home, Migration


@command("migrate", example="convsync migrate --dry-run", short_help="Fold older silos into one, and import the rest.")
@click.argument("path", default=None, required=False)
@click.option("--dry-run", is_flag=True, help="Print the plan and change nothing.")
def migrate(context: Context, path: str | None, dry_run: bool) -> int:  # noqa: FBT001
    """Bring existing user-local storage into shape, for the workspace of PATH or for all.

    Where several silos exist for one workspace id, all are folded into the one that jp would use: the newest unit
    wins, what loses goes into the history, the older silo into our trash. Conversations that only a worktree has are
    imported, archived ones too. May be interrupted at any moment and run again.
    """
    from convsync_agent import migrating  # noqa: PLC0415
    from convsync_cli.waiting import patiently  # noqa: PLC0415

    if dry_run:
        found = _planned(context, path)
    else:
        with context.engine(bar=True) as engine:

            def one(home: Home) -> Migration | None:
                return patiently(lambda deadline: migrating.migrate(engine, home, context.data_dir, deadline=deadline))

            found = [m for home in migrating.homes(engine, path) if (m := one(home)) is not None]
        context.tell_agent()
    if context.as_json:
        output.document({"workspaces": [_as_json(m, dry=dry_run) for m in found]})
    else:
        _tell(context, found, dry=dry_run)
    return 0


def _planned(context: Context, path: str | None) -> list[Migration]:
    """By an engine that can only read."""
    from contextlib import closing  # noqa: PLC0415

    from convsync_agent import migrating, state  # noqa: PLC0415
    from convsync_agent.engine import Engine  # noqa: PLC0415

    with closing(context.reader() or state.scratch()) as opened:
        engine = Engine(opened, context.data_dir, context.settings)
        planned = [migrating.plan(engine, home) for home in migrating.homes(engine, path)]
    return [m for m in planned if m is not None]


def _as_json(done: Migration, *, dry: bool) -> dict[str, Any]:
    return {
        "id": done.workspace,
        "silo": done.silo,
        "merged": done.merged,
        "moved": len(done.moved),
        "imported": len(done.imported),
        "conflicts": len(done.conflicts),
        "dry_run": dry,
    }


def _tell(context: Context, found: list[Migration], *, dry: bool) -> None:
    would = "would have " if dry else ""
    some = [m for m in found if not m.nothing]
    for one in some if not context.quiet else ():
        output.line(f"workspace {one.workspace}, silo {output.tilde(one.silo)}")
        for loser in one.merged:
            output.line(f"  {would}merged {output.tilde(loser)} (to the trash, nothing deleted)")
        if one.moved:
            output.line(f"  {would}moved {output.plural(len(one.moved), 'conversation')} that only an older silo has")
        for unit, count in sorted(Counter(str(u) for _, u in one.conflicts).items()):
            output.line(f"  {would}kept {count} x {unit} in the history that differed and lost")
        if one.imported:
            output.line(f"  {would}imported {output.plural(len(one.imported), 'conversation')} from worktrees")
    if not some and not context.quiet:
        output.line("nothing to migrate")
    elif dry and not context.quiet:
        output.line("nothing was changed")
