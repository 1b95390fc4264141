"""Phase 7: what JP's plan asks tests for, on real directories: first persist, dual write, units, import."""

from __future__ import annotations

import os

import pytest

from agents import in_step
from conformance.ground import equal, guarded, jp, metadata, raw, rows, stream, sync
from convsync_agent.model import EVENTS, METADATA, Projection, Unit
from convsync_agent.names import dirname
from machine import LONG_AGO, as_jp, put

A, B = 17_000_000_001, 17_000_000_002


@pytest.fixture
def tree(machine):
    """A registered worktree with one projected conversation."""
    path = machine.worktree("a", register=False)
    machine.write(path, A, "one")
    machine.ok("register", path)
    return path


def names(root):
    return sorted(p.name for p in (root / "conversations").iterdir() if not p.name.startswith("."))


# -- the first write ---------------------------------------------------------------------


def test_projection_on_first_persist(machine, tree):
    """A new conversation in a worktree becomes durable; one that is made durable to be projected appears there."""
    machine.write(tree, B, "new here")
    sync(machine)
    assert in_step(machine, B, machine.silo(), tree)

    machine.write(machine.silo(), B + 1, "new there")
    with guarded(machine, B + 1) as guard:
        assert guard.projection is Projection.LOCAL_ONLY
        guard.write(Unit.METADATA, [(METADATA, metadata(title="x"))], Projection.PROJECTED)
    assert equal(machine, B + 1, machine.silo(), tree)
    assert rows(machine)[B + 1]["presence"] == "projected"


def test_projection_on_first_persist_by_jp(machine, tree):
    """JP writes both roots itself: nothing is left to do, and nothing is written."""
    jp(machine).new(B, "one")
    before = machine.inventory(machine.silo() / "conversations", tree)
    said = sync(machine)

    assert (said["written"], said["actions"]) == (0, [])
    assert machine.inventory(machine.silo() / "conversations", tree) == before


def test_no_projection_appears_where_none_was(machine, tree):
    """A conversation made in one worktree is not copied into another one."""
    other = machine.worktree("b")
    machine.write(tree, B, "new")
    sync(machine)

    assert not (other / ".jp/conversations").exists()
    assert rows(machine, "--worktree", other)[B]["presence"] == "user_local_only"


# -- both roots ------------------------------------------------------------------------------


def test_dual_write_no_cross_root_clobber(machine, tree):
    """Two projected writes in a row, then another title: each root has exactly one directory, both the new content."""
    for text in ("two", "three"):
        with guarded(machine, A) as guard:
            guard.write(Unit.STREAM, [("base_config.json", as_jp({})), (EVENTS, stream(text))], Projection.PROJECTED)
        assert machine.questions(tree, A) == machine.questions(machine.silo(), A) == [text]
    (machine.directory(tree, A) / "QUERY_MESSAGE.md").write_text("mine")
    old = machine.directory(tree, A)
    put(old / METADATA, metadata(title="Another"))
    old.rename(old.with_name(dirname(A, "Another")))
    sync(machine)

    assert names(machine.silo()) == names(tree / ".jp") == [f"{A}-another"]
    assert equal(machine, A, machine.silo(), tree)
    assert (machine.directory(tree, A) / "QUERY_MESSAGE.md").read_text() == "mine"


def test_dual_write_no_cross_root_clobber_of_three(machine, tree):
    """An edit in one worktree reaches the silo and the other worktree, and takes neither's directory away."""
    other = machine.worktree("b", register=False)
    machine.write(other, A, "one")
    machine.ok("register", other)
    put(machine.directory(other, A) / EVENTS, stream("one", "two"))
    sync(machine)

    assert equal(machine, A, machine.silo(), tree, other)
    assert machine.questions(tree, A) == ["one", "two"]
    assert sync(machine)["written"] == 0


# -- units -------------------------------------------------------------------------------------


@pytest.mark.parametrize("newer", ["worktree", "silo"])
def test_base_config_only_edit(machine, tree, newer):
    """An edit of base_config.json alone moves its events along: files of two roots are never paired."""
    edited, other = (tree, machine.silo()) if newer == "worktree" else (machine.silo(), tree)
    put(machine.directory(other, A) / EVENTS, stream("1", "2", "3", "4", "5"), LONG_AGO + 150)
    put(machine.directory(edited, A) / EVENTS, stream("1", "2", "3"), LONG_AGO + 100)
    put(machine.directory(edited, A) / "base_config.json", b'{"edited": true}', LONG_AGO + 200)
    sync(machine)

    for root in (tree, machine.silo()):
        assert raw(machine, root, A, "base_config.json") == b'{"edited": true}'
        assert machine.questions(root, A) == ["1", "2", "3"]
    assert in_step(machine, A, tree, machine.silo())
    lost = [v["events"] for v in machine.ok("history", A, "--json").json["versions"] if v["unit"] == "stream"]
    assert 5 in lost


def test_base_config_only_edit_of_a_legacy_stream(machine, tree):
    """Without a base_config.json the age of the events is the age of the stream."""
    packed = {"type": "config_delta", "timestamp": "2023-11-14 22:13:20.0", "delta": {}}
    at = machine.directory(tree, A)
    put(at / EVENTS, as_jp([packed]), LONG_AGO + 100)
    (at / "base_config.json").unlink()
    put(machine.directory(machine.silo(), A) / "base_config.json", b'{"edited": true}', LONG_AGO + 200)
    sync(machine)

    assert (at / "base_config.json").read_bytes() == b'{"edited": true}'
    assert machine.questions(tree, A) == ["one"]


# -- import --------------------------------------------------------------------------------------


@pytest.fixture
def external(machine, tree):
    """One that git brought, with a note beside it."""
    (machine.write(tree, B, "one") / "notes.txt").write_text("mine")
    return machine.directory(tree, B)


def presence(machine):
    return rows(machine)[B]["presence"]


def test_import_auto(machine, tree, external):
    """Policy auto: durable after one look, whole, with its times."""
    sync(machine, "--set", "import.policy=auto")

    assert presence(machine) == "projected"
    assert in_step(machine, B, machine.silo(), tree)
    assert (machine.directory(machine.silo(), B) / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", [EVENTS, METADATA, "base_config.json"])
def test_import_on_write(machine, tree, external, name):
    """Policy on-write: external until one of its files changes after it was first seen."""
    for _ in range(2):
        sync(machine, "--set", "import.policy=on-write")
        assert presence(machine) == "workspace_only"
    with open(external / name, "ab") as file:
        file.write(b" ")
    os.utime(external / name)
    sync(machine, "--set", "import.policy=on-write")

    assert presence(machine) == "projected"
    assert in_step(machine, B, machine.silo(), tree)
    assert (machine.directory(machine.silo(), B) / "notes.txt").read_text() == "mine"


def test_import_manual(machine, tree, external):
    """Policy manual: it stays external whatever is written; reading it does not import it either."""
    before = machine.inventory(machine.silo() / "conversations")
    put(external / EVENTS, stream("one", "two"))
    sync(machine, "--set", "import.policy=manual")
    for command in ("ls", "show", "path"):
        machine.ok(command, *([B] if command != "ls" else []))

    assert presence(machine) == "workspace_only"
    assert machine.inventory(machine.silo() / "conversations") == before
    assert machine.ok("path", B).out.strip() == str(external)
