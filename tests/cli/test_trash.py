"""`trash ls`, `restore` and `empty`, and `accept` of a loss: real removals, real locks, a real terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import time
from contextlib import closing

import pytest

from agents import in_step, status, until
from convsync_agent import state
from convsync_agent.engine import Engine
from convsync_agent.graves import Graves
from convsync_agent.plan import Bury, Plan
from convsync_agent.rules import DAY_MS
from convsync_agent.settings import Settings
from convsync_agent.shelter import Shelter
from convsync_agent.state import Attention
from convsync_cli.commands.trash import time_left
from convsync_cli.removed import matching
from convsync_cli.reports import HINTS
from convsync_cli.target import Target
from machine import LONG_AGO, SECOND, WS, as_jp, event, put
from terminal import everything

ID, OTHER, STAYS = 17000000001, 17000000002, 18000000003
TITLE = "A private title that is long enough to be cut off at the edge of a terminal"
HOUR = 3600 * SECOND


def data_dir(machine):
    return str(machine.base / "data/convsync")


def place(machine, conversation=ID):
    return machine.base / f"data/convsync/trash/{WS}/jp-c{conversation}"


def durable(machine, conversation=ID, **where):
    return machine.directory(machine.silo(), conversation, **where)


def contents(directory):
    """name: (mtime, bytes) of every file below."""
    files = [p for p in sorted(directory.rglob("*")) if p.is_file()]
    return {p.relative_to(directory).as_posix(): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


def listed(machine, *flags):
    return machine.ok("trash", "ls", "--json", *flags).json["conversations"]


def rm(machine, conversation, *worktrees):
    """As `jp conversation rm` leaves it: the durable copy is gone, and these projections."""
    for root in (machine.silo(), *worktrees):
        for archived in (False, True):
            path = machine.directory(root, conversation, archived=archived)
            if path is not None:
                shutil.rmtree(path)


def bury(machine, *conversations):
    """What the agent does about it, without its two seconds of looking twice."""
    with closing(state.writer(str(machine.base / "state/convsync"))) as opened:
        engine = Engine(opened, data_dir(machine), Settings())
        site = engine.sites[WS]
        engine.perform(site, Plan(tuple(Bury(c, site.silo.root, "by command") for c in conversations)))
        engine.cycle(site, set(conversations))


@pytest.fixture
def two(machine):
    """Worktrees a and b: ID is in both, OTHER in the silo only (with an unmanaged file), STAYS in a. All is kept."""
    a, b = (machine.worktree(name, register=False) for name in "ab")
    machine.write(a, ID, "one", "two", slug="talk", title=TITLE)
    machine.write(a, STAYS, "stays")
    shutil.copytree(machine.directory(a, ID), b / ".jp/conversations" / f"{ID}-talk")
    machine.ok("register", a)
    machine.ok("register", b)
    note = machine.write(machine.silo(), OTHER, "three", title="Other title") / "notes" / "n.md"
    note.parent.mkdir()
    put(note, b"note", LONG_AGO)
    machine.quiet()
    machine.ok("sync")
    assert all((place(machine, c) / "manifest.json").exists() for c in (ID, OTHER, STAYS))
    return machine


@pytest.fixture
def gone(two):
    """ID was removed in a and is left over in b; OTHER was removed. STAYS is there."""
    rm(two, ID, two.base / "a")
    rm(two, OTHER)
    bury(two, ID, OTHER)
    return two


def on_terminal(machine, *argv, answer=None):
    """A command in a process of its own on a terminal of 80 columns: exit code and what was seen there."""
    ours, theirs = pty.openpty()
    process = machine.spawn(
        *argv, stdin=theirs, stdout=theirs, stderr=theirs, text=False, env={"COLUMNS": "80", "TERM": "dumb"}
    )
    os.close(theirs)
    seen = everything(ours, answer)
    return process.wait(30), re.sub(r"\x1b\[[0-9;]*m", "", seen)


# -- ls -------------------------------------------------------------------------------


def test_a_removal_is_noticed_and_listed(two):
    """Two listings without it, and its projection went with it: it is in the trash, and the left-over says so."""
    rm(two, ID, two.base / "a")
    two.ok("sync")

    [only] = listed(two)
    told = [e for e in status(two)["attention"] if e["kind"] == "removed"]

    assert only["id"] == f"jp-c{ID}"
    assert [(e["conversation"], e["worktree"]) for e in told] == [(f"jp-c{ID}", str(two.base / "b"))]
    assert f"convsync trash restore jp-c{ID}" in told[0]["hint"]


def test_ls_says_what_can_be_brought_back(gone):
    """Ids, times in ms, bytes of the content, events, whether it is whole; only of what is gone."""
    before = time.time_ns() // 1_000_000
    document = gone.ok("trash", "ls", "--json").json
    found = {c["id"]: c for c in document["conversations"]}
    mine = found[f"jp-c{ID}"]

    assert document["schema"] == 1
    assert found.keys() == {f"jp-c{ID}", f"jp-c{OTHER}"}
    assert mine.keys() == {"id", "workspaceId", "removedAt", "until", "bytes", "events", "whole"}
    assert (mine["workspaceId"], mine["events"], mine["whole"]) == (WS, 2, True)
    assert mine["until"] - mine["removedAt"] == 30 * DAY_MS
    assert before - 60_000 < mine["removedAt"] <= before
    assert mine["bytes"] == sum(len(raw) for _, raw in contents(gone.directory(gone.base / "b", ID)).values())


def test_until_follows_the_setting(gone):
    """`trash.keep_days` counts from the removal."""
    assert {c["until"] - c["removedAt"] for c in listed(gone, "--set", "trash.keep_days=7")} == {7 * DAY_MS}


def test_titles_are_for_a_terminal(gone):
    """80 columns with the title of the kept metadata; neither a pipe nor JSON gets it, nor any file of ours (R9)."""
    code, seen = on_terminal(gone, "trash", "ls")
    piped = gone.ok("trash", "ls")

    assert code == 0
    assert TITLE[:12] in seen
    assert "Other title" in seen
    assert max(map(len, seen.splitlines())) <= 80
    assert len(seen.splitlines()) == 3
    for text in (piped.out, piped.err, json.dumps(listed(gone))):
        assert "title" not in text.lower()
    ours = [p for top in ("state", "data/convsync/trash") for p in (gone.base / top).rglob("*") if p.is_file()]
    assert not [p for p in ours if TITLE.encode() in p.read_bytes() or "talk" in str(p)]


def test_an_empty_trash(two):
    """What is there is in no trash; one line says so, none with --quiet."""
    assert listed(two) == []
    assert "empty" in two.ok("trash", "ls").out
    assert two.ok("trash", "ls", "--quiet").out == ""


def test_without_any_registration(machine):
    """A machine that never had anything: empty, exit 0, and nothing is made."""
    before = machine.inventory()

    assert listed(machine) == []
    assert machine.run("trash", "restore", str(ID)).code == 3
    assert machine.inventory() == before


def test_a_damaged_manifest_is_told(gone):
    """What is not understood is named by its id, and the rest is listed."""
    (place(gone) / "manifest.json").write_bytes(b"{")

    ran = gone.ok("trash", "ls", "--json")

    assert f"jp-c{ID}" in ran.err
    assert [c["id"] for c in ran.json["conversations"]] == [f"jp-c{OTHER}"]


def test_time_left():
    """One short unit; right after the removal it is as many days as the setting says."""
    assert [time_left(ms) for ms in (-5, 3_599_999, 7_200_000, 47 * 3_600_000, 30 * DAY_MS - 1)] == [
        "0 h",
        "0 h",
        "2 h",
        "47 h",
        "30 d",
    ]


# -- restore --------------------------------------------------------------------------


def test_restore_brings_it_back_as_it_was(two):
    """The same bytes and times, the tombstone gone, the left-over in step and no longer told; the agent's word too."""
    before = contents(durable(two))
    rm(two, ID, two.base / "a")
    bury(two, ID)
    assert (place(two) / "tombstone.json").exists()

    done = two.ok("trash", "restore", str(ID), "--json").json

    assert contents(durable(two)) == before
    assert durable(two).name == f"{ID}-talk"
    assert in_step(two, ID, two.silo(), two.base / "b")
    assert not (place(two) / "tombstone.json").exists()
    row = {"id": f"jp-c{ID}", "workspaceId": WS, "path": str(durable(two)), "partition": "live", "from": None}
    assert done == {"schema": 1, "restored": [row]}
    assert listed(two) == []
    assert [e for e in status(two)["attention"] if e["kind"] in {"removed", "lost"}] == []
    assert two.ok("sync", "--json").json["actions"] == []
    assert two.directory(two.base / "a", ID) is None


def test_restore_of_what_lay_in_the_silo_only(gone):
    """Unmanaged files come along; without a left-over the directory has the name JP gives after the title."""
    gone.ok("trash", "restore", f"jp-c{OTHER}")

    assert durable(gone, OTHER).name == f"{OTHER}-other-title"
    assert contents(durable(gone, OTHER))["notes/n.md"] == (LONG_AGO, b"note")
    assert gone.questions(gone.silo(), OTHER) == ["three"]


def test_restore_several(gone):
    """Each of them, once, in the order given."""
    done = gone.ok("trash", "restore", str(OTHER), str(ID), str(OTHER), "--json").json["restored"]

    assert [r["id"] for r in done] == [f"jp-c{OTHER}", f"jp-c{ID}"]
    assert durable(gone)
    assert durable(gone, OTHER)
    gone.ok("verify")


def test_restore_before_anybody_noticed(two):
    """A removal that no scan has seen yet is undone all the same."""
    before = contents(durable(two, OTHER))
    rm(two, OTHER)

    two.ok("trash", "restore", str(OTHER))

    assert contents(durable(two, OTHER)) == before


def test_restore_into_the_archive(two):
    """What was archived comes back archived."""
    path = durable(two, OTHER)
    (path.parent / ".archive").mkdir(exist_ok=True)
    path.rename(path.parent / ".archive" / path.name)
    two.ok("sync")
    rm(two, OTHER)
    bury(two, OTHER)

    done = two.ok("trash", "restore", str(OTHER), "--json").json["restored"]

    assert durable(two, OTHER) is None
    assert durable(two, OTHER, archived=True)
    assert done[0]["partition"] == "archived"


@pytest.mark.parametrize("archived", [False, True])
def test_what_is_there_is_never_overwritten(two, archived):
    """A durable copy in either partition: exit 4, and not a byte changes."""
    if archived:
        path = durable(two, OTHER)
        (path.parent / ".archive").mkdir(exist_ok=True)
        path.rename(path.parent / ".archive" / path.name)
    before = two.inventory(two.silo(), two.base / "a", two.base / "b")

    ran = two.run("trash", "restore", str(OTHER))

    assert ran.code == 4
    assert f"convsync history jp-c{OTHER}" in ran.err
    assert two.inventory(two.silo(), two.base / "a", two.base / "b") == before


def test_restore_twice(gone):
    """The second time it is there: exit 4."""
    gone.ok("trash", "restore", str(ID))

    assert gone.run("trash", "restore", str(ID)).code == 4


def test_a_newer_left_over_wins_as_always(gone):
    """The kept copy comes back with its old times, so an edit of the left-over is newer."""
    edited = as_jp([event("one"), event("two"), event("three")])
    put(gone.directory(gone.base / "b", ID) / "events.json", edited, LONG_AGO + HOUR)
    gone.quiet(gone.base / "b")

    gone.ok("trash", "restore", str(ID))

    assert gone.questions(gone.silo(), ID) == ["one", "two", "three"]
    assert in_step(gone, ID, gone.silo(), gone.base / "b")


def test_a_running_agent_agrees(two, agent):
    """The agent buries it, `restore` brings it back, and the agent leaves it there."""
    agent()
    with two.holding(OTHER):
        rm(two, OTHER)
    until((place(two, OTHER) / "tombstone.json").exists, "a tombstone")
    until(lambda: listed(two), "listed")

    two.ok("trash", "restore", str(OTHER))

    until(lambda: status(two)["verdict"] == "in-sync", "in sync")
    assert durable(two, OTHER)
    assert not (place(two, OTHER) / "tombstone.json").exists()
    assert two.ok("sync", "--json").json["actions"] == []


def test_a_held_lock(gone, monkeypatch):
    """A lock that stays held is exit 5 with its holder; nothing is built and the tombstone stands."""
    monkeypatch.setenv("JP_LOCK_DURATION", "300ms")
    before = gone.inventory(gone.silo() / "conversations", gone.base / "b")

    with gone.holding(ID):
        started = time.monotonic()
        ran = gone.run("trash", "restore", str(ID))

    assert ran.code == 5
    assert time.monotonic() - started >= 0.3
    assert str(os.getpid()) in ran.err
    assert gone.inventory(gone.silo() / "conversations", gone.base / "b") == before
    assert (place(gone) / "tombstone.json").exists()


def test_a_silo_that_is_not_there(gone):
    """Not mounted is not removed: exit 6, and no skeleton of a silo is made."""
    away = gone.base / "away"
    gone.silo().rename(away)

    ran = gone.run("trash", "restore", str(ID))

    assert ran.code == 6
    assert not gone.silo().exists()
    assert listed(gone)


def test_a_damaged_kept_copy(gone):
    """Content that is not what was kept comes back nowhere: exit 6, at once, and nothing is left behind."""
    for held in place(gone, OTHER).glob("*.gz"):
        held.write_bytes(held.read_bytes()[:-9])
    before = gone.inventory(gone.silo())

    assert gone.run("trash", "restore", str(OTHER)).code == 6
    assert gone.run("trash", "restore", str(OTHER), "--into", gone.base / "out").code == 6
    assert gone.inventory(gone.silo()) == before


# -- where nothing is kept --------------------------------------------------------------


def test_a_left_over_is_made_durable_where_nothing_is_kept(gone):
    """With an empty trash, and whatever the policy of import, the left-over itself is what can come back."""
    gone.ok("trash", "empty", "--yes")

    done = gone.ok("trash", "restore", str(ID), "--json", "--set", "import.policy=manual").json["restored"]

    assert done[0]["from"] == str(gone.base / "b")
    assert in_step(gone, ID, gone.silo(), gone.base / "b")
    assert not (place(gone) / "tombstone.json").exists()
    assert [e for e in status(gone)["attention"] if e["kind"] == "removed"] == []


def test_a_left_over_that_is_not_whole(gone):
    """JP could not load it: exit 4, and what was removed stays removed."""
    gone.ok("trash", "empty", "--yes")
    put(gone.directory(gone.base / "b", ID) / "events.json", b"[1", LONG_AGO + HOUR)

    ran = gone.run("trash", "restore", str(ID))

    assert ran.code == 4
    assert durable(gone) is None
    assert (place(gone) / "tombstone.json").exists()


def test_nothing_is_left_at_all(gone):
    """A tombstone alone brings nothing back: exit 3, and the way to the history."""
    gone.ok("trash", "empty", "--yes")

    ran = gone.run("trash", "restore", str(OTHER))

    assert ran.code == 3
    assert f"convsync history jp-c{OTHER}" in ran.err


def test_without_the_workspace(gone):
    """Where no worktree is registered any more the content can be looked at, and registering is the way."""
    shutil.rmtree(gone.base / "state")

    ran = gone.run("trash", "restore", str(OTHER))

    assert ran.code == 3
    assert "convsync register" in ran.err
    assert {c["id"] for c in listed(gone)} == {f"jp-c{ID}", f"jp-c{OTHER}"}
    gone.ok("trash", "restore", str(OTHER), "--into", gone.base / "out")
    gone.ok("register", gone.base / "a")
    gone.ok("trash", "restore", str(OTHER))
    assert gone.questions(gone.silo(), OTHER) == ["three"]


# -- --into -----------------------------------------------------------------------------


def test_into_writes_a_copy_and_lifts_nothing(gone):
    """PATH/<id>/ with the files and times of then; no root changes, and what was removed stays removed."""
    before = gone.inventory(gone.base / "a", gone.base / "b", gone.silo())

    done = gone.ok("trash", "restore", str(ID), str(OTHER), "--into", gone.base / "x/y", "--json").json["restored"]

    assert contents(gone.base / f"x/y/jp-c{ID}") == contents(gone.directory(gone.base / "b", ID))
    assert contents(gone.base / f"x/y/jp-c{OTHER}")["notes/n.md"] == (LONG_AGO, b"note")
    assert [r["into"] for r in done] == [str(gone.base / f"x/y/jp-c{c}") for c in (ID, OTHER)]
    assert gone.inventory(gone.base / "a", gone.base / "b", gone.silo()) == before
    assert (place(gone) / "tombstone.json").exists()
    assert len(listed(gone)) == 2


@pytest.mark.parametrize(
    "where", ["a/.jp", "a/.jp/conversations/x", f"data/jp/workspace/{WS}", "data/convsync", "full"]
)
def test_into_a_place_that_is_taken(gone, where):
    """Neither a root nor our own places nor a directory with something in it: exit 4, nothing written."""
    (gone.base / "full").mkdir()
    (gone.base / "full/mine").write_text("mine")
    before = gone.inventory()

    assert gone.run("trash", "restore", str(ID), "--into", gone.base / where).code == 4
    assert {k: v for k, v in gone.inventory().items() if "state" not in k} == {
        k: v for k, v in before.items() if "state" not in k
    }


# -- TARGET -------------------------------------------------------------------------------


def test_which_one_is_meant(gone):
    """An id or a unique beginning; ambiguous is 2 with the matches, unknown 3; what is no id is not repeated."""
    ambiguous = gone.run("trash", "restore", "1700000000")
    unknown = gone.run("trash", "restore", "jp-c19")
    words = gone.run("trash", "restore", f"{ID}-private-words")

    assert (ambiguous.code, unknown.code, words.code) == (2, 3, 3)
    assert f"jp-c{ID}, jp-c{OTHER}" in ambiguous.err
    assert "convsync trash ls" in unknown.err
    assert "private" not in words.err
    assert gone.run("trash", "restore").code == 2
    assert gone.run("trash", "restore", str(STAYS)).code == 4
    gone.ok("trash", "restore", f"jp-c{str(ID)[:-1]}1")


X, Y, Z = Target("aaaaa", 170), Target("bbbbb", 170), Target("aaaaa", 1701)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("170", [X, Y]),
        ("jp-c170", [X, Y]),
        ("jp-c170-aaaaa", [X]),
        ("jp-c1701", [Z]),
        ("1701", [Z]),
        ("17", [X, Y, Z]),
        ("jp-c170-b", [Y]),
        ("", []),
        ("70", []),
        ("last", []),
    ],
)
def test_matching(text, expected):
    """An exact id wins over ids it is the beginning of; of an id in two workspaces the full form tells."""
    assert matching(text, [X, Y, Z]) == expected


# -- empty --------------------------------------------------------------------------------


def test_empty_asks(gone):
    """Without a terminal it is exit 2 naming the flag, whatever is in the trash; nothing goes."""
    ran = gone.run("trash", "empty")

    assert ran.code == 2
    assert "--yes" in ran.err
    assert len(listed(gone)) == 2


@pytest.mark.parametrize(("answer", "left"), [(b"n", 2), (b"", 2), (b"y", 0)])
def test_empty_on_a_terminal(gone, answer, left):
    """Only a yes drops anything; no is no error."""
    code, seen = on_terminal(gone, "trash", "empty", answer=answer)

    assert code == 0
    assert "2 removed conversations" in seen
    assert len(listed(gone)) == left


def test_empty_drops_what_is_gone_and_only_that(gone):
    """The bytes that went are told; what is there stays kept, and what was removed stays removed."""
    wanted = sum(c["bytes"] for c in listed(gone))

    done = gone.ok("trash", "empty", "--yes", "--json").json

    assert done == {"schema": 1, "dropped": 2, "bytes": wanted}
    assert listed(gone) == []
    assert [p.name for p in place(gone).iterdir()] == ["tombstone.json"]
    assert (place(gone, OTHER) / "tombstone.json").exists()
    assert (place(gone, STAYS) / "manifest.json").exists()
    gone.ok("sync")
    assert durable(gone) is None
    assert gone.ok("trash", "empty", "--yes", "--json").json["dropped"] == 0


def test_empty_one(gone):
    """TARGET alone goes; one that is there is refused, an unknown one not found."""
    assert "freed" in gone.ok("trash", "empty", str(ID), "--yes").out

    assert [c["id"] for c in listed(gone)] == [f"jp-c{OTHER}"]
    assert gone.run("trash", "empty", str(ID), "--yes").code == 3
    assert gone.run("trash", "empty", str(STAYS), "--yes").code == 4
    assert gone.run("trash", "empty", "jp-c19", "--yes").code == 3
    assert (place(gone, STAYS) / "manifest.json").exists()


def test_what_is_back_is_not_emptied(gone):
    """A mark that is out of date counts for nothing: the durable copy is there, so its kept copy stays."""
    gone.write(gone.silo(), OTHER, "again")
    assert Shelter(data_dir(gone)).held(WS, OTHER).removed_ms is not None
    assert [c["id"] for c in listed(gone)] == [f"jp-c{ID}"]

    assert gone.ok("trash", "empty", "--yes", "--json").json["dropped"] == 1

    assert Shelter(data_dir(gone)).held(WS, OTHER).removed_ms is None


# -- attention ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["removed", "lost", "conflict"])
def test_a_hint_is_one_line(kind):
    """What to type fits a terminal of 80 columns, and names the commands."""
    text = HINTS[kind].format(id="jp-c17457886043", root="/home/me/code/project")
    words = {
        "removed": ["convsync trash restore jp-c17457886043"],
        "lost": ["convsync verify", "convsync accept jp-c17457886043"],
        "conflict": ["convsync diff jp-c17457886043", "accept", "undo jp-c17457886043"],
    }

    assert len(f"  hint: {text}") <= 80
    assert [w for w in words[kind] if w not in text] == []


def open_loss(machine, conversation, *, lasting, root=None):
    with closing(state.writer(str(machine.base / "state/convsync"))) as opened, opened.transaction():
        entry = Attention("lost", WS, conversation, str(root or machine.silo()), 1, "was gone", lasting=lasting)
        opened.put_attention(entry)


def test_accept_closes_a_loss(two):
    """Nothing is written to any root; the entry is gone and the verdict good again."""
    rm(two, OTHER)
    rm(two, STAYS)  # its projection remains: nobody removed it
    two.ok("sync")
    assert [e["conversation"] for e in status(two)["attention"] if e["kind"] == "lost"] == [f"jp-c{STAYS}"]
    before = two.inventory(two.silo(), two.base / "a")

    done = two.ok("accept", str(STAYS), "--json").json

    assert done["closed"] == 1
    assert done["current"]["events"] == 1
    assert two.inventory(two.silo(), two.base / "a") == before
    assert [e for e in status(two)["attention"] if e["kind"] == "lost"] == []
    assert two.run("accept", str(STAYS)).code == 3


def test_accept_of_what_nothing_is_left_of(two):
    """It is found by its entry alone, buried, and not told again."""
    rm(two, OTHER)
    open_loss(two, OTHER, lasting=False)

    ran = two.ok("accept", str(OTHER))

    assert "is gone; the loss is closed" in ran.out
    assert Graves(data_dir(two)).find(WS, OTHER).why == "accepted"
    two.ok("sync")
    assert [e for e in status(two)["attention"] if e["kind"] == "lost"] == []


def test_accept_closes_both(two):
    """A conflict and a loss of one conversation are ended by one command."""
    open_loss(two, STAYS, lasting=True)
    with closing(state.writer(str(two.base / "state/convsync"))) as opened, opened.transaction():
        opened.put_attention(Attention("conflict", WS, STAYS, str(two.base / "a/.jp"), 1, "both", lasting=True))

    ran = two.ok("accept", str(STAYS))

    assert "the conflict and the loss are closed" in ran.out
    assert status(two)["attention"] == []
