"""Kept copies and trouble: a fault or a death at each step, several processes at once."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys

import pytest

from convsync_agent import fs, kernel
from convsync_agent.keepsake import MANIFEST
from convsync_agent.objects import TEMP
from convsync_agent.shelter import Shelter
from deaths import dying
from faults import Faults
from machine import as_jp, event, put
from sheltered import MTIME, T0, WS, C, Silo, contents


@pytest.fixture
def silo(tmp_path):
    return Silo(tmp_path)


def build(base, how):
    """A silo whose kept copy is old, and what a step does to it: (silo, step, allowed contents)."""
    silo = Silo(base)
    old = contents(silo.write("one"))
    silo.keep()
    if how == "keep":
        new = contents(silo.write("two", mtime_ns=MTIME + 1))
        copy = silo.copy()
        return silo, lambda s: s.keep(WS, copy, at_ms=T0), [old, new]
    shutil.rmtree(silo.directory())
    if how == "removed":
        return silo, lambda s: s.removed(WS, C, T0), [old]
    silo.shelter.removed(WS, C, T0)
    return silo, lambda s: s.empty(), [old, None]


@pytest.mark.parametrize("kind", [errno.EIO, errno.ENOSPC, "full", "die"])
@pytest.mark.parametrize("how", ["keep", "removed", "empty"])
def test_a_fault_at_each_step_leaves_the_old_or_the_new(tmp_path, monkeypatch, how, kind):
    """The kept copy is whole at every moment; after it, the same step in another process ends well and clears up."""
    faults = Faults(monkeypatch, kind, 0)
    for at in range(1, 400):
        base = tmp_path / str(at)
        base.mkdir()
        silo, step, allowed = build(base, how)
        faults.at, faults.count, faults.hit = at, 0, ""
        trouble = None
        try:
            with faults.watching():
                step(silo.shelter)
        except (OSError, fs.ChangedError) as error:
            trouble = error
        again = Shelter(str(silo.data))
        found = silo.restored(shelter=again) if again.held(WS, C) else None
        assert found in allowed, f"{at}: {faults.hit}"
        assert trouble is None or faults.hit
        step(again)
        found = silo.restored(shelter=again) if again.held(WS, C) else None
        assert found == allowed[-1], f"{at}: {faults.hit}"
        held = again.held(WS, C)
        left = silo.names() if silo.place().exists() else set()
        if how == "empty":
            assert left == set(), f"{at}: {faults.hit}"
        else:
            assert left >= {MANIFEST, *(f.held for f in held.files)}, f"{at}: {faults.hit}"
        shutil.rmtree(base)
        if not faults.hit:
            break
    assert at > 4


def test_what_a_crash_left_goes_with_the_next_change(silo):
    """Unfinished files and content that no manifest names; a tombstone and strangers stay."""
    silo.write("one")
    silo.keep()
    for name in (f"{TEMP}0123456789abcdef", "0" * 32 + ".gz", "1" * 32 + ".raw", "tombstone.json", "notes.txt"):
        (silo.place() / name).write_bytes(b"left")
    silo.write("two")
    assert silo.keep()
    assert silo.names() == {MANIFEST, "tombstone.json", "notes.txt", *(f.held for f in silo.shelter.held(WS, C).files)}


def test_it_is_durable_in_the_right_order(silo, monkeypatch):
    """Content and its names are synced before the manifest that names them, and that before the old content goes."""
    silo.write("one")
    silo.keep()
    old = {f.held for f in silo.shelter.held(WS, C).files}
    log = []
    for owner, name in ((kernel, "fsync"), (os, "rename"), (os, "unlink")):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, _r=real, _n=name, **k: log.append((_n, str(a[-1]))) or _r(*a, **k))
    silo.write("two")
    log.clear()
    silo.keep()
    steps = [n for n, _ in log]
    manifest = next(i for i, (n, p) in enumerate(log) if n == "rename" and p.endswith(MANIFEST))
    going = [i for i, (n, p) in enumerate(log) if n == "unlink" and os.path.basename(p) in old]
    assert len(going) == 1
    assert steps[:manifest].count("fsync") >= 3  # the stream, the directory, the manifest
    assert "fsync" in steps[manifest : going[0]]


def test_many_together_wait_for_the_disk_once(silo, monkeypatch):
    """And are what they would have been one by one. Where nothing can wait for a whole disk, each waits for itself."""
    waited = []
    real = kernel.fsync

    def fsync(fd):
        waited.append("file")
        real(fd)

    monkeypatch.setattr(kernel, "fsync", fsync)
    top = silo.write()
    if kernel.has_syncfs():
        monkeypatch.setattr(kernel, "sync_file_system", lambda _fd: waited.append("disk"))
    silo.keep()
    waited.clear()
    (top / "b.bin").write_bytes(b"x")
    with silo.shelter.together():
        assert silo.keep()
    assert waited == (["disk"] if kernel.has_syncfs() else ["file"] * 4)
    assert silo.restored() == contents(top)


KILLED = dying(
    "import pickle\nfrom convsync_agent.shelter import Shelter\ncopy = pickle.loads(bytes.fromhex(sys.argv[3]))",
    ("mkdir", "write", "fsync", "rename", "fchmod", "unlink", "utime"),
    "Shelter(sys.argv[1]).keep('abcde', copy, at_ms=5)",
)


def test_a_kill_at_each_step_leaves_the_old_or_the_new(silo):
    """SIGKILL before any step of keeping: whole, and the lock died with its process."""
    base = contents(silo.write("0"))
    silo.keep()
    for at in range(200):
        new = contents(silo.write(str(at + 1), mtime_ns=MTIME + at))
        copy = pickle.dumps(silo.copy()).hex()
        code = subprocess.run(
            [sys.executable, "-c", KILLED, str(silo.data), str(at), copy], check=False, timeout=120
        ).returncode
        assert code in (0, -signal.SIGKILL)
        assert silo.restored(shelter=Shelter(str(silo.data))) in (base, new)
        silo.keep()
        base = silo.restored()
        assert base == new
        if code == 0:
            break
    assert at > 10


KEEPER = """
import pickle, sys
from convsync_agent.shelter import Shelter
shelter, copies = Shelter(sys.argv[1]), pickle.loads(bytes.fromhex(sys.argv[2]))
for n in range(60):
    shelter.keep("abcde", copies[n % 2], at_ms=5)
"""


def test_several_processes_keep_at_once(silo):
    """Whoever is last, what is named is there: a place has one owner at a time."""
    silo.write("one")
    first = silo.copy()
    target = silo.directory(archived=True)
    target.parent.mkdir()
    shutil.copytree(silo.directory(), target)
    put(target / "events.json", as_jp([event("two")]), MTIME)
    copies = pickle.dumps([first, silo.copy(archived=True)]).hex()
    running = [
        subprocess.Popen([sys.executable, "-c", KEEPER, str(silo.data), copies], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [p.communicate(timeout=120)[0] for p in running] == [b""] * 3
    assert [p.returncode for p in running] == [0] * 3
    assert [raw for _, raw, _ in silo.shelter.read(WS, C)][2]
    assert silo.names() == {MANIFEST, *(f.held for f in silo.shelter.held(WS, C).files)}
