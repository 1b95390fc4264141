"""Durable copies that go: on purpose, by accident, all at once. A real agent, real directories.

Nothing is ever resurrected that a person removed, nothing is lost that nobody removed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time

import pytest

from agents import in_step, jp_loads, status, until
from machine import LONG_AGO, as_jp, event, put

A, B = 17_000_000_001, 17_000_000_002
MANY = range(17_000_000_010, 17_000_000_018)


def told(machine, kind):
    return [e for e in status(machine)["attention"] if e["kind"] == kind]


def kept(machine, *conversations):
    """Every one of these has a kept copy."""
    top = machine.base / "data/convsync/trash/abcde"
    return all((top / f"jp-c{c}" / "manifest.json").exists() for c in conversations)


def buried(machine, conversation):
    return (machine.base / f"data/convsync/trash/abcde/jp-c{conversation}/tombstone.json").exists()


def durable(machine, conversation):
    return machine.directory(machine.silo(), conversation)


@pytest.fixture
def two(machine, agent):
    """Worktrees a and b hold conversation A; B lies in the silo only; an agent runs and has kept both."""
    for name in "ab":
        machine.worktree(name, register=False)
        machine.write(machine.base / name, A, "one", "two")
        machine.write(machine.base / name, B, "three")
        machine.ok("register", machine.base / name)
    for name in "ab":
        shutil.rmtree(machine.directory(machine.base / name, B))
    machine.ok("sync")
    agent()
    until(lambda: kept(machine, A, B), "kept copies")
    return machine


def taken(machine, path):
    """By an accident: in one step, or it would be there half for as long as this process is not let run."""
    gone = machine.base / "gone"
    path.rename(gone)
    shutil.rmtree(gone)


def jp_removes(machine, tree, conversation):
    """As `jp conversation rm` in one worktree: under the lock, the projection, then the durable copy."""
    with machine.holding(conversation):
        for root in (tree, machine.silo()):
            path = machine.directory(root, conversation)
            if path is not None:
                shutil.rmtree(path)


def test_what_jp_removes_stays_removed(two):
    """A tombstone; the projection in the other worktree is left over, shown, and not imported again."""
    jp_removes(two, two.base / "a", A)
    until(lambda: buried(two, A), "a tombstone")
    until(lambda: told(two, "removed"), "the left-over is shown")
    assert durable(two, A) is None
    assert two.questions(two.base / "b", A) == ["one", "two"]
    assert status(two)["verdict"] in {"in-sync", "pending"}
    two.ok("sync")
    assert durable(two, A) is None


def test_what_lay_in_the_silo_only_is_removed_too(two):
    """No other copy says otherwise; the kept copy stays restorable."""
    jp_removes(two, two.base / "a", B)
    until(lambda: buried(two, B), "a tombstone")
    assert kept(two, B)
    assert durable(two, B) is None


def test_a_left_over_that_is_edited_brings_it_back(two):
    """Bytes that the conversation never had lift the tombstone."""
    jp_removes(two, two.base / "a", A)
    until(lambda: told(two, "removed"), "removed")
    put(two.directory(two.base / "b", A) / "events.json", as_jp([event("one"), event("two"), event("more")]))
    until(lambda: durable(two, A) and in_step(two, A, two.base / "b", two.silo()), "durable again")
    until(lambda: not told(two, "removed"), "no longer removed")
    assert not buried(two, A)


def test_a_durable_copy_that_reappears_lifts_the_tombstone(two):
    """JP made it again."""
    jp_removes(two, two.base / "a", B)
    until(lambda: buried(two, B), "a tombstone")
    two.write(two.silo(), B, "again")
    until(lambda: not buried(two, B), "lifted")
    assert two.questions(two.silo(), B) == ["again"]


def test_a_durable_copy_that_is_lost_comes_back(two):
    """Nobody held its lock and every projection is there: it was no removal. Attention `lost`."""
    before = jp_loads(durable(two, A), durable(two, A))
    taken(two, durable(two, A))
    until(lambda: durable(two, A), "put back")
    assert jp_loads(durable(two, A), durable(two, A)) == before
    until(lambda: in_step(two, A, two.silo(), two.base / "a", two.base / "b"), "in step")
    until(lambda: told(two, "lost"), "told")
    two.ok("verify")


def test_a_copy_that_went_to_jps_trash_is_put_back(two):
    """JP's sanitizer moved it: it could not be read, and nobody removed it."""
    path = durable(two, B)
    (path.parent / ".trash").mkdir()
    path.rename(path.parent / ".trash" / path.name)
    until(lambda: durable(two, B), "put back")
    assert two.questions(two.silo(), B) == ["three"]
    until(lambda: told(two, "lost"), "told")


def test_a_conversation_that_is_archived_is_not_gone(two):
    """The other partition counts."""
    path = durable(two, B)
    (path.parent / ".archive").mkdir(exist_ok=True)
    path.rename(path.parent / ".archive" / path.name)
    until(lambda: status(two)["verdict"] == "in-sync", "in sync")
    time.sleep(2.5)  # two listings would have been enough to judge
    assert not buried(two, B)
    assert two.directory(two.silo(), B, archived=True)


def test_many_at_once_are_nobodys_choice(machine, agent):
    """The brake: no tombstone, all of it back, also what lay in the silo only."""
    tree = machine.worktree("a", register=False)
    for conversation in list(MANY)[:4]:
        machine.write(tree, conversation, f"question {conversation}")
    machine.ok("register", tree)
    for conversation in list(MANY)[4:]:
        machine.write(machine.silo(), conversation, f"question {conversation}")
    machine.ok("sync")
    running = agent()
    until(lambda: kept(machine, *MANY), "kept copies")
    before = {c: machine.questions(machine.silo(), c) for c in MANY}
    for conversation in MANY:
        shutil.rmtree(durable(machine, conversation))
    until(lambda: all(durable(machine, c) for c in MANY), "all of them back")
    assert {c: machine.questions(machine.silo(), c) for c in MANY} == before
    assert not any(buried(machine, c) for c in MANY)
    until(lambda: told(machine, "lost"), "told")
    assert running.process.poll() is None


def test_a_removal_while_no_agent_runs_is_understood(machine):
    """Projection and durable copy are both gone: a person removed it. The left-over elsewhere stays alone."""
    for name in "ab":
        machine.worktree(name, register=False)
        machine.write(machine.base / name, A, "one")
        machine.ok("register", machine.base / name)
    machine.ok("sync")
    jp_removes(machine, machine.base / "a", A)
    machine.ok("sync")
    assert buried(machine, A)
    assert durable(machine, A) is None
    assert machine.questions(machine.base / "b", A) == ["one"]


def test_what_was_durable_before_the_state_was_lost_brings_nothing_back(machine):
    """The history knows it, too: an old left-over of a worktree that was away lifts no tombstone."""
    for name in "ab":
        machine.worktree(name, register=False)
        machine.write(machine.base / name, A, "one")
        machine.ok("register", machine.base / name)
    (machine.base / "b").rename(machine.base / "away")
    machine.write(machine.base / "a", A, "else", mtime_ns=LONG_AGO + 1)
    machine.ok("sync")
    for path in (machine.base / "state/convsync").glob("state.db*"):
        path.unlink()
    machine.ok("register", machine.base / "a")
    jp_removes(machine, machine.base / "a", A)
    machine.ok("sync")
    assert buried(machine, A)
    (machine.base / "away").rename(machine.base / "b")
    machine.ok("register", machine.base / "b")
    assert durable(machine, A) is None
    assert machine.questions(machine.base / "b", A) == ["one"]


def test_git_clean_removes_projections_only(two):
    """A worktree without its copies is a worktree where it is local: nothing comes back, nothing goes."""
    shutil.rmtree(two.directory(two.base / "a", A))
    until(lambda: two.directory(two.base / "a", A) is None and status(two)["verdict"] == "in-sync", "local there")
    assert two.questions(two.silo(), A) == ["one", "two"]
    two.ok("verify")


def test_what_was_to_go_by_now_stays_gone(two):
    """JP removes what its own `expires_at` says, without a lock, from its own roots: that is no loss."""
    top = durable(two, A)
    put(
        top / "metadata.json",
        as_jp({"last_activated_at": "2023-11-14 22:13:20.0", "expires_at": "2023-11-15 00:00:00.0"}),
    )
    until(lambda: in_step(two, A, two.silo(), two.base / "a", two.base / "b"), "in step")
    manifest = two.base / f"data/convsync/trash/abcde/jp-c{A}/manifest.json"
    size = (top / "metadata.json").stat().st_size
    until(
        lambda: '"metadata.json", "digest"' in manifest.read_text() and f'"size": {size},' in manifest.read_text(),
        "kept",
    )
    shutil.rmtree(top)
    until(lambda: buried(two, A), "a tombstone")
    assert durable(two, A) is None
    assert two.directory(two.base / "b", A)
    assert not told(two, "lost")


def test_what_expired_in_one_worktree_only_comes_back(machine, agent):
    """A copy that may not be written has a past `expires_at`: told at once; JP's removal of both is undone.

    With and without an agent at that moment.
    """
    machine.worktree("a", register=False)
    machine.worktree("b", register=False)
    for conversation in (A, B):
        machine.write(machine.base / "b", conversation, "one", expires_at="2023-11-14 22:13:20.0")
        machine.write(machine.base / "a", conversation, "one", "two", mtime_ns=LONG_AGO + 10**9)
    machine.ok("register", machine.base / "a")
    machine.ok("register", machine.base / "b", "--no-refresh")
    running = agent()
    until(lambda: kept(machine, A, B), "kept copies")
    until(lambda: {e["conversation"] for e in told(machine, "held")} == {f"jp-c{A}", f"jp-c{B}"}, "told at once")
    assert {e["worktree"] for e in told(machine, "held")} == {str(machine.base / "b")}

    def jp_expires(conversation):
        """At its end, in worktree b: the projection first, no lock taken."""
        for root in (machine.base / "b", machine.silo()):
            shutil.rmtree(machine.directory(root, conversation))

    jp_expires(A)
    until(lambda: durable(machine, A), "put back")
    running.stop()
    jp_expires(B)
    agent()
    until(lambda: durable(machine, B), "put back after a restart")
    for conversation in (A, B):
        assert machine.questions(machine.silo(), conversation) == ["one", "two"]
        assert not buried(machine, conversation)
        assert machine.directory(machine.base / "b", conversation) is None
    until(lambda: len(told(machine, "lost")) == 2 and not told(machine, "held"), "told")


def test_what_goes_from_a_worktree_goes_there_only(two):
    """JP's sanitizer, a removal in every worktree in turn: nothing comes back, and nothing else goes."""
    path = two.directory(two.base / "a", A)
    (path.parent / ".trash").mkdir()
    trashed = path.rename(path.parent / ".trash" / path.name)
    until(lambda: status(two)["workspaces"][0]["worktrees"][0]["counts"]["local"] == 2, "local in a")
    assert two.questions(two.silo(), A) == two.questions(two.base / "b", A) == ["one", "two"]
    assert sorted(p.name for p in trashed.iterdir()) == ["base_config.json", "events.json", "metadata.json"]
    jp_removes(two, two.base / "a", A)
    until(lambda: told(two, "removed"), "left over in b")
    (two.directory(two.base / "b", A) / "events.json").unlink()
    until(lambda: not told(two, "removed"), "seen in the middle of its removal")
    assert buried(two, A), "what is left of it is no edit"
    jp_removes(two, two.base / "b", A)
    until(lambda: not told(two, "removed"), "nowhere any more")
    assert [durable(two, A), *(two.directory(two.base / n, A) for n in "ab")] == [None] * 3
    assert buried(two, A)
    assert trashed.is_dir()
    until(lambda: status(two)["verdict"] == "in-sync", "in sync")


def test_a_silo_that_is_away_decides_nothing(two):
    """Degraded while it is: no tombstone, no new silo; what was written meanwhile is taken over when it is back."""
    silo, away = two.silo(), two.silo().with_name("away")
    silo.rename(away)
    until(lambda: status(two)["verdict"] == "degraded", "degraded")
    path = two.directory(two.base / "a", A)
    put(path / "events.json", as_jp([event("one"), event("two"), event("three")]))
    time.sleep(2.5)  # two listings would have been enough to judge
    assert not silo.exists()
    assert not buried(two, A)
    assert not buried(two, B)
    away.rename(silo)
    until(lambda: in_step(two, A, silo, two.base / "a", two.base / "b"), "in step again")
    assert two.questions(silo, A) == ["one", "two", "three"]
    assert two.questions(silo, B) == ["three"]
    until(lambda: status(two)["verdict"] == "in-sync", "in sync")


def test_what_git_takes_away_and_gives_back(machine, agent):
    """`git clean` and `git stash -u` take projections only; `git stash pop` gives them back."""
    tree = machine.worktree("a", register=False)
    (tree / ".gitignore").write_text(".convsync\n")

    def git(*argv):
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", tree, *who, *argv], check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-qm", "no conversations")
    machine.write(tree, A, "one")
    machine.ok("register", tree)
    agent()

    def projected(number):
        counts = status(machine)["workspaces"][0]["worktrees"][0]["counts"]
        return (counts["projected"], counts["local"]) == (number, 1 - number)

    git("stash", "-u", "-q")
    until(lambda: projected(0), "stashed")
    assert machine.questions(machine.silo(), A) == ["one"]
    git("stash", "pop", "-q")
    until(lambda: projected(1) and status(machine)["verdict"] == "in-sync", "popped")
    assert machine.questions(tree, A) == ["one"]
    git("clean", "-fdxq")
    until(lambda: projected(0), "cleaned")
    time.sleep(2.5)  # two listings would have been enough to judge
    assert machine.questions(machine.silo(), A) == ["one"]
    assert machine.directory(tree, A) is None
    assert not buried(machine, A)
    machine.ok("verify")


def test_a_silo_that_lost_its_conversations_directory_is_begun_anew_by_register_only(machine):
    """Neither a removal of all of them nor a place to write to: an empty mount point looks so. A person decides."""
    tree = machine.worktree("a", register=False)
    machine.write(tree, A, "one")
    machine.ok("register", tree)
    shutil.rmtree(machine.silo() / "conversations")
    assert machine.run("sync").code == 6
    assert os.listdir(tree / ".jp/conversations")
    assert not (machine.silo() / "conversations").exists()
    assert not buried(machine, A)
    machine.ok("register", tree)
    assert machine.questions(machine.silo(), A) == ["one"]
    machine.ok("verify")
