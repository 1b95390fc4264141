"""Every command and sub-command shows an example in its help, and the parser takes it."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from convsync_cli import main


def walk() -> dict[str, click.Command]:
    """Every command by the words that call it."""
    top = click.Context(main.cli, info_name="convsync")
    found: dict[str, click.Command] = {}
    for name in main.COMMANDS:
        command = main.cli.get_command(top, name)
        assert command is not None
        found[name] = command
        if isinstance(command, click.Group):
            found |= {f"{name} {sub}": inner for sub, inner in command.commands.items()}
    return found


@pytest.mark.parametrize("name", walk())
def test_every_command_shows_an_example(machine, name):
    """It calls this very command, and what follows is good usage of it."""
    shown = machine.ok(*name.split(), "--help").out.partition("Example:\n")[2].strip()
    told = re.search(rf"convsync {name}\b([^>|)]*)", shown)

    assert told, f"no example that calls convsync {name}: {shown!r}"
    command = walk()[name]
    context = click.Context(main.cli, info_name="convsync", obj=None)
    words = shlex.split(told[1])
    if isinstance(command, click.Group):
        command, words = command.commands[words[0]], words[1:]
    assert command.make_context(name, words, parent=context).params is not None


def test_the_help_of_all_fits_a_terminal(machine, monkeypatch):
    """80 columns, and not one more."""
    monkeypatch.setenv("COLUMNS", "80")
    for name in ["", *walk()]:
        wide = [line for line in machine.ok(*name.split(), "--help").out.splitlines() if len(line) > 80]
        assert not wide, name
