"""Show something again and again: the whole screen on a terminal, a document for each change elsewhere."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

from convsync_cli import columns, output

EVERY_SECONDS = 1.0
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"  # a screen of its own, without a cursor


class Look(NamedTuple):
    """What is to be shown, and `mark`, which is another when something changed (ages do not count)."""

    lines: list[str]
    mark: str


def watch(look: Callable[[], Look]) -> int:
    """Until Ctrl-C, which is how it ends: exit code 0. Draws anew when the terminal changes its size."""
    try:
        if output.is_terminal() and os.environ.get("TERM", "dumb") != "dumb":
            with _screen(), _resizes() as resized:
                while True:
                    _draw(look().lines)
                    _pause(resized)
        _print_changes(look)
    except KeyboardInterrupt:
        pass
    return 0


def fitted(lines: list[str], width: int, height: int) -> list[str]:
    """What a screen can show: lines cut to its width; where they are too many the last one says how many more."""
    if len(lines) > height:
        lines = [*lines[: max(0, height - 1)], f"and {len(lines) - height + 1} more lines"]
    return [columns.cut(line, width) for line in lines][: max(1, height)]


def _draw(lines: list[str]) -> None:
    """In one write, over what was there: what is the same does not flicker."""
    size = os.get_terminal_size(sys.stdout.fileno())
    foot = output.colored(f"looked at {time.strftime('%H:%M:%S')}, again every second; Ctrl-C ends", "dim")
    shown = [*fitted(lines, size.columns, size.lines - 1), columns.cut(foot, size.columns)]
    text = "\x1b[H" + "\n".join(f"{output.printable(line)}\x1b[K" for line in shown) + "\x1b[J"
    sys.stdout.write(text)
    sys.stdout.flush()


def _print_changes(look: Callable[[], Look]) -> None:
    before = None
    while True:
        lines, mark = look()
        if mark != before:
            output.line(("" if before is None else "\n") + "\n".join(lines))
            sys.stdout.flush()
            before = mark
        time.sleep(EVERY_SECONDS)


def _pause(resized: int) -> None:
    """A second, or until the terminal has another size."""
    if select.select([resized], [], [], EVERY_SECONDS)[0]:
        with contextlib.suppress(BlockingIOError):
            os.read(resized, 4096)


@contextmanager
def _screen() -> Iterator[None]:
    """Whatever ends us (Ctrl-C, a signal, an error) finds the terminal as it was; Ctrl-Z too."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    def stop(number: int, _frame: FrameType | None) -> None:
        _put(LEAVE)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def again(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTSTP, stop)
        _put(ENTER)

    handlers = {signal.SIGTERM: end, signal.SIGHUP: end, signal.SIGTSTP: stop, signal.SIGCONT: again}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    _put(ENTER)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the terminal may be what went
            _put(LEAVE)
        for number, was in before.items():
            signal.signal(number, was)


@contextmanager
def _resizes() -> Iterator[int]:
    """A descriptor that can be read when a signal came, SIGWINCH for one."""
    reading, writing = os.pipe()
    for fd in (reading, writing):
        os.set_blocking(fd, False)
    signals = signal.signal(signal.SIGWINCH, lambda *_: None), signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(signals[1])
        signal.signal(signal.SIGWINCH, signals[0])
        os.close(reading)
        os.close(writing)


def _put(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
