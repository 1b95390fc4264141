"""Two worktrees in step, and editors that are scripts."""

from __future__ import annotations

import pytest

import memory
from editors import B, in_two_worktrees


@pytest.fixture
def tmp_path():
    """In memory, where there is room."""
    with memory.directory() as path:
        yield path


@pytest.fixture
def pair(machine):
    """Worktrees `a` and `b`: A is projected in both; B is local."""
    in_two_worktrees(machine)
    machine.write(machine.silo(), B, "local")
    machine.ok("sync")
    machine.quiet()
    return machine


@pytest.fixture
def no_bus(machine, monkeypatch):
    """A login without the bus of its service manager: `systemctl --user` runs and finds nobody."""
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)


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
