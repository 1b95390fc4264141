"""`convsync hooks`: each piece does what it says with real git, as the program it is made for would run it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from typing import NamedTuple

import pytest

from convsync_cli.snippets import SNIPPETS
from machine import LONG_AGO, SECOND

ID = 17_000_000_001
WHO = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
TEXTS = {s.name: s.text for s in SNIPPETS}


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def repository(machine):
    """`main repo` with a linked worktree `a b`, both registered; ID is in the worktree and durable."""
    if shutil.which("git") is None:
        pytest.skip("git is not here")
    main, tree = machine.worktree("main repo", register=False), machine.base / "a b"
    tools = machine.base / "bin"
    tools.mkdir()
    shim = tools / "convsync"
    shim.write_text(
        f"#!/bin/sh\nPYTHONPATH={shlex.quote(os.pathsep.join(filter(None, sys.path)))}"
        f' exec {shlex.quote(sys.executable)} -m convsync_cli "$@"\n'
    )
    shim.chmod(0o755)
    machine.main, machine.tree = main, tree
    machine.shell_env = (
        machine.env
        | WHO
        | {
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "GIT_CONFIG_GLOBAL": str(machine.home / ".gitconfig"),
            "GIT_CONFIG_NOSYSTEM": "1",
        }
    )
    for command in ("git init -q -b main", "echo .jp/conversations/ > .gitignore", "git add .", "git commit -qm start"):
        assert sh(machine, command).code == 0, command
    assert sh(machine, f"git worktree add -q -b side {shlex.quote(str(tree))}").code == 0
    machine.ok("register", main)
    machine.write(tree, ID, "one", slug="private-title", title="Private title")
    machine.ok("register", tree)
    return machine


def sh(machine, command, *, cwd=None, shell="sh", **env) -> Ran:
    """One line of a shell, in the main worktree."""
    done = subprocess.run(
        [shell, "-c", command],
        cwd=cwd or machine.main,
        env=machine.shell_env | env,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def installed(machine, name):
    """As its install line says, but below the throw-away home."""
    done = sh(machine, next(s.install for s in SNIPPETS if s.name == name))
    assert done.code == 0, done
    return done


def spoil(machine):
    """Something in the worktree that cannot be made durable while this lasts: a link in place of a file."""
    at = machine.directory(machine.tree, ID) / "events.json"
    at.rename(machine.base / "aside.json")
    at.symlink_to(machine.base / "aside.json")


def mend(machine):
    at = machine.directory(machine.tree, ID) / "events.json"
    at.unlink()
    (machine.base / "aside.json").rename(at)


# How each of them removes the worktree `a b`, given the text that we print.


def by_alias(machine) -> Ran:
    installed(machine, "git")
    return sh(machine, "git wt-remove '../a b'")


def by_alias_from_below(machine) -> Ran:
    """From a directory in the worktree itself, by a relative path: git would run the alias elsewhere."""
    installed(machine, "git")
    below = machine.tree / "sub dir"
    below.mkdir(exist_ok=True)
    return sh(machine, "git wt-remove ..", cwd=below)


def by_function(machine, shell="bash") -> Ran:
    rc = machine.base / "rc"
    rc.write_text(sh(machine, "convsync hooks shell").out)
    return sh(machine, f". {shlex.quote(str(rc))}; git worktree remove '../a b'", shell=shell)


def by_worktrunk(machine) -> Ran:
    """It puts the quoted path in and removes when that succeeds, from within the worktree."""
    [hook] = tomllib.loads(sh(machine, "convsync hooks worktrunk").out)["pre-remove"]
    command = hook["convsync"].replace("{{ worktree_path }}", shlex.quote(str(machine.tree)))
    ran = sh(machine, command, cwd=machine.tree)
    return ran if ran.code else sh(machine, "git worktree remove '../a b'")


def by_gtr(machine) -> Ran:
    """It evaluates what git config has, in the worktree, with WORKTREE_PATH in the environment."""
    installed(machine, "gtr")
    ran = sh(
        machine,
        'eval "$(git config --get-all gtr.hook.preRemove)"',
        cwd=machine.tree,
        shell="bash",
        WORKTREE_PATH=str(machine.tree),
    )
    return ran if ran.code else sh(machine, "git worktree remove '../a b'")


def by_lazygit(machine) -> Ran:
    """It puts the quoted path into `command` and runs that with a shell."""
    line = next(n for n in TEXTS["lazygit"].splitlines() if n.lstrip().startswith("command:"))
    command = line.partition("'")[2].removesuffix("'")
    return sh(machine, command.replace("{{ .SelectedWorktree.Path | quote }}", f'"{machine.tree}"'))


WAYS = {
    "git": by_alias,
    "git, from below": by_alias_from_below,
    "shell": by_function,
    "worktrunk": by_worktrunk,
    "gtr": by_gtr,
    "lazygit": by_lazygit,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_worktree_goes_when_all_of_it_is_durable_and_stays_when_not(repository, way):
    """Not durable: exit 4, the reason on stderr, nothing removed. Durable: removed, and the silo has it."""
    spoil(repository)
    refused = WAYS[way](repository)
    assert (refused.code, f"jp-c{ID}" in refused.err) == (4, True), refused
    assert "private" not in refused.out + refused.err
    assert repository.tree.is_dir()

    mend(repository)
    done = WAYS[way](repository)
    assert done.code == 0, done
    assert not repository.tree.exists()
    assert repository.questions(repository.silo(), ID) == ["one"]


@pytest.mark.parametrize("way", ["git", "shell"])
def test_what_git_says_is_passed_on(repository, way):
    """Uncommitted work is git's reason to refuse, and --force is git's too."""
    (repository.tree / "work.txt").write_text("not committed")
    refused = WAYS[way](repository)
    assert (refused.code, "modified or untracked" in refused.err) == (4, True), refused
    assert (repository.tree / "work.txt").exists()


@pytest.mark.parametrize("shell", ["bash", "zsh", "dash"])
def test_the_function_leaves_everything_else_to_git(repository, shell):
    """Any other git command is git's own, with its exit code."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not here")
    rc = repository.base / "rc"
    rc.write_text(TEXTS["shell"])
    line = f". {shlex.quote(str(rc))}; git worktree list && git rev-parse --verify -q nothing; echo $?; git; echo $?"
    ran = sh(repository, line, shell=shell)
    assert str(repository.tree) in ran.out
    assert [n for n in ran.out.splitlines() if n.isdigit()] == ["1", "1"], ran


def test_a_new_worktree_registers_itself(repository):
    """`git worktree add` runs the hook; where there is no `.jp`, and at a plain checkout, nothing happens."""
    installed(repository, "post-checkout")
    assert sh(repository, "git worktree add -q -b more '../c d'").code == 0
    paths = [w["path"] for s in repository.ok("status", "--json").json["workspaces"] for w in s["worktrees"]]
    assert str(repository.base / "c d") in paths

    repository.ok("unregister", repository.base / "c d")
    assert sh(repository, "git checkout -q -b other", cwd=repository.base / "c d").code == 0
    assert sh(repository, "git rm -rq .jp && git commit -qm without && git worktree add -q -b bare '../e f'").code == 0
    paths = [w["path"] for s in repository.ok("status", "--json").json["workspaces"] for w in s["worktrees"]]
    assert not {str(repository.base / "c d"), str(repository.base / "e f")} & set(paths)


def test_check_makes_sure_and_removes_nothing(repository):
    """`remove-worktree --check` syncs and reads all of it, says so, and leaves the worktree where it is."""
    repository.write(repository.tree, ID, "one", "two", mtime_ns=LONG_AGO + SECOND)
    done = repository.ok("remove-worktree", "--check", repository.tree, "--json").json
    assert (done["removed"], done["conversations"]) == (False, 1)
    assert repository.tree.is_dir()
    assert repository.questions(repository.silo(), ID) == ["one", "two"]


def test_a_worktree_without_conversations_may_go(repository):
    """No `.jp` is in it: git removes it. One that nobody registered is refused, also within a registered one."""
    inner = repository.main / ".trees" / "inner"
    assert sh(repository, f"git worktree add -q -b inner {shlex.quote(str(inner))}").code == 0
    repository.write(inner, ID + 1000, "only here")
    ran = repository.run("remove-worktree", inner)
    assert (ran.code, "convsync register" in ran.err) == (3, True), ran
    assert repository.questions(inner, ID + 1000) == ["only here"]

    assert sh(repository, "git rm -rq .jp && git commit -qm without", cwd=inner).code == 0
    shutil.rmtree(inner / ".jp")
    assert "no .jp" in repository.ok("remove-worktree", "--check", inner).out
    assert inner.is_dir()
    repository.ok("remove-worktree", inner)
    assert not inner.exists()


def test_hooks_are_listed_and_said_as_json(machine):
    """Each with its name, what it is for, the line that installs it and its text; an unknown one is exit 3."""
    found = machine.ok("hooks", "--json").json["hooks"]
    assert [h["name"] for h in found] == [s.name for s in SNIPPETS]
    assert machine.ok("hooks", "git", "--json").json == {"schema": 1} | found[0]
    shown = machine.ok("hooks").out
    assert [s.name for s in SNIPPETS if s.install not in shown] == []
    ran = machine.run("hooks", "svn")
    assert (ran.code, "worktrunk" in ran.err) == (3, True), ran
