"""What a person types is answered at once: a command loads what it uses and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from agents import RunningAgent
from convsync_cli import main
from convsync_cli.summaries import SUMMARIES

ID = 17_000_000_001
CODE = "import sys; from convsync_cli.main import run; run(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"

# What only an agent, a validation or a log needs: none of what a person waits for loads it.
HEAVY = frozenset({
    "asyncio", "convsync_agent.apply", "convsync_agent.config", "convsync_agent.engine", "convsync_agent.loop",
    "importlib.metadata", "logging", "platformdirs", "portalocker", "pydantic", "structlog", "subprocess", "watchdog",
})  # fmt: skip
DECIDING = frozenset({"convsync_agent.ledger", "convsync_agent.outcome", "convsync_agent.plan"})
# The nouns (classes made at import), stats and digests, the interface to C.
LOOKING = frozenset({
    "convsync_agent.fs", "convsync_agent.kernel", "convsync_agent.locks", "convsync_agent.model",
    "convsync_agent.records", "convsync_agent.scan", "convsync_agent.site", "convsync_agent.state", "ctypes",
    "dataclasses", "hashlib", "shutil", "sqlite3",
})  # fmt: skip


@pytest.fixture
def some(machine):
    tree = machine.worktree(register=False)
    machine.write(tree, ID, "one")
    machine.ok("register", tree)
    return machine


def loaded(machine, *argv: str) -> tuple[str, set[str]]:
    """What a command printed, and what its process had imported at its end."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)} | machine.env
    done = subprocess.run([sys.executable, "-c", CODE, *argv], env=env, capture_output=True, text=True, check=True)
    return done.stdout, set(done.stderr.split())


def test_status_with_an_agent_only_asks(some):
    """The agent's answer, the entries of the state and the locks: nothing that looks at conversations is loaded."""
    agent = RunningAgent(some)
    try:
        said, modules = loaded(some, "status", "--json")
    finally:
        agent.stop()

    assert '"running"' in said
    assert modules & (HEAVY | DECIDING | LOOKING) == {"convsync_agent.state", "sqlite3"}


def test_status_without_one_looks_and_does_not_decide(some):
    """It lists and stats; neither plans nor what writes are loaded."""
    said, modules = loaded(some, "status", "--json")

    assert '"in-sync"' in said
    assert "convsync_agent.scan" in modules
    assert not modules & (HEAVY | DECIDING)


@pytest.mark.parametrize("argv", [("--version",), ("completion", "bash")], ids=" ".join)
def test_what_needs_no_conversation_opens_no_state(some, argv):
    """Neither the database nor what looks at conversations is loaded."""
    said, modules = loaded(some, *argv)

    assert "convsync" in said
    assert not modules & (HEAVY | DECIDING | LOOKING)


def test_the_list_of_commands_imports_none_of_them(some):
    """And says of each what the command itself says."""
    said, modules = loaded(some, "--help")

    assert [name for name in main.COMMANDS if name not in said] == []
    assert not [name for name in modules if name.startswith("convsync_cli.commands.")]
    assert not modules & (HEAVY | DECIDING)
    commands = {name: main.cli.get_command(None, name) for name in main.COMMANDS}
    assert {name: command.short_help for name, command in commands.items()} == SUMMARIES


@pytest.mark.parametrize("argv", [("ls",), ("path", f"jp-c{ID}"), ("locks",)], ids=" ".join)
def test_what_only_reads_loads_nothing_that_writes(some, argv):
    """Lists, paths and help come without the engine, the settings' checks and the log."""
    said, modules = loaded(some, *argv)

    assert said
    assert not modules & HEAVY
