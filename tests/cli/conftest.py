"""A machine whose environment this process has: commands run here, in process."""

from __future__ import annotations

import os

import pytest

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
