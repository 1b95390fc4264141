"""What the state remembers of worktrees, and what a look at one says of it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import time

import pytest

from convsync_agent import state
from convsync_agent.engine import Engine
from convsync_agent.homecoming import RECENT_NS
from convsync_agent.scan import Missed
from convsync_agent.settings import Settings
from convsync_agent.whereabouts import Whereabouts

HOME = Whereabouts("/w/.jp", "abcde", 1, 2, 3, "ref: refs/heads/b", "/g/worktrees/w", "/g", "sub")
A, B = 17_000_000_001, 17_000_000_002


@pytest.fixture
def opened(tmp_path):
    made = state.writer(str(tmp_path))
    yield made
    made.close()


def test_what_goes_in_comes_out(opened):
    """A HEAD that is not known is None and stays it; no git is another thing."""
    for home in (HOME, HOME._replace(head=None, went_ms=5), HOME._replace(head="", git_dir="")):
        with opened.transaction():
            opened.put_whereabouts(home)
        assert opened.whereabouts() == {"/w/.jp": home}


def test_what_is_held_is_kept_until_it_is_dropped(opened):
    """By root and conversation, with the HEAD of the last going."""
    with opened.transaction():
        opened.put_held("/w/.jp", [A, B], "one")
        opened.put_held("/w/.jp", [B], None)
        opened.put_held("/x/.jp", [A], "two")
        opened.drop_held("/x/.jp", [A, B])
    assert opened.held("/w/.jp") == {A: "one", B: None}
    assert opened.held("/x/.jp") == {}


def test_what_a_command_took_away_is_not_held(opened):
    """Nor when it was held already."""
    with opened.transaction():
        opened.put_held("/w/.jp", [A, B], "one")
        opened.put_unprojected("/w/.jp", A, 7)
    assert opened.held("/w/.jp") == {B: "one"}
    assert opened.unprojected("/w/.jp") == {A: 7}
    with opened.transaction():
        opened.drop_unprojected("/w/.jp", [A])
    assert opened.unprojected("/w/.jp") == {}


def test_it_goes_along_with_a_worktree_and_is_forgotten_with_it(opened):
    """Moved: under the new path. Unregistered: not at all."""
    with opened.transaction():
        opened.put_whereabouts(HOME)
        opened.put_held("/w/.jp", [A], "one")
        opened.rename_root("/w/.jp", "/x/.jp")
    assert opened.whereabouts() == {"/x/.jp": HOME._replace(root="/x/.jp")}
    assert opened.held("/x/.jp") == {A: "one"}
    with opened.transaction():
        opened.remove_worktree("/x", "/x/.jp")
    assert (opened.whereabouts(), opened.held("/x/.jp")) == ({}, {})


def test_a_state_of_an_earlier_convsync_is_brought_up_to_date_by_whoever_asks_first(tmp_path):
    """Also by one that only reads."""
    path = tmp_path / state.NAME
    db = sqlite3.connect(path)
    for migration in state.MIGRATIONS[:2]:
        db.executescript(migration)
    db.execute("PRAGMA user_version = 2")
    db.commit()
    db.close()
    opened = state.reader(str(tmp_path))
    assert opened.whereabouts() == {}
    opened.close()


# -- looking at real worktrees --------------------------------------------------------


@pytest.fixture
def tree(machine):
    """A registered directory without git that holds A and B."""
    made = machine.worktree("w", register=False)
    for number in (A, B):
        machine.write(made, number, "one")
    machine.ok("register", made)
    return made


@pytest.fixture
def look(machine):
    """A fresh engine that looks where everything is: (worktrees that went, the one tree)."""
    opened = []

    def once(*, changing=None):
        made = state.writer(str(machine.base / "state/convsync"))
        opened.append(made)
        engine = Engine(made, str(machine.base / "data/convsync"), Settings())
        site = engine.sites["abcde"]
        (found,) = site.trees.values()
        if changing:
            changing(made, found)
        return engine.holdings.note(site), found

    yield once
    for made in opened:
        made.close()


def test_a_worktree_that_is_there_is_remembered_and_nothing_is_written_again(machine, tree, look):
    """Its device, inode, the time of its id; no git, no HEAD."""
    went, found = look()
    assert went == []
    at = os.stat(tree / ".jp")
    assert found.home == Whereabouts(
        str(tree / ".jp"), "abcde", at.st_dev, at.st_ino, (tree / ".jp/.id").stat().st_mtime_ns, "", "", "", ""
    )
    before = machine.inventory(machine.base / "state")
    look()
    assert {k: v for k, v in machine.inventory(machine.base / "state").items() if k.endswith("state.db")} == {
        k: v for k, v in before.items() if k.endswith("state.db")
    }


def test_a_removal_that_takes_git_first_does_not_take_the_branch_along(tree, look):
    """What is being removed was on that branch until then; a directory without git made later is not the same."""
    subprocess.run(["git", "init", "-q", "-b", "topic", str(tree)], check=True)
    _, found = look()
    assert found.home.head == "ref: refs/heads/topic"
    shutil.rmtree(tree / ".git")
    _, found = look()
    assert found.home.head == "ref: refs/heads/topic"
    shutil.rmtree(tree)
    went, found = look()
    assert went == [found]
    assert set(found.held.values()) == {"ref: refs/heads/topic"}


@pytest.mark.parametrize("what", ["the worktree", ".jp", ".id"])
def test_gone_is_gone_once(tree, look, what):
    """Whatever part of the way to the id went; the first who looks writes down what it held."""
    path = {"the worktree": tree, ".jp": tree / ".jp", ".id": tree / ".jp" / ".id"}[what]
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    went, found = look()
    assert [t.worktree.path for t in went] == [str(tree)]
    assert found.held == {A: "", B: ""}
    again, found = look()
    assert (again, found.held, str(found.state)) == ([], {A: "", B: ""}, "missing")
    assert found.since_ms == found.home.went_ms


def test_an_id_that_cannot_be_understood_is_an_error_and_not_gone(tree, look):
    """A merge conflict, a half-written file: it is looked at again."""
    (tree / ".jp" / ".id").write_text("<<<<<<< HEAD\n")
    went, found = look()
    assert (went, str(found.state), found.held) == ([], "error", {})


def test_made_again_unseen_it_went_all_the_same(machine, tree, look):
    """Its records are what it held, and vouch for nothing of the new directory."""
    shutil.rmtree(tree)
    (tree / ".jp").mkdir(parents=True)
    (tree / ".jp" / ".id").write_text("abcde\n")
    went, found = look()
    assert [t.worktree.path for t in went] == [str(tree)]
    assert found.held == {A: "", B: ""}
    assert (found.view.records, found.home.went_ms, str(found.state)) == ({}, 0, "watching")
    assert machine.questions(machine.silo(), A) == ["one"]
    assert look()[0] == []


def test_away_and_back_it_is_the_same_one(tree, look):
    """A mount that came late, a directory that was moved and moved back: its records stay."""
    aside = tree.with_name("aside")
    tree.rename(aside)
    look()
    aside.rename(tree)
    went, found = look()
    assert (went, sorted(found.view.records), found.home.went_ms) == ([], [A, B], 0)
    assert found.held == {A: "", B: ""}


@pytest.mark.parametrize(
    ("missed_ago", "commanded_ago", "held"),
    [
        (None, None, True),
        (RECENT_NS // 2, None, True),
        (2 * RECENT_NS, None, False),
        (None, 1000, False),
        (1000, 2000, False),
        (1000, 3 * RECENT_NS, True),
    ],
)
def test_what_it_held_when_it_went(tree, look, missed_ago, commanded_ago, held):
    """Less what vanished long before, less what a command took away, unless it was there again after that."""
    shutil.rmtree(tree)

    def change(opened, found):
        now = time.time_ns()
        if missed_ago is not None:
            found.view.missed[A] = Missed(now - missed_ago, now)
        if commanded_ago is not None:
            with opened.transaction():
                opened.put_unprojected(found.root.path, A, (now - commanded_ago) // 1_000_000)

    assert set(look(changing=change)[1].held) == ({A, B} if held else {B})


def test_a_going_that_cannot_be_written_down_is_written_down_later(tree, look, monkeypatch):
    """A full disk costs no projection: it is known until the next look, and tried again then."""
    shutil.rmtree(tree)
    opened = []

    def full(found_state, _found):
        opened.append(found_state)
        found_state._db.execute("PRAGMA query_only = 1")

    del monkeypatch
    went, found = look(changing=full)
    assert len(went) == 1
    assert set(found.held) == {A, B}
    assert opened[0].held(found.root.path) == {}
    went, found = look()
    assert len(went) == 1
    assert set(look()[1].held) == {A, B}
