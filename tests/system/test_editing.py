"""Phase 6: `edit` in processes of its own: signals, kills, an editor that outlives it, an agent beside it."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from agents import PATIENCE, in_step, status, until
from disks import Memory, no_disks
from editors import NEW, A, contents, in_two_worktrees, kept, private
from machine import as_jp, event, put


@pytest.fixture
def one(machine):
    """A is projected in `a` and `b`. `script(body)` is an editor; it says where it is open, and stays until told."""
    in_two_worktrees(machine)
    machine.ok("sync")
    machine.quiet()
    (machine.base / "new").write_bytes(NEW)
    return machine


WAITING = 'cat "{new}" > "$1"; touch "{open}"; while ! test -e "{done}"; do sleep 0.02; done'


def editing(machine, body=WAITING, **settings):
    """An `edit -e` whose editor has saved and is open; its process."""
    path = machine.base / "ed"
    places = {n: machine.base / n for n in ("new", "open", "done")}
    path.write_text("#!/bin/sh\n" + body.format(**places) + "\n")
    path.chmod(0o755)
    env = settings.pop("env", {})
    process = machine.spawn("edit", A, "-e", stdin=subprocess.DEVNULL, env={"EDITOR": str(path), **env}, **settings)
    until(places["open"].exists, "the editor is open")
    return process


def finish(machine, process):
    (machine.base / "done").touch()
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def test_phase6_edit_beside_an_agent(one, agent):
    """Nobody sees what is half-saved; when the editor ends every root has it at once, and the agent agrees."""
    agent()
    old = contents(one)
    process = editing(one)
    one.ok("sync")
    assert contents(one) == old
    code, _, err = finish(one, process)
    assert code == 0, err
    assert contents(one) == [NEW] * 3
    assert in_step(one, A, one.silo(), one.base / "a", one.base / "b")
    until(lambda: status(one)["verdict"] == "in-sync", "in sync")
    assert status(one)["attention"] == []
    assert contents(one) == [NEW] * 3
    assert old[0] in kept(one)


def test_phase6_edit_beside_an_agent_and_a_jp(one, agent):
    """An edit elsewhere that the agent has synced meanwhile is not overwritten; the text is a version."""
    agent()
    process = editing(one)
    late = as_jp([event("one"), event("late")])
    put(one.directory(one.base / "b", A) / "events.json", late)
    until(lambda: contents(one) == [late] * 3, "the agent has synced it")
    code, _, err = finish(one, process)
    assert (code, "convsync restore" in err) == (4, True), err
    assert contents(one) == [late] * 3
    assert NEW in kept(one)


def test_phase6_edit_lets_the_editor_have_ctrl_c(one):
    """SIGINT of the terminal ends neither: vi takes it as a key."""
    process = editing(one, "trap '' INT; " + WAITING)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(one, process)
    assert code == 0, err
    assert contents(one) == [NEW] * 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_phase6_edit_that_is_ended_keeps_what_was_saved(one, number):
    """The editor is ended, too; nothing is written, the text is kept, the private copy is gone."""
    old = contents(one)
    process = editing(one)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "convsync restore" in err) == (4, True), err
    assert contents(one) == old
    assert NEW in kept(one)
    assert private(one) == []


def test_phase6_edit_that_is_killed_is_swept_and_its_text_kept(one):
    """A kill -9 leaves the private copy: as long as its editor lives nobody touches it, then the history has it."""
    old = contents(one)
    process = editing(one, stdout=None, stderr=None)
    process.kill()
    process.wait(PATIENCE)
    for _ in range(2):
        assert sweeping(one) == 0
        assert len(private(one)) == 1
    (one.base / "done").touch()
    until(lambda: _free(private(one)[0]), "the editor is gone")
    assert sweeping(one) == 0
    assert private(one) == []
    assert contents(one) == old
    version = next(v for v in one.ok("history", A, "--json").json["versions"] if v["unit"] == "stream")
    assert (version["valid"], "died" in version["why"]) == (True, True)
    one.ok("restore", A, "--version", version["version"])
    assert contents(one) == [NEW] * 3


def test_phase6_edit_that_was_killed_is_swept_by_the_agent(one, agent):
    """A start finds it, too."""
    process = editing(one, stdout=None, stderr=None)
    process.kill()
    process.wait(PATIENCE)
    (one.base / "done").touch()
    holder = private(one)[0]
    until(lambda: _free(holder), "the editor is gone")
    agent()
    until(lambda: private(one) == [], "swept")
    assert NEW in kept(one)


def sweeping(machine):
    """Another `edit`, that changes nothing."""
    return machine.spawn("edit", A, "-e", env={"EDITOR": "true"}, stdout=None, stderr=None).wait(PATIENCE)


def _free(directory):
    return subprocess.run(["flock", "-n", str(directory), "true"], check=False).returncode == 0


@pytest.mark.privileged
@pytest.mark.skipif(bool(no_disks()), reason=no_disks())
def test_phase6_edit_into_a_worktree_that_is_read_only(one):
    """Exit 6; the durable copy has it, and it is everywhere once that can be written. `unproject` leaves it alone."""
    disk = Memory(one.base / "b/.jp")
    try:
        one.ok("sync")
        disk.no_writing()
        code, _, err = finish(one, editing(one))
        assert code == 6, err
        assert contents(one)[0] == NEW
        assert (private(one), NEW in kept(one)) == ([], False)
        ran = one.run("unproject", A, "--worktree", one.base / "b")
        assert (ran.code, one.directory(one.base / "b", A) is None) == (6, False), ran
        disk.mend()
        one.ok("sync")
        assert contents(one) == [NEW] * 3
    finally:
        disk.remove()


@pytest.mark.privileged
@pytest.mark.skipif(bool(no_disks()), reason=no_disks())
def test_phase6_edit_of_a_silo_that_is_read_only(one):
    """Exit 6, nothing is written anywhere, and the text is a version."""
    old = contents(one)
    disk = Memory(one.silo())
    try:
        one.ok("sync")
        process = editing(one)
        disk.no_writing()
        code, _, err = finish(one, process)
        assert (code, "your text is kept" in err) == (6, True), err
        assert contents(one) == old
        assert NEW in kept(one)
    finally:
        disk.remove()


def test_phase6_edit_waits_for_the_lock_at_the_end(one):
    """JP works while the editor ends: its lock is waited for, and what it did not change is written after it."""
    process = editing(one, env={"JP_LOCK_DURATION": "5m"})
    with one.holding(A):
        (one.base / "done").touch()
        until(lambda: not _editor_runs(process.pid), "the editor has ended")
        time.sleep(0.3)  # nothing to wait for: that it does not write is what is looked at
        assert process.poll() is None
        assert contents(one)[0] != NEW
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert contents(one) == [NEW] * 3


def test_phase6_edit_interrupted_while_it_waits_keeps_the_text(one):
    """Ctrl-C at the end: exit 130, and what was written is a version."""
    process = editing(one)
    with one.holding(A):
        (one.base / "done").touch()
        until(lambda: not _editor_runs(process.pid), "the editor has ended")
        until(lambda: _waits(process.pid), "it waits for the lock")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, "your text is kept" in err) == (130, True), err
    assert (NEW in kept(one), private(one)) == (True, [])
    assert contents(one)[0] != NEW


def _waits(pid):
    """It has the state open again, and no editor: the second half has begun."""
    links = [os.readlink(p) for p in Path(f"/proc/{pid}/fd").iterdir() if os.path.lexists(p)]
    return any(link.endswith("state.db") for link in links)


def _editor_runs(pid):
    return subprocess.run(["ps", "--ppid", str(pid)], check=False, capture_output=True).returncode == 0


def test_phase6_edit_says_nothing_private(one):
    """R9: neither text nor title nor slug in messages, JSON or the state."""
    process = editing(one, 'echo "SECRETTEXT" > "$1"; touch "{open}"')
    code, out, err = finish(one, process)
    assert code == 2
    assert "SECRETTEXT" not in out + err
    assert "talk" not in out + err
    (one.base / "open").unlink()
    process = editing(one, 'cat "{new}" > "$1"; touch "{open}"')
    code, out, err = finish(one, process)
    assert code == 0, err
    assert "talk" not in out + err
    assert b"SECRETTEXT" not in (one.base / "state/convsync/state.db").read_bytes()
