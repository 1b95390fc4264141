"""`recover` and `remove-worktree`, and what goes before it could be saved: a real agent, real git."""

from __future__ import annotations

import shutil
import time

import pytest

from agents import in_step, runtime, status, until
from departures import (
    GOING,
    A,
    B,
    entries,
    is_gone,
    make_again,
    picture,
    state_of,
)
from machine import as_jp, event, put
from repository import git


def test_recover_into_another_worktree_of_the_workspace(live):
    """What is there already is found and not touched; a dry run writes nothing at all."""
    GOING["git"](live)
    is_gone(live)
    live.agent.stop()
    other = live.worktree("other")
    live.write(other, B, "of its own", mtime_ns=1)
    roots = (other, live.silo(), live.main, live.base / "data")
    before = live.inventory(*roots)
    told = live.ok("--json", "recover", live.tree, "--into", other, "--dry-run").json
    assert (told["restored"], told["found"], told["dry_run"]) == ([f"jp-c{A}"], [f"jp-c{B}"], True)
    assert live.inventory(*roots) == before
    done = live.ok("--json", "recover", live.tree, "--into", other).json
    assert (done["restored"], done["found"], done["into"]) == ([f"jp-c{A}"], [f"jp-c{B}"], str(other))
    assert picture(live, other, A) == live.held[A]
    assert live.ok("recover", live.tree, "--into", other).out.startswith("nothing to put back")
    live.ok("sync")
    live.ok("verify")


REFUSED = {
    "nothing is there": (lambda m: ["recover", m.tree], 4),
    "not registered": (lambda m: ["recover", m.home], 3),
    "into one that is not registered": (lambda m: ["recover", m.tree, "--into", m.home], 3),
    "into another workspace": (lambda m: ["recover", m.tree, "--into", m.worktree("x", "other")], 4),
    "into one that is never written to": (lambda m: ["recover", m.tree, "--into", m.plain()], 4),
}


@pytest.mark.parametrize("what", REFUSED)
def test_recover_refuses(live, what):
    """Nothing is written then, and the hint says what to type."""
    GOING["git"](live)
    is_gone(live)
    live.agent.stop()  # what it puts in order would look like something written

    def plain():
        tree = live.worktree("plain", register=False)
        live.ok("register", "--no-refresh", tree)
        return tree

    live.plain = plain
    argv, code = REFUSED[what][0](live), REFUSED[what][1]
    before = live.inventory(live.silo() / "conversations")
    ran = live.run(*argv)
    assert (ran.code, "hint: " in ran.err) == (code, True), ran
    assert live.inventory(live.silo() / "conversations") == before


@pytest.mark.parametrize("running", [True, False])
def test_remove_worktree_makes_sure_and_removes(live, running):
    """What was not durable yet is by then; the worktree stays registered, as missing, and can come back."""
    if not running:
        live.agent.stop()
    put(live.directory(live.tree, A) / "events.json", as_jp([event("one"), event("last words")]))
    done = live.ok("--json", "remove-worktree", live.tree).json
    assert not live.tree.exists()
    assert (done["removed"], done["conversations"], done["kept"]) == (True, 2, [])
    assert live.questions(live.silo(), A) == ["one", "last words"]
    until(lambda: state_of(live, live.tree) == "missing", "missing")
    assert str(live.tree).encode() not in git(live.main, "worktree", "list").stdout
    if not running:
        live.again()
    make_again(live)
    until(lambda: in_step(live, A, live.tree, live.silo()), "put back")


def test_remove_worktree_keeps_what_the_silo_cannot_take(pair):
    """A broken file that nobody has seen yet: its bytes are in the history before git removes it."""
    put(pair.directory(pair.tree, A) / "events.json", b'[{"timestamp": "2023-11-14 22:13:20.0", "type": "chat_req')
    pair.ok("remove-worktree", pair.tree)
    assert not pair.tree.exists()
    versions = pair.ok("--json", "history", A).json["versions"]
    assert [v["from"] for v in versions if v["unit"] == "stream"] == [str(pair.tree)]


def test_remove_worktree_refuses_what_is_not_durable_and_keeps_it_when_forced(pair):
    """A file that cannot travel because a running JP has the lock; with --force it is in the history first."""
    (pair.directory(pair.tree, B) / "notes.txt").write_text("only here")
    with pair.holding(B):
        ran = pair.run("remove-worktree", pair.tree)
        assert (ran.code, f"jp-c{B}" in ran.err, "--force" in ran.err) == (4, True, True), ran
        assert (pair.directory(pair.tree, B) / "notes.txt").read_text() == "only here"
        done = pair.ok("--json", "remove-worktree", "--force", pair.tree).json
    assert not pair.tree.exists()
    assert done["kept"] == [f"jp-c{B}"]
    versions = pair.ok("--json", "history", B).json["versions"]
    assert [(v["from"], v["unit"]) for v in versions if v["unit"] == "extras"] == [(str(pair.tree), "extras")]


def test_remove_worktree_refuses_what_cannot_be_kept_even_when_forced(pair):
    """A link in place of a file: nobody can say what it stands for tomorrow."""
    at = pair.directory(pair.tree, A) / "events.json"
    at.rename(pair.base / "aside.json")
    at.symlink_to(pair.base / "aside.json")
    for argv in ([], ["--force"]):
        ran = pair.run("remove-worktree", *argv, pair.tree)
        assert (ran.code, f"jp-c{A}" in ran.err) == (4, True), ran
    assert pair.tree.exists()


def test_what_git_refuses_is_passed_on(pair):
    """An uncommitted file is git's own reason; --force is passed on."""
    (pair.tree / "work.txt").write_text("not committed")
    ran = pair.run("remove-worktree", pair.tree)
    assert (ran.code, "contains modified or untracked files" in ran.err) == (4, True), ran
    assert (pair.tree / "work.txt").exists()
    pair.ok("remove-worktree", "--force", pair.tree)
    assert not pair.tree.exists()


NOT_REMOVED = {
    "the main worktree": (lambda m: m.main, 4),
    "not registered": (lambda m: m.home, 3),
    "gone already": (lambda m: (shutil.rmtree(m.tree), m.tree)[1], 3),
}


@pytest.mark.parametrize("what", NOT_REMOVED)
def test_remove_worktree_wants_a_linked_registered_one(pair, what):
    """Anything else is an error that says what to do."""
    path, code = NOT_REMOVED[what][0](pair), NOT_REMOVED[what][1]
    ran = pair.run("remove-worktree", path)
    assert (ran.code, "hint: " in ran.err) == (code, True), ran


def write_and_wait(machine, text):
    """A write that the agent has seen: it waits for the lock, and has published that. No process is started for it."""
    at_ms = time.time_ns() // 1_000_000
    put(machine.directory(machine.tree, A) / "events.json", as_jp([event("one"), event(text)]))

    def waits():
        (tree,) = [t for w in runtime(machine)["workspaces"] for t in w["worktrees"] if t["path"] == str(machine.tree)]
        return tree["counts"]["deferred"] == 1 and tree["last_change_at"] >= at_ms

    until(waits, "deferred")


def test_a_change_that_could_not_be_saved_is_told(live):
    """JP holds the lock, the worktree goes at once: what is known of the loss is said, with sizes, and stays said."""
    with live.holding(A):
        for number in range(100):
            began = time.monotonic()
            write_and_wait(live, f"never seen again {number}")
            if time.monotonic() - began < 0.8:  # after a second it would be kept in the history (R4)
                break
        live.tree.rename(live.base / "trash")
        is_gone(live)
        told = until(lambda: entries(live, "lost"), "told")
    assert told[0]["conversation"] == f"jp-c{A}"
    assert "bytes" in told[0]["detail"]
    assert " s before" in told[0]["detail"]
    assert status(live)["verdict"] == "attention"
