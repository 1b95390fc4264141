"""`doctor --scan` with a real git: what would be committed is read, and no value ever comes out.

The samples are put together here, so that no scanner takes this file for a leak.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess

import pytest

from editors import A, B
from machine import event

B62 = "Ab3dE6gH9jK2mN5pQ8sT1vW4xY7zA0cF3iL6oR9uX2"
TOKEN = "ghp_" + B62[:36]
WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_CONFIG_GLOBAL": os.devnull}
WHO |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org", "GIT_CONFIG_NOSYSTEM": "1"}


def git(at, *argv):
    env = {"PATH": os.environ["PATH"], "HOME": str(at), **WHO}
    return subprocess.run(["git", "-C", str(at), *argv], check=True, capture_output=True, env=env)


@pytest.fixture
def repository(pair):
    """Worktree `a` is a repository; `b` is not one of git's."""
    if shutil.which("git") is None:
        pytest.skip("git is not here")
    git(pair.base / "a", "init", "-q", "-b", "main")
    pair.ok("unregister", pair.base / "b")
    return pair


def scan(machine, *argv):
    ran = machine.run("doctor", "--scan", "--json", *argv)
    assert TOKEN not in ran.out + ran.err
    assert B62[:12] not in ran.out + ran.err
    assert ran.code == (0 if ran.json["ok"] else 1)
    return ran.json


def kinds(found):
    return [(k["conversation"], k["file"], k["kind"], k.get("event") or k.get("line")) for k in found["leaks"]]


def test_nothing_to_find(repository):
    """Exit 0, and how much was read."""
    found = scan(repository)

    assert (found["ok"], found["leaks"], found["scanned"]["files"]) == (True, [], 3)


def test_untracked_and_tracked_files_and_encoded_ones(repository):
    """An error for each kind in each event or line: conversation, file, place; never the value, never a name."""
    a = repository.base / "a"
    told = event(kind="tool_call_response", id="1") | {"content": base64.b64encode(TOKEN.encode()).decode()}
    repository.write(a, A, "fine", told)
    git(a, "add", "-A")
    git(a, "commit", "-qm", "one")
    path = repository.write(a, B, "fine", f"use {TOKEN}", slug="canary-slug", title=f"canary {TOKEN}")
    (path / "canary-notes.md").write_text(f"\n\n{TOKEN}\n")
    found = scan(repository, a)

    assert kinds(found) == [
        (f"jp-c{A}", "events.json", "github", 2),
        (f"jp-c{B}", "other file", "github", 3),
        (f"jp-c{B}", "events.json", "github", 2),
        (f"jp-c{B}", "metadata.json", "github", 3),
    ]
    assert {"error"} == {c["level"] for c in found["checks"][:-1]}
    assert {k["worktree"] for k in found["leaks"]} == {str(a)}
    seen = repository.run("doctor", "--scan", a)
    assert (seen.code, "canary" in seen.out + str(found)) == (1, False)
    assert f"jp-c{A}, events.json, event 2" in seen.out


def test_what_git_ignores_is_not_about_to_be_committed(repository):
    """Ignored: passed by. Tracked in spite of the rule: found. Deleted but tracked: nothing there to read."""
    a = repository.base / "a"
    repository.write(a, A, TOKEN)
    repository.write(a, B, TOKEN)
    (a / ".gitignore").write_text(".jp/conversations/\n")
    assert scan(repository)["leaks"] == []

    git(a, "add", "-f", repository.directory(a, A))
    assert kinds(scan(repository)) == [(f"jp-c{A}", "events.json", "github", 1)]

    shutil.rmtree(repository.directory(a, A))
    assert scan(repository)["ok"]


def test_without_a_git_to_ask_all_of_it_is_read(repository, monkeypatch):
    """A worktree that is no repository, or no git on the machine; it is said."""
    repository.write(repository.base / "b", A, TOKEN)
    (repository.base / "a/.gitignore").write_text("*\n")
    repository.write(repository.base / "a", A, TOKEN)

    assert scan(repository)["ok"]
    found = scan(repository, repository.base / "b")
    assert kinds(found) == [(f"jp-c{A}", "events.json", "github", 1)]
    assert "for want of a git" in found["checks"][-1]["what"]
    monkeypatch.setenv("PATH", str(repository.base))
    assert kinds(scan(repository)) == [(f"jp-c{A}", "events.json", "github", 1)]


def test_in_a_hook_the_repository_of_each_worktree_is_asked(repository, monkeypatch):
    """Git gives its hooks variables that name one repository and one index; they mean nothing for another."""
    repository.write(repository.base / "a", A, TOKEN)
    monkeypatch.setenv("GIT_DIR", str(repository.base / "nowhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", "nothing")

    assert kinds(scan(repository)) == [(f"jp-c{A}", "events.json", "github", 1)]


def test_odd_files(repository):
    """A symlink is committed as a symlink, a name of any bytes is read, and a pipe stops nobody."""
    a = repository.base / "a"
    path = repository.directory(a, A)
    (repository.base / "outside").write_text(TOKEN)
    (path / "link").symlink_to(repository.base / "outside")
    os.mkfifo(path / "pipe")
    odd = os.fsencode(path) + b"/\xff\xfe.md"
    with open(odd, "w") as file:
        file.write(TOKEN)

    assert kinds(scan(repository)) == [(f"jp-c{A}", "other file", "github", 1)]


def test_a_file_that_may_not_be_read(repository):
    """It is a warning: nobody can say what is in it."""
    path = repository.directory(repository.base / "a", A) / "events.json"
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root may read anything")
    found = scan(repository)

    assert [c["code"] for c in found["checks"] if c["level"] == "warn"] == ["permissions"]


def test_where_nothing_is_registered(machine):
    """The worktree of the current directory; without one the error that says so."""
    assert machine.run("doctor", "--scan").code == 3
    tree = machine.worktree("x", register=False)
    machine.write(tree, A, TOKEN)

    assert kinds(scan(machine, tree)) == [(f"jp-c{A}", "events.json", "github", 1)]
