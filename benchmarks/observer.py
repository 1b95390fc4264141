"""Says when the bytes of one conversation have arrived somewhere, woken by inotify only."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.home import Failed
from benchmarks.inotify import CLOSE_WRITE, DELETE, MOVED_TO, Inotify
from benchmarks.workload import EVENTS, METADATA, files_of, put, read
from convsync_agent.names import lock_name, parse_dirname

PATIENCE = 20.0


class Observer:
    """Of the given conversations in each target; with `locks`, also of JP's lock files there being released."""

    def __init__(self, targets: list[str], names: list[str], locks: str = "") -> None:
        self.targets = targets
        self._inotify = Inotify()
        self._locks = self._inotify.add(locks, DELETE) if locks else -1
        self._target = {self._inotify.add(f"{t}/{n}", MOVED_TO | CLOSE_WRITE): t for t in targets for n in names}

    def forget(self) -> None:
        self._inotify.drain()

    def wait(self, name: str, expected: dict[str, bytes], patience: float = PATIENCE) -> tuple[dict[str, float], float]:
        """When each target was equal, and when the lock went after the first of them was.

        Raises:
            Failed: something had not arrived after this many seconds.

        """
        equal: dict[str, float] = {}
        released, until = 0.0, time.perf_counter() + patience
        lock = lock_name(parse_dirname(name) or 0)
        while len(equal) < len(self.targets) or (self._locks >= 0 and not released):
            for event in self._inotify.wait(min(0.5, patience)):
                if event.watch == self._locks:
                    if event.name == lock and self.targets[0] in equal and not released:
                        released = time.perf_counter()
                    continue
                target = self._target.get(event.watch)
                if target and target not in equal and _has(f"{target}/{name}", expected):
                    equal[target] = time.perf_counter()
            if time.perf_counter() > until:
                raise Failed(f"never arrived: a change in {len(self.targets) - len(equal)} places")
        return equal, released


def _has(directory: str, expected: dict[str, bytes]) -> bool:
    """Sizes first: while a large file is still being written, reading it would cost the writer its time."""
    try:
        if any(os.stat(f"{directory}/{f}").st_size != len(raw) for f, raw in expected.items()):
            return False
        return all(read(f"{directory}/{f}") == raw for f, raw in expected.items())
    except FileNotFoundError:
        return False


@contextmanager
def observing(targets: list[str], names: list[str], locks: str = "") -> Iterator[Observer]:
    made = Observer(targets, sorted(set(names)), locks)
    try:
        yield made
    finally:
        made._inotify.close()  # noqa: SLF001 - its own


def change(directory: str, new: dict[str, bytes], observer: Observer) -> tuple[float, dict[str, bytes]]:
    """Write `new` as JP does. The time just before its renames, and all files of the conversation as they are then."""
    expected = files_of(directory) | new
    order = [f for f in (METADATA, EVENTS) if f in new]
    for file in order:
        put(f"{directory}/{file}", new[file])
    observer.forget()
    began = time.perf_counter()
    for file in order:
        os.rename(f"{directory}/{file}.tmp", f"{directory}/{file}")
    return began, expected
