"""Contract 11.2: what JP calls invalid and moves away, what convsync makes of it, and how a file is written."""

from __future__ import annotations

import os

from conformance.ground import A, B, index, jp, metadata, plain, registered, rows, store, stream, sync
from convsync_agent.model import METADATA
from convsync_agent.sample import write_as_jp
from jp import directories, fault, trash, unnamed
from machine import LONG_AGO, put

MISSING = object()


def raises(kind, act):
    try:
        act()
    except kind:
        return True
    return False


def contents_stay_with_the_reason(m):
    registered(m, A)
    moved = trash(m.write(m.base / "a", B, "two"), "events.json: cut")
    assert moved == store(m) / "conversations/.trash" / str(B)
    assert "events.json: cut" in (moved / "TRASHED.md").read_text()
    before = m.inventory(moved)
    sync(m)
    assert (moved / "events.json").read_bytes() == stream("two")
    assert m.inventory(moved) == before
    assert list(rows(m)) == [A]


def trashed_again(m, times):
    """The names under which one directory lies after it was trashed so often."""
    registered(m)
    found = [trash(m.write(m.base / "a", A, str(n)), "again").name for n in range(times)]
    sync(m)
    assert index(m) == {}
    return found


def the_first_suffix(m):
    assert trashed_again(m, 2) == [f"{A}", f"{A}-1"]


def the_next_suffix(m):
    assert trashed_again(m, 3) == [f"{A}", f"{A}-1", f"{A}-2"]


def what_is_not_there(m):
    tree = plain(m)
    assert raises(FileNotFoundError, lambda: trash(tree / ".jp/conversations" / str(A), "gone"))
    m.ok("register", tree)
    assert m.run("trash", "restore", f"jp-c{A}").code == 3


# -- what is valid ----------------------------------------------------------------------


def whole_ones_are_valid(m):
    tree = plain(m)
    m.write(tree, A, "one")
    m.write(tree, B, "two")
    assert [fault(p) for p in directories(tree / ".jp")] == ["", ""]
    assert unnamed(tree / ".jp") == []
    m.ok("register", tree)
    assert m.run("verify").code == 0


def a_name_that_is_no_id(m):
    tree = plain(m)
    at = m.write(tree, A, "one")
    other = at.with_name("not-an-id")
    at.rename(other)
    assert unnamed(tree / ".jp") == [other]
    m.ok("register", tree)
    sync(m)
    assert rows(m) == {}
    assert (other / "events.json").read_bytes() == stream("one")


def is_invalid(m, name, body):
    """JP would trash it; convsync does not make it durable, and leaves it as it is."""
    tree = plain(m)
    path = m.write(tree, A, "one") / name
    if body is MISSING:
        path.unlink()
    else:
        put(path, body, LONG_AGO)
    m.write(tree, B, "two")
    before = m.inventory(path.parent)
    reason = fault(path.parent)
    m.ok("register", tree)
    sync(m)
    assert m.directory(m.silo(), A) is None
    assert m.directory(m.silo(), B) is not None
    assert m.inventory(path.parent) == before
    return reason


def no_metadata(m):
    assert is_invalid(m, METADATA, MISSING) == "missing metadata.json"


def broken_metadata(m):
    assert METADATA in is_invalid(m, METADATA, b"not json")


def no_events(m):
    assert is_invalid(m, "events.json", MISSING) == "missing events.json"


def broken_events(m):
    assert "events.json" in is_invalid(m, "events.json", b'[{"type": "chat_request"}]')


def files_and_dot_directories_are_neither(m):
    tree = registered(m, A)
    top = tree / ".jp/conversations"
    (top / "notes.txt").write_text("x")
    (top / ".staging-1").mkdir()
    before = m.inventory(top)
    assert (unnamed(tree / ".jp"), len(directories(tree / ".jp"))) == ([], 1)
    assert jp(m).trashed == []
    sync(m)
    assert m.inventory(top) == before
    assert list(rows(m)) == [A]


def an_invalid_one_goes_to_the_trash(m):
    tree = plain(m)
    (m.write(tree, A, "one") / "events.json").unlink()
    assert jp(m).trashed == [tree / ".jp/conversations/.trash" / str(A)]
    m.ok("register", tree)
    assert rows(m) == {}


def nothing_to_validate(m, make):
    tree = plain(m)
    top = tree / ".jp/conversations"
    if make:
        top.mkdir()
    assert (directories(tree / ".jp"), unnamed(tree / ".jp"), jp(m).trashed) == ([], [], [])
    m.ok("register", tree)
    assert rows(m) == {}


def an_empty_directory(m):
    nothing_to_validate(m, make=True)


def no_directory(m):
    nothing_to_validate(m, make=False)


def temps_within_do_no_harm(m):
    tree = plain(m)
    at = m.write(tree, A, "one")
    (at / "events.json.tmp").write_text("half")
    m.ok("register", tree)
    assert m.questions(m.silo(), A) == ["one"]
    assert not (m.directory(m.silo(), A) / "events.json.tmp").exists()
    assert jp(m).trashed == []
    assert not (at / "events.json.tmp").exists()
    assert list(rows(m)) == [A]


# -- how a file is written ----------------------------------------------------------------


def write(m, body, name="x"):
    """One file as JP writes it; the names that were written."""
    return write_as_jp(str(m.home / name), {"events.json": body})


def a_file_is_made(m):
    assert write(m, stream("one")) == ["events.json"]
    text = (m.home / "x/events.json").read_text()
    assert text.startswith('[\n  {\n    "timestamp": ')
    assert text.endswith("\n  }\n]\n")


def no_temp_is_left(m):
    write(m, b"[]\n")
    assert os.listdir(m.home / "x") == ["events.json"]
    tree = registered(m, A)
    put(m.directory(tree, A) / "events.json", stream("two"))
    sync(m)
    for root in (tree, m.silo()):
        assert not list((m.store(root) / "conversations").rglob("*.tmp"))
        assert not (m.store(root) / "conversations/.convsync").exists()


def a_failed_write_leaves_the_original(m):
    write(m, b"[1]\n")
    (m.home / "x/events.json.tmp").mkdir()
    assert raises(IsADirectoryError, lambda: write(m, b"[2]\n"))
    assert (m.home / "x/events.json").read_bytes() == b"[1]\n"
    tree = registered(m, A)
    put(m.directory(tree, A) / "events.json", stream("two"))
    blocker = m.silo() / "conversations/.convsync"
    blocker.write_text("in the way")
    m.quiet()
    assert m.run("sync", "--json").json["written"] == 0
    assert (m.questions(m.silo(), A), blocker.read_text()) == (["one"], "in the way")
    assert m.ok("status", "--json").json["verdict"] != "in-sync"
    blocker.unlink()
    sync(m)
    assert m.questions(m.silo(), A) == ["two"]


def another_value_replaces(m):
    write(m, b"[1]\n")
    assert write(m, b"[2]\n") == ["events.json"]
    assert (m.home / "x/events.json").read_bytes() == b"[2]\n"


def the_same_value_is_not_written(m):
    tree = registered(m, A)
    before = m.inventory(tree, m.silo() / "conversations")
    for root in (tree, m.silo()):
        assert write_as_jp(str(m.directory(root, A)), {"events.json": stream("one"), METADATA: metadata()}) == []
    assert sync(m)["written"] == 0
    assert m.inventory(tree, m.silo() / "conversations") == before


def another_value_has_another_time(m):
    tree = registered(m, A)
    assert write_as_jp(str(m.directory(tree, A)), {"events.json": stream("two")}) == ["events.json"]
    sync(m)
    for root in (tree, m.silo()):
        at = m.directory(root, A) / "events.json"
        assert (at.read_bytes(), at.stat().st_mtime_ns > LONG_AGO) == (stream("two"), True)


def parents_are_made(m):
    write(m, b"[]\n", "deep/er")
    assert (m.home / "deep/er/events.json").exists()


def left_over(m, name, *, directory=False):
    """Whether something beside the managed files is there after JP started and convsync looked."""
    at = m.directory(registered(m, A), A) / name
    if directory:
        at.mkdir()
    else:
        at.write_text("x")
    jp(m)
    sync(m)
    assert m.questions(m.silo(), A) == ["one"]
    return at.exists()


def stray_temps_go(m):
    assert not left_over(m, "metadata.json.tmp")


def other_files_are_not_cleaned(m):
    assert left_over(m, "notes.txt")


def a_directory_is_no_temp(m):
    assert left_over(m, "work.tmp", directory=True)


def nothing_to_clean(m):
    tree = plain(m)
    assert not (tree / ".jp/conversations").exists()
    jp(m)
    m.ok("register", tree)
    m.ok("sync")
