"""`pause` and `resume` without an agent: who is left alone, until when, and what is found afterwards."""

from __future__ import annotations

import json
import shutil
import time

import pytest

from agents import in_step, until
from convsync_agent import state
from machine import put

A, B = 17_457_886_043, 17_457_990_001


@pytest.fixture
def pair(machine):
    """Two worktrees of one workspace and a conversation that both have."""
    for name in ("a", "b"):
        machine.write(machine.worktree(name, register=False), A, "first")
    machine.quiet()
    for name in ("a", "b"):
        machine.ok("register", machine.base / name)
    assert in_step(machine, A, machine.silo(), machine.base / "a", machine.base / "b")
    return machine


def rows(machine):
    opened = state.reader(str(machine.base / "state" / "convsync"))
    found = opened.worktrees()
    opened.close()
    return found


def tree_of(machine, name):
    (site,) = machine.ok("status", "--json").json["workspaces"]
    return next(t for t in site["worktrees"] if t["path"] == str(machine.base / name))


def edit(machine, name, *questions):
    machine.write(machine.base / name, A, *questions, mtime_ns=time.time_ns())
    machine.quiet()


def test_a_paused_worktree_is_neither_written_nor_read(pair):
    """What others write does not come in, what is written there does not go out; resumed, all is in step."""
    pair.ok("pause", pair.base / "a")
    edit(pair, "b", "first", "from b")
    pair.write(pair.base / "a", B, "only here")
    pair.quiet()
    pair.ok("sync")

    assert pair.questions(pair.silo(), A) == ["first", "from b"]
    assert pair.questions(pair.base / "a", A) == ["first"]
    assert pair.directory(pair.silo(), B) is None

    pair.ok("resume", pair.base / "a")

    assert pair.questions(pair.base / "a", A) == ["first", "from b"]
    assert in_step(pair, B, pair.silo(), pair.base / "a")


def test_what_was_there_before_is_durable_first(pair):
    """A pause begins in step: what was written until then is in the silo."""
    edit(pair, "a", "first", "just now")
    pair.ok("pause", pair.base / "a")

    assert pair.questions(pair.silo(), A) == ["first", "just now"]


def test_both_were_written_meanwhile(pair):
    """The newest wins, and the one that loses is in the history."""
    pair.ok("pause", pair.base / "a")
    edit(pair, "a", "first", "from a")
    edit(pair, "b", "first", "from b")
    pair.ok("sync")
    pair.ok("resume", pair.base / "a")
    kept = pair.ok("history", A, "--json").json["versions"]
    held = []
    for version in kept:
        if version["unit"] == "stream":
            shown = pair.base / version["version"]
            pair.ok("restore", A, "--version", version["version"], "--into", shown)
            held += [p.read_text() for p in shown.rglob("events.json")]

    assert pair.questions(pair.base / "a", A) == ["first", "from b"]
    assert any("from a" in text for text in held)


@pytest.mark.parametrize("paused", [True, False], ids=["paused", "watched"])
def test_a_removal_in_a_paused_worktree_proves_nothing(pair, paused):
    """Where nobody looked nothing was seen to go: a durable copy that vanishes then is put back, not buried."""
    if paused:
        pair.ok("pause", pair.base / "a")
    else:
        pair.ok("sync")
    shutil.rmtree(pair.directory(pair.base / "a", A))
    if paused:
        pair.ok("resume", pair.base / "a")
    shutil.rmtree(pair.directory(pair.silo(), A))

    def judged():
        pair.ok("sync")
        found = {e["kind"] for e in pair.ok("status", "--json").json["attention"]}
        return found & {"lost", "removed"}

    assert until(judged) == ({"lost"} if paused else {"removed"})
    assert (pair.directory(pair.silo(), A) is not None) is paused


def test_status_says_so(pair):
    """`paused`, since and until when; on a terminal what to type. Counts are those of before."""
    before = time.time_ns() // 1_000_000
    said = pair.ok("pause", pair.base / "a", "--for", "2h", "--json").json
    tree = tree_of(pair, "a")

    assert said["agent_knows"] is None
    assert [w["path"] for w in said["worktrees"]] == [str(pair.base / "a")]
    assert tree["state"] == "paused"
    assert before <= tree["since"] <= before + 600_000
    assert tree["paused_until"] == said["worktrees"][0]["paused_until"]
    assert before + 7_200_000 <= tree["paused_until"] <= before + 7_800_000
    assert tree["counts"]["projected"] == 1
    assert tree_of(pair, "b")["paused_until"] is None
    assert "convsync resume" in pair.ok("status").out


def test_sync_says_what_it_left_alone(pair):
    """Who asks for everything to be in step hears that something is not looked at."""
    pair.ok("pause", pair.base / "a")

    assert pair.ok("sync").err == f"paused, left alone: convsync resume {pair.base / 'a'}\n"
    assert "still paused" in pair.ok("register", pair.base / "a").err
    assert pair.run("project", A, "--worktree", pair.base / "a").code == 4


def test_again_changes_nothing(pair):
    """Pausing what is paused keeps since when; resuming what is not paused does nothing; both are no errors."""
    assert pair.ok("pause", pair.base / "a", "--for", "1h", "--json").json["worktrees"][0]["changed"]
    since = tree_of(pair, "a")["since"]
    again = pair.ok("pause", pair.base / "a", "--json").json["worktrees"][0]

    assert (again["changed"], again["paused_until"]) == (False, None)
    assert tree_of(pair, "a")["since"] == since

    assert pair.ok("resume", pair.base / "a", "--json").json["worktrees"][0]["changed"]
    files = pair.inventory(pair.base / "a", pair.base / "b", pair.silo())
    assert not pair.ok("resume", pair.base / "a", "--json").json["worktrees"][0]["changed"]
    assert files == pair.inventory(pair.base / "a", pair.base / "b", pair.silo())


def test_all_of_them(pair):
    """`--all` is every registered worktree."""
    assert [w["paused"] for w in pair.ok("pause", "--all", "--json").json["worktrees"]] == [True, True]
    assert [w["paused"] for w in pair.ok("resume", "--all", "--json").json["worktrees"]] == [False, False]
    assert pair.ok("resume", "--all").out == "nothing is paused\n"


def test_here(pair, monkeypatch):
    """Without a PATH it is the worktree that one is in."""
    monkeypatch.chdir(pair.base / "a" / ".jp")
    pair.ok("pause")

    assert [r.paused for r in rows(pair)] == [True, False]


@pytest.mark.parametrize(
    ("argv", "code", "named"),
    [
        (["pause"], 2, "--all"),
        (["resume"], 2, "--all"),
        (["pause", "/nowhere"], 3, "convsync status"),
        (["pause", "--all", "/nowhere"], 2, "--all"),
        (["pause", "--all", "--for", "soon"], 2, "--for 30m"),
        (["pause", "--all", "--for", "0"], 2, "--for"),
        (["pause", "--all", "--for", "400d"], 2, "--for"),
        (["pause", "--all", "--for", "999999999y"], 2, "--for"),
    ],
)
def test_what_is_meant_has_to_be_said(pair, argv, code, named):
    """Bad input names what to type and pauses nothing."""
    ran = pair.run(*argv)

    assert ran.code == code
    assert named in ran.err
    assert not [r for r in rows(pair) if r.paused]
    assert json.loads(pair.run(*argv, "--json").out)["error"]["hint"]


def test_nothing_is_registered(machine):
    """There is nothing to pause."""
    assert machine.run("pause", "--all").code == 3


def test_it_ends_by_itself(pair):
    """Without an agent the next command sees that it is over, and the one that acts finds what changed."""
    pair.ok("pause", pair.base / "a", "--for", "1s")
    edit(pair, "a", "first", "meanwhile")
    until(lambda: tree_of(pair, "a")["state"] == "watching")
    pair.ok("sync")

    assert pair.questions(pair.base / "b", A) == ["first", "meanwhile"]
    assert [(r.paused, r.paused_ms, r.until_ms) for r in rows(pair)] == [(False, None, None)] * 2


def test_made_again_meanwhile(pair):
    """A worktree that was deleted and made anew while it was paused gets back what it held."""
    pair.ok("pause", pair.base / "a")
    shutil.rmtree(pair.base / "a")
    (pair.base / "a" / ".jp").mkdir(parents=True)
    put(pair.base / "a" / ".jp" / ".id", b"abcde\n")
    pair.ok("resume", pair.base / "a")
    until(lambda: pair.ok("recover", pair.base / "a") and in_step(pair, A, pair.silo(), pair.base / "a"))


def test_gone_meanwhile(pair):
    """Resumed, it is missing, and what it held is still known."""
    pair.ok("pause", pair.base / "a")
    shutil.rmtree(pair.base / "a")
    assert tree_of(pair, "a")["state"] == "paused"
    pair.ok("resume", pair.base / "a")
    tree = tree_of(pair, "a")

    assert (tree["state"], tree["counts"]["projected"]) == ("missing", 1)


def test_it_is_not_removed_with_what_nobody_saved(pair):
    """`verify` reads a paused worktree as well, and says what is not durable there."""
    pair.ok("pause", pair.base / "a")
    edit(pair, "a", "first", "meanwhile")

    found = pair.run("verify", pair.base / "a", "--json")
    assert (found.code, [p["kind"] for p in found.json["problems"]]) == (1, ["not-durable"])


def test_a_state_of_before_knows_of_no_end(pair):
    """A database of the schema before is brought up to date; what was paused in it stays so."""
    path = pair.base / "state" / "convsync" / state.NAME
    opened = state.writer(str(path.parent))
    for table in ("told", "told_kind"):
        opened._db.execute(f"DROP TABLE {table}")
    for column in ("paused_ms", "until_ms"):
        opened._db.execute(f"ALTER TABLE worktree DROP COLUMN {column}")
    opened._db.execute("UPDATE worktree SET paused = 1")
    opened._db.execute("PRAGMA user_version = 3")
    opened.close()

    assert tree_of(pair, "a")["state"] == "paused"
    pair.ok("resume", "--all")
    assert tree_of(pair, "a")["state"] == "watching"
