"""Settings read again by a running agent: SIGHUP, or a `register`."""

from __future__ import annotations

import itertools
import signal

import pytest

from agents import runtime, status, until

A, B = 17_457_886_043, 17_457_990_001
SECRET = "hunter2-hunter2"


@pytest.fixture
def one(machine):
    """A worktree, and a place for the config file."""
    machine.worktree("a")
    (machine.base / "config" / "convsync").mkdir()
    return machine


def configure(machine, text):
    (machine.base / "config" / "convsync" / "config.toml").write_text(text)


def hup(agent, event, number=1):
    """Ask it to read again, and wait for the line that says what became of it."""
    agent.process.send_signal(signal.SIGHUP)
    return until(lambda: [x for x in agent.lines() if x["event"] == event][number - 1 :], event)[0]


def error_of(machine):
    return runtime(machine)["agent"]["last_error"]


def test_what_changed_is_in_force(one, agent):
    """SIGHUP: the file is read again, the line names the keys, and the agent acts on it."""
    running = agent()
    configure(one, '[import]\npolicy = "manual"\n')
    assert hup(running, "settings")["changed"] == ["import.policy"]
    one.write(one.base / "a", A, "not asked for")
    one.quiet()
    until(lambda: status(one)["workspaces"][0]["worktrees"][0]["counts"]["external"] == 1)
    assert one.directory(one.silo(), A) is None

    configure(one, "")
    assert hup(running, "settings", 2)["changed"] == ["import.policy"]
    one.write(one.base / "a", B, "as before")
    until(lambda: one.directory(one.silo(), B))


def test_a_mistake_changes_nothing(one, agent):
    """All mistakes in one line, by place and key and without a value; what was in force stays; `status` says so."""
    configure(one, '[import]\npolicy = "manual"\n')
    running = agent()
    configure(one, f'[import]\npolicy = "{SECRET}"\n[notify]\ncomand = "curl https://example.org/{SECRET}"\n')
    line = hup(running, "settings kept")

    assert line["level"] == "warning"
    assert len(line["mistakes"]) == 2
    assert "notify.comand" in " ".join(line["mistakes"])
    assert "allowed: auto, on-write, manual" in " ".join(line["mistakes"])
    assert SECRET not in running.log.read_text()
    assert until(lambda: status(one)["agent"]["last_error"])["code"] == "config"
    one.write(one.base / "a", A, "not asked for")
    one.quiet()
    until(lambda: status(one)["workspaces"][0]["worktrees"][0]["counts"]["external"] == 1)
    assert one.directory(one.silo(), A) is None

    configure(one, "")
    hup(running, "settings")
    assert until(lambda: status(one)["agent"]["last_error"] is None)


def test_the_level_of_the_log(one, agent):
    """`log.level` is in force at once, unless a flag of the agent said which."""
    running = agent()
    configure(one, '[log]\nlevel = "warning"\n')
    hup(running, "settings")
    one.write(one.base / "a", A, "unheard")
    until(lambda: one.directory(one.silo(), A))
    assert not cycles(running)

    configure(one, '[log]\nlevel = "info"\n')
    running.process.send_signal(signal.SIGHUP)
    ids = itertools.count(B)

    def heard():
        conversation = next(ids)
        one.write(one.base / "a", conversation, "heard")
        until(lambda: one.directory(one.silo(), conversation))  # one at a time, until the level is in force
        return cycles(running)

    told = until(heard)
    assert f"jp-c{A}" not in told[0]["conversations"]


def cycles(running):
    return [x for x in running.lines() if x["event"] == "cycle"]


def test_a_flag_of_the_agent_wins(one, agent):
    """What `--set` said at the start is said again at each reading."""
    running = agent("--set", "import.policy=manual")
    configure(one, '[import]\npolicy = "auto"\n[log]\nlevel = "debug"\n')
    assert hup(running, "settings")["changed"] == ["log.level"]


def test_register_reads_them_as_well(one, agent):
    """A new worktree is looked at by what the file says now."""
    running = agent()
    configure(one, "[history]\nkeep_days = 3\n")
    one.worktree("b")

    assert until(lambda: [x for x in running.lines() if x["event"] == "settings"])[0]["changed"] == [
        "history.keep_days"
    ]
