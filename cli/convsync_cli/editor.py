"""The editor of the person who asks: which one, run as git runs it, with signals where they belong."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from convsync_agent.errors import UsageProblem

VARIABLES = ("JP_EDITOR", "VISUAL", "EDITOR")
_SHELL = frozenset("|&;<>()$`*?[]#~=%!{}\n")
_NOT_RUN = (126, 127)  # what a shell says of a program that it cannot run


def chosen(env: Mapping[str, str] | None = None) -> tuple[str, str]:
    """The variable that names it, and the command. Raises UsageProblem where none does."""
    env = os.environ if env is None else env
    for variable in VARIABLES:
        if env.get(variable, "").strip():
            return variable, env[variable]
    raise UsageProblem("no editor is set", where="$JP_EDITOR, $VISUAL, $EDITOR", hint="EDITOR=vi convsync edit ...")


def run(paths: Sequence[str], fd: int, *, aside: bool) -> int:
    """Open the paths in the editor and wait. The exit code; negative, or above 128: a signal ended it.

    `fd` is inherited, so that what locks it stays locked as long as the editor lives. `aside`: what it prints goes to
    stderr. Raises UsageProblem where it cannot be run.
    """
    variable, command = chosen()
    running: list[subprocess.Popen[bytes]] = []
    early: list[int] = []
    with _signals(running, early):
        try:
            running.append(subprocess.Popen(_argv(command, paths), pass_fds=(fd,), stdout=2 if aside else None))
        except (OSError, ValueError):
            raise _not_run(variable) from None
        for number in early:  # it runs before we know its number
            running[0].send_signal(number)
        code = running[0].wait()
    if code in _NOT_RUN:
        raise _not_run(variable)
    return code


def _argv(command: str, paths: Sequence[str]) -> list[str]:
    """Shell words, as git takes them: a shell where there is something for it to do."""
    if not _SHELL & set(command):
        try:
            return [*shlex.split(command), *paths]
        except ValueError:
            pass  # an unbalanced quote: the shell says so
    return ["sh", "-c", f'{command} "$@"', command, *paths]


def _not_run(variable: str) -> UsageProblem:
    return UsageProblem("the editor cannot be run", where=f"${variable}", hint="EDITOR=vi convsync edit ...")


@contextmanager
def _signals(running: Sequence[subprocess.Popen[bytes]], early: list[int]) -> Iterator[None]:
    """Ctrl-C is the editor's; who ends us ends it first, and then what it left is looked at."""

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if not running:
            early.append(number)
        for process in running:
            process.send_signal(number)

    def leave(_number: int, _frame: FrameType | None) -> None:
        """The terminal sends it to the editor, too. (Not ignored: that would be inherited.)"""

    wanted = {signal.SIGINT: leave, signal.SIGQUIT: leave, signal.SIGTERM: pass_on, signal.SIGHUP: pass_on}
    old = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
