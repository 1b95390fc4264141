"""`verify`: read every byte and give a receipt, or say what is not safe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from convsync_agent.errors import NotFound
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context

if TYPE_CHECKING:
    from convsync_agent.receipt import Receipt
    from convsync_agent.verifying import Progress


@command("verify", example="convsync verify ~/code/app", short_help="Read every byte: durable, valid and equal?")
@click.argument("path", default="")
def verify(context: Context, path: str) -> int:
    """Read every copy of every conversation and check that it is durable, valid and equal.

    With PATH only what that worktree holds. Prints a receipt and exits 0, or names what is wrong and exits
    1. Changes nothing. Two receipts with the same digest stand for the same content.
    """
    from convsync_agent.history import History  # noqa: PLC0415
    from convsync_agent.index import find_worktree  # noqa: PLC0415
    from convsync_agent.verifying import verify as read_all  # noqa: PLC0415
    from convsync_cli.target import open_sites  # noqa: PLC0415

    sites = open_sites(context)
    if not sites:
        raise NotFound("no worktree is registered", hint="convsync register <worktree>")
    found = find_worktree(sites.values(), path) if path else None
    if path and found is None:
        raise NotFound("not a registered worktree", where=path, hint="convsync status shows the registered ones")
    opened = context.reader()
    attention = opened.attention() if opened is not None else []
    if opened is not None:
        opened.close()
    chosen = [found[0]] if found else [sites[k] for k in sorted(sites)]
    try:
        receipt = read_all(
            chosen,
            History(context.data_dir),
            attention,
            only=found[1] if found else None,
            progress=_progress(context),
        )
    finally:
        output.progress("")
    if context.as_json:
        output.document(_as_json(receipt))
    else:
        _tell(context, receipt)
    return 0 if receipt.ok else 1


def _progress(context: Context) -> Progress | None:
    from convsync_agent.progress import Stage, Step  # noqa: PLC0415

    bar = context.bar()
    return None if bar is None else lambda done, total, files, size: bar(Step(Stage.READ, done, total, files, size))


def _as_json(receipt: Receipt) -> dict[str, object]:
    return {
        "ok": receipt.ok,
        "conversations": receipt.conversations,
        "files": receipt.files,
        "bytes": receipt.bytes,
        "digest": receipt.digest,
        "at": receipt.at_ms,
        "problems": [p.as_json() for p in receipt.problems],
    }


def _tell(context: Context, receipt: Receipt) -> None:
    for problem in receipt.problems:
        who = f" jp-c{problem.conversation}" if problem.conversation is not None else ""
        where = f" in {output.tilde(problem.worktree)}" if problem.worktree else ""
        output.line(f"{output.colored(problem.kind, 'red')}{who}{where}: {problem.detail}")
    read = f"{output.plural(receipt.files, 'file')}, {output.size(receipt.bytes)}"
    if receipt.ok and not context.quiet:
        output.line(
            f"verified {output.plural(receipt.conversations, 'conversation')} ({read} read): durable, valid and equal"
        )
        output.line(f"receipt {receipt.digest}")
    elif not receipt.ok:
        output.line(
            f"{output.plural(len(receipt.problems), 'problem')} in {read}; try: convsync sync, then verify again"
        )
