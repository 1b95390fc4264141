"""The decorator every command uses: global flags on both sides, its name, an example in its help."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from convsync_cli import output
from convsync_cli.completing import teach
from convsync_cli.context import Context
from convsync_cli.main import global_options


def command(
    name: str, *, example: str, quiet_long_only: bool = False, **settings: Any
) -> Callable[[Callable[..., Any]], click.Command]:
    """A click command that gets the `Context` first and returns its exit code (None is 0)."""

    def wrap(function: Callable[..., Any]) -> click.Command:
        @functools.wraps(function)
        def call(**flags: Any) -> int:
            context: Context = click.get_current_context().obj
            rest = context.take(flags)
            output.set_plain(plain=context.no_color)
            return function(context, **rest) or 0

        decorate: Any = click.command(name, epilog=f"\b\nExample:\n  {example}", **settings)
        found: click.Command = decorate(call)
        for option in global_options():
            if quiet_long_only and option.name == "quiet":
                option.opts = ["--quiet"]  # `ls` has its own -q (cli.md)
            found.params.append(option)
        teach(found)
        return found

    return wrap
