"""argv -> exit code. Sub-commands are imported when they are used; every error becomes two lines here."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

import click

from convsync_agent import __version__
from convsync_agent.errors import ConvsyncError, UsageProblem, kind_of, reason_of, storage_problem
from convsync_cli import output
from convsync_cli.completing import KINDS, SHELLS, VARIABLE, answer
from convsync_cli.context import Context

SECTIONS: dict[str, dict[str, str]] = {
    "Worktrees": {
        "register": "worktrees",
        "unregister": "worktrees",
        "status": "status",
        "sync": "sync",
        "verify": "verify",
        "remove-worktree": "recovery",
        "recover": "recovery",
        "migrate": "migrate",
        "pause": "pauses",
        "resume": "pauses",
        "hooks": "hooks",
    },
    "Conversations": {
        "ls": "listing",
        "show": "listing",
        "path": "listing",
        "edit": "editing",
        "fork": "fork",
        "import": "projections",
        "project": "projections",
        "unproject": "projections",
        "archive": "archive",
        "unarchive": "archive",
        "rm": "rm",
        "trash": "trash",
    },
    "What was replaced": {
        "history": "versions",
        "diff": "diff",
        "restore": "versions",
        "undo": "versions",
        "accept": "accept",
    },
    "Terminals and locks": {
        "use": "sessions",
        "session": "sessions",
        "lock": "locks",
        "locks": "locks",
    },
    "Agent and settings": {
        "agent": "agent",
        "service": "service",
        "uninstall": "uninstall",
        "doctor": "doctor",
        "config": "settings",
        "completion": "completion",
        "demo": "demo",
    },
}
COMMANDS = {name: module for section in SECTIONS.values() for name, module in section.items()}
EPILOG = "Start here: convsync register <worktree>, convsync status."


class Lazy(click.Group):
    """A group whose commands live in modules that are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        name = cmd_name.replace("-", "_") + ("_" if cmd_name == "import" else "")  # a word of the language
        found = getattr(importlib.import_module(f"convsync_cli.commands.{module}"), name)
        assert isinstance(found, click.Command)  # noqa: S101
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """An unknown command is answered with the one that was probably meant."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            import difflib  # noqa: PLC0415

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"convsync {near[0]}" if near else "convsync --help"
            raise UsageProblem("no such command", where=args[0], hint=hint, code="no-command")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        from convsync_cli.summaries import SUMMARIES  # noqa: PLC0415

        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, SUMMARIES[name]) for name in names])


def global_options() -> list[click.Parameter]:
    """The options that are accepted before and after every command (cli.md)."""
    return [
        click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document on stdout."),
        click.Option(["-q", "--quiet"], is_flag=True, help="Print only what needs attention."),
        click.Option(["-v", "--verbose"], count=True, help="Say more; twice shows a traceback of an internal error."),
        click.Option(["--no-color"], is_flag=True, help="No colour, as NO_COLOR does."),
        click.Option(["--config"], metavar="FILE", type=KINDS["config"], help="Use this configuration file."),
        click.Option(
            ["--set", "sets"], multiple=True, metavar="KEY=VALUE", type=KINDS["sets"], help="Override one setting."
        ),
    ]


@click.command(
    cls=Lazy, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80}
)
@click.version_option(__version__, prog_name="convsync", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, /, **flags: Any) -> None:
    """Keep every JP conversation durable and in step across git worktrees."""
    ctx.obj.take(flags)


cli.params[:0] = global_options()


def run(argv: Sequence[str]) -> int:
    """Run one command. Returns the exit code of cli.md; never a traceback unless -vv."""
    context = Context()
    as_json = "--json" in argv[: argv.index("--") if "--" in argv else None]
    _ignore_lease_breaks()
    try:
        shell = os.environ.get(VARIABLE)
        if shell in SHELLS:  # one of our scripts asks
            for line in answer(cli, shell, argv):
                output.line(line)
            return 0
        result = cli.main(args=list(argv), prog_name="convsync", standalone_mode=False, obj=context)
        code = result if isinstance(result, int) else 0
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (KeyboardInterrupt, click.exceptions.Abort):
        return 130
    except click.exceptions.NoArgsIsHelpError as asked:
        output.line(asked.ctx.get_help())
        return 0
    except Exception as error:  # noqa: BLE001  # the one place that turns any fault into two lines
        problem = as_problem(error)
        if context.verbose > 1 and problem.code == "internal":
            import traceback  # noqa: PLC0415

            traceback.print_exc()
        output.error(problem, as_json=as_json or context.as_json)
        return problem.exit_code
    return code


def _ignore_lease_breaks() -> None:
    """SIGIO comes when somebody opens a file that we are asking about (`kernel.unwritable`); it must not end us."""
    if hasattr(signal, "SIGIO") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGIO, signal.SIG_IGN)


def as_problem(error: Exception) -> ConvsyncError:
    """Any exception as something a person can act on."""
    if isinstance(error, ConvsyncError):
        return error
    if isinstance(error, click.ClickException):
        name = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "convsync"
        return UsageProblem(error.format_message().rstrip("."), hint=f"{name} --help")
    if isinstance(error, OSError):
        return storage_problem(error, "convsync", f"finish ({kind_of(error)}: {reason_of(error)})")
    return ConvsyncError(
        f"internal error: {type(error).__name__}", hint="run it again with -vv and report what it says", code="internal"
    )
