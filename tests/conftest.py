"""A machine whose environment this process has, and agents that are always stopped."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import settings

from agents import RunningAgent
from machine import Machine

settings.register_profile("default", deadline=None, print_blob=True)
settings.load_profile("default")


SLOW_SECONDS = 900  # a bound for what hangs: on a busy machine what is slow takes many times as long


def pytest_collection_modifyitems(items):
    """What is slow may take its time."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


@pytest.fixture(scope="session", autouse=True)
def heard():
    """Whoever started the tests may ignore signals (nohup, a job in the background): what they start would, too."""
    before = {}
    for number, wanted in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            before[number] = signal.signal(number, wanted)
    yield
    for number, was in before.items():
        signal.signal(number, was)


@pytest.fixture
def machine(tmp_path, monkeypatch, capsys):
    """Commands run in this process, below a throw-away home."""
    for name in os.environ:
        if name.startswith(("JP_", "CONVSYNC_", "XDG_", "_CONVSYNC")) or name == "NO_COLOR":
            monkeypatch.delenv(name)
    made = Machine(tmp_path / "machine", capsys)
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(made.home)
    return made


@pytest.fixture
def agent(machine):
    """Starts agents of that machine; whatever still runs at the end is stopped."""
    started: list[RunningAgent] = []

    def start(*argv, **env):
        one = RunningAgent(machine, *argv, **env)
        started.append(one)
        return one

    yield start
    for one in started:
        one.stop()
