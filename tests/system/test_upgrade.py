"""An upgrade keeps everything: what older versions of convsync recorded is understood by this one, and goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from agents import runtime, status, until
from convsync_agent import state
from machine import LONG_AGO

TOP = Path(__file__).parents[2]
A, B, C = 17_000_000_001, 17_000_000_002, 17_000_000_003


def git(*argv: str) -> bytes:
    """What git says of this repository; nothing where it does not know."""
    done = subprocess.run(["git", "-C", str(TOP), *argv], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else b""


def commit_of(which: str) -> str:
    """The first commit with a schema of the state, or the one before this."""
    if which == "previous":
        return git("rev-parse", "--verify", "--quiet", "HEAD~1").decode().strip()
    changes = git("log", "--reverse", "--format=%H", "-G", "^VERSION = ", "--", "agent/convsync_agent/state.py")
    wanted = f"VERSION = {which}\n".encode()
    found = (c for c in changes.decode().split() if wanted in git("show", f"{c}:agent/convsync_agent/state.py"))
    return next(found, "")


class Older:
    """convsync as it was at a commit, with the libraries of today."""

    def __init__(self, machine, source: Path) -> None:
        self.machine = machine
        paths = os.pathsep.join([str(source / "agent"), str(source / "cli")])
        self.env = {"PATH": os.environ["PATH"], "PYTHONPATH": paths, **machine.env}
        self.command = [sys.executable, "-P", "-m", "convsync_cli"]

    def ok(self, *argv) -> str:
        done = subprocess.run(
            [*self.command, *map(str, argv)], env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def agent(self) -> subprocess.Popen[bytes]:
        log = subprocess.DEVNULL
        process = subprocess.Popen([*self.command, "agent"], env=self.env, stdin=log, stdout=log, stderr=log)

        def up():
            assert process.poll() is None, "the older agent ended"
            found = runtime(self.machine)
            return found and found["agent"]["pid"] == process.pid

        until(up, "the older agent is up")
        return process


@pytest.fixture(params=["1", "2", "previous"])
def older(request, machine, tmp_path) -> Older:
    if shutil.which("git") is None or not (TOP / ".git").exists():
        pytest.skip("the history of the repository is not here")
    commit = commit_of(request.param)
    if not commit:
        pytest.skip(f"the history of the repository does not reach back to: {request.param}")
    archive, source = tmp_path / "older.tar", tmp_path / "older"
    archive.write_bytes(git("archive", commit, "agent", "cli"))
    with tarfile.open(archive) as packed:
        packed.extractall(source, filter="data")
    return Older(machine, source)


def schema(machine) -> int:
    connection = sqlite3.connect(machine.base / "state/convsync/state.db")
    try:
        return connection.execute("PRAGMA user_version").fetchone()[0]
    finally:
        connection.close()


def test_an_upgrade_keeps_what_there_was(older, machine, agent):
    """Registrations, conversations, kept versions: the new agent takes over in the middle of a life, edits waiting."""
    a, b = (machine.worktree(name, register=False) for name in "ab")
    machine.write(a, A, "one")
    machine.write(b, B, "two")
    machine.write(a, C, "mine")
    machine.write(b, C, "theirs", mtime_ns=LONG_AGO + 1)
    for path in (a, b):
        older.ok("register", path)
    process = older.agent()
    machine.write(a, A, "one", "more", mtime_ns=LONG_AGO + 1)
    until(lambda: machine.questions(machine.silo(), A) == ["one", "more"], "the older agent synced")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    before = machine.inventory(a, b, machine.silo())
    kept = set((machine.base / "data/convsync/history").rglob("manifest.json"))
    assert kept
    machine.write(b, B, "two", "while nobody looked", mtime_ns=LONG_AGO + 2)

    said = status(machine)  # before anything is migrated: it is only read
    assert {t["path"] for w in said["workspaces"] for t in w["worktrees"]} == {str(a), str(b)}

    agent()
    until(lambda: status(machine)["verdict"] in ("in-sync", "attention"), "the new agent has looked at all")
    assert schema(machine) == state.VERSION
    assert machine.questions(machine.silo(), B) == ["two", "while nobody looked"]
    assert kept <= set((machine.base / "data/convsync/history").rglob("manifest.json"))
    assert json.loads(machine.ok("history", f"jp-c{C}", "--json").out)["versions"]
    untouched = {k: v for k, v in before.items() if f"/{A}" in k or f"/{C}" in k}
    assert untouched.items() <= machine.inventory(a, b, machine.silo()).items()
    assert machine.ok("verify", "--json").json["ok"]

    machine.write(a, A, "one", "more", "and on", mtime_ns=LONG_AGO + 3)
    until(lambda: machine.questions(machine.silo(), A) == ["one", "more", "and on"], "and goes on")
