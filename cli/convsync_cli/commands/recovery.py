"""`recover` and `remove-worktree`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from convsync_agent.names import id_text
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context

if TYPE_CHECKING:
    from convsync_agent.leaving import Left
    from convsync_agent.recovering import Recovered


@command(
    "recover",
    example="convsync recover ~/code/feature --dry-run",
    short_help="Put back what a worktree held before it went.",
)
@click.argument("path", default=".")
@click.option("--into", metavar="PATH", help="Another registered worktree of the same workspace.")
@click.option("--dry-run", is_flag=True, help="Say what would be put back and touch nothing.")
def recover(context: Context, path: str, into: str | None, dry_run: bool) -> int:  # noqa: FBT001
    """Put the projections back that the worktree at or above PATH held when it went (default: here).

    Into the same path, where a worktree was made again, or with --into elsewhere. Whatever branch it is on,
    since you ask for it. What is there already is not touched, and what only the silo had is not put there.
    """
    from convsync_agent.recovering import recover_held  # noqa: PLC0415

    with context.engine() as engine:
        done = recover_held(engine, path, into, dry=dry_run)
    if not dry_run:
        context.tell_agent()
    if context.as_json:
        output.document(
            {
                "worktree": done.worktree,
                "into": done.into,
                "dry_run": dry_run,
                "restored": [id_text(c) for c in done.put],
                "found": [id_text(c) for c in done.found],
                "deferred": [{"conversation": id_text(c), "reason": r} for c, r in sorted(done.left.items())],
            }
        )
    else:
        _tell(context, done, dry=dry_run)
    return 6 if done.failed else 0


def _tell(context: Context, done: Recovered, *, dry: bool) -> None:
    for conversation, reason in sorted(done.left.items()):
        output.line(output.colored(f"not put back: {id_text(conversation)} ({reason})", "yellow"))
    if context.quiet:
        return
    for conversation in done.put if dry or context.verbose else ():
        output.line(f"{'would put back' if dry else 'put back'} {id_text(conversation)}")
    where = output.tilde(done.into)
    if done.put:
        word = "would be put back" if dry else "put back"
        tail = "; nothing was touched" if dry else ""
        output.line(f"{output.plural(len(done.put), 'projection')} {word} into {where}{tail}")
    elif done.found:
        output.line(f"nothing to put back into {where}: all that it held is there")
    elif not done.left:
        output.line(f"nothing to put back into {where}: no worktree took projections along from there")


@command(
    "remove-worktree",
    example="convsync remove-worktree ~/code/feature",
    short_help="Make sure all of it is durable, then git worktree remove.",
)
@click.argument("path")
@click.option("--force", is_flag=True, help="Keep what is not durable in the history first; passed on to git, too.")
@click.option("--check", is_flag=True, help="Make sure, and stop there: for hooks of whoever else removes it.")
def remove_worktree(context: Context, path: str, force: bool, check: bool) -> int:  # noqa: FBT001
    """Sync the git worktree at or above PATH, read all of it back, then run `git worktree remove`.

    Refuses while anything in it is not durable, and says what. With --force that goes into the history
    first; what cannot even be read there is a reason to refuse all the same. It stays registered: made
    again on the same branch it gets its projections back. `convsync hooks` makes a git alias of it.
    """
    from convsync_agent.leaving import leave  # noqa: PLC0415

    with context.engine(bar=True) as engine:
        done = leave(engine, path, force=force, check=check)
    context.tell_agent()
    conversations, files = (sum(getattr(r, n) for r in done.receipts) for n in ("conversations", "files"))
    if context.as_json:
        output.document(
            {
                "worktree": done.worktree,
                "removed": done.removed,
                "conversations": conversations,
                "files": files,
                "bytes": sum(r.bytes for r in done.receipts),
                "digests": [r.digest for r in done.receipts],
                "kept": [id_text(c) for c in sorted(done.kept)],
            }
        )
    elif not context.quiet:
        for conversation in sorted(done.kept):
            output.line(f"kept in the history: {id_text(conversation)} (convsync history {id_text(conversation)})")
        output.line(_removed(done, conversations, files))
    return 0


def _removed(done: Left, conversations: int, files: int) -> str:
    where = output.tilde(done.worktree)
    if not done.receipts:
        return f"{'removed ' if done.removed else ''}{where}: no .jp was in it, so no conversation"
    its = f"its {output.plural(conversations, 'conversation')} {'is' if conversations == 1 else 'are'} durable"
    read = f"({output.plural(files, 'file')} read)"
    return f"removed {where}: {its} {read}" if done.removed else f"{where} may go: {its} {read}"
