"""A machine whose environment this process has: commands run here, in process."""

from __future__ import annotations

import os

import pytest

from editors import A, B
from machine import Machine


@pytest.fixture
def machine(tmp_path, monkeypatch, capsys):
    for name in os.environ:
        if name.startswith(("JP_", "CONVSYNC_", "XDG_", "_CONVSYNC")) or name == "NO_COLOR":
            monkeypatch.delenv(name)
    made = Machine(tmp_path / "machine", capsys)
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(made.home)
    return made


@pytest.fixture
def pair(machine):
    """Worktrees `a` and `b`: A is projected in both; B is local."""
    for name in "ab":
        machine.write(machine.worktree(name, register=False), A, "one", slug="talk", title="talk")
    machine.ok("register", machine.base / "a")
    machine.ok("register", machine.base / "b")
    machine.write(machine.silo(), B, "local")
    machine.ok("sync")
    machine.quiet()
    return machine


@pytest.fixture
def editor(machine, monkeypatch):
    """Sets $EDITOR to a script: `$1` is the first path."""

    def use(body, variable="EDITOR"):
        path = machine.base / "ed"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        monkeypatch.setenv(variable, str(path))
        return path

    return use
