"""Phase 3: lock files as they are found: held, orphaned, without JSON or with broken JSON."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time

import pytest

from agents import until
from convsync_agent import flocks
from convsync_agent.lockfiles import Grasp, Note, lock_files
from convsync_agent.locks import BusyError, conversation_lock

A = 17_000_000_001
AT = "2025-01-01T00:00:00+00:00"
SAYS = {"pid": 4242, "session": "getsid-9", "acquired_at": AT}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "locks").mkdir()
    return tmp_path


def file(root, conversation, text=""):
    path = root / "locks" / f"jp-c{conversation}.lock"
    path.write_text(text)
    return path


def only(root):
    [found] = lock_files([str(root)])
    return found


@pytest.mark.parametrize(
    ("text", "note", "holder", "since"),
    [
        (json.dumps(SAYS), Note.WHOLE, (4242, "getsid-9", AT), 1_735_689_600_000),
        (json.dumps({"pid": 1, "acquired_at": AT}), Note.WHOLE, (1, None, AT), 1_735_689_600_000),
        (json.dumps(SAYS | {"acquired_at": "soon"}), Note.WHOLE, (4242, "getsid-9", "soon"), None),
        ("", Note.ABSENT, (None, None, None), None),
        ('{"pid": 42', Note.BROKEN, (None, None, None), None),
        ("[1]", Note.BROKEN, (None, None, None), None),
        ("\x00\xff", Note.BROKEN, (None, None, None), None),
    ],
)
@pytest.mark.parametrize("held", [True, False])
def test_phase3_what_a_lock_file_says(root, text, note, holder, since, held):
    """Whatever stands in it: whether somebody holds it is another matter, and the kernel's, which also knows who."""
    path = file(root, A, text)
    with subprocess.Popen(["flock", str(path), "cat"], stdin=subprocess.PIPE) as other:
        until(lambda: flocks.all_busy(str(root)))
        found = only(root) if held else None
        other.communicate(timeout=120)
    found = found or only(root)
    assert (found.conversation, found.grasp) == (A, Grasp.HELD if held else Grasp.ORPHANED)
    pid = other.pid if held and holder[0] is None else holder[0]
    assert (found.note, vars_of(found.holder), found.since_ms) == (note, (pid, *holder[1:]), since)


def vars_of(holder):
    return holder.pid, holder.session, holder.acquired_at


def test_phase3_what_is_no_lock_of_a_conversation(root):
    """Contract 12.4: names of another form are not of a conversation; what is no file holds nothing."""
    for name in ("allocator.lock", "jp-c1.lock.tmp", "jp-c01.lock", "17000000001.lock", "jp-c+5.lock"):
        (root / "locks" / name).write_text("{}")
    (root / "locks" / f"jp-c{A}.lock").mkdir()
    os.mkfifo(root / "locks" / f"jp-c{A + 1}.lock")
    assert lock_files([str(root), str(root / "none")]) == []


def test_phase3_listing_takes_no_lock_and_writes_nothing(root):
    """A JP that asks at the same instant gets it."""
    path = file(root, A, json.dumps(SAYS))
    before = (path.stat().st_mtime_ns, path.stat().st_ino, path.read_text())
    stop = threading.Event()
    lister = threading.Thread(target=lambda: [lock_files([str(root)]) for _ in iter(stop.is_set, True)])
    lister.start()
    try:
        asked = [subprocess.run(["flock", "-n", str(path), "true"], check=False).returncode for _ in range(20)]
    finally:
        stop.set()
        lister.join()
    assert set(asked) == {0}
    assert (path.stat().st_mtime_ns, path.stat().st_ino, path.read_text()) == before


@pytest.mark.parametrize(("age", "grasp"), [(0, Grasp.UNKNOWN), (60, Grasp.ORPHANED)])
def test_phase3_without_a_list_of_locks_only_old_files_are_tried(root, monkeypatch, age, grasp):
    """Contract 7.7, 10: a young one may be somebody's who is just starting."""
    monkeypatch.setattr(flocks, "_PROC_LOCKS", str(root / "none"))  # as on macOS
    path = file(root, A)
    then = time.time() - age
    os.utime(path, (then, then))
    assert only(root).grasp is grasp
    with subprocess.Popen(["flock", str(path), "cat"], stdin=subprocess.PIPE) as other:
        until(lambda: subprocess.run(["flock", "-n", str(path), "true"], check=False).returncode)
        assert only(root).grasp is (Grasp.HELD if age else Grasp.UNKNOWN)
        other.communicate(timeout=120)


# -- others who lock ----------------------------------------------------------------------


def test_phase3_flock_keeps_us_out_and_we_keep_flock_out(root):
    """The same lock for util-linux, JP and us."""
    path = file(root, A)
    with subprocess.Popen(["flock", str(path), "cat"], stdin=subprocess.PIPE) as other:
        until(lambda: flocks.all_busy(str(root)))
        with pytest.raises(BusyError), conversation_lock(str(root), A):
            pass
        other.communicate(timeout=120)
    with conversation_lock(str(root), A) as lock:
        assert subprocess.run(["flock", "-n", str(path), "true"], check=False).returncode == 1
        assert lock.still_ours()
    assert not path.exists()


def test_phase3_a_killed_holder_leaves_an_orphan_that_stops_nobody(root):
    """The kernel lets go; the file stays and says who it was, until the next one takes and removes it."""
    path = file(root, A, json.dumps(SAYS))
    other = subprocess.Popen(["flock", "--no-fork", str(path), "sleep", "60"])
    until(lambda: flocks.all_busy(str(root)))
    assert only(root).grasp is Grasp.HELD
    other.kill()
    other.wait(120)
    assert (only(root).grasp, only(root).holder.pid) == (Grasp.ORPHANED, 4242)
    with conversation_lock(str(root), A):
        assert (only(root).grasp, only(root).holder.pid) == (Grasp.HELD, os.getpid())
    assert lock_files([str(root)]) == []
