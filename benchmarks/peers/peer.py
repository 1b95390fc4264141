"""What every adapter has: how to start, how to know that it is ready, how to end what was started and nothing else."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import proc
from benchmarks.home import Failed


class Peer(ABC):
    """One synchroniser between `a`, where the edits are, and `b`. What it keeps is in `state`, which is its own."""

    name = ""
    label = ""
    needs: tuple[str, ...] = ()
    two_way = True

    def __init__(self, a: str, b: str, state: str) -> None:
        self.a, self.b, self.state = a, b, state
        self.log = f"{state}/log"
        self._running: list[subprocess.Popen] = []

    # -- what an adapter says ---------------------------------------------------

    @classmethod
    def version(cls) -> str:
        return proc.first_line(cls.needs[0], "--version")

    def prepare(self) -> None:  # noqa: B027  # most need no configuration
        """Write its configuration into `state`, which is there and empty."""

    @abstractmethod
    def commands(self) -> list[list[str]]:
        """What runs until it is ended."""

    def env(self) -> dict[str, str]:
        return {}

    @abstractmethod
    def ready(self) -> bool:
        """Whether it has seen that both sides are equal. Asked often."""

    # -- what it gets -----------------------------------------------------------

    @classmethod
    def missing(cls) -> str:
        """What of it is not installed; '' if it can run."""
        return ", ".join(program for program in cls.needs if not shutil.which(program))

    def said(self) -> str:
        try:
            with open(self.log, encoding="utf-8", errors="replace") as log:
                return log.read()
        except FileNotFoundError:
            return ""

    def use(self) -> proc.Use:
        return proc.use(*(p.pid for p in self._running))

    def pids(self) -> list[int]:
        return [p.pid for p in self._running]

    @contextmanager
    def running(self, patience: float) -> Iterator[float]:
        """It runs while inside; gives the seconds it took to be ready.

        Raises:
            Failed: it ended by itself, or was not ready after `patience` seconds.

        """
        began = time.perf_counter()
        try:
            self.start()
            while not self.ready():
                ended = any(p.poll() is not None for p in self._running)
                if ended or time.perf_counter() - began > patience:
                    raise Failed(f"{'ended by itself' if ended else 'not ready'} after {patience:.0f} s at most")
                time.sleep(0.02)
            yield time.perf_counter() - began
        finally:
            self.stop()

    def start(self) -> None:
        os.makedirs(self.state)
        self.prepare()
        home = {"PATH": os.environ["PATH"], "HOME": self.state, "LANG": "C.UTF-8", "USER": "bench"}
        with open(self.log, "ab") as log:
            for command in self.commands():
                about = {"env": home | self.env(), "cwd": self.state, "stdin": subprocess.DEVNULL}
                started = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, **about)
                self._running.append(started)

    def stop(self) -> None:
        """End what was started here, and what that started, each by its own id."""
        all_of_it = proc.family(self.pids())
        for process in self._running:
            process.terminate()
        for process in self._running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        sessions, killed = set(self.pids()), []
        for pid in all_of_it:
            with contextlib.suppress(ProcessLookupError):
                if os.getsid(pid) in sessions:  # else its number is another's by now
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
        until = time.perf_counter() + 10
        while any(map(proc.name_of, killed)) and time.perf_counter() < until:
            time.sleep(0.01)
        for process in self._running:
            process.wait()
        self._running.clear()
