"""Phase 3: `locks`: every lock file of every workspace, for people and programs."""

from __future__ import annotations

import fcntl
import json
import os

import pytest

from agents import until
from convsync_agent import flocks

ID, OTHER = 17000000001, 17000000002
KEYS = {"conversation", "workspaceId", "path", "state", "pid", "session", "since", "info"}


@pytest.fixture
def two(machine):
    """Two workspaces; a conversation in the first."""
    machine.write(machine.worktree("a", register=False), ID, "x", slug="private-title", title="Private title")
    machine.ok("register", machine.base / "a")
    machine.worktree("b", "bcdef")
    return machine


def listed(machine):
    return machine.ok("locks", "--json").json["locks"]


def test_phase3_nothing_is_locked(machine):
    """Also where nothing is registered: an empty list, exit 0."""
    assert machine.ok("locks", "--json").json == {"schema": 1, "locks": []}
    machine.worktree("a")
    assert machine.ok("locks").out == "no conversation is locked\n"
    assert machine.ok("locks", "-q").out == ""


def test_phase3_held_and_orphaned_in_every_workspace(two):
    """One that a JP holds, one that a killed one left, and a stray beside a worktree (contract 7.1)."""
    stray = two.base / "a/.jp/locks" / f"jp-c{OTHER}.lock"
    orphan = two.silo("bcdef") / "locks" / f"jp-c{OTHER}.lock"
    for path in (stray, orphan):
        path.parent.mkdir(exist_ok=True)
        path.write_text("{")
    (orphan.parent / "allocator.lock").touch()
    with two.holding(ID) as path:
        until(lambda: flocks.all_busy(str(two.silo())))
        found = listed(two)
        text = two.ok("locks").out
    assert [set(one) for one in found] == [KEYS] * 3
    held = {
        "conversation": f"jp-c{ID}", "workspaceId": "abcde", "path": str(path), "state": "held", "pid": os.getpid(),
        "session": "getsid-1", "since": 1_735_689_600_000, "info": "ok",
    }  # fmt: skip
    assert found[0] == held
    assert [(o["path"], o["state"], o["info"], o["pid"]) for o in found[1:]] == [
        (str(stray), "orphaned", "broken", None),
        (str(orphan), "orphaned", "broken", None),
    ]
    assert "private" not in (text + json.dumps(found)).lower()
    assert "broken info" in text
    assert str(stray) in text
    assert listed(two) == found[1:]


def test_phase3_what_flock_holds_has_no_info(two, monkeypatch):
    """The kernel knows by whom, while it is held."""
    file = two.silo() / "locks" / f"jp-c{ID}.lock"
    file.parent.mkdir(exist_ok=True)
    monkeypatch.setenv("JP_LOCK_DURATION", "0")
    with open(file, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        [one] = listed(two)
        assert (one["state"], one["info"], one["pid"], one["session"]) == ("held", "absent", os.getpid(), None)
        ran = two.run("archive", ID)
        assert (ran.code, f"pid {os.getpid()}" in ran.err) == (5, True)
    [one] = listed(two)
    assert (one["state"], one["info"], one["since"]) == ("orphaned", "absent", None)
    assert "no info" in two.ok("locks").out
