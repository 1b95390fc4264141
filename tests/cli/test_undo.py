"""`undo`: what the newest act replaced is current again, and a second one gives it back."""

from __future__ import annotations

import gzip
import json
import shutil
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents import in_step, status, until
from convsync_agent.acts import ACT_MS
from machine import LONG_AGO, WS, Machine, as_jp, event, put
from versioned import (
    HOUR,
    ID,
    bytes_of,
    everywhere,
    in_conflict,
    kept_questions,
    kinds,
    project,
    replaced_once,
    retitle,
    roots,
    title,
    versions,
)


@pytest.fixture
def two(machine):
    return replaced_once(machine)


@pytest.fixture
def conflict(two):
    return in_conflict(two)


def test_undo_swaps(two):
    """What was overwritten is current again everywhere, and a second undo gives back the bytes that were."""
    before = bytes_of(two, two.silo())

    two.ok("undo", str(ID))
    assert everywhere(two) == [["old"]] * 3
    assert two.ok("sync", "--json").json["actions"] == []

    two.ok("undo", "last")
    assert [bytes_of(two, r) for r in roots(two)] == [before] * 3
    assert versions(two)[0]["why"] == "undone"


def test_undo_takes_both_units_of_one_act(two):
    """Where one sync replaced stream and metadata, one undo brings both back, and the next both again."""
    put(two.directory(two.base / "a", ID) / "events.json", as_jp([event("newest")]), LONG_AGO + 2 * HOUR)
    retitle(two, "a", "New title", LONG_AGO + 2 * HOUR)
    two.quiet()
    two.ok("sync")
    before = bytes_of(two, two.silo())

    done = two.ok("undo", str(ID), "--json").json

    assert {v["unit"] for v in done["versions"]} == {"stream", "metadata"}
    assert done["written"] == [str(r) for r in roots(two)]
    assert (everywhere(two), title(two)) == ([["new", "newer"]] * 3, "Old title")
    two.ok("undo", str(ID))
    assert [bytes_of(two, r) for r in roots(two)] == [before] * 3


def another_act(machine):
    """What follows is not of the act before: acts are told apart by their times alone."""
    newest = max(v["at"] for v in versions(machine))
    until(lambda: time.time_ns() // 1_000_000 > newest + 2 * ACT_MS, "the act is over")


def test_undo_of_one_unit_leaves_the_other(two):
    """An earlier act is not undone along with the newest."""
    another_act(two)
    retitle(two, "a", "New title", LONG_AGO + 2 * HOUR)
    two.ok("sync")

    two.ok("undo", str(ID))

    assert (everywhere(two), title(two)) == ([["new", "newer"]] * 3, "Old title")


def test_undo_of_unmanaged_files(two):
    """An unmanaged file that an overwrite lost comes back into the silo, and an undo of that swaps."""
    note = two.directory(two.base / "a", ID) / "n.md"
    put(note, b"one", LONG_AGO)
    two.ok("sync")
    put(note, b"two", LONG_AGO + HOUR)
    two.ok("sync")
    durable = two.directory(two.silo(), ID) / "n.md"
    assert durable.read_bytes() == b"two"

    two.ok("undo", str(ID))
    assert durable.read_bytes() == b"one"

    two.ok("undo", str(ID))
    assert durable.read_bytes() == b"two"


def test_undo_closes_a_conflict(conflict):
    """Undoing a conflict brings the loser back everywhere and closes the entry; the winner is kept."""
    two = conflict

    two.ok("undo", str(ID))

    assert everywhere(two) == [["in a"]] * 3
    assert kinds(two) == []
    assert kept_questions(two)[0] == ["in b"]
    assert two.ok("verify", "--json").json["ok"] is True


def test_undo_beside_an_agent(two, agent):
    """A running agent agrees: no conflict, nothing to do, every copy in step, and edits go on."""
    agent()

    for expected in (["old"], ["new", "newer"], ["old"]):
        assert communicated(two.spawn("undo", str(ID))) == 0
        until(lambda expected=expected: everywhere(two) == [expected] * 3, "undone everywhere")
        until(lambda: status(two)["verdict"] == "in-sync", "the agent agrees")
        assert status(two)["attention"] == []

    put(two.directory(two.base / "b", ID) / "events.json", as_jp([event("old"), event("on")]))
    until(lambda: everywhere(two) == [["old", "on"]] * 3, "an edit after it")
    until(lambda: in_step(two, ID, *roots(two)), "in step")


def communicated(process):
    process.communicate(timeout=120)
    return process.returncode


def test_undo_where_a_copy_had_something_else(two):
    """What was durable is the newest version after an undo, whatever else was replaced with it: undo swaps back."""
    put(two.directory(two.base / "b", ID) / "events.json", b"[1", LONG_AGO + 5 * HOUR)

    two.ok("undo", str(ID))
    assert everywhere(two) == [["old"]] * 3
    assert [v["valid"] for v in versions(two)] == [True, False, True]

    two.ok("undo", str(ID))
    assert everywhere(two) == [["new", "newer"]] * 3


def test_nothing_to_undo(machine):
    """Where nothing was kept there is nothing to undo: exit 3 and where to look."""
    machine.write(machine.worktree(register=False), ID, "only")
    machine.ok("register", machine.base / "a")

    ran = machine.run("undo", str(ID))

    assert ran.code == 3
    assert "convsync history" in ran.err


def test_nothing_but_what_is_current(two):
    """A version that equals what is current is no way back: the one before it is, else nothing (3)."""
    put(two.directory(two.base / "a", ID) / "events.json", as_jp([event("old")]), LONG_AGO + 2 * HOUR)
    two.ok("sync")
    assert [v["events"] for v in versions(two)] == [2, 1]
    place = two.base / "data" / "convsync" / "history" / WS / f"jp-c{ID}"
    shutil.rmtree(place / versions(two)[0]["version"])

    assert two.run("undo", str(ID)).code == 3
    assert everywhere(two) == [["old"]] * 3


def test_an_invalid_version_is_not_undone_to(two):
    """Bytes that JP could not load are never made current: exit 4, and nothing is written."""
    broken = two.directory(two.base / "b", ID) / "events.json"
    put(broken, b"[1", LONG_AGO + 5 * HOUR)
    another_act(two)
    two.ok("accept", str(ID), "--from", "silo")
    assert versions(two)[0]["valid"] is False
    before = two.inventory(*roots(two))

    ran = two.run("undo", str(ID))

    assert ran.code == 4
    assert "convsync restore" in ran.err
    assert two.inventory(*roots(two)) == before


def test_undo_under_a_held_lock(two, monkeypatch):
    """A lock that stays held is exit 5; nothing was written or kept."""
    monkeypatch.setenv("JP_LOCK_DURATION", "0")
    before = two.inventory(two.base / "a", two.base / "b", two.silo() / "conversations", two.base / "data" / "convsync")

    with two.holding(ID):
        assert two.run("undo", str(ID)).code == 5

    after = two.inventory(two.base / "a", two.base / "b", two.silo() / "conversations", two.base / "data" / "convsync")
    assert {k: v[1] for k, v in before.items()} == {k: v[1] for k, v in after.items()}


def test_undo_needs_no_projection(two):
    """No copy is made where none was, and a worktree registered with --no-refresh keeps what it has."""
    two.ok("register", two.base / "b", "--no-refresh")
    shutil.rmtree(two.directory(two.base / "a", ID))

    two.ok("undo", str(ID))

    assert two.directory(two.base / "a", ID) is None
    assert two.questions(two.silo(), ID) == ["old"]
    assert two.questions(two.base / "b", ID) == ["new", "newer"]


steps = st.lists(
    st.tuples(st.sampled_from(["stream", "append", "title", "undo", "both sides"]), st.sampled_from("ab")),
    min_size=1,
    max_size=5,
)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps)
def test_undo_twice_changes_no_byte(tmp_path, monkeypatch, capsys, sequence):
    """After any sequence of edits, conflicts and undos: undo twice is nothing, and no content was ever lost."""
    machine = Machine(tmp_path / f"m{time.monotonic_ns()}", capsys)
    for name, value in machine.env.items():
        monkeypatch.setenv(name, value)
    a, b = machine.worktree("a", register=False), machine.worktree("b", register=False)
    machine.write(a, ID, "old", title="Old title")
    project(machine, a, b)
    machine.ok("register", a)
    machine.ok("register", b)
    seen = set(bytes_of(machine, machine.silo()).values())
    for number, (step, name) in enumerate(sequence, 1):
        act(machine, step, name, number)
        seen |= {raw for r in roots(machine) for raw in bytes_of(machine, r).values()}
        machine.quiet(*roots(machine))
        machine.ok("sync")
        if step == "undo":
            machine.run("undo", str(ID))
        seen |= {raw for r in roots(machine) for raw in bytes_of(machine, r).values()}
    before = [bytes_of(machine, r) for r in roots(machine)]
    assert before == before[:1] * 3

    undone = machine.run("undo", str(ID)).code
    assert undone == (0 if versions(machine) and not kinds(machine) else 3)
    if undone == 0:
        seen |= set(bytes_of(machine, machine.silo()).values())
        assert [bytes_of(machine, r) for r in roots(machine)] != before
        machine.ok("undo", str(ID))

    assert [bytes_of(machine, r) for r in roots(machine)] == before
    have = {raw for files in before for raw in files.values()} | kept_bytes(machine)
    for raw in seen:
        assert raw in have or any(contained(raw, other) for other in have)


def act(machine, step, name, number):
    """One person's or program's edit, newer than everything before it."""
    at = LONG_AGO + number * HOUR
    place = machine.directory(machine.base / name, ID)
    if step == "append":
        put(place / "events.json", as_jp([*machine.events(machine.base / name, ID), event(f"more {number}")]), at)
    elif step == "title":
        retitle(machine, name, f"Title {number}", at)
    elif step == "stream":
        put(place / "events.json", as_jp([event(f"other {number}")]), at)
    elif step == "both sides":
        for n, side in enumerate("ab"):
            put(machine.directory(machine.base / side, ID) / "events.json", as_jp([event(f"{side} {number}")]), at + n)


def kept_bytes(machine):
    objects = (machine.base / "data" / "convsync" / "history" / WS / f"jp-c{ID}" / "objects").glob("*.gz")
    return {gzip.decompress(o.read_bytes()) for o in objects}


def contained(raw, other):
    """Every event of one stream begins the other: nothing of it is missing there."""
    one, two = json.loads(raw), json.loads(other)
    return isinstance(one, list) and isinstance(two, list) and two[: len(one)] == one
