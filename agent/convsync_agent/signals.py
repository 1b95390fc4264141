"""Signals as a context: our handlers inside, the old ones again outside."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def handled(on_stop: Callable[[], bool], on_reload: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT ask to stop; a second one ends at once. SIGHUP asks to read the registry anew.

    SIGIO is ignored: the lease that proves a replaced file unwritable must never be able to end us.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        if on_stop():
            raise SystemExit(128 + number)

    def reload(_number: int, _frame: FrameType | None) -> None:
        on_reload()

    wanted: dict[int, Any] = {signal.SIGTERM: stop, signal.SIGINT: stop}
    for name, handler in (("SIGHUP", reload), ("SIGIO", signal.SIG_IGN)):
        if hasattr(signal, name):
            wanted[getattr(signal, name)] = handler
    old: dict[int, Any] = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
