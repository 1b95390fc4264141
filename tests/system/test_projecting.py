"""Phases 4 and 5 beside a running agent: what a person said about a projection holds, and so do the import policies."""

from __future__ import annotations

import json
import shutil

import pytest

from agents import in_step, status, until
from editors import EXT, A, B, in_two_worktrees
from machine import LONG_AGO, as_jp, event, put
from repository import committed_twice, git


@pytest.fixture
def live(machine, agent):
    """A in worktrees `a` and `b`, B local; an agent watches."""
    in_two_worktrees(machine)
    machine.write(machine.silo(), B, "local")
    machine.ok("sync")
    machine.agent = agent
    machine.running = agent()
    until(lambda: status(machine)["verdict"] == "in-sync", "in sync")
    return machine


def change(machine, root, conversation, *texts):
    put(machine.directory(root, conversation) / "events.json", as_jp([event(t) for t in texts]))


def test_phase5_an_agent_keeps_to_what_was_said(live):
    """What was taken away is not made again when the durable copy changes; what was projected follows it."""
    a, b = live.base / "a", live.base / "b"
    live.ok("unproject", A, "--worktree", a)
    live.ok("project", B, "--worktree", a)
    change(live, live.silo(), A, "one", "two")
    change(live, live.silo(), B, "local", "two")
    until(lambda: live.questions(b, A) == ["one", "two"], "A has followed in b")
    until(lambda: in_step(live, B, live.silo(), a), "B has followed in a")
    change(live, a, B, "local", "two", "three")
    until(lambda: in_step(live, B, live.silo(), a) and len(live.questions(live.silo(), B)) == 3, "durable")
    assert live.directory(a, A) is None
    live.ok("project", A, "--worktree", a)
    change(live, b, A, "one", "two", "three")
    until(lambda: in_step(live, A, live.silo(), a, b) and len(live.questions(a, A)) == 3, "A in all three")
    assert status(live)["attention"] == []


def test_phase5_a_worktree_that_goes_at_once_takes_it_along_no_more(live):
    """The agent need not have looked in between: what a command took away is no part of what the worktree held."""
    a = live.base / "a"
    live.ok("project", B, "--worktree", a)
    until(lambda: in_step(live, B, live.silo(), a), "projected")
    live.ok("unproject", A, "--worktree", a)
    shutil.rmtree(a)
    until(lambda: state_of(live, a) == "missing", "missing")
    (a / ".jp").mkdir(parents=True)
    (a / ".jp/.id").write_text("abcde\n")
    until(lambda: in_step(live, B, live.silo(), a), "B is put back")
    until(lambda: state_of(live, a) == "watching", "watching")
    assert live.directory(a, A) is None
    assert live.questions(live.base / "b", A) == ["one"]


def state_of(machine, path):
    trees = [t for w in status(machine)["workspaces"] for t in w["worktrees"]]
    return next((t["state"] for t in trees if t["path"] == str(path)), None)


def test_phase5_what_is_waiting_to_be_put_back_can_be_declined(live):
    """`unproject` of what a worktree is to get back, asked for but not yet there: an agent forgets it as well."""
    live.running.stop()
    live.running = live.agent("--set", "recovery.reproject=ask")
    a = live.base / "a"
    shutil.rmtree(a)
    until(lambda: state_of(live, a) == "missing", "missing")
    (a / ".jp").mkdir(parents=True)
    (a / ".jp/.id").write_text("abcde\n")
    until(lambda: state_of(live, a) == "watching", "watching")
    assert live.ok("recover", a, "--dry-run", "--json").json["restored"] == [f"jp-c{A}"]
    assert live.ok("unproject", A, "--worktree", a, "--json").json["changed"] is False
    assert live.ok("recover", a, "--dry-run", "--json").json["restored"] == []


def test_phase5_a_loss_after_unproject_is_put_back(live):
    """An accident that takes the durable copy within a minute of an `unproject` is no removal."""
    live.running.stop()  # it takes the lock of any other process for JP's, for five seconds
    live.ok("unproject", A, "--worktree", live.base / "a")
    live.running = live.agent()
    until(lambda: status(live)["verdict"] == "in-sync", "in sync")
    live.directory(live.silo(), A).rename(live.base / "gone")  # in one step, however slow this process is
    until(lambda: live.directory(live.silo(), A) is not None, "put back")
    until(lambda: [e["kind"] for e in status(live)["attention"]] == ["lost"], "told as a loss")
    assert live.questions(live.silo(), A) == ["one"]
    assert live.directory(live.base / "a", A) is None


# -- what git brought back ------------------------------------------------------------------


@pytest.fixture
def behind(machine):
    """Worktree `a` has checked out a commit with one turn; the durable copy has two. No agent runs."""
    tree = committed_twice(machine, A, lambda tree: change(machine, tree, A, "one", "two"))
    git(tree, "checkout", "-q", "old")
    machine.ok("sync")
    assert machine.ok("ls", "--behind", "--json").json["conversations"]
    return machine


def kept(machine):
    versions = machine.ok("history", A, "--json").json["versions"]
    return [v["events"] for v in versions if v["unit"] == "stream"]


def test_phase5_what_is_behind_can_be_taken_away(behind):
    """What git brought back replaces nothing; it is in the history when it goes, and comes as the durable one."""
    behind.ok("unproject", A)
    assert (behind.directory(behind.base / "a", A), behind.questions(behind.silo(), A)) == (None, ["one", "two"])
    assert 1 in kept(behind)
    behind.ok("project", A)
    assert behind.questions(behind.base / "a", A) == ["one", "two"]
    assert behind.ok("ls", "--behind", "--json").json["conversations"] == []


def test_phase6_edit_of_what_is_behind_edits_what_is_current(behind, monkeypatch):
    """Not what git brought back, however new it looks."""
    script = behind.base / "ed"
    script.write_text('#!/bin/sh\ncat "$1" > "$HOME/seen"\n')
    script.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(script))
    behind.ok("edit", A, "-e")
    assert [e["content"] for e in json.loads((behind.home / "seen").read_bytes())] == ["one", "two"]
    assert behind.questions(behind.base / "a", A) == ["one"]


@pytest.mark.parametrize("policy", ["auto", "on-write", "manual"])
def test_phase4_an_agent_imports_by_its_policy(machine, agent, policy):
    """`auto` at first sight, `on-write` at the first change after it, `manual` on command only."""
    machine.worktree("a")
    agent("--set", f"import.policy={policy}")
    made = machine.write(machine.base / "made", EXT, "ext", slug="talk", title="talk")
    put(made / "notes.txt", b"a note", LONG_AGO)
    place = machine.base / "a/.jp/conversations" / made.name
    place.parent.mkdir(exist_ok=True)
    made.rename(place)  # whole at first sight: what comes later is a change
    if policy != "auto":
        until(lambda: recorded(machine), "seen")
        assert machine.directory(machine.silo(), EXT) is None
        with open(place / "events.json", "a") as file:
            file.write(" ")
    if policy == "manual":
        until(lambda: status(machine)["verdict"] == "in-sync", "in sync")
        assert machine.directory(machine.silo(), EXT) is None
        assert machine.ok("import", EXT, "--json").json["imported"] == [f"jp-c{EXT}"]
    until(lambda: machine.directory(machine.silo(), EXT) and in_step(machine, EXT, machine.silo(), machine.base / "a"))
    until((machine.directory(machine.silo(), EXT) / "notes.txt").exists, "the note came along")
    until(lambda: numbers(machine) == (1, 0), "projected, not external")


def numbers(machine):
    counts = status(machine)["workspaces"][0]["worktrees"][0]["counts"]
    return counts["projected"], counts["external"]


def recorded(machine):
    from contextlib import closing

    from convsync_agent import state

    with closing(state.reader(str(machine.base / "state/convsync"))) as opened:
        return EXT in opened.records("abcde", str(machine.base / "a/.jp"))
