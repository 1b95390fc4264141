"""Phase 5: `project` and `unproject`: one projection, by command; the durable copy is never touched."""

from __future__ import annotations

import os
import shutil

import pytest

from agents import in_step
from convsync_agent import state
from convsync_agent.history import History
from jp import JP
from machine import WS, as_jp, event, put

A, B = 17_000_000_001, 17_000_000_002
FILES = ["base_config.json", "events.json", "metadata.json"]


@pytest.fixture
def one(machine):
    """Worktree `a`: A is projected, with a note and a draft in the silo; B is local."""
    machine.write(machine.worktree("a", register=False), A, "one", slug="talk", title="talk")
    machine.ok("register", machine.base / "a")
    at = machine.directory(machine.silo(), A)
    (at / "notes.txt").write_text("a note")
    (at / "QUERY_MESSAGE.md").write_text("a draft")
    machine.write(machine.silo(), B, "local")
    machine.ok("sync")
    machine.quiet()
    return machine


def presence(machine, conversation):
    rows = machine.ok("ls", "--all", "--json").json["conversations"]
    return next((c["presence"], c["worktrees"]) for c in rows if c["id"] == f"jp-c{conversation}")


def kept(machine, conversation=A):
    """Every content of a file in the history of a conversation."""
    known = History(str(machine.base / "data/convsync"))
    versions = known.versions(WS, conversation)
    return {raw for m in versions for _, raw, _ in known.read(WS, conversation, m.version)}


def letters(machine, conversation):
    """The column PRESENCE of `ls`."""
    line = next(r for r in machine.ok("ls", "--all").out.splitlines() if r.startswith(f"jp-c{conversation}"))
    return line.split("\t")[1]


def test_phase5_there_and_back(one):
    """The worktree's directory goes and comes; the durable copy keeps every file, byte and time."""
    silo = one.directory(one.silo(), A)
    before = one.inventory(silo)

    done = one.ok("unproject", A, "--json").json
    assert done == {
        "schema": 1,
        "conversation": f"jp-c{A}",
        "worktree": str(one.base / "a"),
        "presence": "user_local_only",
        "changed": True,
    }
    assert one.directory(one.base / "a", A) is None
    assert (letters(one, A), presence(one, A)) == ("Y", ("user_local_only", []))
    assert one.inventory(silo) == before

    done = one.ok("project", A, "--json").json
    assert (done["presence"], done["changed"]) == ("projected", True)
    assert (letters(one, A), presence(one, A)) == ("N", ("projected", [str(one.base / "a")]))
    assert sorted(p.name for p in one.directory(one.base / "a", A).iterdir()) == FILES
    assert in_step(one, A, one.silo(), one.base / "a")
    assert one.inventory(silo) == before
    assert not list(one.base.glob("a/.jp/conversations/.convsync"))


@pytest.mark.parametrize(("verb", "conversation", "says"), [("project", A, "projected"), ("unproject", B, "local")])
def test_phase5_what_is_so_already_is_said(one, verb, conversation, says):
    """Idempotent: exit 0, nothing is written below a root, and it says so."""
    before = one.inventory(one.silo() / "conversations", one.base / "a")
    ran = one.ok(verb, conversation)
    assert f"{says} there already" in ran.out
    assert "nothing was written" in ran.out
    assert one.ok(verb, conversation, "--json").json["changed"] is False
    assert one.ok(verb, conversation, "-q").out == ""
    assert one.inventory(one.silo() / "conversations", one.base / "a") == before


def test_phase5_jp_reads_what_is_projected(one):
    """A JP in that worktree finds it, goes on with it, and what it writes is durable."""
    one.ok("project", B)
    assert (JP(one.silo(), one.base / "a/.jp").projected & {A, B}) == {A, B}
    JP(one.silo(), one.base / "a/.jp").query(B, "more")
    one.ok("sync")
    assert one.questions(one.silo(), B) == one.questions(one.base / "a", B) == ["local", "more"]


def test_phase5_nothing_re_creates_and_nothing_drops(one):
    """A change of the durable copy reaches what is projected, and re-creates nothing that was taken away."""
    one.ok("unproject", A)
    one.ok("project", B)
    for number in (A, B):
        put(one.directory(one.silo(), number) / "events.json", as_jp([event("changed")]))
    one.ok("sync")
    assert one.directory(one.base / "a", A) is None
    assert one.questions(one.base / "a", B) == ["changed"]
    one.ok("project", A)
    assert one.questions(one.base / "a", A) == ["changed"]


def test_phase5_an_edit_that_nobody_synced_becomes_the_durable_one(one):
    """What only the projection has is never lost, and is current after it went."""
    put(one.directory(one.base / "a", A) / "events.json", as_jp([event("one"), event("late")]))
    one.ok("unproject", A)
    assert one.directory(one.base / "a", A) is None
    assert one.questions(one.silo(), A) == ["one", "late"]


@pytest.mark.parametrize("raw", [b"x", as_jp([event("older")])])
def test_phase5_what_cannot_be_taken_over_is_kept(one, raw):
    """An invalid file, and an older edit that loses: both are in the history when the projection is gone."""
    put(one.directory(one.base / "a", A) / "events.json", raw, 10**18 if raw != b"x" else None)
    one.ok("unproject", A)
    assert one.directory(one.base / "a", A) is None
    assert one.questions(one.silo(), A) == ["one"]
    assert raw in kept(one)


# -- which worktree ---------------------------------------------------------------------


@pytest.fixture
def two(one):
    """And a second worktree `b`, which has neither."""
    one.worktree("b")
    return one


def test_phase5_which_worktree(two, monkeypatch):
    """The one that is named, else the current one, else the only choice; else exit 2 names the flag."""
    ran = two.run("project", B)
    assert ran.code == 2
    assert "--worktree" in ran.err
    two.ok("project", B, "--worktree", two.base / "b" / ".jp")
    assert presence(two, B)[1] == [str(two.base / "b")]
    two.ok("unproject", B)  # only b has it
    assert presence(two, B)[1] == []
    ran = two.ok("unproject", B, "--json")
    assert (ran.json["worktree"], ran.json["changed"]) == (None, False)
    assert "in no worktree" in two.ok("unproject", B).out
    monkeypatch.chdir(two.base / "b")
    two.ok("project", B)
    two.ok("unproject", A)  # a has it, but here is b
    assert presence(two, B)[1] == [str(two.base / "b")]
    assert presence(two, A)[1] == [str(two.base / "a")]
    two.ok("project", A)
    assert presence(two, A)[1] == [str(two.base / "a"), str(two.base / "b")]


def archive_here(machine):
    machine.write(machine.base / "b", B, "old", archived=True)


def double_silo(machine):
    shutil.copytree(machine.directory(machine.silo(), B), machine.silo() / "conversations" / f"{B}-again")


def spoil(machine):
    for root in (machine.silo(), machine.base / "a"):
        put(machine.directory(root, A) / "events.json", b"x")


REFUSED = {
    "unknown": (["project", 18], None, 3, "ls --all"),
    "unregistered": (["project", B, "--worktree", "{home}"], None, 3, "convsync register"),
    "missing": (["project", B, "--worktree", "b"], lambda m: shutil.rmtree(m.base / "b"), 4, "convsync status"),
    "foreign": (["project", B, "--worktree", "b"], lambda m: put(m.base / "b/.jp/.id", b"zzzzz\n"), 4, "status"),
    "no-refresh": (["project", B, "--worktree", "b"], lambda m: m.ok("register", m.base / "b", "--no-refresh"), 4, ""),
    "archived": (
        ["project", B, "--worktree", "b"],
        lambda m: JP(m.silo(), m.base / "b/.jp").archive(B),
        4,
        "unarchive",
    ),
    "archived here": (["project", B, "--worktree", "b"], archive_here, 4, "unarchive"),
    "two directories": (["project", B, "--worktree", "b"], double_silo, 4, "remove one"),
    "not valid": (["project", A, "--worktree", "b"], spoil, 4, "convsync status"),
    "not valid, unproject": (["unproject", A], spoil, 4, "convsync status"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_phase5_refused(two, what):
    """Nothing changes in any root, and the hint says what to type."""
    argv, change, code, hint = REFUSED[what]
    if change:
        change(two)
        two.ok("sync")
        two.quiet()
    before = two.inventory(two.silo() / "conversations", two.base / "a")
    places = [str(a).replace("{home}", str(two.home)) for a in argv]
    ran = two.run(*[str(two.base / a) if a == "b" else a for a in places])
    assert (ran.code, hint in ran.err) == (code, True), ran
    assert ran.err.startswith("error: ")
    assert two.inventory(two.silo() / "conversations", two.base / "a") == before


def test_phase5_a_paused_worktree_is_not_written(two):
    """Exit 4 with the way out."""
    opened = state.writer(str(two.base / "state/convsync"))
    with opened.transaction():
        row = next(w for w in opened.worktrees() if w.path == str(two.base / "b"))
        opened.put_worktree(row._replace(paused=True))
    opened.close()
    ran = two.run("project", B, "--worktree", two.base / "b")
    assert (ran.code, "convsync resume" in ran.err) == (4, True)


def test_phase5_of_another_workspace(two):
    """Named, refused, untouched."""
    two.worktree("other", "zzzzz")
    ran = two.run("project", B, "--worktree", two.base / "other")
    assert (ran.code, "zzzzz" in ran.err) == (4, True)


def test_phase5_a_held_lock_is_waited_for_and_named(one, monkeypatch):
    """Exit 5 names the holder, and both are as they were."""
    monkeypatch.setenv("JP_LOCK_DURATION", "0")
    before = one.inventory(one.silo() / "conversations", one.base / "a")
    for verb, number in (("project", B), ("unproject", A)):
        with one.holding(number):
            ran = one.run(verb, number)
            assert (ran.code, "getsid-1" in ran.err) == (5, True)
    assert one.inventory(one.silo() / "conversations", one.base / "a") == before
    one.ok("project", B)


def test_phase5_an_external_one_is_imported_first(two):
    """Neither can it be taken away nor projected elsewhere; `project` where it lies makes it durable."""
    two.write(two.base / "a", 17_000_000_009, "ext")
    for argv in (["unproject", 17_000_000_009], ["project", 17_000_000_009, "--worktree", two.base / "b"]):
        ran = two.run(*argv)
        assert (ran.code, "convsync import jp-c17000000009" in ran.err) == (3, True)
        assert two.directory(two.silo(), 17_000_000_009) is None
    done = two.ok("--set", "import.policy=manual", "project", 17_000_000_009, "--worktree", two.base / "a", "--json")
    assert (done.json["changed"], done.json["presence"]) == (True, "projected")
    assert in_step(two, 17_000_000_009, two.silo(), two.base / "a")


# -- what comes after ---------------------------------------------------------------------


def test_phase5_a_later_accident_is_a_loss(two):
    """What a command took away is no witness that somebody removed the conversation: it is put back, and said."""
    two.ok("project", A, "--worktree", two.base / "b")
    two.ok("unproject", A, "--worktree", two.base / "a")
    shutil.rmtree(two.directory(two.silo(), A))
    two.ok("sync")
    assert two.questions(two.silo(), A) == ["one"]
    kinds = [e["kind"] for e in two.ok("status", "--json").json["attention"]]
    assert ("lost" in kinds, "removed" in kinds) == (True, False)


def test_phase5_a_worktree_made_again_does_not_bring_it_back(one):
    """What was unprojected before the worktree went is no part of what it held; what stayed is."""
    one.ok("project", B)
    one.ok("unproject", A)
    shutil.rmtree(one.base / "a")
    one.ok("sync")
    one.worktree("a")
    done = one.ok("recover", one.base / "a", "--json").json
    assert done["restored"] == [f"jp-c{B}"]
    assert one.directory(one.base / "a", A) is None


def test_phase5_a_jp_that_began_before_keeps_its_own_intent(one):
    """Contract 6.2: what a running JP writes meanwhile is followed, never fought, and nothing of it is lost."""
    early = JP(one.silo(), one.base / "a/.jp")
    one.ok("unproject", A)
    early.query(A, "more")  # it knew A as projected: it makes the projection again
    one.ok("sync")
    assert one.questions(one.base / "a", A) == one.questions(one.silo(), A) == ["one", "more"]
    one.ok("project", B)
    early.query(B, "more")  # it knew B as local: it takes the projection away
    one.ok("sync")
    assert (one.directory(one.base / "a", B), one.questions(one.silo(), B)) == (None, ["local", "more"])
    assert one.ok("status", "--json").json["attention"] == []


def test_phase5_help_and_flags(one):
    """An example in each, global flags on both sides, and without a terminal no target is exit 2."""
    for verb in ("project", "unproject"):
        assert f"convsync {verb} last --worktree" in one.ok(verb, "--help").out
        assert one.run(verb).code == 2
    assert one.ok("--json", "unproject", A).json["changed"] is True
    assert os.path.isdir(one.base / "a")
