"""Worktrees that go, come back and move: a real agent, real git. What one held comes back with it, and nothing else."""

from __future__ import annotations

import shutil
import time

import pytest

from agents import FILES, in_step, status, until
from departures import (
    GOING,
    A,
    B,
    C,
    all_held,
    described,
    entries,
    ids,
    is_back,
    is_gone,
    make_again,
    picture,
    settled,
    state_of,
)
from machine import as_jp, event, put
from repository import git


@pytest.mark.parametrize("how", GOING)
def test_what_a_worktree_held_is_durable_when_it_goes(live, how):
    """S1, S7: the last turn too. The worktree is missing, its numbers go on, the verdict is not touched."""
    put(live.directory(live.tree, A) / "events.json", as_jp([event("one"), event("two")]))
    until(lambda: in_step(live, A, live.tree, live.silo()), "the last turn is durable")
    GOING[how](live)
    is_gone(live)
    assert live.questions(live.silo(), A) == ["one", "two"]
    assert picture(live, live.silo(), B) == live.held[B]
    told = described(live, live.tree)
    assert (told["counts"]["projected"], told["counts"]["local"], told["counts"]["external"]) == (2, 1, 0)
    assert [e["worktree"] for e in entries(live, "missing")] == [str(live.tree)]
    assert not entries(live, "lost")
    until(lambda: status(live)["verdict"] == "in-sync", "in sync all the same")
    rows = live.ok("--json", "ls", "--worktree", live.tree).json["conversations"]
    assert {r["presence"] for r in rows} == {"user_local_only"}
    assert len(rows) == 3
    live.agent.stop()
    again = described(live, live.tree)
    assert (again["state"], again["since"], again["counts"]) == ("missing", told["since"], told["counts"])


@pytest.mark.parametrize("how", GOING)
def test_made_again_on_the_same_branch_it_gets_its_projections_back(live, how):
    """S8: byte for byte, times and names; managed files only; what was in the silo alone is not put there."""
    GOING[how](live)
    is_gone(live)
    make_again(live)
    until(lambda: all_held(live), "put back")
    until(lambda: status(live)["verdict"] == "in-sync", "in sync")
    at = live.directory(live.tree, A)
    assert sorted(p.name for p in at.iterdir()) == sorted(FILES)
    until(lambda: not (live.tree / ".jp/conversations/.convsync").exists(), "no staging is left")
    assert git(live.tree, "status", "--porcelain").stdout == b""
    live.ok("verify")


def test_a_projection_that_a_person_deletes_later_is_not_put_back(live):
    """R1: it was put back once. After that an absence is an absence."""
    GOING["git"](live)
    is_gone(live)
    make_again(live)
    until(lambda: all_held(live), "put back")
    until(lambda: status(live)["verdict"] == "in-sync", "in sync")
    shutil.rmtree(live.directory(live.tree, A))
    assert settled(live)
    assert live.directory(live.tree, A) is None
    assert picture(live, live.silo(), A) == live.held[A]
    assert not entries(live, "missing")


def test_what_was_deleted_long_before_is_not_held(pair, monkeypatch):
    """Only what was seen in the last minute went with the worktree; here that minute is over at once."""
    from convsync_agent import holdings, homecoming, scan

    shutil.rmtree(pair.directory(pair.tree, A))
    pair.ok("sync")
    shutil.rmtree(pair.tree)
    with_a = {A: scan.Missed(time.time_ns() - 2 * homecoming.RECENT_NS, time.time_ns())}
    note = holdings.Holdings.note

    def later(self, site):
        for tree in site.trees.values():
            if tree.root.path == str(pair.tree / ".jp"):
                tree.view.missed |= with_a
        return note(self, site)

    monkeypatch.setattr(holdings.Holdings, "note", later)
    pair.ok("sync")
    make_again(pair)
    assert pair.ok("--json", "recover", pair.tree, "--dry-run").json["restored"] == [f"jp-c{B}"]


def test_on_another_branch_nothing_is_put_back_until_a_person_says_so(live):
    """The branch is what HEAD says. Status names what there is to do; back on the branch it happens by itself."""
    GOING["git"](live)
    is_gone(live)
    git(live.main, "branch", "other", "b")
    make_again(live, "other")
    is_back(live)
    told = until(lambda: entries(live, "missing"), "said")
    assert "2 projections" in told[0]["detail"]
    assert told[0]["hint"] == f"convsync recover {live.tree}"
    assert described(live, live.tree)["restorable"] == 2
    assert settled(live)
    assert ids(live.tree) == []
    assert status(live)["verdict"] == "in-sync"
    git(live.tree, "switch", "-q", "b")
    until(lambda: all_held(live), "put back on its own branch")
    until(lambda: not entries(live, "missing"), "nothing left to say")


@pytest.mark.parametrize("setting", ["ask", "never"])
def test_the_setting_decides(pair, agent, setting):
    """`ask` offers the command, `never` is silent; the command works with both."""
    agent("--set", f"recovery.reproject={setting}")
    until(lambda: status(pair)["verdict"] == "in-sync", "in sync")
    GOING["git"](pair)
    is_gone(pair)
    make_again(pair)
    is_back(pair)
    assert settled(pair)
    assert ids(pair.tree) == []
    until(lambda: len(entries(pair, "missing")) == (setting == "ask"), "offered, or not")
    done = pair.ok("--json", "recover", pair.tree).json
    assert done["restored"] == [f"jp-c{A}", f"jp-c{B}"]
    assert all_held(pair)
    until(lambda: status(pair)["verdict"] == "in-sync" and not entries(pair, "missing"), "in sync")
    assert pair.ok("--json", "recover", pair.tree).json["restored"] == []


def test_another_workspace_at_the_path_is_foreign_and_nothing_is_written_there(live):
    """Neither by the agent nor by the command; what was held is not forgotten."""
    GOING["rm -rf"](live)
    is_gone(live)
    (live.tree / ".jp" / "conversations").mkdir(parents=True)
    (live.tree / ".jp" / ".id").write_text("other\n")
    until(lambda: state_of(live, live.tree) == "foreign", "foreign")
    before = live.inventory(live.tree)
    assert settled(live)
    assert live.run("recover", live.tree).code == 4
    assert live.inventory(live.tree) == before
    shutil.rmtree(live.tree)
    make_again(live)
    until(lambda: all_held(live), "put back")


@pytest.mark.parametrize("seen", ["gone at the start", "made again before the start"])
def test_what_happened_while_no_agent_ran(live, seen):
    """All that it had a record of is what it held, whether anybody saw it missing or not."""
    live.agent.stop()
    GOING["git"](live)
    if seen == "gone at the start":
        assert (described(live, live.tree)["state"], described(live, live.tree)["counts"]["projected"]) == (
            "missing",
            2,
        )
        live.again()
        is_gone(live)
        make_again(live)
    else:
        make_again(live)
        live.again()
    until(lambda: all_held(live), "put back")


def test_what_it_held_survives_a_restart_of_the_agent(live):
    """Noted when it went, in the state, not in memory."""
    GOING["git"](live)
    is_gone(live)
    live.agent.kill()
    make_again(live)
    live.again()
    until(lambda: all_held(live), "put back")


def test_git_at_work_is_waited_for(live):
    """While there is an index.lock nothing is put back. Here git's own last act leaves one behind."""
    GOING["git"](live)
    is_gone(live)
    hook = live.main / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\ntouch "$(git rev-parse --absolute-git-dir)/index.lock"\n')
    hook.chmod(0o755)
    make_again(live)
    lock = live.main / ".git" / "worktrees" / "b" / "index.lock"
    assert lock.exists()
    is_back(live)
    assert settled(live)
    assert ids(live.tree) == []
    lock.unlink()
    until(lambda: all_held(live), "put back")


def test_what_git_brings_back_itself_is_left_alone(live):
    """A conversation that is on the branch is found there, and only the others are put back."""
    git(live.tree, "add", "-f", str(live.directory(live.tree, A)))
    git(live.tree, "commit", "-qm", "with a conversation")
    GOING["git --force"](live)
    is_gone(live)
    make_again(live)
    until(lambda: live.directory(live.tree, B), "put back")
    until(lambda: status(live)["verdict"] == "in-sync", "in sync")
    assert live.questions(live.tree, A) == [f"about {A}"]
    assert picture(live, live.silo(), A) == live.held[A]
    assert git(live.tree, "status", "--porcelain").stdout == b""


def test_without_git_a_directory_made_anew_gets_its_projections_back(live):
    """There was a `.git` and is none now: not the same. There was none and is none: the same."""
    plain = live.worktree("plain")
    at = live.directory(live.main, C)
    shutil.copytree(at, plain / ".jp/conversations" / at.name)
    until(lambda: described(live, plain)["counts"]["projected"] == 1, "in step")
    until(lambda: status(live)["verdict"] == "in-sync", "in step")
    shutil.rmtree(plain)
    until(lambda: state_of(live, plain) == "missing", "missing")
    (plain / ".jp").mkdir(parents=True)
    (plain / ".jp" / ".id").write_text("abcde\n")
    until(lambda: in_step(live, C, plain, live.silo()), "put back")
    GOING["rm -rf"](live)
    is_gone(live)
    (live.tree / ".jp").mkdir(parents=True)
    (live.tree / ".jp" / ".id").write_text("abcde\n")
    is_back(live)
    assert settled(live)
    assert ids(live.tree) == []
