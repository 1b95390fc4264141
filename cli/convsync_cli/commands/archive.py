"""`archive` and `unarchive`: the same conversation, put aside or taken out again, in every root."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from convsync_agent.errors import NotFound
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context

if TYPE_CHECKING:
    from convsync_agent.engine import Engine
    from convsync_agent.index import IndexEntry
    from convsync_cli.target import Target


@command("archive", example="convsync archive jp-c17457886043", short_help="Archive conversations in every root.")
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
def archive(context: Context, targets: tuple[str, ...]) -> int:
    """Put conversations aside in the silo and every worktree that has them: out of `ls`, nothing is deleted.

    One that only a worktree has is imported first. A worktree that is not there follows when it is back. What is
    live in one place and archived in another is archived everywhere. Waits for JP's lock as long as
    $JP_LOCK_DURATION says (30 s).
    """
    from convsync_agent import archiving  # noqa: PLC0415

    return _all(context, targets, "archived", archiving.archive)


@command("unarchive", example="convsync unarchive archived", short_help="Take conversations out of the archive.")
@click.argument("targets", metavar="TARGET...", nargs=-1, required=True)
def unarchive(context: Context, targets: tuple[str, ...]) -> int:
    """Make conversations live again, in the very roots where they are archived.

    What is live already is skipped. What is live in one place and archived in another is made live everywhere.
    Waits for JP's lock as long as $JP_LOCK_DURATION says (30 s).
    """
    from convsync_agent import archiving  # noqa: PLC0415

    return _all(context, targets, "unarchived", archiving.unarchive)


def _all(context: Context, texts: Sequence[str], done_word: str, act: Callable[..., bool]) -> int:
    from convsync_agent.archiving import away  # noqa: PLC0415
    from convsync_cli.batch import as_failed, each, exit_code  # noqa: PLC0415
    from convsync_cli.target import resolve_many  # noqa: PLC0415
    from convsync_cli.waiting import patiently  # noqa: PLC0415

    targets = resolve_many(context, texts)
    with context.engine() as engine:
        known = _entries(engine, targets)

        def one(target: Target) -> bool:
            site = engine.sites[target.workspace]
            return patiently(lambda deadline: act(engine, site, _known(known, target), deadline=deadline))

        done, failed = each(targets, one)
        later = {t: away(engine.sites[t.workspace], t.conversation) for t, moved in done if moved}
    context.tell_agent()
    moved = [t.id for t, did in done if did]
    reason = "archived already" if done_word == "archived" else "not archived"
    skipped = [{"conversation": t.id, "reason": reason} for t, did in done if not did]
    if context.as_json:
        output.document({done_word: moved, "skipped": skipped} | as_failed(failed))
    else:
        _tell(context, done_word, later, [s["conversation"] for s in skipped], reason)
    return exit_code(failed, as_json=context.as_json)


def _entries(engine: Engine, targets: Sequence[Target]) -> dict[Target, IndexEntry]:
    from convsync_agent.index import load_index  # noqa: PLC0415
    from convsync_cli.target import Target  # noqa: PLC0415

    spaces = sorted({t.workspace for t in targets} & engine.sites.keys())
    return {Target(w, e.id): e for w in spaces for e in load_index(engine.sites[w])}


def _known(entries: dict[Target, IndexEntry], target: Target) -> IndexEntry:
    if target not in entries:
        raise NotFound("this conversation went away just now", where=target.id, hint="convsync ls --all")
    return entries[target]


def _tell(context: Context, done_word: str, later: dict[Target, list[str]], skipped: list[str], reason: str) -> None:
    for name in skipped:
        output.note(output.colored(f"skipped: {name} is {reason}", "yellow"))
    if context.quiet:
        return
    for target, trees in later.items():
        output.line(f"{done_word} {target.id}")
        for path in trees:
            output.line(f"  {output.tilde(path)} is not there now; it follows when it is back")
