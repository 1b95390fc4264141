"""What tells a person: commands beside the loop, and which one a desktop has."""

from __future__ import annotations

import os
import queue
import stat

import pytest

from agents import until
from convsync_agent.desktop import notification
from convsync_agent.messengers import Messengers


@pytest.fixture
def messengers():
    made = Messengers()
    yield made
    made.close()


def sent(messengers, script, *, said=b"", limit=120.0):
    ended = queue.SimpleQueue()
    messengers.send(["/bin/sh", "-c", script], said, limit=limit, ended=ended.put)
    return ended


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("true", ""),
        ("cat >/dev/null", ""),
        ("exit 3", "exit 3"),
        ("kill -9 $$", "signal 9"),
        ("echo told; echo trouble >&2; exit 1", "exit 1"),
    ],
)
def test_how_it_ended(messengers, script, why, capfd):
    """The exit code is said, what it printed is thrown away; one that reads nothing is no failure."""
    assert sent(messengers, script, said=b"x" * 200_000).get(timeout=120) == why
    assert capfd.readouterr() == ("", "")


def test_it_gets_everything_on_stdin(messengers, tmp_path):
    """Byte for byte, more than a pipe holds, and then the end."""
    said = os.urandom(300_000)
    assert sent(messengers, f"cat > {tmp_path}/out", said=said).get(timeout=120) == ""
    assert (tmp_path / "out").read_bytes() == said


def test_what_cannot_be_run(messengers):
    """That is a failure like another, and stops nothing."""
    ended = queue.SimpleQueue()
    messengers.send(["/no/such/command"], b"", limit=1.0, ended=ended.put)
    assert ended.get(timeout=120).startswith("cannot be run")


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")
def test_a_time_limit_ends_the_whole_group(messengers, tmp_path):
    """What it started ends with it."""
    ended = sent(messengers, f"sleep 600 & echo $! > {tmp_path}/child; wait", limit=6.0)
    assert ended.get(timeout=120) == "not done in 6 s"
    child = int((tmp_path / "child").read_text())
    until(lambda: gone(child), "its child is gone")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")
def test_closing_leaves_nothing_behind(tmp_path):
    """An agent that stops takes along what still runs, after a moment."""
    messengers = Messengers()
    ended = sent(messengers, f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; sleep 600")
    until((tmp_path / "pid").exists)
    messengers.close()

    assert ended.get(timeout=120) == "signal 9"
    assert gone(int((tmp_path / "pid").read_text()))


def put_command(directory, name):
    path = directory / name
    path.write_text("#!/bin/sh\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_which_command_a_desktop_has(tmp_path):
    """`notify-send` where a session bus is, else `osascript`, else none; texts are arguments of their own."""
    env = {"PATH": str(tmp_path)}
    assert notification("t", "x", urgent=False, env=env) is None

    linux = put_command(tmp_path, "notify-send")
    assert notification("t", "x", urgent=False, env=env) is None, "nobody is there to see it"
    with_bus = env | {"DBUS_SESSION_BUS_ADDRESS": "unix:path=/x"}
    found = notification('t "quoted"', "-x", urgent=True, env=with_bus)
    assert found == [linux, "--app-name=convsync", "--urgency=critical", 't "quoted"', "-x"]
    (tmp_path / "bus").touch()
    assert notification("t", "x", urgent=False, env=env | {"XDG_RUNTIME_DIR": str(tmp_path)})

    mac = put_command(tmp_path, "osascript")
    found = notification('t "quoted"', "x", urgent=True, env=env)
    assert found is not None
    assert (found[0], found[-2:]) == (mac, ['t "quoted"', "x"])
    assert not any("quoted" in part for part in found[1:-2])
