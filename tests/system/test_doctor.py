"""`doctor` beside a real agent, on real disks that are full, read-only or dead, and in a namespace with real limits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from agents import until
from convsync_agent import __version__
from disks import Disk, no_disks
from editors import A, B
from machine import OF_THE_HOST

ON_A_DISK = pytest.mark.skipif(bool(no_disks()), reason=no_disks())


@pytest.fixture
def well(machine):
    """Two worktrees, one conversation in both."""
    for name in "ab":
        machine.write(machine.worktree(name, register=False), A, "one")
    for name in "ab":
        machine.ok("register", machine.base / name)
    return machine


def doctor(machine, **settings):
    """Asked in a process of its own, as a person does: the document, and the seconds it took."""
    began = time.monotonic()
    ran = machine.spawn("doctor", "--json", **settings)
    out, err = ran.communicate(timeout=120)
    found = json.loads(out)
    assert (ran.returncode, err) == (0 if found["ok"] else 1, "")
    return found, time.monotonic() - began


def wrong(found, *codes):
    """(level, code) of what is not ok: of these codes, or of all that the host of the tests has no part in."""
    rows = [(c["level"], c["code"]) for c in found["checks"] if c["level"] != "ok"]
    return [r for r in rows if (r[1] in codes if codes else r[1] not in {*OF_THE_HOST, "service"})]


def test_beside_an_agent_all_is_well(well, agent):
    """It answers, it is of this version, and what it watches is counted."""
    one = agent()
    found = until(lambda: (f := doctor(well)[0]) and wrong(f) == [] and f, "all is well")  # it may be busy at first
    said = {c["code"]: c["what"] for c in found["checks"]}

    assert f"pid {one.process.pid}" in said["agent"]
    assert __version__ in said["versions"]
    assert int(said["inotify"].split()[1]) >= 1
    one.kill()
    assert ("warn", "agent") in wrong(doctor(well)[0])


def test_an_agent_that_is_stopped_by_a_signal_is_told(well, agent):
    """SIGSTOP: it holds its lock and answers nobody. Going on it is well again."""
    one = agent()
    one.process.send_signal(19)
    try:
        found, _ = doctor(well)
        assert ("error", "agent") in wrong(found)
        (fix,) = [c["fix"] for c in found["checks"] if c["code"] == "agent"]
        assert fix.startswith(f"kill {one.process.pid}")
    finally:
        one.process.send_signal(18)
    until(lambda: ("error", "agent") not in wrong(doctor(well)[0]), "it answers again", patience=60)


LIMITED = """
import os, subprocess, sys
open('/proc/sys/user/max_inotify_watches', 'w').write('15')
sys.exit(subprocess.run([sys.executable, '-m', 'convsync_cli', 'doctor', '--json']).returncode)
"""


def test_too_few_watches_for_what_is_registered(well):
    """The limit of this namespace is met: named with the number that is needed and the line to type."""
    if subprocess.run(["unshare", "-Ur", "sh", "-c", "echo 15 >/proc/sys/user/max_inotify_watches"], check=False,
                      capture_output=True).returncode:  # fmt: skip
        pytest.skip("no private user namespace here")
    env = {**os.environ, **well.env, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(["unshare", "-Ur", sys.executable, "-c", LIMITED], env=env, capture_output=True, check=False)
    (found,) = [c for c in json.loads(done.stdout)["checks"] if c["code"] == "inotify"]

    assert found["level"] == "warn"
    assert "15 watches are allowed" in found["what"]
    assert found["fix"] == "sudo sysctl user.max_inotify_watches=524288"


@pytest.mark.privileged
@ON_A_DISK
def test_a_disk_with_no_room_and_no_inodes(well, tmp_path):
    """The data directory is on a disk that is nearly full: an error with the command that shows it."""
    data = well.base / "data/convsync"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(mode=0o700)
    disk = Disk(tmp_path / "image", data, size=4 << 20, options=("-N", "16"))
    try:
        data.chmod(0o700)
        found, _ = doctor(well)
        assert wrong(found, "space", "inodes") == [("error", "space"), ("error", "inodes")]
        disk.unmount()
        disk.mount("ro")
        assert ("error", "places") in wrong(doctor(well)[0])
    finally:
        disk.remove()


@pytest.mark.privileged
@ON_A_DISK
@pytest.mark.parametrize("root", ["silo", "worktree"])
def test_a_frozen_root_does_not_stop_it(well, tmp_path, root):
    """Whoever writes to that file system hangs. `doctor` writes nothing of JP's: it comes to its end."""
    at = well.silo() if root == "silo" else well.base / "a/.jp"
    with_content = tmp_path / "with-content"
    at.rename(with_content)
    at.mkdir()
    disk = Disk(tmp_path / "image", at, size=16 << 20)
    try:
        shutil.copytree(with_content, at, symlinks=True, dirs_exist_ok=True)
        disk.freeze()
        found, _ = doctor(well)
        assert found["checks"][-1]["code"] == "worktree"
    finally:
        disk.thaw()
        disk.remove()


DEAD = """
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
fuse, at = os.open('/dev/fuse', os.O_RDWR), sys.argv[1]
options = f'fd={fuse},rootmode=40000,user_id=0,group_id=0'.encode()
if libc.mount(b'dead', at.encode(), b'fuse', 0, options):
    sys.exit(os.strerror(ctypes.get_errno()))
print('mounted', flush=True)
time.sleep(600)  # holding it open, and answering nothing, until it is killed
"""


@pytest.fixture
def dead():
    """Mounts a file system that nobody serves: every look at it waits for ever, as with a network mount that died."""
    servers = []

    def mount(at):
        process = subprocess.Popen(
            [sys.executable, "-c", DEAD, str(at)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        servers.append((process, at))
        if process.stdout.readline() != b"mounted\n":
            pytest.skip(f"no FUSE here: {process.stderr.read().decode().strip()}")

    yield mount
    for process, at in servers:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
        subprocess.run(["umount", "-l", str(at)], check=False, capture_output=True)


@pytest.mark.privileged
@pytest.mark.skipif(not os.path.exists("/dev/fuse") or os.geteuid() != 0, reason="needs root and FUSE")
def test_a_dead_mount_is_named_and_the_rest_is_looked_at(well, dead):
    """A worktree on a mount that died: an error with its path, no hang, everything else as ever."""
    (well.base / "a/.jp").rename(well.base / "moved")
    (well.base / "a/.jp").mkdir()
    dead(well.base / "a/.jp")
    found, seconds = doctor(well)
    (silent,) = [c for c in found["checks"] if c["code"] == "silent"]

    assert (silent["level"], silent["where"]) == ("error", str(well.base / "a"))
    assert seconds < 40
    assert [c["level"] for c in found["checks"] if c["code"] in ("silo", "worktree", "history", "space")] == ["ok"] * 4


@pytest.mark.slow
def test_ten_times_in_a_row_beside_writes_it_changes_nothing(well, agent):
    """Looked at again and again while conversations are written, everything is in step at the end."""
    agent()
    for number in range(10):
        well.write(well.base / "a", B + number, "one", mtime_ns=time.time_ns())
        found, _ = doctor(well)
        assert [c for c in found["checks"] if c["level"] == "error"] == []
    until(lambda: all(well.directory(well.silo(), B + n) for n in range(10)), "all durable", patience=60)
