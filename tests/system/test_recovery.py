"""Worktrees that go, come back and move: a real agent, real git. What one held comes back with it, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

import pytest

from agents import FILES, in_step, runtime, status, until
from convsync_cli.context import Context
from machine import as_jp, event, put

A, B, C = 17_000_000_001, 17_000_000_002, 17_000_000_003
WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org"}
WHO |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org", "GIT_CONFIG_GLOBAL": os.devnull}


def git(at, *argv):
    settings = {"PATH": os.environ["PATH"], "HOME": str(at), "GIT_CONFIG_NOSYSTEM": "1", **WHO}
    return subprocess.run(["git", "-C", str(at), *argv], check=True, capture_output=True, env=settings)


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


@pytest.fixture
def pair(machine):
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


@pytest.fixture
def live(pair, agent):
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


@pytest.mark.parametrize("how", GOING)
def test_what_a_worktree_held_is_durable_when_it_goes(live, how):
    """S1, S7: the last turn too. The worktree is missing, its numbers go on, the verdict is not touched."""
    put(live.directory(live.tree, A) / "events.json", as_jp([event("one"), event("two")]))
    until(lambda: in_step(live, A, live.tree, live.silo()), "the last turn is durable")
    GOING[how](live)
    is_gone(live)
    assert live.questions(live.silo(), A) == ["one", "two"]
    assert picture(live, live.silo(), B) == live.held[B]
    told = described(live, live.tree)
    assert (told["counts"]["projected"], told["counts"]["local"], told["counts"]["external"]) == (2, 1, 0)
    assert [e["worktree"] for e in entries(live, "missing")] == [str(live.tree)]
    assert not entries(live, "lost")
    until(lambda: status(live)["verdict"] == "in-sync", "in sync all the same")
    rows = live.ok("--json", "ls", "--worktree", live.tree).json["conversations"]
    assert {r["presence"] for r in rows} == {"user_local_only"}
    assert len(rows) == 3
    live.agent.stop()
    again = described(live, live.tree)
    assert (again["state"], again["since"], again["counts"]) == ("missing", told["since"], told["counts"])


def make_again(machine, branch="b"):
    git(machine.main, "worktree", "prune")
    git(machine.main, "worktree", "add", "-q", str(machine.tree), branch)


@pytest.mark.parametrize("how", GOING)
def test_made_again_on_the_same_branch_it_gets_its_projections_back(live, how):
    """S8: byte for byte, times and names; managed files only; what was in the silo alone is not put there."""
    GOING[how](live)
    is_gone(live)
    make_again(live)
    until(lambda: all_held(live), "put back")
    until(lambda: status(live)["verdict"] == "in-sync", "in sync")
    at = live.directory(live.tree, A)
    assert sorted(p.name for p in at.iterdir()) == sorted(FILES)
    until(lambda: not (live.tree / ".jp/conversations/.convsync").exists(), "no staging is left")
    assert git(live.tree, "status", "--porcelain").stdout == b""
    live.ok("verify")


def test_a_projection_that_a_person_deletes_later_is_not_put_back(live):
    """R1: it was put back once. After that an absence is an absence."""
    GOING["git"](live)
    is_gone(live)
    make_again(live)
    until(lambda: all_held(live), "put back")
    until(lambda: status(live)["verdict"] == "in-sync", "in sync")
    shutil.rmtree(live.directory(live.tree, A))
    assert settled(live)
    assert live.directory(live.tree, A) is None
    assert picture(live, live.silo(), A) == live.held[A]
    assert not entries(live, "missing")


def test_what_was_deleted_long_before_is_not_held(pair, monkeypatch):
    """Only what was seen in the last minute went with the worktree; here that minute is over at once."""
    from convsync_agent import holdings, homecoming, scan

    shutil.rmtree(pair.directory(pair.tree, A))
    pair.ok("sync")
    shutil.rmtree(pair.tree)
    with_a = {A: scan.Missed(time.time_ns() - 2 * homecoming.RECENT_NS, time.time_ns())}
    note = holdings.Holdings.note

    def later(self, site):
        for tree in site.trees.values():
            if tree.root.path == str(pair.tree / ".jp"):
                tree.view.missed |= with_a
        return note(self, site)

    monkeypatch.setattr(holdings.Holdings, "note", later)
    pair.ok("sync")
    make_again(pair)
    assert pair.ok("--json", "recover", pair.tree, "--dry-run").json["restored"] == [f"jp-c{B}"]


def test_on_another_branch_nothing_is_put_back_until_a_person_says_so(live):
    """The branch is what HEAD says. Status names what there is to do; back on the branch it happens by itself."""
    GOING["git"](live)
    is_gone(live)
    git(live.main, "branch", "other", "b")
    make_again(live, "other")
    is_back(live)
    told = until(lambda: entries(live, "missing"), "said")
    assert "2 projections" in told[0]["detail"]
    assert told[0]["hint"] == f"convsync recover {live.tree}"
    assert described(live, live.tree)["restorable"] == 2
    assert settled(live)
    assert ids(live.tree) == []
    assert status(live)["verdict"] == "in-sync"
    git(live.tree, "switch", "-q", "b")
    until(lambda: all_held(live), "put back on its own branch")
    until(lambda: not entries(live, "missing"), "nothing left to say")


@pytest.mark.parametrize("setting", ["ask", "never"])
def test_the_setting_decides(pair, agent, setting):
    """`ask` offers the command, `never` is silent; the command works with both."""
    agent("--set", f"recovery.reproject={setting}")
    until(lambda: status(pair)["verdict"] == "in-sync", "in sync")
    GOING["git"](pair)
    is_gone(pair)
    make_again(pair)
    is_back(pair)
    assert settled(pair)
    assert ids(pair.tree) == []
    until(lambda: len(entries(pair, "missing")) == (setting == "ask"), "offered, or not")
    done = pair.ok("--json", "recover", pair.tree).json
    assert done["restored"] == [f"jp-c{A}", f"jp-c{B}"]
    assert all_held(pair)
    until(lambda: status(pair)["verdict"] == "in-sync" and not entries(pair, "missing"), "in sync")
    assert pair.ok("--json", "recover", pair.tree).json["restored"] == []


def test_another_workspace_at_the_path_is_foreign_and_nothing_is_written_there(live):
    """Neither by the agent nor by the command; what was held is not forgotten."""
    GOING["rm -rf"](live)
    is_gone(live)
    (live.tree / ".jp" / "conversations").mkdir(parents=True)
    (live.tree / ".jp" / ".id").write_text("other\n")
    until(lambda: state_of(live, live.tree) == "foreign", "foreign")
    before = live.inventory(live.tree)
    assert settled(live)
    assert live.run("recover", live.tree).code == 4
    assert live.inventory(live.tree) == before
    shutil.rmtree(live.tree)
    make_again(live)
    until(lambda: all_held(live), "put back")


@pytest.mark.parametrize("seen", ["gone at the start", "made again before the start"])
def test_what_happened_while_no_agent_ran(live, seen):
    """All that it had a record of is what it held, whether anybody saw it missing or not."""
    live.agent.stop()
    GOING["git"](live)
    if seen == "gone at the start":
        assert (described(live, live.tree)["state"], described(live, live.tree)["counts"]["projected"]) == (
            "missing",
            2,
        )
        live.again()
        is_gone(live)
        make_again(live)
    else:
        make_again(live)
        live.again()
    until(lambda: all_held(live), "put back")


def test_what_it_held_survives_a_restart_of_the_agent(live):
    """Noted when it went, in the state, not in memory."""
    GOING["git"](live)
    is_gone(live)
    live.agent.kill()
    make_again(live)
    live.again()
    until(lambda: all_held(live), "put back")


def test_git_at_work_is_waited_for(live):
    """While there is an index.lock nothing is put back. Here git's own last act leaves one behind."""
    GOING["git"](live)
    is_gone(live)
    hook = live.main / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\ntouch "$(git rev-parse --absolute-git-dir)/index.lock"\n')
    hook.chmod(0o755)
    make_again(live)
    lock = live.main / ".git" / "worktrees" / "b" / "index.lock"
    assert lock.exists()
    is_back(live)
    assert settled(live)
    assert ids(live.tree) == []
    lock.unlink()
    until(lambda: all_held(live), "put back")


def test_what_git_brings_back_itself_is_left_alone(live):
    """A conversation that is on the branch is found there, and only the others are put back."""
    git(live.tree, "add", "-f", str(live.directory(live.tree, A)))
    git(live.tree, "commit", "-qm", "with a conversation")
    GOING["git --force"](live)
    is_gone(live)
    make_again(live)
    until(lambda: live.directory(live.tree, B), "put back")
    until(lambda: status(live)["verdict"] == "in-sync", "in sync")
    assert live.questions(live.tree, A) == [f"about {A}"]
    assert picture(live, live.silo(), A) == live.held[A]
    assert git(live.tree, "status", "--porcelain").stdout == b""


def test_without_git_a_directory_made_anew_gets_its_projections_back(live):
    """There was a `.git` and is none now: not the same. There was none and is none: the same."""
    plain = live.worktree("plain")
    at = live.directory(live.main, C)
    shutil.copytree(at, plain / ".jp/conversations" / at.name)
    until(lambda: described(live, plain)["counts"]["projected"] == 1, "in step")
    until(lambda: status(live)["verdict"] == "in-sync", "in step")
    shutil.rmtree(plain)
    until(lambda: state_of(live, plain) == "missing", "missing")
    (plain / ".jp").mkdir(parents=True)
    (plain / ".jp" / ".id").write_text("abcde\n")
    until(lambda: in_step(live, C, plain, live.silo()), "put back")
    GOING["rm -rf"](live)
    is_gone(live)
    (live.tree / ".jp").mkdir(parents=True)
    (live.tree / ".jp" / ".id").write_text("abcde\n")
    is_back(live)
    assert settled(live)
    assert ids(live.tree) == []


# -- moved --------------------------------------------------------------------------


def test_git_worktree_move_is_followed(live):
    """The registration goes along, with its records: nothing is imported or written anew."""
    before = [picture(live, live.silo(), n) for n in (A, B, C)]
    git(live.main, "worktree", "move", str(live.tree), str(live.base / "moved"))
    until(lambda: state_of(live, live.base / "moved") == "watching", "followed")
    assert described(live, live.tree) is None
    assert [picture(live, live.silo(), n) for n in (A, B, C)] == before
    until(lambda: status(live)["verdict"] == "in-sync", "in sync")
    put(live.directory(live.base / "moved", A) / "events.json", as_jp([event("after the move")]))
    until(lambda: in_step(live, A, live.base / "moved", live.main, live.silo()), "watched at its new path")


def test_a_plain_mv_is_followed_once_git_knows(live):
    """Until then the old path is missing and stays watched; moved back, it is there again."""
    live.tree.rename(live.base / "moved")
    is_gone(live)
    (live.base / "moved").rename(live.tree)
    is_back(live)
    assert all_held(live)
    live.tree.rename(live.base / "moved")
    is_gone(live)
    git(live.base / "moved", "worktree", "repair")
    until(lambda: state_of(live, live.base / "moved") == "watching", "followed")
    assert described(live, live.tree) is None


def test_a_mv_without_git_ends_the_old_entry_where_the_new_path_is_registered(live, monkeypatch):
    """The same directory, seen there twice, a minute apart: by then the entry of the old path is over."""
    from convsync_agent import returning
    from convsync_agent.agenda import Agenda

    plain = live.worktree("plain")
    at = live.directory(live.main, C)
    shutil.copytree(at, plain / ".jp/conversations" / at.name)
    until(lambda: in_step(live, C, plain, live.silo()), "in step")
    until(lambda: state_of(live, plain) == "watching", "watched")
    live.agent.stop()
    plain.rename(live.base / "elsewhere")
    live.ok("register", live.base / "elsewhere")
    monkeypatch.setattr(returning, "MOVED_NS", 0)
    with Context().engine() as engine:
        for site in engine.sites.values():
            engine.rescan(site)
        agenda = Agenda()
        returning.Returning().run(engine, agenda)
        assert agenda.reload
    assert described(live, plain) is None
    assert state_of(live, live.base / "elsewhere") == "watching"
    assert picture(live, live.base / "elsewhere", C) == picture(live, live.silo(), C)


# -- by command -----------------------------------------------------------------------


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
