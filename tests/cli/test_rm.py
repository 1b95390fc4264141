"""Phase 6: `rm` in every root, what it keeps and what never comes back by itself. Real locks, a real terminal."""

from __future__ import annotations

import os
import pty
import re
import shutil

import pytest

from agents import status, until
from convsync_agent.graves import Graves
from convsync_agent.history import History
from jp import JP
from machine import LONG_AGO, SECOND, WS, as_jp, event, put
from terminal import everything

ID, OTHER = 17000000001, 17000000002
TITLE = "A private title"
LOCAL, PROJECTED, BOTH, EXTERNAL, ARCHIVED = "local", "projected", "both", "external", "archived"
PLACES = {LOCAL: ["silo"], PROJECTED: ["silo", "a"], BOTH: ["silo", "a", "b"], EXTERNAL: ["a", "b"]}
PLACES[ARCHIVED] = PLACES[BOTH]


def roots(machine):
    return {"silo": machine.silo(), "a": machine.base / "a", "b": machine.base / "b"}


def laid_out(machine, presence=BOTH):
    """Worktrees a and b; the conversation in the roots of `presence`, with a note; another one that stays."""
    for name in "ab":
        machine.worktree(name)
    archived = presence == ARCHIVED
    for name in PLACES[presence]:
        path = machine.write(roots(machine)[name], ID, "one", "two", slug="talk", title=TITLE, archived=archived)
        put(path / "NOTE.md", b"note", LONG_AGO)
    machine.write(machine.silo(), OTHER, "stays")
    machine.quiet()
    if presence != EXTERNAL:
        machine.ok("sync")
    return machine


def found(machine, conversation=ID):
    """Everything in any root whose name begins with the id, staging and archives included."""
    tops = [machine.store(r) for r in roots(machine).values()]
    return sorted(str(p) for t in tops for p in t.rglob(f"*{conversation}*"))


def listed(machine):
    return {c["id"] for c in machine.ok("trash", "ls", "--json").json["conversations"]}


def history(machine, conversation=ID):
    kept = History(str(machine.base / "data/convsync"))
    return {r for m in kept.versions(WS, conversation) for _, r, _ in kept.read(WS, conversation, m.version)}


def contents(directory):
    return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in directory.iterdir()}


def tombstone(machine, conversation=ID):
    return Graves(str(machine.base / "data/convsync")).find(WS, conversation)


@pytest.mark.parametrize("presence", PLACES)
def test_phase6_rm_across_roots(machine, presence):
    """Nothing of it is left in any root, it does not come back, and the trash gives it back as it was."""
    laid_out(machine, presence)
    archived = presence == ARCHIVED
    before = contents(machine.directory(roots(machine)[PLACES[presence][0]], ID, archived=archived))

    done = machine.ok("rm", str(ID), "--yes", "--json").json

    assert done["removed"] == [f"jp-c{ID}"]
    assert done["kept_until"] > LONG_AGO // 1_000_000
    assert found(machine) == []
    assert machine.ok("sync", "--json").json["actions"] == []
    assert listed(machine) == {f"jp-c{ID}"}
    assert tombstone(machine).why == "by command"
    assert status(machine)["attention"] == []
    assert machine.run("show", str(ID)).code == 3
    assert machine.questions(machine.silo(), OTHER) == ["stays"]

    machine.ok("trash", "restore", str(ID))

    assert contents(machine.directory(machine.silo(), ID, archived=archived)) == before
    assert tombstone(machine) is None
    machine.ok("verify")


def test_phase6_rm_as_jp_does_it(machine):
    """What JP finds afterwards is what its own `rm` would have left it: the other conversations, loading as before."""
    laid_out(machine)
    aside = machine.base / "twin"
    aside.mkdir()
    shutil.copytree(machine.silo(), aside / "silo", symlinks=True)
    shutil.copytree(machine.base / "a/.jp", aside / "tree", symlinks=True)

    machine.ok("rm", str(ID), "--yes")
    JP(aside / "silo", aside / "tree").remove(ID)

    ours, theirs = JP(machine.silo(), machine.base / "a/.jp"), JP(aside / "silo", aside / "tree")
    assert ours.loaded == theirs.loaded
    assert ours.known == [OTHER]


def test_phase6_whatever_a_copy_has_alone_is_in_the_history(machine):
    """A diverged copy, a note of one worktree, a draft, an older copy in an archive, a file in a directory."""
    laid_out(machine)
    b = machine.directory(machine.base / "b", ID)
    put(b / "events.json", as_jp([event("another")]), LONG_AGO - SECOND)
    put(b / "only.md", b"only in b")
    (machine.directory(machine.silo(), ID) / "QUERY_MESSAGE.md").write_bytes(b"a draft")
    old = machine.base / "a/.jp/conversations/.archive" / f"{ID}-old"
    shutil.copytree(b, old)
    (old / "deep").mkdir()
    put(old / "metadata.json", as_jp({"last_activated_at": "2020-01-01 00:00:00.0", "title": "old"}), LONG_AGO)
    put(old / "deep/x.md", b"deep")
    put(b / "broken.tmp", b"half a write")

    machine.ok("rm", str(ID), "--yes")

    wanted = {as_jp([event("another")]), b"only in b", b"a draft", b"deep", b"half a write"}
    assert wanted <= history(machine)
    assert any(b'"old"' in raw for raw in history(machine))
    assert found(machine) == []


def test_phase6_a_durable_copy_that_is_broken(machine):
    """The last valid content stays in the trash, the broken bytes go into the history."""
    laid_out(machine, LOCAL)
    put(machine.directory(machine.silo(), ID) / "events.json", b"[{half")
    machine.quiet()

    done = machine.ok("rm", str(ID), "--yes", "--json").json

    assert done["kept_until"]
    assert b"[{half" in history(machine)
    machine.ok("trash", "restore", str(ID))
    assert machine.questions(machine.silo(), ID) == ["one", "two"]


@pytest.mark.parametrize("presence", PLACES)
def test_phase6_without_a_trash_it_goes_into_the_history(machine, presence):
    """`trash.keep_days = 0`: said, every file is there, and it does not come back."""
    laid_out(machine, presence)
    top = machine.directory(roots(machine)[PLACES[presence][0]], ID, archived=presence == ARCHIVED)
    wanted = {raw for _, raw in contents(top).values()}

    ran = machine.ok("rm", str(ID), "--yes", "--set", "trash.keep_days=0")

    assert f"convsync history jp-c{ID}" in ran.out
    assert wanted <= history(machine)
    assert found(machine) == []
    assert machine.ok("sync", "--json").json["actions"] == []
    machine.ok("restore", str(ID))
    assert machine.questions(machine.silo(), ID) == ["one", "two"]
    assert tombstone(machine) is None


def test_phase6_a_damaged_kept_copy_is_not_relied_on(machine):
    """It is read back before the last copy goes; else the history has it all."""
    laid_out(machine)
    place = machine.base / f"data/convsync/trash/{WS}/jp-c{ID}"
    for held in [*place.glob("*.gz"), *place.glob("*.raw")]:
        held.write_bytes(held.read_bytes()[:-9])
    wanted = {raw for _, raw in contents(machine.directory(machine.silo(), ID)).values()}

    done = machine.ok("rm", str(ID), "--yes", "--json").json

    assert done["kept_until"] is None
    assert wanted <= history(machine)


def test_phase6_left_overs_are_removed(machine):
    """The durable copy is gone and a tombstone stands: what a worktree has left goes too, and nothing is replaced."""
    laid_out(machine)
    aside = machine.base / "elsewhere"
    (machine.base / "b").rename(aside)
    machine.ok("rm", str(ID), "--yes")
    aside.rename(machine.base / "b")
    put(machine.directory(machine.base / "b", ID) / "only.md", b"only in b")
    machine.ok("sync")
    told = [e for e in status(machine)["attention"] if e["kind"] == "removed"]

    machine.ok("rm", str(ID), "--yes")

    assert [e["worktree"] for e in told] == [str(machine.base / "b")]
    assert found(machine) == []
    assert b"only in b" in history(machine)
    assert status(machine)["attention"] == []
    machine.ok("trash", "restore", str(ID))
    assert machine.questions(machine.silo(), ID) == ["one", "two"]


def test_phase6_a_no_refresh_worktree_and_two_directories(machine):
    """A person asked: every directory of the id goes, whoever may not be written else."""
    laid_out(machine)
    machine.ok("register", machine.base / "b", "--no-refresh")
    a = machine.directory(machine.base / "a", ID)
    twin = a.with_name(f"{ID}-second")
    shutil.copytree(a, twin)
    put(twin / "events.json", as_jp([event("in the second")]))

    machine.ok("rm", str(ID), "--yes")

    assert found(machine) == []
    assert as_jp([event("in the second")]) in history(machine)


def test_phase6_rm_under_a_held_lock(machine, monkeypatch):
    """Exit 5 that names the holder, and not a byte changed; of several the rest is done and the document says which."""
    monkeypatch.setenv("JP_LOCK_DURATION", "200ms")
    laid_out(machine)
    before = machine.inventory(*(machine.store(r) / "conversations" for r in roots(machine).values()))

    with machine.holding(ID):
        one = machine.run("rm", str(ID), "--yes")
        assert before == machine.inventory(*(machine.store(r) / "conversations" for r in roots(machine).values()))
        several = machine.run("rm", str(ID), str(OTHER), "--yes", "--json")

    assert one.code == several.code == 5
    assert "getsid-1" in one.err
    assert tombstone(machine) is None
    assert several.json["removed"] == [f"jp-c{OTHER}"]
    assert [(f["conversation"], f["code"]) for f in several.json["failed"]] == [(f"jp-c{ID}", "locked")]


@pytest.mark.parametrize(
    ("argv", "code"),
    [((), 2), ((ID,), 2), ((ID, "--json"), 2), (("jp-c19", "--yes"), 3), ((ID, "17-secret", "--yes"), 3)],
)
def test_phase6_rm_bad_input(machine, argv, code):
    """No target, no terminal and no --yes, unknown: nothing goes; what is asked for is named."""
    laid_out(machine)
    machine.write(machine.silo(), OTHER, "three")
    before = machine.inventory(machine.silo(), machine.base / "a")

    ran = machine.run("rm", *argv)

    assert ran.code == code
    assert "secret" not in ran.err + ran.out
    assert code == 3 or "--yes" in ran.err + ran.out or not argv
    assert machine.inventory(machine.silo(), machine.base / "a") == before


def on_terminal(machine, *argv, answer):
    ours, theirs = pty.openpty()
    process = machine.spawn(
        *argv, stdin=theirs, stdout=theirs, stderr=theirs, text=False, env={"COLUMNS": "80", "TERM": "dumb"}
    )
    os.close(theirs)
    seen = everything(ours, answer)
    return process.wait(120), re.sub(r"\x1b\[[0-9;]*m", "", seen)


@pytest.mark.parametrize(("answer", "left"), [(b"n", True), (b"", True), (b"y", False)])
def test_phase6_rm_asks_on_a_terminal(machine, answer, left):
    """What would go is listed with its title, and only a yes takes it."""
    laid_out(machine)

    code, seen = on_terminal(machine, "rm", ID, OTHER, answer=answer)

    assert code == 0
    assert TITLE in seen
    assert "2 events" in seen
    assert "2 conversations" in seen
    assert bool(found(machine)) is left


def test_phase6_a_worktree_that_was_away_brings_nothing_back(machine, agent):
    """It is said at once; when it is back its copy is left over (`removed`), and the agent imports nothing."""
    laid_out(machine)
    aside = machine.base / "elsewhere"
    (machine.base / "b").rename(aside)
    done = machine.ok("rm", str(ID), "--yes", "--json").json
    agent()
    aside.rename(machine.base / "b")

    until(lambda: [e["kind"] for e in status(machine)["attention"]] == ["removed"], "left over", patience=60)
    assert done["left"] == [{"conversation": f"jp-c{ID}", "worktree": str(machine.base / "b")}]
    assert machine.directory(machine.silo(), ID) is None
    assert machine.directory(machine.base / "b", ID)


@pytest.mark.slow
def test_phase6_twenty_beside_a_running_agent(machine, agent):
    """No brake, nothing lost, nothing put back; one of them comes back on demand and stays."""
    laid_out(machine)
    many = [18000000000 + n for n in range(20)]
    for number in many:
        machine.write(machine.base / "a", number, "one")
    machine.ok("sync")
    agent()
    until(lambda: status(machine)["verdict"] == "in-sync", "in sync")

    done = machine.ok("rm", *many, "--yes", "--json").json

    assert len(done["removed"]) == 20
    until(lambda: status(machine)["verdict"] == "in-sync", "in sync")
    assert status(machine)["attention"] == []
    assert [n for n in many if found(machine, n)] == []
    machine.ok("trash", "restore", many[0])
    until(lambda: status(machine)["verdict"] == "in-sync", "in sync")
    assert machine.questions(machine.silo(), many[0]) == ["one"]
    assert tombstone(machine, many[0]) is None
    assert all(tombstone(machine, n) for n in many[1:])
    assert [n for n in many[1:] if found(machine, n)] == []
