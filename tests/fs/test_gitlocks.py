"""While git is at work, and where its index cannot be read: what is decided then, and when."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from contextlib import contextmanager

import pytest

from convsync_agent.githead import GitEye, find_git, rests
from convsync_agent.model import SECOND, Evidence, Verdict
from repository import EDIT, ENV, EVENTS, HOUR_AGO, METADATA, NOTE, WROTE, Tree, made


@pytest.fixture
def tree(tmp_path):
    return made(tmp_path / "tree")


# -- conflicts, locks and editors that stay open -------------------------------------


@contextmanager
def editor(tree, *argv):
    """A `git` command whose editor is open: it has said so, and stays until the end of the block."""
    ours, theirs = socket.socketpair()
    ours.settimeout(120)
    words = ["git", "-C", str(tree.top), *argv]
    env = ENV | {"GIT_EDITOR": "sh -c 'echo open; read line'"}
    with ours, subprocess.Popen(words, env=env, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL) as git:
        theirs.close()
        try:
            assert ours.recv(4) == b"open"
            yield
            ours.sendall(b"\n")
            assert git.wait(120) == 0
        finally:
            git.kill()


def conflict(tree):
    """A merge that stops at the note, with the events merged."""
    tree.git("checkout", "-q", "-b", "theirs", GIT_COMMITTER_DATE=f"{HOUR_AGO} +0000")
    tree.write(EVENTS, "[7]")
    tree.write(NOTE, "theirs")
    tree.commit("theirs")
    tree.git("checkout", "-q", "main", GIT_COMMITTER_DATE=f"{HOUR_AGO} +0000")
    tree.write(NOTE, "ours")
    tree.write(METADATA, "ours")
    tree.commit("ours")
    tree.look()
    tree.git("merge", "-q", "theirs", ok=False)


def test_a_conflict_and_an_editor_that_stays_open(tree):
    """What was merged is git's while the conflict lasts, while the message is written, and after; no lock is held."""
    conflict(tree)
    assert set(tree.changed()) == {EVENTS, NOTE}
    assert tree.ask(EVENTS) == WROTE
    tree.write(NOTE, "both")
    tree.git("add", NOTE)
    with editor(tree, "commit", "-q"):
        assert not (tree.top / ".git/index.lock").exists()
        assert tree.ask(EVENTS) == WROTE

    assert tree.ask(EVENTS) == WROTE


def test_a_conflicted_file_is_no_evidence(tree):
    """Git writes the marks into the file and notes three sides without a stat."""
    tree.git("checkout", "-q", "-b", "theirs", GIT_COMMITTER_DATE=f"{HOUR_AGO} +0000")
    tree.write(EVENTS, "[7]")
    tree.commit("theirs")
    tree.git("checkout", "-q", "main", GIT_COMMITTER_DATE=f"{HOUR_AGO} +0000")
    tree.write(EVENTS, "[8]")
    tree.commit("ours")
    tree.git("merge", "-q", "theirs", ok=False)

    assert "<<<<<<<" in (tree.top / EVENTS).read_text()
    assert tree.ask(EVENTS) == EDIT


def test_while_git_holds_its_lock_nothing_is_decided(tree):
    """`git commit -a` holds index.lock while its editor is open: wait, for five minutes; then name the lock."""
    tree.write(EVENTS, "[1, 2, 3]")
    eye = GitEye()
    with editor(tree, "commit", "-q", "-a", "-m", "x", "--edit"):
        found = tree.ask(EVENTS, eye=eye)
        assert (found.verdict, found.old_lock) == (Verdict.WAIT, False)
        assert 0 < found.again_ns <= SECOND
        assert not rests(find_git(tree.top), 0, time.time_ns())
        assert tree.ask(EVENTS, eye=eye, later=290 * SECOND).verdict is Verdict.WAIT
        assert tree.ask(EVENTS, eye=eye, later=302 * SECOND) == Evidence(Verdict.WROTE, old_lock=True)

    assert tree.ask(EVENTS, eye=eye) == EDIT


def test_a_lock_left_behind_is_named(tree):
    """One that is older than five minutes is not git at work."""
    tree.git("checkout", "-q", "old")
    lock = tree.top / ".git/index.lock"
    lock.touch()
    assert tree.ask(EVENTS).verdict is Verdict.WAIT
    os.utime(lock, (HOUR_AGO, HOUR_AGO))

    assert tree.ask(EVENTS) == Evidence(Verdict.WROTE, old_lock=True)


def test_a_lock_from_the_future_ages(tree):
    """Its time is ahead of the clock: five minutes from when it was first seen."""
    lock, eye = tree.top / ".git/index.lock", GitEye()
    lock.touch()
    os.utime(lock, (HOUR_AGO + 10**8, HOUR_AGO + 10**8))
    assert tree.ask(EVENTS, eye=eye).verdict is Verdict.WAIT

    assert tree.ask(EVENTS, eye=eye, later=302 * SECOND).old_lock


# -- an index that cannot be read ----------------------------------------------------


def split(tree):
    tree.git("update-index", "--split-index")


def damaged(tree):
    index = tree.top / ".git/index"
    raw = bytearray(index.read_bytes())
    raw[20] ^= 1
    index.write_bytes(raw)


def is_directory(tree):
    (tree.top / ".git/index").unlink()
    (tree.top / ".git/index").mkdir()


@pytest.mark.parametrize("spoil", [split, damaged, is_directory])
def test_without_an_index_the_log_is_asked_two_seconds_later(tree, spoil):
    """A checkout is recognised by its entry, which may follow index.lock; what nothing tells of is an edit."""
    tree.git("checkout", "-q", "old")
    spoil(tree)
    eye = GitEye()
    found = tree.ask(EVENTS, eye=eye)
    assert found.verdict is Verdict.WAIT
    assert 0 < found.again_ns <= 2 * SECOND

    assert tree.ask(EVENTS, eye=eye, later=3 * SECOND) == WROTE
    tree.write(METADATA, "edited", ago=600)
    assert tree.ask(METADATA, eye=eye, later=3 * SECOND) == EDIT


def test_a_split_index_and_a_commit(tree):
    """The exception holds there too."""
    split(tree)
    tree.write(EVENTS, "[1]")
    tree.git("commit", "-q", "-a", "-m", "x")

    assert tree.ask(EVENTS, later=3 * SECOND) == EDIT


def test_the_two_seconds_begin_when_the_lock_goes(tree):
    """A lock that was seen, and went without a new index."""
    split(tree)
    lock, eye = tree.top / ".git/index.lock", GitEye()
    lock.touch()
    assert tree.ask(EVENTS, eye=eye, later=100 * SECOND).verdict is Verdict.WAIT
    lock.unlink()

    assert tree.ask(EVENTS, eye=eye, later=101 * SECOND).again_ns > SECOND // 2
    assert tree.ask(EVENTS, eye=eye, later=103 * SECOND).verdict is not Verdict.WAIT


def test_without_any_index_it_is_an_edit(tree, tmp_path):
    """Nothing was checked out: git holds no file."""
    tree.git("clone", "-q", "--no-checkout", str(tree.top), str(tmp_path / "clone"))
    clone = Tree(tmp_path / "clone")
    clone.write(EVENTS, "[1]")

    assert not (clone.top / ".git/index").exists()
    assert clone.ask(EVENTS) == EDIT


def test_an_empty_index_holds_nothing(tree):
    """An index of no entries."""
    tree.git("rm", "-r", "-q", "--cached", ".")

    assert tree.ask(EVENTS) == EDIT


def test_an_index_that_is_replaced_while_it_is_read(tree):
    """Git renames a new index into place again and again: the file stays git's, or git is at work."""
    tree.git("checkout", "-q", "old")
    stop, eye, said = threading.Event(), GitEye(), []

    def churn():
        for number in range(40):
            tree.git("update-index", "--index-version", "24"[number % 2], "--force-write-index")
        stop.set()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        while not stop.is_set():
            said.append(tree.ask(EVENTS, eye=eye).verdict)
    finally:
        thread.join()

    assert set(said) <= {Verdict.WROTE, Verdict.WAIT}
    assert tree.ask(EVENTS, eye=eye) == WROTE


def test_what_was_read_is_remembered_and_bounded(tree, tmp_path, monkeypatch):
    """An index is read once while it stays as it is, for a few worktrees; what changed is read again."""
    read = []
    real = os.open

    def counted(path, *rest, **more):
        read.append(os.fspath(path) if not isinstance(path, int) else path)
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", counted)
    eye = GitEye()
    tree.git("checkout", "-q", "old")
    git = find_git(tree.top)

    def reads():
        read.clear()
        assert eye.evidence(git, tree.stamps(EVENTS), time.time_ns()) == WROTE
        return len(read)

    assert [reads(), reads()] == [2, 0]
    tree.git("checkout", "-q", "main")
    assert [reads(), reads()] == [2, 0]
    eye.forget()
    assert [reads(), reads()] == [2, 0]
    for number in range(8):
        other = tmp_path / f"{number}"
        tree.git("worktree", "add", "-q", "--detach", str(other))
        assert Tree(other).ask(EVENTS, eye=eye) == WROTE
    assert reads() == 2
