"""`uninstall`: take the service out, and on request everything that convsync itself keeps. Never a conversation."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from convsync_agent import dirs
from convsync_agent.errors import Refused, UsageProblem
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context

if TYPE_CHECKING:
    from convsync_agent.belongings import Belongings

PURGE = "convsync uninstall --purge"


@command("uninstall", example="convsync uninstall", short_help="Remove the service; with --purge our own files, too.")
@click.option("--purge", is_flag=True, help="Also delete the history, the trash, the state and the settings.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def uninstall(context: Context, purge: bool, yes: bool) -> int:  # noqa: FBT001
    """Stop and remove the service, and say what stays where. No conversation is touched, in no worktree and no silo.

    With --purge what convsync keeps for itself is deleted for good: the state, the settings, and every version and
    copy that it kept of conversations. What is only there, a version that was overwritten or a conversation that
    was removed, cannot be brought back after that.
    """
    from convsync_agent import belongings, supervisor  # noqa: PLC0415

    found = supervisor.find()
    logs = [found.log_place()] if found is not None and found.name == "launchd" else []
    config = dirs.config_path(context.config)
    mine = belongings.look(context.state_dir, context.data_dir, context.runtime_dir, config, logs)
    if purge:
        _require_alone(context)
        if not yes and not _agreed(mine):
            if context.as_json:
                output.document({"unit": None, "purged": False, "removed": [], "kept": _as_json(mine)})
            elif not context.quiet:
                output.line("nothing was removed")
            return 0
    unit = _remove_unit()
    if purge:
        _require_alone(context, stopped=True)
        belongings.purge(mine, context.state_dir)
    if context.as_json:
        gone = [path for place in mine.places for path in place.paths] if purge else []
        kept = [] if purge else _as_json(mine)
        output.document({"unit": unit, "purged": purge, "removed": gone, "kept": kept})
    elif not context.quiet:
        _tell(context, mine, unit, purged=purge)
    return 0


def _require_alone(context: Context, *, stopped: bool = False) -> None:
    """Nothing of ours is at work but the service, which is stopped on the way. Raises Refused."""
    from convsync_agent import belongings, installing, supervisor  # noqa: PLC0415

    belongings.require_no_edit(context.data_dir)
    if stopped:  # whatever holds the lock now is not the service's
        agent = installing.running(context.state_dir)
        if agent is not None:
            raise Refused("an agent still runs", where=f"pid {agent.pid}", hint=PURGE, code="already-running")
        return
    installing.require_no_other(context.state_dir, supervisor.state(), PURGE)


def _remove_unit() -> str | None:
    """The path of the unit that was there. Without a manager that answers the file alone is deleted."""
    from convsync_agent import installing, supervisor  # noqa: PLC0415

    found = supervisor.find()
    if found is not None:
        return installing.uninstall(found)
    path = supervisor.state().path
    if not installing.remove_if_ours(path):
        return None
    wanted = os.path.join(os.path.dirname(path), "default.target.wants", os.path.basename(path))
    if os.path.islink(wanted):
        installing.remove(wanted)
    return path


def _agreed(mine: Belongings) -> bool:
    """What the person at the terminal lets go: all of it, or nothing."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageProblem(
            f"this deletes {_lost(mine)} for good, and there is no terminal to ask on",
            hint=f"{PURGE} --yes",
            code="no-tty",
        )
    for place in (p for p in mine.places if p.bytes):
        output.note(f"  {output.size(place.bytes):>8}  {place.what}: {place.path}")
    output.note(f"This deletes {_lost(mine)} for good.")
    output.note("Versions that were overwritten and conversations that were removed cannot be brought back after it.")
    return click.confirm("delete all of that?", err=True)


def _lost(mine: Belongings) -> str:
    edits = f", {output.plural(mine.edits, 'unfinished edit')}" if mine.edits else ""
    versions = output.plural(mine.versions, "kept version")
    copies = "1 kept copy" if mine.copies == 1 else f"{mine.copies} kept copies"
    return f"{versions} and {copies} ({mine.removed} of removed conversations){edits}"


def _as_json(mine: Belongings) -> list[dict[str, object]]:
    return [{"what": p.what, "path": p.path, "bytes": p.bytes} for p in mine.places]


def _tell(context: Context, mine: Belongings, unit: str | None, *, purged: bool) -> None:
    output.line(f"removed the service: {output.tilde(unit)}" if unit else "no service was installed")
    silos = _silos(context) if not purged else []
    if purged:
        output.line(f"deleted {output.size(mine.bytes)} of our own: {_lost(mine)}")
        output.line("every conversation is where it was, in its worktree and in JP's user data")
    else:
        output.line("what stays:")
        for path in silos:
            output.line(f"  conversations: {output.tilde(path)}")
        for place in (p for p in mine.places if p.bytes):
            output.line(f"  {place.what} ({output.size(place.bytes)}): {output.tilde(place.path)}")
        if mine.bytes:
            output.line(f"to delete our own files as well: {PURGE}")
    output.line("the program itself: pipx uninstall convsync, or as it was installed")


def _silos(context: Context) -> list[str]:
    opened = context.reader()
    if opened is None:
        return []
    try:
        return sorted(w.silo for w in opened.workspaces())
    finally:
        opened.close()
