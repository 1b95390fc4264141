"""A repository of real git with one conversation in it."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from convsync_agent.githead import GitEye, find_git
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


LONG_SINCE = {"GIT_COMMITTER_DATE": "2023-11-14T22:13:20Z"}  # a commit of this moment would vouch for an edit


def git(at, *argv, **env):
    """Git as a person without any configuration has it; it has to succeed."""
    return subprocess.run(["git", "-C", str(at), *argv], check=True, capture_output=True, env=ENV | env)


def committed_twice(machine, conversation, grow):
    """Worktree `a` is a repository: branch `old` has one turn of the conversation, `main` what `grow` made of it."""
    tree = machine.worktree("a", register=False)
    machine.write(tree, conversation, "one")
    git(tree, "init", "-q", "-b", "main")
    (tree / ".gitignore").write_text(".convsync\n")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "old", **LONG_SINCE)
    git(tree, "branch", "old")
    grow(tree)
    git(tree, "commit", "-qam", "new", **LONG_SINCE)
    machine.ok("register", tree)
    return tree


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
