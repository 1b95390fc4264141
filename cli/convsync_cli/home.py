"""The throw-away home of `convsync demo`: its directories and processes, looking at them and changing them.

What is asked of it is read from the disk, not from what convsync says, except where what it says is the question.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from convsync_agent import sample
from convsync_agent.model import EVENTS, MANAGED
from convsync_agent.names import dirname, parse_dirname
from convsync_agent.sample import Sample
from convsync_cli.standing import standing

FIRST_NEW = 17_300_000_000  # ids from here on are made during the story
PATIENCE = 30.0  # a bound only: how long it took is shown, and a busy machine takes longer
GIT = (
    "-c",
    "commit.gpgsign=false",
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
    "-c",
    "advice.detachedHead=false",
)


class NotHeld(Exception):
    """A check of the story that failed."""


class Home:
    """Everything of the story: one user's directories below `base`, two worktrees, at most one agent."""

    def __init__(self, base: str, content: Mapping[int, Sample]) -> None:
        self.base = Path(base)
        self.content = dict(content)
        self.worktree = {"A": self.base / "a", "B": self.base / "b"}
        self.roots = {k: p / ".jp" for k, p in self.worktree.items()}
        self.silo = self.base
        self.log = self.base / "agent.log"
        self.git = shutil.which("git") is not None
        self.agent: subprocess.Popen[bytes] | None = None
        self.state, self.runtime = self.base / "state", self.base / "run"
        places = {
            "HOME": "home",
            "XDG_DATA_HOME": "data",
            "XDG_STATE_HOME": "home/state",
            "XDG_CONFIG_HOME": "home/config",
            "XDG_CACHE_HOME": "home/cache",
            "XDG_RUNTIME_DIR": "run",
            "JP_USER_DATA_DIR": "data/jp",
            "CONVSYNC_STATE_DIR": "state",
            "CONVSYNC_DATA_DIR": "data/convsync",
        }
        self.env = {name: str(self.base / place) for name, place in places.items()}
        for place in self.env.values():
            os.makedirs(place, mode=0o700, exist_ok=True)
        self.env |= {f"GIT_{role}_NAME": "demo" for role in ("AUTHOR", "COMMITTER")}
        self.env |= {f"GIT_{role}_EMAIL": "demo@localhost" for role in ("AUTHOR", "COMMITTER")}
        self.env |= {"GIT_CONFIG_NOSYSTEM": "1"}
        # What this process imports its children must import too, wherever HOME points to.
        self.env |= {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    # -- processes ----------------------------------------------------------------

    def run(self, *argv: str) -> dict[str, Any]:
        """The document of one convsync command, run as a person would; it has to succeed."""
        done = self._call([sys.executable, "-m", "convsync_cli", *argv, "--json"])
        if done.returncode != 0:
            raise NotHeld(f"convsync {argv[0]} ended with {done.returncode}: {(done.stdout or done.stderr).strip()}")
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def call_git(self, *argv: str, at: str = "A") -> None:
        done = self._call(["git", "-C", str(self.worktree[at]), *GIT, *argv])
        if done.returncode != 0:
            raise NotHeld(f"git {argv[0]} ended with {done.returncode}: {done.stderr.strip()}")

    def _call(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, cwd=self.base, env=self.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.agent = subprocess.Popen(
                [sys.executable, "-m", "convsync_cli", "agent"],
                cwd=self.base, env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def end(self, number: int) -> int:
        """Send the agent a signal, wait for its end, return its exit code."""
        assert self.agent is not None  # noqa: S101  # only called in steps after `start`
        self.agent.send_signal(number)
        code = self.agent.wait(PATIENCE)
        self.agent = None
        return code

    def close(self) -> None:
        """End whatever still runs."""
        if self.agent is not None:
            self.agent.kill()
            self.agent.wait()
            self.agent = None

    # -- looking --------------------------------------------------------------------

    def until(self, what: str, condition: Callable[[], bool]) -> int:
        """Wait until `condition` holds, return how long that took in ms."""
        started = time.monotonic()
        while not condition():
            if self.agent is not None and self.agent.poll() is not None:
                raise NotHeld(f"the agent ended by itself with {self.agent.returncode}")
            if time.monotonic() - started > PATIENCE:
                raise NotHeld(f"not within {PATIENCE:g} s: {what}")
            time.sleep(0.001)
        return round((time.monotonic() - started) * 1000)

    def status(self) -> dict[str, Any]:
        return standing(str(self.state), str(self.runtime / "convsync"))

    def calm(self) -> int:
        """Wait until this very agent has nothing left to do and says that all is in sync."""

        def said() -> bool:
            found = self.status()
            mine = self.agent is not None and found["agent"]["pid"] == self.agent.pid
            return mine and found["verdict"] == "in-sync"

        return self.until("everything in sync", said)

    def tree(self, which: str) -> dict[str, Any]:
        """What `status` says of one worktree."""
        trees = [t for w in self.status()["workspaces"] for t in w["worktrees"]]
        found: dict[str, Any] = next(t for t in trees if t["path"] == str(self.worktree[which]))
        return found

    def ids(self, root: Path) -> set[int]:
        try:
            return {c for n in os.listdir(root / "conversations") if (c := parse_dirname(n)) is not None}
        except FileNotFoundError:
            return set()

    def path(self, root: Path, cid: int) -> Path:
        names = [n for n in os.listdir(root / "conversations") if parse_dirname(n) == cid]
        if len(names) != 1:
            raise FileNotFoundError
        return root / "conversations" / names[0]

    def picture(self, root: Path, cid: int) -> tuple[str, dict[str, tuple[bytes, int]]] | None:
        """Name of the directory, bytes and mtimes of its three files; None where there is no whole copy."""
        try:
            at = self.path(root, cid)
            return at.name, {n: ((at / n).read_bytes(), (at / n).stat().st_mtime_ns) for n in MANAGED}
        except FileNotFoundError:
            return None

    def same(self, cid: int, first: Path, *others: Path) -> bool:
        """Name, bytes and mtimes are equal in all these roots."""
        wanted = self.picture(first, cid)
        return wanted is not None and all(self.picture(root, cid) == wanted for root in others)

    def everywhere(self, cid: int, what: str) -> int:
        return self.until(what, lambda: self.same(cid, self.silo, *self.roots.values()))

    # -- changing -------------------------------------------------------------------

    def pick(self, number: int) -> int:
        """One of the conversations the story began with."""
        known = sorted(self.content)
        return known[number % len(known)]

    def write_new(self, root: Path, number: int) -> int:
        """A new conversation, file by file as JP writes it."""
        cid = FIRST_NEW + number
        title = f"Number {number}"
        files = sample.conversation(number, cid=cid, title=title, turns=1 + number % 4)
        sample.write_as_jp(str(root / "conversations" / dirname(cid, title)), files)
        return cid

    def append(self, root: Path, cid: int, number: int) -> None:
        """One more turn, as JP writes it."""
        at = self.path(root, cid)
        sample.write_as_jp(str(at), {EVENTS: sample.append_turn((at / EVENTS).read_bytes(), number)})
