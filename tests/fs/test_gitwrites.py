"""What git wrote is told from what a person wrote: over every action of git that brings files back."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from convsync_agent.githead import GitEye, find_git, head_text, rests
from repository import EDIT, EVENTS, METADATA, NOTE, WROTE, C, Tree, made


@pytest.fixture
def tree(tmp_path):
    return made(tmp_path / "tree")


# -- what git brings back is not an edit ---------------------------------------------


WRITES = {
    "checkout of a branch": [("checkout", "-q", "old")],
    "switch": [("switch", "-q", "old")],
    "detached": [("checkout", "-q", "--detach", "HEAD~1")],
    "checkout of a path": [("checkout", "-q", "old", "--", C)],
    "restore of both": [("restore", "-SW", "--source", "old", C)],
    "reset --hard": [("reset", "-q", "--hard", "old")],
    "reset --keep": [("reset", "-q", "--keep", "old")],
    "revert": [("revert", "--no-edit", "HEAD")],
    "merge": [("merge", "-q", "--no-edit", "side")],
    "squash": [("merge", "-q", "--squash", "side")],
    "cherry-pick": [("cherry-pick", "side")],
    "rebase": [("rebase", "-q", "side")],
    "rebase --apply": [("rebase", "-q", "--apply", "side")],
    "am": [("format-patch", "-q", "-1", "side", "-o", ".git/patches"), ("am", "-q", ".git/patches/0001-side.patch")],
    "read-tree": [("read-tree", "-m", "-u", "HEAD", "old")],
    "a sparse checkout and back": [("sparse-checkout", "set", "--no-cone", "nothing"), ("sparse-checkout", "disable")],
    "a sparse index and back": [
        ("sparse-checkout", "set", "--cone", "--sparse-index", "no"),
        ("sparse-checkout", "set", ".jp"),
    ],
}


@pytest.mark.parametrize("actions", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("version", ["2", "4"])
def test_what_git_wrote_is_recognised(tree, actions, version):
    """After an action of git every file that it changed is in its index with exactly the stat it has."""
    tree.git("update-index", "--index-version", version, "--force-write-index")
    for action in actions:
        tree.git(*action)
    changed = [p for p in tree.changed() if p.startswith(C)]

    assert changed
    assert tree.ask(*changed) == WROTE


@pytest.mark.parametrize("words", [("restore",), ("checkout", "--"), ("checkout-index", "-f", "-u")])
def test_an_edit_that_is_thrown_away(tree, words):
    """What takes the committed content back writes it and notes its stat."""
    tree.write(EVENTS, "[1, 2, 3]")
    tree.git(*words, EVENTS)

    assert (tree.top / EVENTS).read_text() == "[1, 2]"
    assert tree.ask(EVENTS) == WROTE


def test_restore_from_elsewhere_leaves_no_trace(tree):
    """`git restore --source` writes files only: neither the index nor the HEAD log has anything of it."""
    tree.git("restore", "--source", "old", C)

    assert set(tree.changed()) == {EVENTS, METADATA}
    assert tree.ask(EVENTS) == EDIT


def test_a_fast_forward_is_recognised(tree):
    """Merging forward, and pulling the same from elsewhere."""
    tree.git("checkout", "-q", "old")
    tree.look()
    tree.git("merge", "-q", "--ff-only", "main")

    assert set(tree.changed()) == {EVENTS, METADATA, NOTE}
    assert tree.ask(EVENTS, METADATA) == WROTE


def test_a_pull_is_recognised(tree, tmp_path):
    """`git pull` of what somebody else committed."""
    tree.git("clone", "-q", str(tree.top), str(tmp_path / "clone"))
    clone = Tree(tmp_path / "clone")
    tree.write(EVENTS, "[1, 2, 3]")
    tree.commit("three")
    clone.look()
    clone.git("pull", "-q")

    assert clone.changed() == [EVENTS]
    assert clone.ask(EVENTS) == WROTE


def test_stash_gives_back_the_committed_and_pop_the_edit(tree):
    """What `git stash` writes is git's; what `git stash pop` writes was the person's, and git notes no stat of it."""
    tree.write(EVENTS, "[1, 2, 3]")
    tree.git("stash", "-q")
    assert tree.ask(EVENTS) == WROTE
    tree.git("stash", "pop", "-q")

    assert (tree.top / EVENTS).read_text() == "[1, 2, 3]"
    assert tree.ask(EVENTS) == EDIT


def test_a_new_worktree_is_recognised(tree, tmp_path):
    """`git worktree add` of an old branch, and detached: there the HEAD log is written before the files."""
    for name, words in (("branch", ["old"]), ("detached", ["--detach", "old"]), ("commit", ["main~1"])):
        tree.git("worktree", "add", "-q", str(tmp_path / name), *words)
        assert Tree(tmp_path / name).ask(EVENTS, METADATA) == WROTE


def test_a_clone_is_recognised(tree, tmp_path):
    """Every file of a clone is git's."""
    tree.git("clone", "-q", str(tree.top), str(tmp_path / "clone"))

    assert Tree(tmp_path / "clone").ask(EVENTS, METADATA) == WROTE


def test_a_submodule_is_a_repository_of_its_own(tree, tmp_path):
    """Its `.git` is a file; the repository around it knows nothing of its files."""
    outer = made(tmp_path / "outer")
    outer.git("submodule", "add", "-q", str(tree.top), "sub")
    sub = Tree(outer.top / "sub")
    sub.git("checkout", "-q", "old")
    git = find_git(sub.top)

    assert (git.git_dir, git.top) == (str(outer.top / ".git/modules/sub"), str(sub.top))
    assert git.common_dir == git.git_dir
    assert head_text(git) == tree.git("rev-parse", "old").strip() or head_text(git) == "ref: refs/heads/old"
    assert sub.ask(EVENTS) == WROTE
    assert outer.ask(f"sub/{EVENTS}") == EDIT


def test_a_bare_repository_with_worktrees(tree, tmp_path):
    """A bare repository behind a `.git` file, worktrees beside it, its own directory having no index."""
    project = tmp_path / "project"
    project.mkdir()
    tree.git("clone", "-q", "--bare", str(tree.top), str(project / ".bare"))
    (project / ".git").write_text("gitdir: ./.bare\n")
    Tree(project).git("worktree", "add", "-q", "one", "old")
    git = find_git(project / "one")

    assert git.common_dir == str(project / ".bare")
    assert git.git_dir == str(project / ".bare/worktrees/one")
    assert head_text(git) == "ref: refs/heads/old"
    assert Tree(project / "one").ask(EVENTS) == WROTE
    assert not rests(find_git(project), 0, time.time_ns())


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
def test_both_kinds_of_objects(tmp_path, kind):
    """A repository of SHA-256 objects is read like any other."""
    tree = made(tmp_path / "tree", f"--object-format={kind}")
    tree.git("checkout", "-q", "old")

    assert tree.ask(EVENTS, METADATA) == WROTE


def test_a_worktree_below_the_top(tree):
    """`.jp` may lie below the directory that has `.git`; a name need not be UTF-8."""
    name = b"\xff-name".decode(errors="surrogateescape")
    path = f"sub/{name}/{EVENTS}"
    tree.write(path, "[1]")
    tree.commit("below")
    (tree.top / path).unlink()
    tree.git("checkout", "-q", "--", ".")
    git = find_git(tree.top / "sub" / name)

    assert git.relative(str(tree.top / path)) == path
    assert GitEye().evidence(git, tree.stamps(path), time.time_ns()) == WROTE
    assert GitEye().evidence(git, tree.stamps(EVENTS), time.time_ns()) == EDIT


def test_extensions_of_the_index(tree):
    """An untracked cache and the like change nothing."""
    tree.git("update-index", "--force-untracked-cache")
    tree.git("status")
    tree.git("checkout", "-q", "old")
    tree.git("status")

    assert b"UNTR" in (tree.top / ".git/index").read_bytes()
    assert tree.ask(EVENTS) == WROTE


# -- what is an edit -----------------------------------------------------------------


def test_an_edit_is_an_edit(tree):
    """Git knows nothing of what a person wrote, a refreshed index or not."""
    tree.write(EVENTS, "[1]")
    assert tree.ask(EVENTS) == EDIT
    tree.git("status")

    assert tree.ask(EVENTS) == EDIT
    assert tree.ask(METADATA, EVENTS) == EDIT


def test_a_copy_of_an_old_file_is_an_edit(tree, tmp_path):
    """`cp -p` from elsewhere, even with the very mtime: the file is another one."""
    tree.git("checkout", "-q", "old")
    shutil.copy2(tree.top / EVENTS, tmp_path / "kept")
    os.replace(tmp_path / "kept", tree.top / EVENTS)

    assert tree.ask(EVENTS) == EDIT


def test_a_patch_is_an_edit(tree):
    """`git apply` writes files and leaves the index alone."""
    patch = tree.top.parent / "patch"
    patch.write_text(tree.git("diff", "main", "old", "--", C))
    tree.git("apply", str(patch))

    assert tree.changed()
    assert tree.ask(EVENTS) == EDIT


COMMITS = {
    "commit -a": ("commit", "-q", "-a", "-m", "x"),
    "commit of a path": ("commit", "-q", "-m", "x", EVENTS),
    "commit --amend": ("commit", "-q", "-a", "--amend", "-m", "x"),
}


@pytest.mark.parametrize("commit", COMMITS.values(), ids=COMMITS)
def test_a_committed_edit_stays_an_edit(tree, commit):
    """The index has the file then, and the HEAD log says how it came there."""
    tree.write(EVENTS, "[1]")
    tree.git(*commit)

    assert tree.ask(EVENTS) == EDIT


def test_the_first_commit_is_one(tmp_path):
    """`commit (initial)`."""
    tree = Tree(tmp_path)
    tree.git("init", "-q")
    tree.write(EVENTS, "[1]")
    tree.git("add", ".")
    tree.git("commit", "-q", "-m", "x")

    assert tree.ask(EVENTS) == EDIT


def test_an_added_edit_looks_like_gits_until_it_is_committed(tree):
    """Between `git add` and `git commit` only the age of the object tells; an eye that looks at it is right."""
    tree.write(EVENTS, "[1]")
    tree.git("add", EVENTS)

    assert tree.ask(EVENTS) == WROTE
    assert tree.ask(EVENTS, eye=GitEye(objects=True)) == EDIT

    tree.git("commit", "-q", "-m", "x")
    assert tree.ask(EVENTS) == EDIT


def test_an_edit_committed_on_a_new_branch(tree):
    """The branch is the first entry after the edit, so by the log it is git's; the age of the object tells."""
    tree.write(EVENTS, "[1, 2, 3]")
    tree.git("checkout", "-q", "-b", "topic")
    tree.git("commit", "-q", "-a", "-m", "x")

    assert tree.ask(EVENTS) == WROTE
    assert tree.ask(EVENTS, eye=GitEye(objects=True)) == EDIT


def test_a_checkout_right_after_a_commit(tree):
    """Within 2 s of a commit the log takes git's work for a committed edit; the age of the object tells."""
    tree.write(EVENTS, "[1, 2, 3]")
    soon = int(time.time()) + 20  # so that the two are near each other on any machine
    tree.git("commit", "-q", "-a", "-m", "x", GIT_COMMITTER_DATE=f"{soon} +0000")
    tree.git("checkout", "-q", "old")

    assert tree.ask(EVENTS) == EDIT
    assert tree.ask(EVENTS, eye=GitEye(objects=True)) == WROTE


@pytest.mark.parametrize("commit", COMMITS.values(), ids=COMMITS)
def test_looking_at_objects_takes_nothing_from_edits(tree, commit):
    """A committed edit is one, of new content or of content that git has had, made long ago or just now."""
    for number, (text, ago) in enumerate([("[1]", 10), ("[9]", 10), ("[1, 2]", 0), ("[8]", 0)]):
        tree.write(EVENTS, text, ago=ago)
        tree.write(NOTE, f"{number}")
        tree.git(*commit)
        assert tree.ask(EVENTS, eye=GitEye(objects=True)) == EDIT


@pytest.mark.parametrize("actions", WRITES.values(), ids=WRITES)
def test_looking_at_objects_takes_nothing_from_git(tree, actions):
    """Whatever git writes it writes from objects that are not younger."""
    for action in actions:
        tree.git(*action)

    assert tree.ask(*(p for p in tree.changed() if p.startswith(C)), eye=GitEye(objects=True)) == WROTE


def test_without_a_log_the_index_alone_counts(tree):
    """`core.logAllRefUpdates=false`: a checkout is recognised, and a committed edit is not told from it."""
    tree.git("config", "core.logAllRefUpdates", "false")
    shutil.rmtree(tree.top / ".git/logs")
    tree.git("checkout", "-q", "old")
    assert tree.ask(EVENTS) == WROTE
    tree.write(METADATA, "edited")
    assert tree.ask(METADATA) == EDIT
    tree.git("commit", "-q", "-a", "-m", "x")

    assert not (tree.top / ".git/logs/HEAD").exists()
    assert tree.ask(METADATA) == WROTE
    assert tree.ask(METADATA, eye=GitEye(objects=True)) == EDIT


UNLOOKED = {
    "reset": [("reset", "-q", "old")],
    "intent to add": [("rm", "-q", "--cached", EVENTS), ("add", "-N", EVENTS)],
    "not in the index": [("rm", "-q", "--cached", EVENTS)],
    "an entry without a stat": [("update-index", "--cacheinfo", f"100644,{'1' * 40},{EVENTS}")],
}


@pytest.mark.parametrize("actions", UNLOOKED.values(), ids=UNLOOKED)
def test_an_entry_that_has_not_seen_the_file_proves_nothing(tree, actions):
    """Where git knows a path and has noted no stat, zero does not stand for anything."""
    tree.write(EVENTS, "[9]")
    for action in actions:
        tree.git(*action)

    assert tree.ask(EVENTS) == EDIT
