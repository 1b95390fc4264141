"""Somebody else holds the lock: wait as long as was asked for, then ask on a terminal what to do (contract 7.5)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeVar

import click

from convsync_agent.errors import LockHeld
from convsync_cli import output
from convsync_cli.patience import lock_patience

T = TypeVar("T")


def patiently(act: Callable[[float], T], *, wait: float | None = None) -> T:
    """Do something that needs JP's lock; it gets the deadline (of `time.monotonic`) until which it may wait.

    `wait`: seconds, instead of `$JP_LOCK_DURATION`. On a terminal a person may go on waiting, each time as long
    again; off a terminal, or when they cancel, the LockHeld comes out (exit 5), and nothing has changed.
    """
    patience = lock_patience() if wait is None else wait
    while True:
        try:
            return act(time.monotonic() + patience)
        except LockHeld as held:
            if not (sys.stdin.isatty() and sys.stderr.isatty()) or not _goes_on(held):
                raise


def _goes_on(held: LockHeld) -> bool:
    output.note(str(held))
    output.note("  1  continue waiting")
    output.note("  2  cancel")
    number: int = click.prompt("what now", type=click.IntRange(1, 2), default=1, err=True)
    return number == 1
