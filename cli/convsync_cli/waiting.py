"""Somebody else holds the lock: wait as long as was asked for, then ask on a terminal what to do (contract 7.5)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from convsync_agent.errors import LockHeld
from convsync_cli import output
from convsync_cli.patience import lock_patience

T = TypeVar("T")
CONTINUE, CANCEL = "continue waiting", "cancel"
LONGER = "try again when it is done, or wait longer: --wait 2m (or JP_LOCK_DURATION=2m)"


def patiently(
    act: Callable[[float], T],
    *,
    wait: float | None = None,
    instead: Mapping[str, Callable[[], T]] | None = None,
) -> T:
    """Do something that needs JP's lock; it gets the deadline (of `time.monotonic`) until which it may wait.

    `wait`: seconds, of a command that has `--wait`, instead of `$JP_LOCK_DURATION`. On a terminal a person may go on
    waiting, each time as long again, or choose one of `instead`, by what it is called; off a terminal, or when they
    cancel, the LockHeld comes out (exit 5), and nothing has changed.
    """
    patience = lock_patience() if wait is None else wait
    others = instead or {}
    while True:
        try:
            return act(time.monotonic() + patience)
        except LockHeld as held:
            if wait is not None:
                held.hint = LONGER
            chosen = _choice(held, [*others]) if sys.stdin.isatty() and sys.stderr.isatty() else CANCEL
            if chosen == CANCEL:
                raise
        if chosen != CONTINUE:
            return others[chosen]()


def _choice(held: LockHeld, others: list[str]) -> str:
    """What a person says; nobody there to say anything is a no."""
    ways = {str(number): way for number, way in enumerate([CONTINUE, *others, CANCEL], 1)}
    output.progress("")  # the line of how far it was
    output.note(str(held))
    for number, way in ways.items():
        output.note(f"  {number}  {way}")
    while True:
        sys.stderr.write("what now? [1] ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            output.note("")
            return CANCEL
        chosen = ways.get(line.strip() or "1")
        if chosen is not None:
            return chosen
        output.note(f"a number from 1 to {len(ways)}")
