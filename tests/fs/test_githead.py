"""The git directory of a worktree: which one it is, its HEAD, whether it rests, where its worktrees are."""

from __future__ import annotations

import os
import time

import pytest

from convsync_agent.githead import GitEye, find_git, head_text, rests, worktree_paths
from convsync_agent.model import SECOND
from repository import EDIT, EVENTS, NOTE, Tree, made


@pytest.fixture
def tree(tmp_path):
    return made(tmp_path / "tree")


# -- which git directory -------------------------------------------------------------


def test_the_nearest_one(tree, tmp_path):
    """At or above, whatever the symlinks; a directory that is not there has none, whatever is above it."""
    (tree.top / "a/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tree.top / "a/b")
    for at in (tree.top, tree.top / "a/b", tmp_path / "link"):
        git = find_git(str(at))
        assert (git.git_dir, git.common_dir, git.top) == (f"{tree.top}/.git",) * 2 + (str(tree.top),)

    assert find_git(str(tree.top / "a/b")).below == "a/b/.jp/"
    assert find_git(str(tree.top / "gone")) is None
    assert find_git(str(tree.top / "no\0name")) is None
    assert find_git(str(tree.top / NOTE)) is None


def test_git_that_is_a_symlink(tree, tmp_path):
    """`.git` may be a symlink to a directory."""
    (tree.top / ".git").rename(tmp_path / "elsewhere")
    (tree.top / ".git").symlink_to(tmp_path / "elsewhere")

    assert find_git(tree.top).git_dir == str(tmp_path / "elsewhere")


LEADS_NOWHERE = {
    "empty": b"",
    "no gitdir": b"x",
    "without a path": b"gitdir: ",
    "a path that is gone": b"gitdir: /nowhere/at/all\n",
    "a NUL": b"gitdir: a\0b\n",
    "not UTF-8": b"gitdir: \xff\n",
    "long": b"gitdir: " + b"x" * 100_000,
}


@pytest.mark.parametrize("text", LEADS_NOWHERE.values(), ids=LEADS_NOWHERE)
def test_a_git_that_leads_nowhere_is_not_no_git(tree, text):
    """Not `None`, which would mean that every branch is the same; it says nothing, never rests and proves nothing."""
    inner = Tree(tree.top / "inner")
    inner.write(EVENTS, "[1]")
    (inner.top / ".git").write_bytes(text)
    git = find_git(inner.top)

    assert git.top == str(inner.top)
    assert head_text(git) is None
    assert not rests(git, 0, time.time_ns())
    assert worktree_paths(git.common_dir) == {}
    assert inner.ask(EVENTS) == EDIT


def test_what_git_passes_by(tree):
    """An empty directory, a broken symlink or a FIFO named `.git` is none; the one above is."""
    inner = tree.top / "inner"
    inner.mkdir()
    place = inner / ".git"
    place.mkdir()
    assert find_git(inner).top == str(tree.top)
    place.rmdir()
    place.symlink_to("nowhere")
    assert find_git(inner).top == str(tree.top)
    place.unlink()
    os.mkfifo(place)

    assert find_git(inner).top == str(tree.top)


def test_a_git_directory_that_may_not_be_read(tree):
    """It is there and says nothing."""
    (tree.top / ".git").chmod(0)
    if os.access(tree.top / ".git", os.X_OK):
        pytest.skip("root reads everything")
    try:
        git = find_git(tree.top)
        assert (git.top, head_text(git), rests(git, 0, time.time_ns())) == (str(tree.top), None, False)
        assert tree.ask(EVENTS, later=3 * SECOND) == EDIT
    finally:
        (tree.top / ".git").chmod(0o700)


# -- HEAD, rest, and where worktrees are ---------------------------------------------


def test_head(tree):
    """The branch, the commit when detached, a branch yet to be born; nothing where HEAD does not say it."""
    git = find_git(tree.top)
    assert head_text(git) == "ref: refs/heads/main"
    tree.git("checkout", "-q", "--detach")
    assert head_text(git) == tree.git("rev-parse", "HEAD").strip()
    tree.git("checkout", "-q", "--orphan", "new/é")
    assert head_text(git) == "ref: refs/heads/new/é"
    head = tree.top / ".git/HEAD"
    head.write_text("ref: refs/heads/.invalid\n")
    assert head_text(git) is None
    head.write_text("\n")
    assert head_text(git) is None
    head.unlink()
    assert head_text(git) is None
    head.symlink_to("refs/heads/main")

    assert head_text(git) == "ref: refs/heads/main"


def test_rest(tree):
    """An index, no lock, and both left alone for as long as asked; a date from the future does not block."""
    git, now = find_git(tree.top), time.time_ns()
    assert rests(git, 0, now)
    assert not rests(git, 600 * SECOND, now + SECOND)
    assert rests(git, SECOND, now + 600 * SECOND)
    assert rests(git, SECOND, now - 600 * SECOND)
    (tree.top / ".git/index.lock").touch()
    assert not rests(git, 0, now)
    (tree.top / ".git/index.lock").unlink()
    (tree.top / ".git/index").unlink()

    assert not rests(git, 0, now)


def test_a_moved_worktree_is_found_by_its_git_directory(tree, tmp_path):
    """What is remembered of a worktree leads to where it is now: moved with git, or moved and repaired."""
    tree.git("worktree", "add", "-q", str(tmp_path / "one"), "old")
    git = find_git(tmp_path / "one")
    assert worktree_paths(git.common_dir) == {git.git_dir: str(tmp_path / "one")}
    tree.git("worktree", "move", str(tmp_path / "one"), str(tmp_path / "two"))
    assert worktree_paths(git.common_dir) == {git.git_dir: str(tmp_path / "two")}
    (tmp_path / "two").rename(tmp_path / "three")
    tree.git("worktree", "repair", str(tmp_path / "three"))

    assert worktree_paths(git.common_dir) == {git.git_dir: str(tmp_path / "three")}
    assert find_git(tmp_path / "three").git_dir == git.git_dir


def test_paths_of_worktrees_may_be_relative(tree):
    """Newer git may note them relative to the place they are noted in; what is damaged is left out."""
    admin = tree.top / ".git/worktrees"
    for name, text in (("one", "../../../../one/.git\n"), ("two", ""), ("three", None)):
        (admin / name).mkdir(parents=True)
        if text is not None:
            (admin / name / "gitdir").write_text(text)

    assert worktree_paths(str(tree.top / ".git")) == {str(admin / "one"): str(tree.top.parent / "one")}


def test_nothing_is_written(tree):
    """Not a byte and not a time below `.git` changes when it is asked."""
    tree.git("checkout", "-q", "old")

    def below():
        found = [os.path.join(at, n) for at, dirs, names in os.walk(tree.top / ".git") for n in [*dirs, *names]]
        return {p: (s := os.stat(p)).st_mtime_ns and (s.st_mtime_ns, s.st_ctime_ns, s.st_size) for p in found}

    before = below()
    git = find_git(tree.top)
    head_text(git), rests(git, 0, time.time_ns()), worktree_paths(git.common_dir)
    tree.ask(EVENTS, eye=GitEye(objects=True))

    assert below() == before
