"""A repository with a linked worktree that goes, comes back and moves."""

from __future__ import annotations

import shutil
import subprocess
import time

from agents import FILES, in_step, status, until
from repository import git

A, B, C = 17_000_000_001, 17_000_000_002, 17_000_000_003


def described(machine, path):
    """What `status` says of one worktree."""
    trees = [t for w in status(machine)["workspaces"] for t in w["worktrees"]]
    return next((t for t in trees if t["path"] == str(path)), None)


def state_of(machine, path):
    found = described(machine, path)
    return found and found["state"]


def entries(machine, kind):
    return [e for e in status(machine)["attention"] if e["kind"] == kind]


def picture(machine, root, conversation):
    """Name, bytes and mtimes of one copy; None where there is none."""
    at = machine.directory(root, conversation)
    if at is None:
        return None
    return at.name, [(f, (at / f).read_bytes(), (at / f).stat().st_mtime_ns) for f in FILES if (at / f).exists()]


def ids(root):
    top = root / ".jp" / "conversations"
    return sorted(p.name for p in top.iterdir() if not p.name.startswith(".")) if top.is_dir() else []


def linked_pair(machine):
    """A repository `main` with a linked worktree `b` on branch b: A and B in both, ignored by git; C in main only."""
    main, tree = machine.worktree("main", register=False), machine.base / "b"
    git(main, "init", "-q", "-b", "main")
    (main / ".gitignore").write_text(".jp/conversations/\n")
    git(main, "add", ".")
    git(main, "commit", "-qm", "start")
    git(main, "worktree", "add", "-q", "-b", "b", str(tree))
    for number in (A, B, C):
        machine.write(main, number, f"about {number}", slug="some-title", title="some title")
    machine.ok("register", main)
    for number in (A, B):
        at = machine.directory(main, number)
        shutil.copytree(at, machine.store(tree) / "conversations" / at.name)
    (machine.directory(machine.silo(), A) / "QUERY_MESSAGE.md").write_text("draft")
    (machine.directory(machine.silo(), A) / "notes.txt").write_text("unmanaged")
    machine.ok("register", tree)
    machine.main, machine.tree = main, tree
    machine.held = {n: picture(machine, machine.silo(), n) for n in (A, B)}
    return machine


def watched_pair(pair, agent):
    def again():
        pair.agent = agent()

    pair.again = again
    again()
    until(lambda: all(in_step(pair, n, pair.main, pair.tree, pair.silo()) for n in (A, B)), "in step")
    until(lambda: status(pair)["verdict"] == "in-sync", "in sync")
    return pair


def is_gone(machine):
    return until(lambda: state_of(machine, machine.tree) == "missing", "missing")


def is_back(machine):
    return until(lambda: state_of(machine, machine.tree) == "watching", "watching again")


def all_held(machine):
    """Both projections are there, byte for byte, with their times and names, and nothing beside them."""
    return {n: picture(machine, machine.tree, n) for n in (A, B)} == machine.held and len(ids(machine.tree)) == 2


def settled(machine):
    """Long enough after a worktree came back that it would have got its projections."""
    time.sleep(4.5)  # two seconds of quiet and two between two looks: that nothing happens is what is observed
    return True


GOING = {
    "git": lambda m: git(m.main, "worktree", "remove", str(m.tree)),
    "git --force": lambda m: git(m.main, "worktree", "remove", "--force", str(m.tree)),
    "rm -rf": lambda m: subprocess.run(["rm", "-rf", str(m.tree)], check=True),
    "to the trash": lambda m: (m.tree.rename(m.base / "trash"), shutil.rmtree(m.base / "trash")),
}


def make_again(machine, branch="b"):
    git(machine.main, "worktree", "prune")
    git(machine.main, "worktree", "add", "-q", str(machine.tree), branch)
