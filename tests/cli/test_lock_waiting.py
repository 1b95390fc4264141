"""Phase 3: how long `lock` waits for a lock that somebody has, and what comes of the waiting."""

from __future__ import annotations

import os
import signal
import time

import pytest

from agents import until
from convsync_agent.errors import UsageProblem
from convsync_cli.patience import lock_patience

ID = 17000000001


@pytest.fixture
def one(machine):
    """Worktree a has ID."""
    a = machine.worktree("a", register=False)
    machine.write(a, ID, "x", slug="private-title", title="Private title")
    machine.ok("register", a)
    return machine


def path(machine):
    return machine.silo() / "locks" / f"jp-c{ID}.lock"


def waiting(process):
    """Our handlers are installed, so it waits for the lock, or is about to."""
    with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
        caught = next(line.split()[1] for line in file if line.startswith("SigCgt"))
    return int(caught, 16) >> (signal.SIGTERM - 1) & 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_phase3_a_signal_ends_the_waiting(one, number, code):
    """Before the command runs it is for us; the holder keeps what it has."""
    with one.holding(ID) as lock:
        process = one.spawn("lock", ID, "--wait", "1m", "--", "true", start_new_session=True)
        until(lambda: waiting(process))
        process.send_signal(number)
        said = process.communicate(timeout=120)
        assert process.returncode == code, said
        assert lock.exists()


@pytest.mark.parametrize(
    ("flag", "env", "least"),
    [("0", None, 0), ("500ms", "1h", 0.5), (None, "0", 0), (None, "1s 500ms", 1.5), ("0", "1h", 0)],
)
def test_phase3_how_long_a_held_lock_is_waited_for(one, monkeypatch, flag, env, least):
    """--wait wins over $JP_LOCK_DURATION; 0 does not wait. Exit 5 names pid and session, and what to type."""
    if env is not None:
        monkeypatch.setenv("JP_LOCK_DURATION", env)
    with one.holding(ID):
        began = time.monotonic()
        ran = one.run("lock", ID, *(["--wait", flag] if flag else []), "--", "true")
        took = time.monotonic() - began
    assert ran.code == 5, ran
    assert f"in use by pid {os.getpid()}, session getsid-1" in ran.err
    assert "--wait" in ran.err
    assert "JP_LOCK_DURATION" in ran.err
    assert least <= took < 20  # 30 s are waited where nothing is said


@pytest.mark.parametrize("text", ["abc", "5", "-1s", "10x", "", "1s2"])
def test_phase3_what_is_no_duration(one, monkeypatch, text):
    """Exit 2, whether the lock is held or not."""
    assert one.run("lock", ID, "--wait", text, "--", "true").code == 2
    monkeypatch.setenv("JP_LOCK_DURATION", text)
    assert one.run("lock", ID, "--", "true").code == (2 if text else 0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0), ("0s", 0), ("10s", 10), ("2m", 120), ("1h", 3600), ("1h 30m", 5400), ("1h30m", 5400), ("250ms", 0.25),
        ("2min 12us", 120.000012), ("1day", 86400), ("1w", 604800), ("1M", 2630016), ("1y", 31557600), (" 3 s ", 3),
    ],
)  # fmt: skip
def test_phase3_durations_as_jp_reads_them(text, seconds):
    """The grammar of humantime, in the flag and in the variable."""
    assert lock_patience({}, wait=text) == pytest.approx(seconds)
    assert lock_patience({"JP_LOCK_DURATION": text}) == pytest.approx(seconds)
    assert lock_patience({"JP_LOCK_DURATION": "1h"}, wait=text) == pytest.approx(seconds)


def test_phase3_without_anything_it_is_half_a_minute():
    assert lock_patience({}) == 30
    assert lock_patience({"JP_LOCK_DURATION": ""}) == 30
    with pytest.raises(UsageProblem, match="--wait"):
        lock_patience({}, wait="soon")


def test_phase3_the_lock_that_comes_free_is_taken(one):
    """While we wait; no file is left."""
    with one.holding(ID):
        process = one.spawn("lock", ID, "--wait", "1m", "--", "echo", "mine")
        until(lambda: waiting(process))
        assert process.poll() is None
    assert process.communicate(timeout=120)[0] == "mine\n"
    assert process.returncode == 0
    assert not path(one).exists()


def test_phase3_what_was_archived_while_we_waited_is_not_written(one):
    """The lock is let go again and the command does not run (contract 12, K8)."""
    with one.holding(ID):
        process = one.spawn("lock", ID, "--wait", "1m", "--", "echo", "mine")
        until(lambda: waiting(process))
        for root in (one.base / "a", one.silo()):
            at = one.directory(root, ID)
            (at.parent / ".archive").mkdir(exist_ok=True)
            at.rename(at.parent / ".archive" / at.name)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (4, ""), err
    assert not path(one).exists()
