"""Kept copies follow the durable ones; what only they still have goes into the history first."""

from __future__ import annotations

import pytest

from machine import LONG_AGO

A = 17_000_000_001


@pytest.fixture
def tree(machine):
    """Worktree a: conversation A with two turns, durable and kept."""
    tree = machine.worktree("a", register=False)
    machine.write(tree, A, "one", "two", title="first")
    machine.ok("register", tree)
    machine.ok("sync")
    return tree


def versions(machine, unit):
    return [v for v in machine.ok("--json", "history", A).json["versions"] if v["unit"] == unit]


def conflicts(machine):
    return [e for e in machine.ok("--json", "status").json["attention"] if e["kind"] == "conflict"]


def both(machine, tree, *events, age=1, **metadata):
    """As a JP that had something in memory: into the silo, then into its worktree."""
    for root in (machine.silo(), tree):
        machine.write(root, A, *events, mtime_ns=LONG_AGO + age * 10**9, **metadata)
    machine.quiet(machine.silo(), tree)
    machine.ok("sync")


def test_what_was_replaced_in_every_root_at_once_is_in_the_history(machine, tree):
    """No copy of ours is left but the kept one. It becomes a version, and a person hears that turns went."""
    both(machine, tree, "one", "else", title="first")

    assert [(v["why"], v["events"]) for v in versions(machine, "stream")] == [("replaced", 2)]
    assert versions(machine, "metadata") == []
    assert len(conflicts(machine)) == 1
    machine.ok("undo", A)
    assert machine.questions(tree, A) == ["one", "two"]


def test_a_title_that_jp_changed_is_kept_and_no_conflict(machine, tree):
    """Metadata that was replaced everywhere is restorable; it is an everyday thing, so nobody is told."""
    both(machine, tree, "one", "two", title="second")

    assert [v["why"] for v in versions(machine, "metadata")] == ["replaced"]
    assert versions(machine, "stream") == []
    assert conflicts(machine) == []


def test_an_append_keeps_nothing(machine, tree):
    """What the new content contains needs no version."""
    both(machine, tree, "one", "two", "three", title="first")

    assert machine.ok("--json", "history", A).json["versions"] == []
    assert conflicts(machine) == []


def test_what_convsync_replaced_itself_is_kept_once(machine, tree):
    """The loser of an edit is in the history already when the kept copy follows."""
    machine.write(tree, A, "other", mtime_ns=LONG_AGO + 10**9, title="first")
    machine.quiet(tree)
    machine.ok("sync")

    assert [v["why"] for v in versions(machine, "stream")] == ["replaced"]
    assert conflicts(machine) == []
