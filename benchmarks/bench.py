"""One machine that is measured: a workload, a home, a floor; what has been found so far."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.budgets import budget_of
from benchmarks.floors import Floor
from benchmarks.home import Home
from benchmarks.proc import Noise, wait_for_calm
from benchmarks.report import Row
from benchmarks.workload import LARGE, Workload


@dataclass
class Bench:
    """Trees are made when they are first needed, from one master copy, and stay until the end."""

    base: Path
    count: int
    quick: bool
    floor: Floor
    work: Workload
    worktrees: tuple[int, ...] = (1,)
    peers: tuple[str, ...] = ()
    calm: float = 0.0
    rows: list[Row] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    bytes: int = 0
    _home: Home | None = None
    _made: int = 0

    def times(self, full: int, quick: int = 1) -> int:
        """How often something is repeated: less often where it takes longest."""
        return quick if self.quick else max(quick, full // 3 if self.count > LARGE else full)

    def add(self, row: Row, worktrees: int = 1) -> None:
        row.conversations, row.worktrees = row.conversations or self.count, worktrees
        row.budget = row.budget or budget_of(row.name, row.conversations)
        self.rows.append(row)

    @property
    def master(self) -> str:
        """The conversations as they were laid out."""
        path = f"{self.base}/master"
        if not os.path.exists(path):
            say(f"laying out {self.count} conversations")
            self.bytes = self.work.write(path)
            os.sync()
        return path

    @property
    def names(self) -> list[str]:
        """The directories in every tree. They are known once they are laid out."""
        assert self.master
        return self.work.names

    @property
    def small(self) -> list[str]:
        """Those of a given small size."""
        return self.names[: self.work.few]

    @property
    def home(self) -> Home:
        """A home whose worktree `a` is registered and in step."""
        if self._home is None:
            self._home = self.fresh_home()
            self._home.run("register", f"{self._home.base}/a")
        return self._home

    @home.setter
    def home(self, home: Home) -> None:
        self._home = home

    def fresh_home(self) -> Home:
        """A home with a worktree `a` that holds all conversations and is not registered."""
        home = Home(Path(self.new("home")))
        home.worktree("a")
        self.clone(self.master, home.conversations("a"))
        return home

    def second_worktree(self) -> None:
        """Register `b`, which holds what `a` does."""
        tree = f"{self.home.base}/b"
        if not os.path.exists(tree):
            self.home.worktree("b")
            self.clone(self.home.conversations("a"), self.home.conversations("b"))
            self.home.run("register", tree)

    def floor_tree(self, name: str) -> str:
        """A tree for the floor alone."""
        path = f"{self.base}/floor-{name}"
        if not os.path.exists(path):
            self.clone(self.master, path)
        return path

    def new(self, name: str) -> str:
        """A path that nothing has yet."""
        self._made += 1
        return f"{self.base}/{name}-{self._made}"

    def empty(self, name: str) -> str:
        """A new directory."""
        path = self.new(name)
        os.mkdir(path)
        return path

    @staticmethod
    def clone(source: str, target: str) -> None:
        subprocess.run(["cp", "-a", source, target], check=True)
        os.sync()

    @contextmanager
    def step(self, what: str) -> Iterator[dict]:
        """Notes of one step: what others took of the machine meanwhile, and what the step adds."""
        say(f"{self.count}: {what}")
        wait_for_calm(self.calm)
        notes: dict = {}
        noise = Noise()
        yield notes
        notes["others_cpu_percent"] = noise.percent()


def say(text: str) -> None:
    print(f"-- {text}", file=sys.stderr, flush=True)
