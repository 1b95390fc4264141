"""`hooks`: print what makes git, shells and worktree managers ask us before a worktree goes."""

from __future__ import annotations

import click

from convsync_agent.errors import NotFound
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context
from convsync_cli.snippets import SNIPPETS, Snippet


@command("hooks", example="convsync hooks git", short_help="Print hooks that make sure before a worktree goes.")
@click.argument("hook", default="", metavar="[NAME]")
def hooks(context: Context, hook: str) -> int:
    """Print a ready hook: an alias for git, a function for your shell, a hook for a worktree manager.

    Each makes sure that all of a worktree is durable before it is removed, and keeps it where it is not. Without NAME
    they are listed, each with the line that installs it. Nothing is written anywhere.
    """
    if not hook:
        _list(context)
        return 0
    found = next((s for s in SNIPPETS if s.name == hook), None)
    if found is None:
        raise NotFound(
            "no such hook", where=hook, hint=f"one of: {', '.join(s.name for s in SNIPPETS)}", code="no-hook"
        )
    if context.as_json:
        output.document(_as_json(found))
    else:
        output.line(found.text.rstrip("\n"))
    return 0


def _list(context: Context) -> None:
    if context.as_json:
        output.document({"hooks": [_as_json(s) for s in SNIPPETS]})
        return
    for number, one in enumerate(SNIPPETS):
        if number:
            output.line()
        output.line(f"{output.colored(one.name, 'bold')}: {one.purpose}")
        output.line(f"  {one.install}")


def _as_json(one: Snippet) -> dict[str, str]:
    return {"name": one.name, "purpose": one.purpose, "install": one.install, "text": one.text}
