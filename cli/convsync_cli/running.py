"""Run somebody else's command in the foreground, as a shell does: signals go on to it, its exit code is ours."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

from convsync_agent.errors import ConvsyncError

FORWARDED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
OF_THE_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)
LOOK_SECONDS = 0.5
NOT_FOUND, NOT_RUN = 127, 126


class CannotRun(ConvsyncError):
    """The command was not started; the exit code is the one of a shell."""

    default_code = "cannot-run"


class Foreground:
    """One command. Until it runs a signal ends us, so that what we hold is let go; from then on it gets them."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = False
        self._ended_by = 0
        self._pending: list[int] = []

    @contextmanager
    def handling(self) -> Iterator[None]:
        """Our handlers inside, the old ones again outside. What was ignored (`nohup`) stays ignored."""
        numbers = [getattr(signal, name) for name in FORWARDED if hasattr(signal, name)]
        old: dict[int, Any] = {n: signal.getsignal(n) for n in numbers}
        mine = [n for n in numbers if old[n] is not signal.SIG_IGN]
        for number in mine:
            signal.signal(number, self._got)
        try:
            yield
        except Exception:  # what a signal broke off in the middle of something may come out as anything
            if self._ended_by:
                raise SystemExit(128 + self._ended_by) from None
            raise
        finally:
            for number in mine:
                signal.signal(number, old[number])

    def run(
        self, argv: Sequence[str], extra: Mapping[str, str], *, watch: Callable[[], None] | None, to_stderr: bool
    ) -> int:
        """Its exit code, or 128 and the signal that ended it. `watch` is called now and then. Raises CannotRun.

        No descriptor of ours goes along, so a lock that we hold ends with us and not with what it started.
        """
        if self._ended_by:  # it came where Python lets no exception out, in the middle of an import
            raise SystemExit(128 + self._ended_by)
        sys.stdout.flush()
        out = sys.stderr.fileno() if to_stderr else None
        self._starting = True
        try:
            with _as_it_was():
                self._process = subprocess.Popen(list(argv), env={**os.environ, **extra}, stdout=out)
        except FileNotFoundError:
            raise _cannot("no such command", argv[0], NOT_FOUND) from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a command line"
            raise _cannot(f"cannot run it: {reason}", argv[0], NOT_RUN) from None
        finally:
            self._starting = False
        for number in self._pending:
            self._process.send_signal(number)
        code = self._wait(self._process, watch)
        return code if code >= 0 else 128 - code

    @staticmethod
    def _wait(process: subprocess.Popen[bytes], watch: Callable[[], None] | None) -> int:
        while watch is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(LOOK_SECONDS)
                watch()
                return code
            watch()
        return process.wait()

    def _got(self, number: int, _frame: FrameType | None) -> None:
        if self._process is not None:
            if number not in OF_THE_KEYBOARD or not _has_the_terminal():
                self._process.send_signal(number)
        elif self._starting:
            self._pending.append(number)
        else:
            self._ended_by = number
            raise SystemExit(128 + number)


@contextmanager
def _as_it_was() -> Iterator[None]:
    """What we ignore for our own sake (`main`) is not ignored by what we start. No lease is asked for meanwhile."""
    number = getattr(signal, "SIGIO", None)
    if number is None:
        yield
        return
    old = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, old)


def _has_the_terminal() -> bool:
    """What is typed there reaches every process of the foreground, ours and the one we started."""
    try:
        fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(fd)


def _cannot(what: str, command: str, code: int) -> CannotRun:
    error = CannotRun(what, where=command)
    error.exit_code = code
    return error
