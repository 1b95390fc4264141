"""`completion`: the script a shell needs to complete our commands and options."""

from __future__ import annotations

import click

from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context

VARIABLE = "_CONVSYNC_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


@command(
    "completion",
    example='eval "$(convsync completion bash)"',
    short_help="Print the completion script of a shell.",
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(context: Context, shell: str) -> int:
    """Print the completion script for SHELL: bash, zsh or fish.

    Put the example into the start-up file of your shell; for fish write the output to
    ~/.config/fish/completions/convsync.fish.
    """
    from click.shell_completion import ShellComplete, get_completion_class  # noqa: PLC0415

    from convsync_cli.main import cli  # noqa: PLC0415

    found = get_completion_class(shell)
    assert found is not None  # noqa: S101  # click knows all of SHELLS
    # Not the class's own `source`: for bash that starts a bash to ask for its version.
    script = ShellComplete.source(found(cli, {}, "convsync", VARIABLE))
    if context.as_json:
        output.document({"shell": shell, "script": script})
    else:
        output.line(script.rstrip("\n"))
    return 0
