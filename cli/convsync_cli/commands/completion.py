"""`completion`: the script a shell needs to complete our commands and options."""

from __future__ import annotations

import click

from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.completing import SHELLS
from convsync_cli.context import Context


@command(
    "completion",
    example='eval "$(convsync completion bash)"',
    short_help="Print the completion script of a shell.",
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(context: Context, shell: str) -> int:
    """Print the completion script for SHELL: bash, zsh or fish.

    Put the example into the start-up file of your shell; for fish write the output to
    ~/.config/fish/completions/convsync.fish. It completes commands, options, ids of conversations, registered
    worktrees, settings and kept versions.
    """
    from convsync_cli.shells import SCRIPTS  # noqa: PLC0415

    script = SCRIPTS[shell]
    if context.as_json:
        output.document({"shell": shell, "script": script})
    else:
        output.line(script.rstrip("\n"))
    return 0
