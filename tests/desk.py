"""A throw-away home in which the commands of the documents are run."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from convsync_agent import sample
from convsync_agent.model import EVENTS
from convsync_agent.names import dirname
from terminal import everything


class Desk:
    """One person's home: a repository with a second worktree, a terminal, and an agent if the document starts one."""

    def __init__(self, base: Path) -> None:
        self.home, run, tools = base / "home", base / "run", base / "bin"
        for place in (self.home / "code", run, tools):
            place.mkdir(parents=True, mode=0o700)
        shim = tools / "convsync"
        path = os.pathsep.join(filter(None, sys.path))
        shim.write_text(
            f'#!/bin/sh\nPYTHONPATH={shlex.quote(path)} exec {shlex.quote(sys.executable)} -m convsync_cli "$@"\n'
        )
        shim.chmod(0o755)
        self.env = {
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(run),
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "100",
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "TERM": "dumb",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        self.env |= {
            f"GIT_{who}_{what}": "docs@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }
        self.project, self.fix = self.home / "code" / "project", self.home / "code" / "project-fix"
        self.agent: subprocess.Popen[bytes] | None = None
        self._lay_out()

    def _lay_out(self) -> None:
        (self.project / ".jp").mkdir(parents=True)
        (self.project / ".jp" / ".id").write_text("otvo8\n")
        (self.project / ".gitignore").write_text(".jp/conversations/\n")
        for command in ("git init -q", "git add .", "git commit -qm start", f"git worktree add -qb fix {self.fix}"):
            assert self.run(command)[0] == 0, command
        for number, title in enumerate(("Where the cache lives", "A retry that waits", "Reading the index twice")):
            self.write(self.project, 17_457_886_043 + 1000 * number, title, turns=3 + number)
        self.write(self.fix, 17_457_886_043, "Where the cache lives", turns=3)
        self.write(self.fix, 17_457_889_043, "Why two locks", turns=6)
        for root in (self.project, self.fix):
            os.utime(self.path(root, 17_457_886_043), ns=(10**18, 10**18))

    def write(self, worktree: Path, cid: int, title: str, turns: int) -> None:
        files = sample.conversation(1, cid=cid, title=title, turns=turns)
        sample.write_as_jp(str(worktree / ".jp" / "conversations" / dirname(cid, title)), files)

    def path(self, worktree: Path, cid: int) -> Path:
        return next((worktree / ".jp" / "conversations").glob(f"{cid}-*")) / EVENTS

    def live_in(self) -> None:
        """What the documents beside README.md begin with: all registered, and an edit on both sides of one."""
        assert self.run("convsync register --all-worktrees")[0] == 0
        for number, worktree in enumerate((self.project, self.fix)):
            path = self.path(worktree, 17_457_886_043)
            sample.write_as_jp(str(path.parent), {EVENTS: sample.append_turn(path.read_bytes(), number)})
            os.utime(path, ns=(time.time_ns() + number, time.time_ns() + number))
        assert self.run("convsync sync")[0] == 0

    def break_one(self) -> None:
        """A file that was cut in half, and the verdict on it."""
        with open(self.path(self.project, 17_457_888_043), "r+b") as file:
            file.truncate(1000)
        assert self.run("convsync sync")[0] == 0

    def run(self, command: str) -> tuple[int, str]:
        """One line of a shell, on a terminal of its own: exit code and what was seen there."""
        ours, theirs = pty.openpty()
        cwd = self.project if self.project.is_dir() else self.home
        done = subprocess.Popen(
            ["/bin/bash", "-c", command], cwd=cwd, env=self.env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        text = everything(ours)
        return done.wait(120), re.sub(r"\r\x1b\[K[^\n]*(?=\r|$)|\r\x1b\[K", "", text)

    def start_agent(self) -> None:
        log = open(self.home / "agent.log", "wb")  # noqa: SIM115  # the agent's, to its end
        self.agent = subprocess.Popen(
            ["convsync", "agent"], env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        log.close()
        deadline = time.monotonic() + 120
        while not (self.home / ".local/state/convsync/runtime.json").exists():
            assert self.agent.poll() is None, (self.home / "agent.log").read_text()
            assert time.monotonic() < deadline, "the agent never came up"
            time.sleep(0.01)

    def leave(self) -> None:
        if self.agent is not None:
            self.agent.send_signal(signal.SIGTERM)
            self.agent.wait(120)
