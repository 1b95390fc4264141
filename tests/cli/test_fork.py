"""Phase 3: `fork`, and the session that goes on with it."""

from __future__ import annotations

import json
import os
import pty
import shutil
import time

import pytest

from agents import in_step, status, until
from convsync_agent.sessions import Mappings, identify
from machine import event
from terminal import everything

ID, ARCHIVED, STAYS = 17000000001, 17000000002, 17000000003
TURNS = [e for n in range(5) for e in (event(kind="turn_start"), event(f"q{n}"))]


@pytest.fixture
def one(machine, monkeypatch):
    """Worktree a has ID, with a title; ARCHIVED is archived. The session is ours."""
    monkeypatch.setenv("JP_SESSION", "mine")
    a = machine.worktree("a", register=False)
    machine.write(a, ID, *TURNS, slug="private-title", title="Private title")
    machine.write(a, ARCHIVED, "x", archived=True)
    machine.ok("register", a)
    return machine


def made(machine, *argv) -> int:
    return int(machine.ok("fork", *argv, "--json").json["id"][4:])


def test_phase3_fork_says_what_it_made(one):
    """A document with both ids and the worktrees, no word of the title; the events are equal."""
    document = one.ok("fork", ID, "--json").json
    assert document == {
        "schema": 1, "id": document["id"], "from": f"jp-c{ID}", "worktrees": [str(one.base / "a")],
    }  # fmt: skip
    number = int(document["id"][4:])
    for root in (one.silo(), one.base / "a"):
        assert one.events(root, number) == TURNS
        assert one.directory(root, number).name == f"{number}-private-title"


def test_phase3_fork_becomes_the_one_of_the_session(one):
    """Contract 8.3: it stands in front, and no other session is touched."""
    number = made(one, ID)
    trail = Mappings(str(one.silo())).trail(identify(os.environ))
    assert trail.conversations[0] == number
    assert [p.name for p in (one.silo() / "sessions").iterdir()] == [f"{identify(os.environ).key}.json"]


def test_phase3_a_broken_session_file_is_no_reason_to_fail(one):
    """The fork is made; that the session does not know it is said."""
    file = one.silo() / "sessions" / f"{identify(os.environ).key}.json"
    file.parent.mkdir()
    file.write_text("{")
    ran = one.run("fork", ID)
    assert ran.code == 0
    assert "warning: the session does not know it" in ran.err
    assert file.read_text() == "{"


@pytest.mark.parametrize(("last", "turns"), [(0, 0), (1, 1), (2, 2), (5, 5), (7, 5)])
def test_phase3_fork_last(one, last, turns):
    """Exactly so many turns."""
    kinds = [e["type"] for e in one.events(one.silo(), made(one, ID, "--last", last))]
    assert kinds.count("turn_start") == turns


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["fork", str(ARCHIVED)], 4),
        (["fork", "jp-c999"], 3),
        (["fork", "17"], 2),
        (["fork", str(ID), "--last", "-1"], 2),
        (["fork", str(ID), "--last", "two"], 2),
        (["fork"], 2),
    ],
)
def test_phase3_fork_refuses(one, argv, code):
    """Exit codes of the contract, two lines, nothing written."""
    before = one.inventory(one.silo(), one.base / "a")
    ran = one.run(*argv)
    assert ran.code == code, ran
    assert ran.err.startswith("error: ")
    assert "private" not in (ran.out + ran.err).lower()
    assert one.inventory(one.silo(), one.base / "a") == before


def test_phase3_fork_without_a_target_is_of_the_active_one(one):
    """What the session works on; then of the fork."""
    one.ok("use", ID)
    first = one.ok("fork", "--json").json
    second = one.ok("fork", "--json").json
    assert first["from"] == f"jp-c{ID}"
    assert second["from"] == first["id"]
    assert one.ok("session", "show", "--json").json["active"] == second["id"]


@pytest.mark.parametrize("where", ["projected", "local"])
def test_phase3_fork_beside_an_agent(one, agent, where):
    """It stays where it was made, whole, and nobody has to decide anything."""
    if where == "local":
        shutil.rmtree(one.directory(one.base / "a", ID))
        one.ok("sync")
    agent()
    numbers = [made(one, ID) for _ in range(3)]
    one.write(one.base / "a", STAYS, "edited meanwhile", mtime_ns=time.time_ns())
    until(lambda: one.directory(one.silo(), STAYS))
    until(lambda: status(one)["verdict"] == "in-sync")
    roots = [one.silo(), *([one.base / "a"] if where == "projected" else [])]
    for number in numbers:
        assert in_step(one, number, *roots)
        assert (one.directory(one.base / "a", number) is None) is (where == "local")
    assert status(one)["attention"] == []


def test_phase3_fork_is_of_the_worktree_one_stands_in(one, monkeypatch):
    """Who stands in no worktree gets it wherever the source is."""
    b = one.worktree("b")
    one.write(b, ID, *TURNS, slug="private-title", title="Private title")
    monkeypatch.chdir(b)
    assert one.ok("fork", ID, "--json").json["worktrees"] == [str(b)]
    monkeypatch.chdir(one.home)
    assert one.ok("fork", ID, "--json").json["worktrees"] == [str(one.base / "a"), str(b)]


def test_phase3_fork_quietly_and_for_people(one):
    """With -q the id alone; else a sentence."""
    assert one.ok("fork", ID, "-q").out.startswith("jp-c")
    assert f"is a fork of jp-c{ID}" in one.ok("fork", ID).out


def test_phase3_fork_tells_the_terminal(one):
    """Its title is in the bar of the window, once; not in a pipe."""
    ours, theirs = pty.openpty()
    env = {"JP_SESSION": "mine", "TERM": "xterm"}
    process = one.spawn("fork", ID, "--json", stdin=theirs, stdout=theirs, stderr=theirs, text=False, env=env)
    os.close(theirs)
    seen = everything(ours)
    assert process.wait(120) == 0
    document = json.loads(seen[seen.index("{") :])
    assert seen.count("\x1b]2;") == 1
    assert f"\x1b]2;{document['id']}: Private title\x07" in seen
    assert "\x1b]2;" not in one.ok("fork", ID).err
