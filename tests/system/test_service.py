"""The agent as a service of a real `systemd --user`: started when ready, started again when it must, never for ever."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

import usermanager
from agents import until
from machine import LONG_AGO, WS
from usermanager import UserManager

pytestmark = pytest.mark.privileged

ID = 17_000_000_001
EXPOSURE = 2.0  # of 10; docs and systemd/README.md say what it is


@pytest.fixture
def user(tmp_path):
    """A user manager, and what the service said in it when a test fails."""
    if why := usermanager.why_not():
        pytest.skip(why)
    try:
        booted = UserManager(tmp_path)
    except usermanager.NotStartedError as why_not:
        pytest.skip(f"systemd was refused: {why_not}")
    yield booted
    booted.end()


@pytest.fixture
def tree(user) -> Path:
    """A registered worktree with one conversation."""
    path = user.machine.worktree("a", register=False)
    user.machine.write(path, ID, "one")
    user.convsync("register", path)
    return path


def in_sync(user, **agent) -> bool:
    found = user.json("status")
    return found["verdict"] == "in-sync" and found["agent"].items() >= agent.items()


def test_a_service_from_install_to_uninstall(user, tree):
    """Installed, it runs; again, nothing happens; otherwise, it is another one; removed, only conversations stay."""
    for verb in ("start", "stop", "restart", "logs"):
        user.convsync("service", verb, codes=(3,))
    odd = "a b%h $HOME ${HOME} 'q' \"d\" back\\slash; #x"
    user.variables |= {"CONVSYNC_NOTIFY__COMMAND": odd, "CONVSYNC_CONVERSATION": "jp-c1"}

    assert "installed" in user.convsync("service", "install", "--now")
    found, pid = user.json("service", "status"), user.pid()
    unit = Path(found["unit"])
    assert found.items() >= {
        "manager": "systemd", "installed": True, "enabled": True, "active": "active", "pid": pid, "agent_pid": pid,
        "agent_version": found["version"],
    }.items()  # fmt: skip
    assert unit.stat().st_mode & 0o777 == 0o600
    environment = user.run(f"tr '\\0' '\\n' </proc/{pid}/environ").splitlines()
    assert f"CONVSYNC_NOTIFY__COMMAND={odd}" in environment
    assert not [line for line in environment if line.startswith(("CONVSYNC_CONVERSATION", "NOTIFY_SOCKET"))][1:]

    assert user.run(f"systemd-analyze --user verify {unit}") + user.err == ""
    exposure = user.run("systemd-analyze --user security --no-pager convsync.service", codes=(0, 1))
    assert float(re.search(r"exposure level for \S+: ([0-9.]+)", exposure)[1]) <= EXPOSURE

    assert "unchanged" in user.convsync("service", "install", "--now")
    assert user.pid() == pid
    again = user.json("--set", "log.level=debug", "service", "install")
    assert (again["changed"], again["action"]) == (True, "restarted")
    assert user.pid() != pid
    assert "--set log.level=debug agent" in user.run(f"tr '\\0' ' ' </proc/{user.pid()}/cmdline")
    assert in_sync(user, pid=user.pid())

    said = [e for e in user.entries() if "MESSAGE" in e and '"logger"' in e["MESSAGE"]]
    assert {e["PRIORITY"] for e in said if '"info"' in e["MESSAGE"]} == {"6"}
    assert not [e for e in said if e["MESSAGE"].startswith("<")]
    assert '"event": "started"' in user.convsync("service", "logs")
    assert [line for line in user.json("service", "logs")["lines"] if '"started"' in line]

    conversations = user.machine.inventory(tree, user.machine.silo())
    assert user.convsync("service", "uninstall").startswith("removed")
    assert not unit.exists()
    assert user.json("service", "status").items() >= {"installed": False, "pid": None, "agent_pid": None}.items()
    assert user.machine.inventory(tree, user.machine.silo()) == conversations


def test_started_means_ready(user, tree):
    """Whoever asks right after the start gets a verdict about now, for what changed meanwhile is in step by then."""
    for number in range(300):
        user.machine.write(tree, ID + number, "one", "two", mtime_ns=LONG_AGO + 1)
    user.convsync("service", "install")

    out = user.run(
        f"{user.program} service start -q && {user.program} status --json && ls {user.machine.silo()}/conversations"
    )

    assert '"verdict": "in-sync"' in out
    assert out.count("\n170000") == 300
    assert user.machine.questions(user.machine.silo(), ID) == ["one", "two"]


@pytest.mark.slow
def test_killed_it_comes_back_and_a_hang_is_a_death(user, tree):
    """SIGKILL and SIGSTOP end in a new agent that finds what happened meanwhile; an idle one is left in peace."""
    user.convsync("service", "install", "--now")
    pid = user.pid()
    user.run(f"kill -KILL {pid}")
    user.machine.write(tree, ID, "one", "two", mtime_ns=LONG_AGO + 1)
    until(lambda: user.pid() not in (0, pid) and in_sync(user, pid=user.pid()), "a new agent after SIGKILL", 60)
    assert user.machine.questions(user.machine.silo(), ID) == ["one", "two"]

    beside = user.home / ".config/systemd/user/convsync.service.d"
    beside.mkdir()
    (beside / "soon.conf").write_text("[Service]\nWatchdogSec=10s\n")
    user.run("systemctl --user daemon-reload")
    user.convsync("service", "restart")
    pid = user.pid()
    fed = {user.show("WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"]}
    until(
        lambda: fed.add(user.show("WatchdogTimestampMonotonic")["WatchdogTimestampMonotonic"]) or len(fed) > 4,
        "the watchdog is fed by an agent that has nothing to do", 120,
    )  # fmt: skip
    assert user.pid() == pid

    user.run(f"kill -STOP {pid}")
    until(lambda: user.pid() not in (0, pid) and in_sync(user, pid=user.pid()), "a new agent after SIGSTOP", 120)
    assert any("atchdog" in e.get("MESSAGE", "") for e in user.entries() + user.manager_entries())


def test_reload_and_the_life_of_the_manager(user, tree):
    """A reload reads the registry anew in the same process; so does nothing of a re-exec; a login starts it again."""
    user.convsync("service", "install", "--now")
    pid = user.pid()
    user.run("systemctl --user reload convsync")
    until(lambda: any('"reason": "registry"' in e.get("MESSAGE", "") for e in user.entries()), "a reload in the log")
    assert user.show("ActiveState", "MainPID") == {"ActiveState": "active", "MainPID": str(pid)}

    second = user.machine.worktree("b", register=False)
    user.run(f"XDG_RUNTIME_DIR= {user.program} register {second}")  # as from cron: no session, the same agent
    until(lambda: f'"{second}"' in user.run(f"XDG_RUNTIME_DIR= {user.program} status --json"), "a second worktree")
    assert f'"state": "running", "pid": {pid}' in user.run(f"XDG_RUNTIME_DIR= {user.program} status --json")

    user.run("systemctl --user daemon-reexec")
    assert user.pid() == pid
    user.machine.write(tree, ID, "one", "two", mtime_ns=LONG_AGO + 1)
    until(lambda: user.machine.questions(user.machine.silo(), ID) == ["one", "two"], "an edit after a re-exec")

    user.restart()
    user.machine.write(tree, ID, "one", "two", "three", mtime_ns=LONG_AGO + 2)
    user.until_shown(ActiveState="active")
    until(lambda: in_sync(user, pid=user.pid()), "in sync after a login", 60)
    assert user.machine.questions(user.machine.silo(), ID) == ["one", "two", "three"]


def test_the_hardened_unit_does_its_work(user):
    """It reads `.git`, follows a worktree that is made again outside of its sandbox, and sees no secrets."""
    git = "git -c user.name=x -c user.email=x@localhost -c commit.gpgsign=false -c init.defaultBranch=main"
    repository, second = user.base / "repo", user.base / "second"
    for path in (user.home / ".ssh", repository / ".jp"):
        path.mkdir(parents=True)
    (user.home / ".ssh" / "key").write_text("secret")
    (repository / ".jp" / ".id").write_text(f"{WS}\n")
    (repository / ".gitignore").write_text(".jp/conversations/\n")
    add = f"{git} -C {repository} worktree add -q {second} "
    user.run(f"{git} init -q {repository} && {git} -C {repository} add . && {git} -C {repository} commit -qm start")
    user.run(add + "-b topic")
    user.machine.write(second, ID, "one")
    user.convsync("register", repository)
    user.convsync("register", second)
    user.convsync("service", "install", "--now")

    pid = user.pid()
    assert user.run(f"readlink /proc/{pid}/ns/user") != user.run("readlink /proc/self/ns/user")
    user.run(f"ls /proc/{pid}/root{user.home}/.ssh/key", codes=(2,))
    user.run(f"touch /proc/{pid}/root/usr/convsync-was-here", codes=(1,))

    shutil.rmtree(second)
    until(lambda: "missing" in user.convsync("status", "--json"), "the worktree is missing")
    user.run(f"{git} -C {repository} worktree prune")
    user.run(add + "topic")
    until(lambda: user.machine.directory(second, ID) is not None, "its projection is back", 60)
    user.machine.write(second, ID, "one", "two", mtime_ns=LONG_AGO + 1)
    until(lambda: user.machine.questions(user.machine.silo(), ID) == ["one", "two"], "an edit in the new one")
    assert user.pid() == pid


def test_what_a_restart_does_not_mend_is_not_started_again(user, tree):
    """A mistake in the settings, or an agent run by hand: one try, and the one by hand goes on undisturbed."""
    config = Path(user.machine.env["XDG_CONFIG_HOME"]) / "convsync" / "config.toml"
    user.convsync("service", "install")
    config.parent.mkdir(parents=True)
    config.write_text("colour = 1\n")
    user.convsync("service", "install", codes=(2,))
    user.convsync("service", "start", codes=(7,))
    failed = {"ActiveState": "failed", "ExecMainStatus": "2", "NRestarts": "0"}
    assert user.show(*failed) == failed
    config.unlink()

    user.run(f"nohup {user.program} agent >/dev/null 2>&1 & echo $! >~/by-hand")
    pid = int((user.home / "by-hand").read_text())
    until(lambda: in_sync(user, pid=pid), "the agent by hand")
    user.convsync("service", "start", codes=(4,))
    user.run("systemctl --user start convsync", codes=(1,))
    assert user.show(*failed) == failed | {"ExecMainStatus": "4"}
    assert in_sync(user, pid=pid, state="running")
    user.convsync("uninstall", "--purge", "--yes", codes=(4,))

    user.run(f"kill {pid}")
    until(lambda: not Path(f"/proc/{pid}").exists() and user.json("status")["agent"]["state"] != "running", "its end")
    user.convsync("service", "start")
    conversations = user.machine.inventory(tree, user.machine.silo())
    user.convsync("uninstall", "--purge", "--yes")
    assert user.machine.inventory(tree, user.machine.silo()) == conversations
    assert not (user.machine.base / "state" / "convsync").exists()
    assert user.json("service", "status")["installed"] is False


def test_a_manager_is_taken_for_what_it_answers(user):
    """Without a way to it there is none, whatever is installed; the command to run by hand is said."""
    for verb in ("install", "uninstall", "start", "status", "logs"):
        user.run(f"XDG_RUNTIME_DIR= {user.program} service {verb}", codes=(4,))
        assert "convsync agent" in user.err
    assert not os.path.lexists(user.home / ".config" / "systemd")
