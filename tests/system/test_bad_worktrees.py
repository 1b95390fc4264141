"""Worktrees that are none, or not quite: a clear message, the right exit code, everything as it was."""

from __future__ import annotations

import os

import pytest

from agents import in_step

A = 17_000_000_001

IDS = {
    "missing": None,
    "empty": b"",
    "merge markers": b"<<<<<<< HEAD\nabcde\n=======\nfghij\n>>>>>>> x\n",
    "trailing blank line": b"abcde\n\n",
    "too long": b"abcdef\n",
    "upper case": b"ABCDE\n",
    "not UTF-8": b"\xff\xfe\xfa\xfb\xfc\n",
}


@pytest.mark.parametrize("raw", IDS.values(), ids=IDS)
def test_a_bad_workspace_id_is_refused(machine, raw):
    """Exit 2, the file named, nothing changed anywhere."""
    tree = machine.worktree("a", register=False)
    (tree / ".jp/.id").unlink()
    if raw is not None:
        (tree / ".jp/.id").write_bytes(raw)
    machine.write(tree, A, "one")
    before = machine.inventory(tree)
    ran = machine.run("register", tree)

    assert (2, True) == (ran.code, "/.id" in ran.err)
    assert before == machine.inventory(tree)
    assert not (machine.base / "data/jp").exists()


@pytest.mark.parametrize("raw", [b"abcde", b"abcde\r\n", b"# any text\nabcde\n"])
def test_a_good_workspace_id_in_any_clothes_is_taken(machine, raw):
    """CRLF, no line end and comment lines above are fine, as for JP (contract 1.2)."""
    tree = machine.worktree("a", register=False)
    (tree / ".jp/.id").write_bytes(raw)

    assert "abcde" == machine.ok("register", tree, "--json").json["workspace"]


def test_what_is_no_worktree(machine):
    """No .jp at or above: exit 3. A .jp that is a file is none."""
    plain = machine.base / "plain"
    plain.mkdir()
    assert machine.run("register", plain).code == 3
    (plain / ".jp").write_text("no directory")
    assert machine.run("register", plain).code == 3
    assert machine.run("register", machine.base / "nowhere").code == 3
    assert machine.run("unregister", plain).code == 3
    assert machine.run("sync").code == 3


def test_a_symlinked_conversations_is_refused(machine):
    """Exit 4 and how to undo it; nothing is followed."""
    tree = machine.worktree("a", register=False)
    (machine.base / "elsewhere").mkdir()
    (tree / ".jp/conversations").symlink_to(machine.base / "elsewhere")
    ran = machine.run("register", tree)

    assert (4, True) == (ran.code, "rm " in ran.err)


def test_a_file_where_conversations_should_be(machine):
    """Exit 2, and the file stays."""
    tree = machine.worktree("a", register=False)
    (tree / ".jp/conversations").write_text("x")

    assert machine.run("register", tree).code == 2
    assert "x" == (tree / ".jp/conversations").read_text()


def test_a_storage_that_is_no_symlink_does_not_stop_us(machine):
    """JP cannot run with it (contract 2.5); convsync does not need it and leaves it alone."""
    silo = machine.silo()
    (silo / "storage").mkdir(parents=True)
    tree = machine.worktree("a", register=False)
    machine.write(tree, A, "one")
    machine.ok("register", tree)

    assert in_step(machine, A, tree, silo)
    assert (silo / "storage").is_dir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere: a read-only home needs a plain user")
def test_a_read_only_home_is_a_storage_problem(machine):
    """Exit 6, the place named, the worktree unchanged."""
    tree = machine.worktree("a", register=False)
    machine.write(tree, A, "one")
    before = machine.inventory(tree)
    os.chmod(machine.base / "data", 0o500)
    try:
        ran = machine.run("register", tree)
    finally:
        os.chmod(machine.base / "data", 0o700)

    assert ran.code == 6
    assert before == machine.inventory(tree)
