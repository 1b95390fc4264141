"""Who holds a lock, seen without touching it; the lock of the single agent."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agents import until
from convsync_agent import flocks, locks
from convsync_agent.errors import Refused
from convsync_agent.locks import Holder
from holder import HOLDER, NAME, C, held, said

proc_locks = pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="no /proc/locks here")


HOLDERS = {
    "whole": ('{"pid":5,"session":"s","acquired_at":"t"}', Holder(5, "s", "t")),
    "no-session": ('{"pid":5,"acquired_at":"t"}', Holder(5, None, "t")),
    "strange": ('{"pid":"x","session":7}', Holder(None, "7", None)),
    "broken": ("{", Holder(None, None, None)),
    "list": ("[]", Holder(None, None, None)),
    "bytes": ("\udcff", Holder(None, None, None)),
}


@pytest.mark.parametrize(("content", "expected"), HOLDERS.values(), ids=HOLDERS)
def test_what_a_lock_file_says(tmp_path, content, expected):
    """Diagnostic only: whatever cannot be understood is None."""
    path = tmp_path / "x.lock"
    path.write_bytes(content.encode(errors="surrogateescape"))
    assert locks.holder_of(str(path)) == expected
    assert locks.holder_of(str(tmp_path / "none")) is None


@proc_locks
def test_a_held_lock_is_seen_without_touching_it(lock):
    """`/proc/locks` tells; a file that is there and free is not busy (contract 7.7, 10)."""
    silo = str(lock.parent.parent)
    (lock.parent / f"jp-c{C + 1}.lock").touch()
    with held(lock):
        before = lock.stat()
        assert locks.busy_conversations(silo, [C, C + 1, C + 2]) == {C}
        assert flocks.all_busy(silo) == {NAME}
        assert lock.stat().st_atime_ns == before.st_atime_ns
    assert locks.busy_conversations(silo, [C]) == frozenset()
    assert flocks.all_busy(silo) == frozenset()


def waits_for(lock):
    """Somebody is blocked on this very file."""
    rows = Path("/proc/locks").read_text().splitlines()
    return [r for r in rows if "->" in r and f":{lock.stat().st_ino} " in r]


@proc_locks
def test_who_only_waits_or_shares_does_not_count(lock):
    """JP's locks are exclusive and granted."""
    with open(lock, "w") as mine:
        fcntl.flock(mine, fcntl.LOCK_SH)
        assert flocks.all_busy(str(lock.parent.parent)) == frozenset()
        with subprocess.Popen([sys.executable, "-c", HOLDER, lock], stdout=-1) as waiting:
            until(lambda: waits_for(lock), "the other one waits")
            assert flocks.all_busy(str(lock.parent.parent)) == frozenset()
            waiting.kill()


def test_without_proc_locks_nobody_is_called_busy(lock, monkeypatch):
    """Where it cannot be seen without disturbing: none."""
    monkeypatch.setattr(flocks, "_PROC_LOCKS", "/nowhere")  # as on macOS
    with held(lock):
        assert flocks.flocked_inodes() is None
        assert locks.busy_conversations(str(lock.parent.parent), [C]) == frozenset()


# -- the single agent -------------------------------------------------------------------

AGENT = """
import sys, time
from convsync_agent import locks
with locks.single_agent(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)  # until it is killed
"""


@pytest.mark.parametrize("seen", [True, False], ids=["proc-locks", "probe"])
def test_one_agent_at_a_time_and_a_killed_one_is_none(tmp_path, monkeypatch, seen):
    """The second is refused with the pid of the first; after kill -9 the place is free."""
    path = str(tmp_path / "agent.lock")
    if not seen:
        monkeypatch.setattr(flocks, "_PROC_LOCKS", "/nowhere")
    assert not flocks.agent_running(path)
    with subprocess.Popen([sys.executable, "-c", AGENT, path], stdout=-1) as other:
        assert other.stdout.readline() == b"held\n"
        assert flocks.agent_running(path)
        with pytest.raises(Refused, match=str(other.pid)) as caught, locks.single_agent(path):
            pass
        assert caught.value.code == "already-running"
        other.send_signal(signal.SIGKILL)
    assert not flocks.agent_running(path)
    with locks.single_agent(path):
        assert flocks.agent_running(path)
    assert not flocks.agent_running(path)


def test_the_end_of_an_agent_says_so_in_its_file(tmp_path):
    """No pid stays that could belong to another process later."""
    path = tmp_path / "agent.lock"
    with locks.single_agent(str(path)):
        assert said(path)["pid"] == os.getpid()
    assert "" == path.read_text()
