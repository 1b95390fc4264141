"""JP's lock on real files, beside the `flock` program and other processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from datetime import datetime

import pytest

from convsync_agent.locks import BusyError, conversation_lock
from holder import NAME, C, held, said

flock_program = pytest.mark.skipif(not shutil.which("flock"), reason="no `flock` program (util-linux) here")


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
