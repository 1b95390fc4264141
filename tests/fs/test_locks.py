"""JP's lock on real files, beside the `flock` program and other processes; the lock of the single agent."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from agents import until
from convsync_agent import flocks, locks
from convsync_agent.errors import Refused
from convsync_agent.locks import BusyError, Holder, conversation_lock

C = 17457886043
NAME = f"jp-c{C}.lock"
flock_program = pytest.mark.skipif(not shutil.which("flock"), reason="no `flock` program (util-linux) here")
proc_locks = pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="no /proc/locks here")


@pytest.fixture
def silo(tmp_path):
    path = tmp_path / "silo"
    path.mkdir()
    return path


@pytest.fixture
def lock(silo):
    """Where the lock file of the conversation lies; the directory is there."""
    (silo / "locks").mkdir()
    return silo / "locks" / NAME


HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX)
if len(sys.argv) > 2:
    file.truncate(0); file.write(sys.argv[2]); file.flush()
print("held", flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def held(path, content=None):
    """Another process holds it; killed at the end, as by `kill -9`."""
    argv = [sys.executable, "-c", HOLDER, str(path), *([content] if content is not None else [])]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


def said(path):
    return json.loads(path.read_text())


# -- beside other programs ------------------------------------------------------


@flock_program
def test_flock_cannot_have_what_we_hold_and_can_afterwards(silo):
    """The primitive is BSD flock on `<silo>/locks/jp-c<id>.lock`, exclusive (contract 7.2)."""
    path = silo / "locks" / NAME
    with conversation_lock(str(silo), C):
        assert 1 == subprocess.run(["flock", "-n", path, "true"], check=False).returncode
        assert 1 == subprocess.run(["flock", "-n", "-s", path, "true"], check=False).returncode
    assert not path.exists()
    assert 0 == subprocess.run(["flock", "-n", path, "true"], check=False).returncode


@flock_program
def test_we_are_busy_at_once_while_flock_holds_it(lock):
    """Never waited for: the answer comes while it is held, and the file of the holder stays as it is (R7)."""
    with subprocess.Popen(["flock", lock, "sh", "-c", "echo held; read x"], stdin=-1, stdout=-1) as other:
        assert other.stdout.readline() == b"held\n"
        inode = lock.stat().st_ino
        with pytest.raises(BusyError), conversation_lock(str(lock.parent.parent), C):
            pytest.fail("two holders")
        assert lock.stat().st_ino == inode
        other.stdin.close()
    with conversation_lock(str(lock.parent.parent), C) as ours:
        ours.require()


def test_a_killed_holder_frees_it_whatever_it_left_written(lock):
    """The kernel drops the lock of a killed process; its JSON stays and is stale (contract 7.3)."""
    with held(lock, '{"pid":1,"session":"getsid-1","acquired_at":"x"}') as process:
        with pytest.raises(BusyError), conversation_lock(str(lock.parent.parent), C):
            pass
        process.kill()
        process.wait()
        with conversation_lock(str(lock.parent.parent), C):
            assert said(lock)["session"] == "convsync"
    assert not lock.exists()


def test_a_second_conversation_is_locked_beside_the_first(silo):
    """And each is free again when it is let go."""
    with conversation_lock(str(silo), C), conversation_lock(str(silo), C + 1):
        pass
    with conversation_lock(str(silo), C):
        pass


def test_a_child_that_we_start_does_not_keep_it(silo):
    """The file is close-on-exec."""
    with conversation_lock(str(silo), C):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, close_fds=False)
    try:
        with conversation_lock(str(silo), C):
            pass
    finally:
        child.communicate()


# -- the file ---------------------------------------------------------------------


def test_the_content_has_the_shape_of_jps(silo):
    """Compact JSON, no newline, pid, session and an RFC 3339 time with +00:00 (contract 7.1)."""
    with conversation_lock(str(silo), C):
        raw = (silo / "locks" / NAME).read_text()
    shape = r'\{"pid":\d+,"session":"convsync","acquired_at":"[-0-9]{10}T[0-9:]{8}(\.\d+)?\+00:00"\}'
    assert re.fullmatch(shape, raw), raw
    found = json.loads(raw)
    assert found["pid"] == os.getpid()
    assert abs(time.time() - datetime.fromisoformat(found["acquired_at"]).timestamp()) < 60


def test_a_longer_content_of_before_is_replaced(lock):
    """Truncate and rewrite."""
    lock.write_text("x" * 1000)
    with conversation_lock(str(lock.parent.parent), C):
        assert said(lock)["pid"] == os.getpid()


def test_release_unlinks_while_holding(silo):
    """At the moment the name goes nobody can have the lock yet: there is no window for a third one (contract 7.7)."""
    path = silo / "locks" / NAME
    stolen = []
    real = os.unlink

    def spy(target, **kwargs):
        with open(path) as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                stolen.append(False)
            else:
                stolen.append(True)
        real(target, **kwargs)

    with pytest.MonkeyPatch.context() as patched, conversation_lock(str(silo), C):
        patched.setattr(os, "unlink", spy)
        with contextlib.ExitStack() as inner:
            inner.enter_context(conversation_lock(str(silo), C + 1))
            path = silo / "locks" / f"jp-c{C + 1}.lock"
    assert stolen == [False]


@pytest.mark.parametrize("how", ["unlinked", "replaced", "renamed"])
def test_a_lock_that_was_taken_from_under_us_is_noticed_and_not_unlinked(silo, how):
    """Before each destructive step the name is compared with the inode held; a stranger's file stays (contract 7.7)."""
    path = silo / "locks" / NAME
    with conversation_lock(str(silo), C) as ours:
        assert ours.still_ours()
        if how == "renamed":
            path.rename(path.with_name("elsewhere"))
        else:
            path.unlink()
        if how == "replaced":
            path.write_text("theirs")
        assert not ours.still_ours()
        with pytest.raises(BusyError):
            ours.require()
    assert path.exists() is (how == "replaced")


def test_a_silo_that_is_gone_is_not_made(tmp_path):
    """`locks/` is made on demand, the silo never."""
    with pytest.raises(FileNotFoundError), conversation_lock(str(tmp_path / "gone"), C):
        pass
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["symlink", "directory"])
def test_what_is_no_file_is_refused(lock, tmp_path, what):
    """A symlink is not followed, a directory is no lock: an OSError, nothing changed elsewhere."""
    target = tmp_path / "target"
    target.write_text("precious")
    lock.symlink_to(target) if what == "symlink" else lock.mkdir()
    with pytest.raises(OSError, match=r".") as caught, conversation_lock(str(lock.parent.parent), C):
        pass
    assert not isinstance(caught.value, FileNotFoundError)
    assert target.read_text() == "precious"
    assert os.path.lexists(lock)


# -- stray lock files of a worktree ---------------------------------------------------


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "tree" / ".jp"
    path.mkdir(parents=True)
    return path


def test_no_lock_file_is_made_in_a_worktree(silo, store):
    """One there would redirect every JP of that checkout (contract 7.1)."""
    with conversation_lock(str(silo), C, [str(store)]):
        assert [] == list(store.iterdir())
    assert [] == list(store.iterdir())


def test_a_stray_lock_file_is_taken_too_and_stays(silo, store):
    """JP uses it while the silo's is absent: both are held; it is not ours to remove or to write to."""
    stray = store / "locks" / NAME
    stray.parent.mkdir()
    stray.write_text("whoever")
    with conversation_lock(str(silo), C, [str(store)]), open(stray) as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert stray.read_text() == "whoever"


def test_a_stray_lock_that_is_held_makes_us_busy_and_leaves_no_file(silo, store):
    """Not taking all of them means taking none."""
    stray = store / "locks" / NAME
    stray.parent.mkdir()
    with held(stray):
        with pytest.raises(BusyError), conversation_lock(str(silo), C, [str(store)]):
            pass
        assert not (silo / "locks" / NAME).exists()
        assert stray.exists()


def test_an_exception_inside_gives_everything_back(silo, store):
    """Also the end by a signal handler."""
    stray = store / "locks" / NAME
    stray.parent.mkdir()
    stray.touch()
    with pytest.raises(SystemExit), conversation_lock(str(silo), C, [str(store)]):
        raise SystemExit
    with conversation_lock(str(silo), C, [str(store)]):
        pass


# -- what a crash left ----------------------------------------------------------------

OURS = '{"pid":4194304,"session":"convsync","acquired_at":"2025-01-01T00:00:00+00:00"}'
LEFTOVERS = {
    "ours": (NAME, OURS, True),
    "ours-cut": (NAME, OURS[:30], False),
    "jp": (NAME, OURS.replace("convsync", "getsid-1"), False),
    "no-session": (NAME, '{"pid":1,"acquired_at":"x"}', False),
    "list": (NAME, '["convsync"]', False),
    "empty": (NAME, "", False),
    "not-an-id": ("jp-cabc.lock", OURS, False),
    "no-number": ("jp-c.lock", OURS, False),
    "other-name": ("something.lock", OURS, False),
    "no-suffix": (f"jp-c{C}", OURS, False),
    "temp": (f"jp-c{C}.lock.tmp", OURS, False),
}


@pytest.mark.parametrize(("name", "content", "goes"), LEFTOVERS.values(), ids=LEFTOVERS)
def test_only_our_own_free_leftover_is_removed(silo, name, content, goes):
    """Free, named as JP names locks, and our session in it; everything else stays."""
    (silo / "locks").mkdir()
    path = silo / "locks" / name
    path.write_text(content)
    assert locks.remove_own_leftovers(str(silo)) == int(goes)
    assert path.exists() is not goes


def test_a_leftover_that_somebody_holds_stays(lock):
    """A JP that found our old file and locked it has not written yet."""
    lock.write_text(OURS)
    with held(lock):
        assert 0 == locks.remove_own_leftovers(str(lock.parent.parent))
        assert lock.exists()
    assert 1 == locks.remove_own_leftovers(str(lock.parent.parent))


def test_no_silo_no_leftovers(tmp_path):
    """A silo that is gone has none, and is not made."""
    assert 0 == locks.remove_own_leftovers(str(tmp_path / "gone"))
    assert [] == list(tmp_path.iterdir())


def test_a_fifo_among_the_locks_stops_nobody(lock):
    """Whatever lies there, asking who holds it comes back."""
    os.mkfifo(lock)
    script = f"from convsync_agent import locks; print(locks.remove_own_leftovers({str(lock.parent.parent)!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert "0" == done.stdout.strip(), done.stderr


# -- who holds it ---------------------------------------------------------------------

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


@proc_locks
def test_who_only_waits_or_shares_does_not_count(lock):
    """JP's locks are exclusive and granted."""
    with open(lock, "w") as mine:
        fcntl.flock(mine, fcntl.LOCK_SH)
        assert flocks.all_busy(str(lock.parent.parent)) == frozenset()
        with subprocess.Popen([sys.executable, "-c", HOLDER, lock], stdout=-1) as waiting:
            until(lambda: "->" in Path("/proc/locks").read_text(), "the other one waits")
            assert flocks.all_busy(str(lock.parent.parent)) == frozenset()
            waiting.kill()


def test_without_proc_locks_nobody_is_called_busy(lock, monkeypatch):
    """Where it cannot be seen without disturbing: none."""
    monkeypatch.setattr(flocks, "_PROC_LOCKS", "/nowhere")
    with held(lock):
        assert flocks.flocked_inodes() is None
        assert locks.busy_conversations(str(lock.parent.parent), [C]) == frozenset()


# -- the single agent -------------------------------------------------------------------

AGENT = """
import sys, time
from convsync_agent import locks
with locks.single_agent(sys.argv[1]):
    print("held", flush=True)
    time.sleep(600)
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
