"""Phase 3: `lock TARGET -- CMD`: JP's lock is ours while it runs. Real commands and signals."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import shlex
import signal
import subprocess
import termios
import time

import pytest

from agents import until
from convsync_agent import flocks, locks
from terminal import everything

ID, ARCHIVED, EXTERNAL = 17000000001, 17000000002, 17000000003


@pytest.fixture
def one(machine, monkeypatch):
    """Worktree a has ID; ARCHIVED is archived, EXTERNAL only in a. The session is ours."""
    monkeypatch.setenv("JP_SESSION", "mine")
    machine.env["JP_SESSION"] = "mine"
    a = machine.worktree("a", register=False)
    machine.write(a, ID, "x", slug="private-title", title="Private title")
    machine.write(a, ARCHIVED, "x", archived=True)
    machine.ok("register", a)
    machine.write(a, EXTERNAL, "x")
    return machine


def path(machine, conversation=ID):
    return machine.silo() / "locks" / f"jp-c{conversation}.lock"


def shell(text):
    return ["sh", "-c", text]


def held(machine):
    return bool(flocks.all_busy(str(machine.silo())))


@contextlib.contextmanager
def running(machine, *argv, text="echo up; exec sleep 900"):
    """A `lock` in a process group of its own whose command runs, and holds a pipe to us."""
    process = machine.spawn("lock", ID, *argv, "--", *shell(text), start_new_session=True)
    try:
        assert process.stdout.readline() == "up\n", process.communicate()
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=120)


def parent_of(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except OSError:
        return None


# -- the command ----------------------------------------------------------------------


@pytest.mark.parametrize("conversation", [ID, EXTERNAL])
def test_phase3_the_command_runs_under_the_lock(one, conversation):
    """It knows the id; the lock file says in JP's form who has it, with our session; it goes with the command."""
    script = f"cat {shlex.quote(str(path(one, conversation)))}; echo; echo $CONVSYNC_CONVERSATION"
    before = one.inventory(one.silo() / "conversations", one.base / "a")
    process = one.spawn("lock", conversation, "--", *shell(script))
    said, name = process.communicate(timeout=120)[0].splitlines()
    said = json.loads(said)

    assert process.returncode == 0
    assert name == f"jp-c{conversation}"
    assert list(said) == ["pid", "session", "acquired_at"]
    assert (said["pid"], said["session"]) == (process.pid, "mine")
    assert said["acquired_at"].endswith("+00:00")
    assert not path(one, conversation).exists()
    assert one.inventory(one.silo() / "conversations", one.base / "a") == before  # external: nothing is imported


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["true"], 0),
        (["false"], 1),
        (shell("exit 7"), 7),
        (shell("kill -TERM $$"), 128 + signal.SIGTERM),
        (shell("kill -KILL $$"), 128 + signal.SIGKILL),
        (["no-such-command-anywhere"], 127),
        (["/"], 126),
        (["/etc/hostname"], 126),
    ],
)
def test_phase3_the_exit_code_is_the_commands(one, argv, code):
    """As of a shell. The lock is let go, whatever it is."""
    process = one.spawn("lock", ID, "--", *argv)
    _, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert not path(one).exists()
    assert err.startswith("error: ") is (code in (126, 127))


def test_phase3_the_command_does_not_inherit_the_lock(one):
    """What it leaves behind in the background keeps nobody out."""
    process = one.spawn("lock", ID, "--", *shell("sleep 60 >/dev/null 2>&1 & echo $!"))
    background = int(process.communicate(timeout=120)[0])
    try:
        with locks.conversation_lock(str(one.silo()), ID):
            pass
    finally:
        os.kill(background, signal.SIGKILL)


def test_phase3_the_command_ignores_no_signal(one):
    """What we ignore for our own sake, it does not."""
    process = one.spawn("lock", ID, "--", "grep", "SigIgn", "/proc/self/status")
    ignored = int(process.communicate(timeout=120)[0].split()[1], 16)
    assert not ignored >> (signal.SIGIO - 1) & 1


def test_phase3_its_arguments_are_its_own(one):
    """What stands behind the two dashes is not for us."""
    process = one.spawn("lock", "--wait", "1s", str(ID), "--", "echo", "--json", "-v", "--help", "--wait")
    assert process.communicate(timeout=120)[0] == "--json -v --help --wait\n"
    broken = one.spawn("lock", ID, "--", "no-such-command-anywhere", "--json")
    assert broken.communicate(timeout=120)[1].startswith("error: ")


def test_phase3_with_json_there_is_one_document(one):
    """What the command prints goes to stderr."""
    process = one.spawn("--json", "lock", ID, "--", *shell("echo hello; exit 3"))
    out, err = process.communicate(timeout=120)
    assert json.loads(out) == {"schema": 1, "id": f"jp-c{ID}", "exit_code": 3}
    assert (process.returncode, err) == (3, "hello\n")


def test_phase3_stdin_is_the_commands(one):
    process = one.spawn("lock", ID, "--", "cat", stdin=subprocess.PIPE)
    assert process.communicate("through", timeout=120)[0] == "through"


# -- signals ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_phase3_a_signal_goes_on_to_the_command(one, number):
    """It ends of it, so do we, with its code; the lock is let go."""
    with running(one) as process:
        assert held(one)
        process.send_signal(number)
        assert process.wait(120) == 128 + number
        assert not path(one).exists()


def test_phase3_the_lock_is_kept_while_the_command_goes_on(one):
    """A command that does not obey keeps the lock, for it may still write."""
    text = "trap 'echo got' TERM; echo up; while :; do sleep 0.05; done"
    with running(one, text=text) as process:
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "got\n"
        assert held(one)
        assert process.poll() is None
        [child] = (p for p in os.listdir("/proc") if p.isdigit() and parent_of(p) == process.pid)
        os.kill(int(child), signal.SIGKILL)
        assert process.wait(120) == 128 + signal.SIGKILL
    assert not path(one).exists()


def test_phase3_what_is_typed_reaches_the_command_once(one):
    """Ctrl-C goes to the whole foreground of a terminal: we are part of it, and pass nothing on."""
    ours, theirs = pty.openpty()

    def begin():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    text = "trap 'echo int' INT; echo up; while [ ! -e go ]; do sleep 0.05; done; exit 9"
    argv = ["lock", ID, "--", *shell(text)]
    io = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "text": False}
    process = one.spawn(*argv, **io, preexec_fn=begin, cwd=one.base)
    os.close(theirs)
    seen = b""
    for answer in (b"up", b"int"):
        while answer not in seen:
            seen += os.read(ours, 4096)
        if answer == b"up":
            os.write(ours, b"\x03")
    (one.base / "go").touch()
    seen += everything(ours).encode()
    assert process.wait(120) == 9
    assert seen.count(b"int") == 1


def test_phase3_a_lock_file_that_somebody_removed_is_told(one):
    """Then nothing kept others out; the exit code stays the command's."""
    process = one.spawn("lock", ID, "--", *shell(f"rm {shlex.quote(str(path(one)))}; exit 3"))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 3
    assert err.startswith("warning: the lock file was removed")


def test_phase3_a_killed_one_leaves_an_orphan_that_stops_nobody(one):
    """SIGKILL: the kernel lets go, though the command goes on; `locks` says so; the next one gets the lock."""
    with running(one) as process:
        process.kill()
        process.wait(120)
        until(lambda: not held(one))
        [left] = one.ok("locks", "--json").json["locks"]
        assert (left["state"], left["pid"], left["session"]) == ("orphaned", process.pid, "mine")
    ran = one.spawn("lock", ID, "--wait", "0", "--", "true")
    assert ran.communicate(timeout=120)
    assert ran.returncode == 0
    assert not path(one).exists()


# -- others -------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [ARCHIVED])
def test_phase3_an_archived_one_is_refused(one, number):
    """JP does not write what is archived. Nothing is made for it, no lock file either."""
    ran = one.run("lock", number, "--", "true")
    assert ran.code == 4
    assert f"convsync unarchive jp-c{number}" in ran.err
    assert not path(one, number).exists()


@pytest.mark.parametrize(
    ("argv", "code"),
    [(["lock", str(ID)], 2), (["lock"], 2), (["lock", "jp-c9", "--", "true"], 3), (["lock", "17", "--", "true"], 2)],
)
def test_phase3_bad_usage(one, argv, code):
    before = one.inventory(one.silo(), one.base / "a")
    assert one.run(*argv).code == code
    assert one.inventory(one.silo(), one.base / "a") == before


def test_phase3_an_agent_waits_with_what_is_locked(one, agent):
    """And goes on with everything else; when the lock goes it catches up."""
    agent()
    with running(one) as process:
        one.write(one.base / "a", ID, "x", "y", mtime_ns=time.time_ns())
        one.write(one.base / "a", EXTERNAL, "x", "z", mtime_ns=time.time_ns())
        until(lambda: one.directory(one.silo(), EXTERNAL) and one.questions(one.silo(), EXTERNAL) == ["x", "z"])
        assert one.questions(one.silo(), ID) == ["x"]
        process.send_signal(signal.SIGTERM)
        process.wait(120)
    until(lambda: one.questions(one.silo(), ID) == ["x", "y"])
