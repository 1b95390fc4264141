"""`trash`: what is kept of conversations that were removed."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from convsync_agent.errors import NotFound, Refused, UsageProblem, storage_problem
from convsync_agent.names import id_text
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context
from convsync_cli.main import global_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convsync_agent.departed import Departed
    from convsync_agent.reviving import Revived
    from convsync_agent.shelter import Emptied, Removed, Shelter
    from convsync_cli.target import Target


@click.group(
    "trash",
    short_help="Conversations that were removed: list, bring back, drop.",
    epilog="\b\nExample:\n  convsync trash ls",
)
@click.pass_context
def trash(ctx: click.Context, /, **flags: Any) -> None:
    """Conversations that were removed, and what is kept of them.

    Of every conversation the last durable content is kept. When it is removed, with jp or by hand, that stays
    restorable for as many days as the setting trash.keep_days says.
    """
    ctx.obj.take(flags)


trash.params.extend(global_options())


# -- ls -----------------------------------------------------------------------------


@command("ls", example="convsync trash ls", short_help="What can be brought back, and until when.")
def ls(context: Context) -> int:
    """List the kept copies of conversations that were removed, the last removed first."""
    from convsync_agent.departed import events, title  # noqa: PLC0415

    shelter = _shelter(context)
    found = _departed(context, shelter)
    for problem in found.troubles:
        output.note(f"warning: {id_text(problem.conversation or 0)}: {problem.detail}")
    gone = [r._replace(events=events(shelter, r)) for r in found.gone]
    if context.as_json:
        output.document({"conversations": [_as_json(r) for r in gone]})
    elif gone:
        titles = output.is_terminal()  # chat text: for eyes, not for whatever reads a pipe
        header = ["ID", "REMOVED", "LEFT", "EVENTS", "SIZE", *(["TITLE"] if titles else [])]
        rows = [_cells(r) + ([output.title_text(title(shelter, r))] if titles else []) for r in gone]
        output.table(header, rows, right=(2, 3, 4))
    elif not context.quiet:
        output.line("the trash is empty: no conversation was removed that could be brought back")
    return 0


def _shelter(context: Context) -> Shelter:
    from convsync_agent.shelter import Shelter  # noqa: PLC0415

    return Shelter(context.data_dir, keep_days=context.settings.trash_keep_days)


def _departed(context: Context, shelter: Shelter) -> Departed:
    from convsync_agent.departed import departed  # noqa: PLC0415
    from convsync_cli.target import open_sites  # noqa: PLC0415

    try:
        return departed(shelter, open_sites(context))
    except OSError as error:
        raise storage_problem(error, context.data_dir, "read the trash") from None


def _as_json(removed: Removed) -> dict[str, Any]:
    return {
        "id": id_text(removed.conversation),
        "workspaceId": removed.workspace,
        "removedAt": removed.removed_ms,
        "until": removed.until_ms,
        "bytes": removed.bytes,
        "events": removed.events,
        "whole": removed.whole,
    }


def _cells(removed: Removed) -> list[str]:
    return [
        id_text(removed.conversation),
        output.ago(removed.removed_ms),
        time_left(removed.until_ms - time.time_ns() // 1_000_000),
        "-" if removed.events is None else str(removed.events),
        output.size(removed.bytes) if removed.whole else f"{output.size(removed.bytes)} (part)",
    ]


def time_left(ms: int) -> str:
    """How much longer, in one short unit; `0 h` where it may go at any time. Pure.

    Rounded to the nearest: right after `for 30 days` it is 30 days.
    """
    hours = max(0, ms) / 3_600_000
    return f"{round(hours / 24)} d" if hours >= 48 else f"{int(hours)} h"


# -- restore ------------------------------------------------------------------------


@command("restore", example="convsync trash restore jp-c17457886043", short_help="Bring removed conversations back.")
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
@click.option("--into", metavar="PATH", help="Write a copy below PATH instead; nothing is brought back.")
def restore(context: Context, targets: tuple[str, ...], into: str | None) -> int:
    """Make the durable copy of each conversation again, as it was last, with its times.

    A conversation that is there is never overwritten. What worktrees still hold of it is in step again, or the
    newest wins. TARGET is an id of `convsync trash ls` or the beginning of one. Waits for JP's lock as long as
    $JP_LOCK_DURATION says (30 s).
    """
    from convsync_cli.removed import resolve_removed  # noqa: PLC0415

    if into is not None:
        from convsync_cli.elsewhere import require_outside  # noqa: PLC0415

        require_outside(context, into)
        return _restore_into(context, resolve_removed(context, targets), into)
    return _restore(context, resolve_removed(context, targets))


def _restore(context: Context, targets: Sequence[Target]) -> int:
    from convsync_agent.model import ImportPolicy  # noqa: PLC0415
    from convsync_agent.reviving import revive  # noqa: PLC0415
    from convsync_cli.patience import lock_patience  # noqa: PLC0415

    patience = lock_patience()
    rows = []
    try:
        with context.engine(import_policy=ImportPolicy.AUTO) as engine:
            for target in targets:
                if target.workspace not in engine.sites:
                    raise _not_registered(target)
                done = revive(engine, engine.sites[target.workspace], target.conversation, patience=patience)
                rows.append(_restored_row(target, done))
                if not (context.as_json or context.quiet):
                    _tell_restored(target, done)
    finally:
        if rows:
            context.tell_agent()
    if context.as_json:
        output.document({"restored": rows})
    return 0


def _not_registered(target: Target) -> NotFound:
    return NotFound(
        f"no worktree of workspace {target.workspace} is registered",
        where=target.id,
        hint=f"convsync register WORKTREE; or: convsync trash restore {target.id} --into PATH",
    )


def _restored_row(target: Target, done: Revived) -> dict[str, Any]:
    from convsync_cli.reports import worktree_of  # noqa: PLC0415

    where = {"path": done.path, "partition": str(done.partition), "from": worktree_of(done.source) or None}
    return {"id": target.id, "workspaceId": target.workspace} | where


def _tell_restored(target: Target, done: Revived) -> None:
    from convsync_cli.reports import worktree_of  # noqa: PLC0415

    source = worktree_of(done.source)
    made = f"made of what is left in {output.tilde(source)}" if source else "as it was when it was kept last"
    archived = ", in the archive" if str(done.partition) == "archived" else ""
    output.line(f"{target.id} is back{archived}: {made}")


def _restore_into(context: Context, targets: Sequence[Target], into: str) -> int:
    from convsync_agent.reviving import read_kept  # noqa: PLC0415
    from convsync_cli.elsewhere import write_files  # noqa: PLC0415

    shelter = _shelter(context)
    rows = []
    for target in targets:
        place = os.path.realpath(os.path.join(into, target.id))
        paths = write_files(place, read_kept(shelter, target.workspace, target.conversation))
        rows.append({"id": target.id, "workspaceId": target.workspace, "into": place, "files": paths})
        if not (context.as_json or context.quiet):
            output.line(f"wrote {output.plural(len(paths), 'file')} of {target.id} to {output.tilde(place)}")
    if context.as_json:
        output.document({"restored": rows})
    return 0


# -- empty --------------------------------------------------------------------------


@command("empty", example="convsync trash empty", short_help="Drop what is kept of removed conversations.")
@click.argument("target", default="")
@click.option("--yes", is_flag=True, help="Do not ask.")
def empty(context: Context, target: str, yes: bool) -> int:  # noqa: FBT001
    """Drop the kept copies of all removed conversations, or of one. They cannot be brought back any more.

    Conversations that are there keep their kept copies, and what was removed stays removed.
    """
    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageProblem(
            "this cannot be undone, and there is no terminal to ask on",
            hint="convsync trash empty --yes",
            code="no-tty",
        )
    shelter = _shelter(context)
    chosen = _chosen(context, shelter, target)
    if chosen and not yes:
        chosen = _agreed(context, shelter, target, chosen)
    copies, freed = _drop(context, shelter, chosen, everything=not target)
    if context.as_json:
        output.document({"dropped": copies, "bytes": freed})
    elif not context.quiet:
        what = "1 kept copy" if copies == 1 else f"{copies} kept copies"
        output.line(f"dropped {what}, {output.size(freed)} freed" if copies else "nothing was dropped")
    return 0


def _chosen(context: Context, shelter: Shelter, text: str) -> list[Removed]:
    gone = _departed(context, shelter).gone
    if not text:
        return gone
    from convsync_cli.removed import resolve_removed  # noqa: PLC0415

    [target] = resolve_removed(context, [text])
    mine = [r for r in gone if (r.workspace, r.conversation) == target]
    if not mine:
        raise NotFound("nothing is kept of it in the trash", where=target.id, hint="convsync trash ls")
    return mine


def _agreed(context: Context, shelter: Shelter, target: str, chosen: list[Removed]) -> list[Removed]:
    """What the person at the terminal lets go: all of it, or nothing."""
    size = output.size(sum(r.bytes for r in chosen))
    what = id_text(chosen[0].conversation) if len(chosen) == 1 else f"{len(chosen)} removed conversations"
    if not click.confirm(f"drop what is kept of {what} ({size}) for good?", err=True):
        return []
    if _chosen(context, shelter, target) != chosen:
        raise Refused("the trash changed while you were asked; nothing was dropped", hint="convsync trash ls")
    return chosen


def _drop(context: Context, shelter: Shelter, chosen: list[Removed], *, everything: bool) -> Emptied:
    from convsync_agent.shelter import Emptied  # noqa: PLC0415

    if not chosen:
        return Emptied(0, 0)
    try:
        if everything:
            for back in _departed(context, shelter).back:
                shelter.returned(back.workspace, back.conversation)  # only what is gone may go
            return shelter.empty()
        return shelter.empty(chosen[0].workspace, chosen[0].conversation)
    except OSError as error:
        raise storage_problem(error, context.data_dir, "empty the trash") from None


for _command in (ls, restore, empty):
    trash.add_command(_command)
