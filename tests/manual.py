"""Man pages in roff, made from what click knows of the commands: nothing is said in two places."""

from __future__ import annotations

import inspect
import re

import click

from convsync_agent import __version__
from convsync_cli import main

DATE = "2026-11-21"  # of the last release; a man page has to have one
EXIT = {
    0: "done",
    1: "the check says no: attention is needed",
    2: "bad usage or bad input",
    3: "not found",
    4: "refused: possible, but not safe or not allowed",
    5: "a lock was not obtained",
    6: "a storage problem: full, read-only, I/O",
    7: "the agent is not running or does not answer",
}
ENVIRONMENT = {
    "JP_USER_DATA_DIR": "Where JP keeps its user data; the silos are in it.",
    "CONVSYNC_CONFIG": "The configuration file, in place of the platform's.",
    "CONVSYNC_STATE_DIR": "The directory of state.db, agent.lock and runtime.json.",
    "CONVSYNC_DATA_DIR": "The directory of the history and the trash.",
    "CONVSYNC_IMPORT__POLICY": "Any setting: its key in capitals, a dot as two underscores.",
    "JP_LOCK_DURATION": "How long to wait for a lock: 10s, 2m, 0. 30 seconds by default.",
    "NO_COLOR": "No colour.",
}


def pages() -> dict[str, str]:
    """Every page by its file name."""
    top = click.Context(main.cli, info_name="convsync")
    found = {"convsync.1": _top(top)}
    for name in main.COMMANDS:
        command = main.cli.get_command(top, name)
        assert command is not None
        found[f"convsync-{name}.1"] = _page(command, click.Context(command, info_name=name, parent=top))
    return found


def _page(command: click.Command, ctx: click.Context) -> str:
    name = f"convsync-{ctx.info_name}"
    lines = [*_head(name, command.get_short_help_str(200)), *_synopsis(command, ctx)]
    lines += [".SH DESCRIPTION", *_prose(command.help or "")]
    lines += _options(command, ctx)
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for sub in sorted(command.commands):
            inner = click.Context(command.commands[sub], info_name=sub, parent=ctx)
            lines += [f".SS {_inner(inner.command_path)}", *_usage(inner.command, inner), ".PP"]
            lines += _prose(inner.command.help or "")
            lines += _listed(_own(inner.command), inner)
    lines += _examples(command)
    lines += [
        ".SH EXIT STATUS",
        _text("0 when done. The others are in "),
        ".BR convsync (1).",
        *_see(str(ctx.info_name)),
    ]
    return "\n".join(lines) + "\n"


def _top(ctx: click.Context) -> str:
    lines = [*_head("convsync", "keep every JP conversation durable and in step"), ".SH SYNOPSIS", ".B convsync"]
    lines += [_text("[OPTIONS] COMMAND [ARGS]..."), ".SH DESCRIPTION", *_prose(ctx.command.help or "")]
    lines += ["Start with", ".BR convsync-register (1),", "then", ".BR convsync-agent (1)", "and"]
    lines += [".BR convsync-status (1).", ".SH OPTIONS", "They are accepted before and after every command."]
    lines += _listed(ctx.command.params, ctx)
    for title, names in main.SECTIONS.items():
        lines.append(f".SH {_inner(title.upper())}")
        for name in names:
            command = main.cli.get_command(ctx, name)
            assert command is not None
            lines += [".TP", f".BR {_inner(f'convsync-{name}')} (1)", _text(command.get_short_help_str(200))]
    lines.append(".SH EXIT STATUS")
    for code, meaning in EXIT.items():
        lines += [".TP", f".B {code}", _text(meaning)]
    lines.append(".SH ENVIRONMENT")
    for variable, meaning in ENVIRONMENT.items():
        lines += [".TP", f".B {_inner(variable)}", _text(meaning)]
    return "\n".join([*lines, ".SH SEE ALSO", ".BR git-worktree (1),", ".BR jp (1)"]) + "\n"


# -- parts --------------------------------------------------------------------------


def _head(name: str, short: str) -> list[str]:
    title = f'.TH {_inner(name.upper())} 1 {DATE} "convsync {__version__}" "convsync manual"'
    return ['.\\" Made by tests/manual.py.', title, ".SH NAME", f"{_inner(name)} \\- {_text(short.rstrip('.'))}"]


def _synopsis(command: click.Command, ctx: click.Context) -> list[str]:
    return [".SH SYNOPSIS", *_usage(command, ctx)]


def _usage(command: click.Command, ctx: click.Context) -> list[str]:
    return [f".B {_inner(ctx.command_path)}", _text(" ".join(command.collect_usage_pieces(ctx)))]


def _own(command: click.Command) -> list[click.Parameter]:
    """Its options without those that every command takes."""
    everywhere = {option.name for option in main.global_options()}
    return [p for p in command.params if isinstance(p, click.Option) and p.name not in everywhere]


def _options(command: click.Command, ctx: click.Context) -> list[str]:
    listed = _listed(_own(command), ctx)
    return [".SH OPTIONS", *listed, *([".PP"] if listed else []), "Those of", ".BR convsync (1)", "are accepted, too."]


def _listed(params: list[click.Parameter], ctx: click.Context) -> list[str]:
    lines = []
    for param in params:
        record = param.get_help_record(ctx)
        if record:
            words = re.split(r"([ ,]+)", record[0])
            left = "".join(f"\\fB{_inner(w)}\\fR" if w.startswith("-") else _inner(w) for w in words)
            lines += [".TP", left, _text(record[1])]
    return lines


def _examples(command: click.Command) -> list[str]:
    shown = [line.strip() for line in (command.epilog or "").splitlines()[2:] if line.strip()]
    return [".SH EXAMPLES", ".EX", *(_text(line) for line in shown), ".EE"] if shown else []


def _see(name: str) -> list[str]:
    near = next(names for names in main.SECTIONS.values() if name in names)
    others = [f".BR {_inner(f'convsync-{n}')} (1)," for n in near if n != name]
    return [".SH SEE ALSO", ".nh", ".ad l", *others, ".BR convsync (1)"]


def _prose(text: str) -> list[str]:
    """Paragraphs of a docstring; what follows a backspace keeps its lines."""
    lines: list[str] = []
    for number, paragraph in enumerate(inspect.cleandoc(text).split("\n\n")):
        lines += [".PP"] if number else []
        if paragraph.startswith("\b"):
            lines += [".nf", *(_text(line) for line in paragraph.splitlines()[1:]), ".fi"]
        else:
            lines.append(_text(" ".join(paragraph.split())))
    return lines


def _text(text: str) -> str:
    """A line of text: what is between backquotes in bold, nothing of it a request."""
    parts = text.split("`")
    line = "".join(f"\\fB{_inner(p)}\\fR" if n % 2 and n < len(parts) - 1 else _inner(p) for n, p in enumerate(parts))
    return f"\\&{line}" if line.startswith((".", "'")) else line


def _inner(text: str) -> str:
    safe = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti").replace("^", "\\(ha")
    return "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in safe)
