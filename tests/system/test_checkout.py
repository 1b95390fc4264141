"""A checkout is not an edit: a real agent, real git. What git brings back stays as it is, and replaces nothing."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from agents import in_step, status, until
from machine import as_jp, event, put
from repository import ENV, LONG_SINCE, committed_twice, git

A = 17_000_000_001


def told(machine, kind="behind"):
    return [e for e in status(machine)["attention"] if e["kind"] == kind]


def write(machine, tree, *questions, **metadata):
    """One more turn as JP leaves it: a rewritten stream, a later activation."""
    at = f"2024-01-01 00:00:{len(questions):02}.0"
    top = machine.directory(tree, A)
    put(top / "events.json", as_jp([event(q) for q in questions]))
    put(top / "metadata.json", as_jp({"last_activated_at": at} | metadata))


@pytest.fixture
def repo(machine):
    """Worktree a is a repository; its conversation was committed with one turn and then with three."""
    return committed_twice(machine, A, lambda tree: write(machine, tree, "one", "two", "three"))


@pytest.fixture
def live(machine, repo, agent):
    agent()
    until(lambda: in_step(machine, A, repo, machine.silo()), "in step")
    return repo


def durable(machine):
    return machine.questions(machine.silo(), A)


def test_a_checkout_of_an_older_commit_is_shown_behind_and_replaces_nothing(machine, live):
    """S3: the durable copy stays; the worktree's stays as git wrote it; back on the branch it is over by itself."""
    git(live, "checkout", "-q", "old")
    until(lambda: told(machine), "behind")
    assert durable(machine) == ["one", "two", "three"]
    assert machine.questions(live, A) == ["one"]
    said = until(lambda: (s := status(machine))["verdict"] == "in-sync" and s, "kept, and in sync all the same")
    assert said["workspaces"][0]["worktrees"][0]["counts"]["behind"] == 1
    assert "accept" in told(machine)[0]["hint"]
    git(live, "checkout", "-q", "main")
    until(lambda: not told(machine) and machine.questions(live, A) == ["one", "two", "three"], "over")
    machine.ok("verify")


def test_behind_stays_behind_while_the_durable_copy_moves_on(machine, live):
    """Another worktree goes on with it: the copy on the old branch is not touched."""
    other = machine.worktree("b", register=False)
    shutil.copytree(machine.store(live) / "conversations", machine.store(other) / "conversations", dirs_exist_ok=True)
    machine.ok("register", other)
    git(live, "checkout", "-q", "old")
    until(lambda: told(machine), "behind")
    write(machine, other, "one", "two", "three", "four")
    until(lambda: durable(machine) == ["one", "two", "three", "four"], "durable")
    until(lambda: in_step(machine, A, other, machine.silo()), "its metadata, too")
    assert machine.questions(live, A) == ["one"]
    assert told(machine)
    machine.ok("verify")


@pytest.mark.parametrize("argv", [["use", A], ["edit", A, "-e"]])
def test_a_command_that_writes_leaves_what_is_behind_as_git_wrote_it(machine, live, monkeypatch, argv):
    """The durable copy moves on; the worktree's stays clean to git."""
    git(live, "checkout", "-q", "old")
    until(lambda: told(machine), "behind")
    script = machine.base / "ed"
    script.write_text('#!/bin/sh\nprintf "[]" > "$1"\n')
    script.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(script))
    before = machine.inventory(machine.directory(live, A))
    machine.ok(*argv)
    assert machine.inventory(machine.directory(live, A)) == before
    assert not git(live, "status", "--porcelain").stdout
    assert durable(machine) == (["one", "two", "three"] if argv[0] == "use" else [])
    assert told(machine)


@pytest.mark.parametrize("how", ["accept", "edit"])
def test_it_counts_once_a_person_says_so(machine, live, how):
    """Accepted on purpose, or written to; what it replaces is in the history either way."""
    git(live, "checkout", "-q", "old")
    until(lambda: told(machine), "behind")
    if how == "accept":
        machine.ok("accept", A)
    else:
        write(machine, live, "one", "else")
    wanted = ["one"] if how == "accept" else ["one", "else"]
    until(lambda: durable(machine) == wanted, how)
    until(lambda: not told(machine), "not behind any more")
    kept = machine.ok("--json", "history", A).json["versions"]
    assert next(v["events"] for v in kept if v["unit"] == "stream") == 3
    assert bool(told(machine, "conflict")) is (how == "edit")


def test_the_agent_was_down_meanwhile(machine, repo, agent):
    """What counts is what git's index says when it is looked at."""
    git(repo, "checkout", "-q", "old")
    agent()
    until(lambda: told(machine), "behind")
    assert durable(machine) == ["one", "two", "three"]


def test_a_lost_state_makes_no_edit_of_a_checkout(machine, repo):
    """At first sight a copy that git wrote does not win by its time."""
    git(repo, "checkout", "-q", "old")
    for name in os.listdir(machine.base / "state/convsync"):
        if name.startswith("state.db"):
            (machine.base / "state/convsync" / name).unlink()
    machine.ok("register", repo)
    assert durable(machine) == ["one", "two", "three"]
    assert machine.questions(repo, A) == ["one"]


@pytest.mark.parametrize("detach", [[], ["--detach"]])
def test_a_worktree_added_at_an_old_commit_is_behind(machine, live, detach):
    """`git worktree add` writes old content with new times."""
    target = machine.base / "b"
    git(live, "worktree", "add", "-q", *detach, str(target), "old")
    machine.ok("register", target)
    assert durable(machine) == ["one", "two", "three"]
    assert machine.questions(target, A) == ["one"]
    until(lambda: told(machine), "behind")
    assert machine.questions(live, A) == ["one", "two", "three"]


def test_a_hand_edit_that_is_committed_stays_an_edit(machine, live):
    """Also one that takes something away, as a checkout would."""
    write(machine, live, "one")
    git(live, "commit", "-qam", "shorter")
    until(lambda: durable(machine) == ["one"], "taken over")
    assert not told(machine)


def test_a_hand_edit_without_git_is_an_edit(machine, live):
    """Nothing but the index can make it anything else."""
    write(machine, live, "two")
    until(lambda: durable(machine) == ["two"], "taken over")
    assert not told(machine)


def test_a_checkout_right_after_a_commit_is_a_checkout(machine, live):
    """Within two seconds, as scripts do it: the age of git's object tells, where its log cannot."""
    write(machine, live, "one", "two", "three", "four")
    git(live, "commit", "-qam", "four")
    until(lambda: len(durable(machine)) == 4, "durable")
    git(live, "checkout", "-q", "old")
    until(lambda: told(machine), "behind")
    assert len(durable(machine)) == 4


def test_a_pull_that_brings_more_is_taken_over(machine, live):
    """What contains the durable content wins, whoever wrote it."""
    elsewhere = machine.base / "elsewhere"  # nobody knows of it
    git(live, "clone", "-q", str(live), str(elsewhere))
    write(machine, elsewhere, "one", "two", "three", "four")
    git(elsewhere, "commit", "-qam", "more", **LONG_SINCE)
    git(live, "pull", "-q", str(elsewhere))
    until(lambda: len(durable(machine)) == 4, "taken over")
    until(lambda: in_step(machine, A, live, machine.silo()), "its metadata, too")
    assert not told(machine)


def test_with_policy_mtime_the_newest_file_wins(machine, repo):
    """`policy = "mtime"`: JP's rule alone; the loser is in the history."""
    git(repo, "checkout", "-q", "old")
    machine.ok("sync", "--policy", "mtime")
    assert durable(machine) == ["one"]
    assert machine.ok("--json", "history", A).json["versions"]


def test_an_import_takes_the_copy_that_git_did_not_write(machine, repo):
    """Two worktrees that disagree and no silo: the one that a person wrote, not the newer one of a checkout."""
    other = machine.worktree("b", register=False)
    machine.write(other, A, "by hand")
    git(repo, "checkout", "-q", "old")
    shutil.rmtree(machine.silo())
    machine.ok("register", other)
    assert durable(machine) == ["by hand"]


EDITOR = {"GIT_SEQUENCE_EDITOR": "sed -i 1s/^pick/edit/", "GIT_EDITOR": "true"}
WAYS = {
    "detached": [["checkout", "-q", "--detach", "old"]],
    "reset": [["reset", "-q", "--hard", "old"]],
    "restore": [["restore", "--source", "old", "--worktree", "--staged", "."]],
    "rebase": [["rebase", "-q", "-i", "--root"]],
    "revert": [["revert", "--no-edit", "HEAD"]],
    "no reflog": [["config", "core.logAllRefUpdates", "false"], ["checkout", "-q", "old"]],
}


@pytest.mark.parametrize("how", WAYS)
def test_whatever_brings_an_old_one_back_replaces_nothing(machine, live, how):
    """Detached, reset, restored from a commit, a rebase that stopped, a revert, without a reflog."""
    for argv in WAYS[how]:
        git(live, *argv, **EDITOR)
    assert machine.questions(live, A) == ["one"]
    until(lambda: told(machine), "behind")
    assert durable(machine) == ["one", "two", "three"]
    until(lambda: status(machine)["verdict"] == "in-sync", "kept, and in sync all the same")


@pytest.mark.parametrize("shape", ["clone", "bare", "submodule"])
def test_in_every_shape_of_a_repository_a_checkout_is_no_edit(machine, live, shape):
    """A plain clone, a worktree of a bare repository, a submodule: another checkout of the same conversations."""
    tree = machine.base / "b"
    if shape == "clone":
        git(machine.base, "clone", "-q", str(live), str(tree))
    elif shape == "bare":
        git(machine.base, "clone", "-q", "--bare", str(live), str(machine.base / "bare.git"))
        git(machine.base / "bare.git", "worktree", "add", "-q", str(tree), "main")
    else:
        (machine.base / "outer").mkdir()
        git(machine.base / "outer", "init", "-q")
        git(machine.base / "outer", "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(live), "sub")
        tree = machine.base / "outer" / "sub"
    machine.ok("register", tree)
    git(tree, "checkout", "-q", "--detach", "main~1" if shape == "bare" else "origin/old")
    assert machine.questions(tree, A) == ["one"]
    until(lambda: told(machine), "behind")
    assert durable(machine) == machine.questions(live, A) == ["one", "two", "three"]


def test_a_merge_with_its_editor_open_is_waited_for_and_taken_over(machine, live):
    """Git has written the files, and its editor stays open: what it brought that is more is durable at once."""
    git(live, "checkout", "-q", "-b", "other")
    write(machine, live, "one", "two", "three", "four")
    git(live, "commit", "-qam", "more")
    until(lambda: len(durable(machine)) == 4, "durable")
    git(live, "checkout", "-q", "main")
    until(lambda: told(machine), "behind")
    opened, go_on = machine.base / "opened", machine.base / "go-on"
    waits = f"sh -c 'touch {opened}; while [ ! -e {go_on} ]; do sleep 0.02; done'"
    env = ENV | {"GIT_EDITOR": waits}
    with subprocess.Popen(["git", "-C", str(live), "merge", "--no-ff", "--edit", "other"], env=env) as merging:
        try:
            until(opened.exists, "the editor of the message")
            assert machine.questions(live, A) == ["one", "two", "three", "four"]
            until(lambda: not told(machine), "not behind any more")
            assert durable(machine) == ["one", "two", "three", "four"]
            assert merging.poll() is None
        finally:
            go_on.touch()
    assert merging.returncode == 0
    until(lambda: status(machine)["verdict"] == "in-sync", "in sync")
    assert durable(machine) == ["one", "two", "three", "four"]
