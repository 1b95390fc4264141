"""A throw-away home below one directory, and the real commands in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import proc
from convsync_agent import publish

WORKSPACE = "abcde"
PATIENCE = 300.0


def program() -> list[str]:
    """The command as a person has it, from beside the interpreter; else the module."""
    script = os.path.join(os.path.dirname(sys.executable), "convsync")
    return [script] if os.access(script, os.X_OK) else [sys.executable, "-m", "convsync_cli"]


class Failed(Exception):
    """The benchmark cannot go on: a command ended badly, or something never arrived."""


class Home:
    """One user's machine. Nothing outside of `base` is touched."""

    def __init__(self, base: Path) -> None:
        self.base = base
        places = {"DATA_HOME": "data", "STATE_HOME": "state", "CONFIG_HOME": "config", "RUNTIME_DIR": "run"}
        self.env = {k: os.environ[k] for k in ("PATH", "PYTHONPATH") if k in os.environ}
        self.env |= {"HOME": str(base / "home"), "LANG": "C.UTF-8"}
        self.env |= {f"XDG_{k}": str(base / v) for k, v in places.items()}
        for place in ("home", *places.values()):
            (base / place).mkdir(mode=0o700, parents=True)

    @property
    def silo(self) -> str:
        return f"{self.base}/data/jp/workspace/{WORKSPACE}"

    def conversations(self, worktree: str) -> str:
        return f"{self.base}/{worktree}/.jp/conversations"

    def worktree(self, name: str) -> str:
        """A directory with `.jp/.id`, not yet registered, without conversations."""
        store = self.base / name / ".jp"
        store.mkdir(parents=True)
        (store / ".id").write_text(f"{WORKSPACE}\n")
        return str(self.base / name)

    def run(self, *argv: str) -> tuple[float, str]:
        """One command in a process of its own: wall seconds and stdout. A failure ends the benchmark."""
        command = [*program(), *argv]
        before = time.perf_counter()
        ran = subprocess.run(command, env=self.env, capture_output=True, text=True, check=False, cwd=self.base)
        spent = time.perf_counter() - before
        if ran.returncode:
            raise Failed(f"convsync {' '.join(argv)} ended with {ran.returncode}: {ran.stderr or ran.stdout}")
        return spent, ran.stdout

    def status(self) -> dict:
        return json.loads(self.run("status", "--json")[1])

    @contextmanager
    def agent(self) -> Iterator[Agent]:
        agent = Agent(self)
        try:
            agent.wait_started()
            yield agent
        finally:
            agent.stop()


class Agent:
    """A real agent. `started` is when it was executed, by the monotonic clock."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.log = home.base / f"agent-{time.monotonic_ns()}.log"
        self._state, self._runtime = f"{home.base}/state/convsync", f"{home.base}/run/convsync"
        with open(self.log, "wb") as log:
            self.started = time.perf_counter()
            self.process = subprocess.Popen(
                [*program(), "agent"],
                env=home.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home.base,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_started(self) -> float:
        """Until it says that its first scan is done: seconds since its start."""
        while True:
            said = publish.read(self._state)
            if said and said["agent"]["pid"] == self.pid:
                return time.perf_counter() - self.started
            if self.process.poll() is not None or time.perf_counter() - self.started > PATIENCE:
                raise Failed(f"the agent did not start: {self.log.read_text()[-2000:]}")
            time.sleep(0.002)

    def wait_calm(self) -> None:
        """Until it answers a question asked now, and has nothing left to do. No process is started for it."""
        until = time.perf_counter() + PATIENCE
        while time.perf_counter() < until:
            said = publish.ask(self._state, self._runtime, patience=PATIENCE)
            deferred = said and sum(t["counts"]["deferred"] for w in said["workspaces"] for t in w["worktrees"])
            if said and not said["agent"]["queue"] and not deferred:
                return
            time.sleep(0.01)
        raise Failed(f"the agent never came to rest: {self.log.read_text()[-2000:]}")

    def use(self) -> proc.Use:
        return proc.use(self.pid)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def missing(self, worktree: str) -> bool:
        """Whether it says, without being asked, that this worktree is not there."""
        said = publish.read(self._state)
        trees = [t for w in said["workspaces"] for t in w["worktrees"]] if said else []
        return any(t["path"] == worktree and t["state"] == "missing" for t in trees)


@contextmanager
def throw_away() -> Iterator[Path]:
    """A directory on a real disk that goes at the end; trees are never deleted before.

    For minutes ext4 steps over the inodes of freshly deleted files, one by one, whenever it creates one.
    """
    base = Path(os.environ.get("TMPDIR", "/tmp")) / f"convsync-bench-{os.getpid()}"
    base.mkdir()
    try:
        yield Path(os.path.realpath(base))
    finally:
        shutil.rmtree(base, ignore_errors=True)
