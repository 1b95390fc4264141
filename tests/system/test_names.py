"""Names of directories: renamed by hand, by JP, on both sides, and two for one conversation. A real agent."""

from __future__ import annotations

import shutil

import pytest

from agents import in_step, status, until
from convsync_agent.health import SHORTEST
from convsync_agent.history import History
from machine import LONG_AGO, as_jp, event, put

A = 17_000_000_001
FILES = ("base_config.json", "events.json", "metadata.json")


@pytest.fixture
def two(machine, agent):
    """The silo and the worktrees a and b hold one conversation with a title; an agent runs."""
    for name in "ab":
        machine.worktree(name, register=False)
        machine.write(machine.base / name, A, "one", slug="old", title="old")
        machine.ok("register", machine.base / name)
    agent()
    until(lambda: in_step(machine, A, *roots(machine)), "in step")
    return machine


def roots(machine):
    return [machine.silo(), machine.base / "a", machine.base / "b"]


def names(machine):
    """The directory of each root; there is one."""
    return [p.name if (p := machine.directory(r, A)) else None for r in roots(machine)]


def equal(machine):
    return len({tuple((machine.directory(r, A) / f).read_bytes() for f in FILES) for r in roots(machine)}) == 1


def titled(directory, title, at):
    put(directory / "metadata.json", as_jp({"title": title, "last_activated_at": f"2026-01-01 00:00:{at:02}.0"}))


def test_a_name_given_by_hand_stays_where_it_was_given(two):
    """Names may differ between roots: edits travel by id, nothing is renamed and nothing made twice."""
    path = two.directory(two.base / "a", A)
    hand = path.rename(path.with_name(f"{A}-by-hand"))
    put(hand / "events.json", as_jp([event("one"), event("two")]))
    until(lambda: equal(two), "from the renamed one")
    put(two.directory(two.base / "b", A) / "events.json", as_jp([event("one"), event("two"), event("three")]))
    until(lambda: two.questions(two.base / "a", A) == ["one", "two", "three"] and equal(two), "into the renamed one")
    assert names(two) == [f"{A}-old", f"{A}-by-hand", f"{A}-old"]
    until(lambda: status(two)["verdict"] == "in-sync", "in sync")
    two.ok("verify")


def test_jps_title_rename_in_one_worktree_reaches_the_other(two):
    """JP renames silo and worktree, each before its metadata; unmanaged files stay with their directories."""
    inodes = [two.directory(r, A).stat().st_ino for r in roots(two)]
    (two.directory(two.silo(), A) / "QUERY_MESSAGE.md").write_text("draft")
    with two.holding(A):
        for root in roots(two)[:2]:
            path = two.directory(root, A)
            new = path.rename(path.with_name(f"{A}-new"))
            titled(new, "new", 1)
    until(lambda: names(two) == [f"{A}-new"] * 3 and equal(two), "renamed in all of them")
    assert inodes == [two.directory(r, A).stat().st_ino for r in roots(two)]
    assert (two.directory(two.silo(), A) / "QUERY_MESSAGE.md").read_text() == "draft"
    until(lambda: status(two)["verdict"] == "in-sync", "in sync")


def test_two_titles_at_once_end_in_the_newest(two):
    """Both sides rename: the newest metadata and its name win; the other title is in the history."""
    with two.holding(A):  # else the agent may have followed the first before the second is there
        for root, title, at in ((two.base / "a", "first", 1), (two.base / "b", "second", 2)):
            path = two.directory(root, A)
            titled(path.rename(path.with_name(f"{A}-{title}")), title, at)
    until(lambda: names(two) == [f"{A}-second"] * 3 and equal(two), "the newest name everywhere")
    history = History(str(two.base / "data/convsync"))
    held = b"".join(raw for m in history.versions("abcde", A) for _, raw, _ in history.read("abcde", A, m.version))
    assert b'"title": "first"' in held
    two.ok("verify")


def test_two_directories_for_one_id_are_held_and_both_kept(two):
    """JP will delete one of them by its name: both contents are in the history at once; one left, it goes on."""
    path = two.directory(two.base / "a", A)
    other = shutil.copytree(path, path.with_name(f"{A}-other"))
    put(other / "events.json", as_jp([event("only here")]), LONG_AGO)
    put(path / "events.json", as_jp([event("only there")]), LONG_AGO)
    put(other / "sub-note.md", b"a note in the one that will go")

    def kept():
        history = History(str(two.base / "data/convsync"))
        rows = [history.read("abcde", A, m.version) for m in history.versions("abcde", A)]
        return {raw for files in rows for name, raw, _ in files}

    both = {as_jp([event("only here")]), as_jp([event("only there")]), b"a note in the one that will go"}
    until(lambda: both <= kept(), "both kept", SHORTEST / 2)
    until(lambda: [e["kind"] for e in status(two)["attention"]] == ["held"], "held")
    assert two.questions(two.silo(), A) == ["one"]
    shutil.rmtree(other)
    put(path / "events.json", as_jp([event("one"), event("decided")]))
    until(lambda: in_step(two, A, *roots(two)), "one is left, and it goes on")
    until(lambda: status(two)["verdict"] == "in-sync", "in sync")
