"""`accept`: a copy that is behind, or lost a conflict, is taken over on purpose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from machine import LONG_AGO, WS, as_jp, event, put
from versioned import (
    HOUR,
    ID,
    everywhere,
    in_conflict,
    kept_questions,
    kinds,
    replaced_once,
    roots,
    versions,
)


@pytest.fixture
def two(machine):
    return replaced_once(machine)


@pytest.fixture
def conflict(two):
    return in_conflict(two)


def test_accept_closes_a_conflict(conflict):
    """Without --from what is current stays, the entry is closed, and a second accept finds nothing (3)."""
    before = conflict.inventory(conflict.base / "a", conflict.base / "b", conflict.silo())

    done = conflict.ok("accept", str(ID), "--json").json

    assert done["closed"] == 1
    assert done["current"]["events"] == 1
    assert kinds(conflict) == []
    assert conflict.inventory(conflict.base / "a", conflict.base / "b", conflict.silo()) == before
    assert conflict.run("accept", str(ID)).code == 3


def test_restore_closes_a_conflict(conflict):
    """Whoever restores the loser has decided: the entry is closed."""
    assert ["in a"] in kept_questions(conflict)
    loser = next(v["version"] for v in versions(conflict) if v["from"] == str(conflict.base / "a"))

    conflict.ok("restore", str(ID), "--version", loser)

    assert everywhere(conflict) == [["in a"]] * 3
    assert kinds(conflict) == []


def test_accept_from_a_worktree(two):
    """That copy becomes current everywhere though it is older, and what it replaces is kept."""
    two.ok("register", two.base / "b", "--no-refresh")
    put(two.directory(two.base / "b", ID) / "events.json", as_jp([event("kept back")]), LONG_AGO - HOUR)

    two.ok("accept", str(ID), "--from", two.base / "b")

    assert everywhere(two) == [["kept back"]] * 3
    assert ["new", "newer"] in kept_questions(two)
    assert two.ok("sync", "--json").json["actions"] == []


def test_accept_from_the_loser_of_a_conflict(conflict):
    """`--from` the worktree that lost takes over what it lost, though it has the winner's content by now."""
    done = conflict.ok("accept", str(ID), "--from", conflict.base / "a", "--json").json

    assert everywhere(conflict) == [["in a"]] * 3
    assert (done["units"], len(done["versions"])) == (["stream"], 1)
    assert kinds(conflict) == []
    assert kept_questions(conflict)[0] == ["in b"]


def test_accept_from_the_winner_of_a_conflict(conflict):
    """`--from` the worktree that won writes nothing and closes the entry."""
    before = conflict.inventory(*roots(conflict))

    assert conflict.ok("accept", str(ID), "--from", conflict.base / "b", "--json").json["written"] == []

    assert conflict.inventory(*roots(conflict)) == before
    assert kinds(conflict) == []


def test_accept_what_is_not_valid(two):
    """A copy that JP could not load cannot be accepted (4); the silo's replaces it and its bytes are kept."""
    put(two.directory(two.base / "b", ID) / "events.json", b"{", LONG_AGO + 5 * HOUR)

    ran = two.run("accept", str(ID), "--from", two.base / "b")
    assert ran.code == 4
    assert "--from silo" in ran.err

    two.ok("accept", str(ID), "--from", two.silo())

    assert everywhere(two) == [["new", "newer"]] * 3
    assert [v["valid"] for v in versions(two)].count(False) == 1


def test_a_single_copy_that_is_behind(two):
    """Without --from and without a conflict, the one copy that is shown `behind` is taken over."""
    b = two.base / "b"
    put(two.directory(b, ID) / "events.json", as_jp([event("checked out")]), LONG_AGO - HOUR)
    attention(two, "behind", b / ".jp")

    two.ok("accept", str(ID))

    assert everywhere(two) == [["checked out"]] * 3


def test_several_copies_behind(two):
    """Several copies that are behind need --from (2)."""
    attention(two, "behind", two.base / "a" / ".jp")
    attention(two, "behind", two.base / "b" / ".jp")

    ran = two.run("accept", str(ID))

    assert ran.code == 2
    assert "--from" in ran.err


def attention(machine, kind, root):
    from convsync_agent.state import Attention, writer

    state = writer(str(machine.base / "state" / "convsync"))
    with state.transaction():
        state.put_attention(Attention(kind, WS, ID, str(root), 1, "as git wrote it", lasting=False))
    state.close()


@pytest.mark.parametrize(("source", "code"), [("nowhere", 3), ("c", 3)])
def test_accept_from_elsewhere(two, source, code):
    """A path that is no registered worktree, or one without a copy, is exit 3."""
    two.worktree("c")

    assert two.run("accept", str(ID), "--from", two.base / source).code == code


def test_nothing_to_accept(two):
    """Where everything is in step there is nothing to accept: exit 3."""
    assert two.run("accept", str(ID)).code == 3


def test_nothing_is_left_behind(two):
    """Neither our data directory nor a root keeps anything of the work."""
    two.ok("restore", str(ID))

    assert set(os.listdir(two.base / "data" / "convsync")) <= {"history", "trash"}
    assert [p for r in roots(two) for p in Path(r).rglob(".convsync")] == []


def test_no_titles_in_errors(two):
    """No message of a refused command holds a title or a directory's name."""
    put(two.directory(two.base / "b", ID) / "events.json", b"{", LONG_AGO + 5 * HOUR)
    for argv in (["accept", str(ID), "--from", two.base / "b"], ["restore", str(ID), "--version", "9"], ["show", "18"]):
        ran = two.run(*argv)
        assert ran.code
        assert "talk" not in ran.err
        assert "Old title" not in ran.err
