"""What git directories say, with real git: which one it is, its HEAD, whether it rests, who wrote a file."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from convsync_agent.githead import GitEye, find_git, head_text, rests, worktree_paths
from convsync_agent.model import SECOND, Evidence, Verdict

WROTE, EDIT = Evidence(Verdict.WROTE), Evidence(Verdict.EDIT)
HOUR_AGO = int(time.time()) - 3600
C = ".jp/conversations/17000000001-title"
EVENTS, METADATA, NOTE = f"{C}/events.json", f"{C}/metadata.json", "note.txt"
ENV = {
    "PATH": os.environ["PATH"],
    "HOME": os.devnull,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_EDITOR": "true",
    "GIT_AUTHOR_NAME": "A U Thor",
    "GIT_AUTHOR_EMAIL": "author@example.com",
    "GIT_COMMITTER_NAME": "A U Thor",
    "GIT_COMMITTER_EMAIL": "author@example.com",
}


class Tree:
    """A worktree with real git in it."""

    def __init__(self, top):
        self.top = Path(os.path.realpath(top))
        self.seen: dict[str, tuple[bytes, int]] = {}

    def git(self, *argv, ok=True, **env):
        words = ["git", "-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main", "-C", str(self.top), *argv]
        done = subprocess.run(words, capture_output=True, check=False, env=ENV | env)
        assert done.returncode == 0 or not ok, done.stderr.decode()
        return done.stdout.decode()

    def write(self, path, text, *, ago=10):
        """Write as a person does: a new file, and not at this very moment."""
        file = self.top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name("fresh")
        fresh.write_text(text)
        os.replace(fresh, file)
        at = time.time_ns() - ago * SECOND
        os.utime(file, ns=(at, at))

    def commit(self, text, *paths):
        """An earlier commit: an hour ago, in the HEAD log too."""
        self.git("add", *(paths or ["."]))
        self.git("commit", "-q", "-m", text, GIT_COMMITTER_DATE=f"{HOUR_AGO} +0000")

    def look(self):
        """Remember what there is, for `changed`."""
        self.seen = self._all()

    def changed(self):
        """Every file that is there and was not so at the last look."""
        return [path for path, what in self._all().items() if self.seen.get(path) != what]

    def _all(self):
        return {
            os.path.relpath(os.path.join(at, n), self.top): ((p := Path(at, n)).read_bytes(), p.stat().st_ino)
            for at, dirs, names in os.walk(self.top)
            if ".git" not in Path(at).parts and (dirs.remove(".git") if ".git" in dirs else True) is not False
            for n in names
            if n != ".git"
        }

    def stamps(self, *paths):
        found = [(p, os.stat(self.top / p)) for p in paths]
        return [(p, s.st_mtime_ns, s.st_size, s.st_ino) for p, s in found]

    def ask(self, *paths, eye=None, later=0):
        """The evidence for these files, asked now, or so many ns later."""
        return (eye or GitEye()).evidence(find_git(self.top), self.stamps(*paths), time.time_ns() + later)


def made(top, *words):
    """A repository: `old` has one event, `main` two, `side` another note; on main, nothing to commit."""
    tree = Tree(top)
    top.mkdir(exist_ok=True)
    tree.git("init", "-q", *words)
    for text, branch in (("[1]", "old"), ("[1, 2]", None)):
        tree.write(EVENTS, text)
        tree.write(METADATA, f"metadata of {text}")
        tree.write(NOTE, f"note of {text}")
        tree.commit(text)
        if branch:
            tree.git("branch", branch)
    when = {"GIT_COMMITTER_DATE": f"{HOUR_AGO} +0000"}
    tree.git("checkout", "-q", "-b", "side", "old", **when)
    tree.write(f"{C}/base_config.json", "{}")
    tree.commit("side")
    tree.git("checkout", "-q", "main", **when)
    tree.look()
    return tree


@pytest.fixture
def tree(tmp_path):
    return made(tmp_path / "tree")


# -- what git brings back is not an edit ------------------------------------------------

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


# -- what is an edit --------------------------------------------------------------------


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


# -- conflicts, locks and editors that stay open ------------------------------------------


@contextmanager
def editor(tree, *argv):
    """A `git` command whose editor is open: it has said so, and stays until the end of the block."""
    ours, theirs = socket.socketpair()
    ours.settimeout(20)
    words = ["git", "-C", str(tree.top), *argv]
    env = ENV | {"GIT_EDITOR": "sh -c 'echo open; read line'"}
    with ours, subprocess.Popen(words, env=env, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL) as git:
        theirs.close()
        try:
            assert ours.recv(4) == b"open"
            yield
            ours.sendall(b"\n")
            assert git.wait(20) == 0
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


# -- an index that cannot be read ---------------------------------------------------------


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


# -- which git directory ------------------------------------------------------------------


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


# -- HEAD, rest, and where worktrees are -----------------------------------------------------


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
