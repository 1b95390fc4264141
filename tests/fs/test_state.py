"""`state.db` on a real disk: schema, readers beside writers, what may be in it, who may read it."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync_agent import records, state
from convsync_agent.errors import StorageProblem, UsageProblem
from convsync_agent.model import MANAGED, Copy, Extra, FileCopy, Grade, Kind, Partition, Root, Stamp, UnitCopy
from convsync_agent.state import Attention, Workspace, Worktree
from faults import World
from machine import as_jp

C = 17_000_000_001
ROW = Worktree("/w", "abcde", True, False, 1, None, None)


@pytest.fixture
def opened(tmp_path):
    made = state.writer(str(tmp_path))
    yield made
    made.close()


def raw(path):
    return sqlite3.connect(path / state.NAME)


# -- schema ---------------------------------------------------------------------------


def test_a_new_file_has_the_newest_schema_and_survives_power_failures(opened, tmp_path):
    """WAL, synchronous FULL, `user_version` (design 6)."""
    assert state.VERSION == opened._rows("PRAGMA user_version")[0][0] == len(state.MIGRATIONS)
    assert "wal" == opened._rows("PRAGMA journal_mode")[0][0]
    assert 2 == opened._rows("PRAGMA synchronous")[0][0]


def test_opening_again_changes_nothing(tmp_path):
    """What was committed is there."""
    first = state.writer(str(tmp_path))
    with first.transaction():
        first.put_worktree(ROW)
    first.close()
    second = state.writer(str(tmp_path))
    assert [ROW] == second.worktrees()
    second.close()


def test_a_migration_that_fails_leaves_the_old_schema_whole(tmp_path, monkeypatch):
    """One transaction per step, and the next start tries again."""
    state.writer(str(tmp_path)).close()
    good = (*state.MIGRATIONS, "CREATE TABLE extra (a INTEGER) STRICT; INSERT INTO extra VALUES (1);")
    before = state.VERSION
    monkeypatch.setattr(state, "VERSION", before + 1)
    monkeypatch.setattr(state, "MIGRATIONS", (*state.MIGRATIONS, "CREATE TABLE extra (a INTEGER); SYNTAX ERROR;"))
    with pytest.raises(StorageProblem):
        state.writer(str(tmp_path))
    db = raw(tmp_path)
    assert before == db.execute("PRAGMA user_version").fetchone()[0]
    assert [] == db.execute("SELECT 1 FROM sqlite_master WHERE name = 'extra'").fetchall()
    db.close()
    monkeypatch.setattr(state, "MIGRATIONS", good)
    made = state.writer(str(tmp_path))
    assert [(1,)] == made._rows("SELECT a FROM extra")
    made.close()


@pytest.mark.parametrize("way", [state.writer, state.reader])
def test_a_newer_file_is_refused_and_not_touched(tmp_path, way):
    """Exit 2 with a way out; not one byte of it changes."""
    state.writer(str(tmp_path)).close()
    db = raw(tmp_path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = (tmp_path / state.NAME).read_bytes()
    with pytest.raises(UsageProblem) as caught:
        way(str(tmp_path))
    assert "newer-state" == caught.value.code
    assert before == (tmp_path / state.NAME).read_bytes()


@pytest.mark.parametrize("way", [state.writer, state.reader])
@pytest.mark.parametrize(
    "content", [b"not a database" * 100, b"SQLite format 3\0" + b"\xff" * 4000], ids=["text", "torn"]
)
def test_a_damaged_file_is_told_with_a_way_out_and_stays(tmp_path, way, content):
    """Moving it away and registering again loses nothing (R8)."""
    (tmp_path / state.NAME).write_bytes(content)
    with pytest.raises(StorageProblem) as caught:
        way(str(tmp_path))
    assert "state-damaged" == caught.value.code
    assert content == (tmp_path / state.NAME).read_bytes()


def test_without_a_file_there_is_nothing_to_read_and_none_is_made(tmp_path):
    """A look leaves no trace."""
    assert state.reader(str(tmp_path)) is None
    assert [] == list(tmp_path.iterdir())


def test_an_empty_file_is_no_state_yet(tmp_path):
    """The moment between a writer's open and its first commit."""
    (tmp_path / state.NAME).touch()
    assert state.reader(str(tmp_path)) is None


# -- readers and writers ----------------------------------------------------------------


def test_a_reader_neither_blocks_a_writer_nor_sees_half_of_it(opened, tmp_path):
    """It sees what was committed when it began to read, at any length of a transaction of another."""
    reading = state.reader(str(tmp_path))
    reading._db.execute("BEGIN")
    assert [] == reading.worktrees()
    with opened.transaction():
        opened.put_worktree(ROW)
        other = state.reader(str(tmp_path))
        assert [] == other.worktrees()
        other.close()
    assert [] == reading.worktrees()
    reading._db.execute("COMMIT")
    assert [ROW] == reading.worktrees()
    reading.close()


def test_a_reader_can_write_nothing(opened, tmp_path):
    """`status` and `ls` change nothing."""
    reading = state.reader(str(tmp_path))
    with pytest.raises((sqlite3.OperationalError, OSError)), reading.transaction():
        reading.put_worktree(ROW)
    reading.close()
    assert [] == opened.worktrees()


def test_a_transaction_that_is_left_by_an_exception_never_was(opened):
    """Also by a signal handler's."""
    with contextlib.suppress(SystemExit), opened.transaction():
        opened.put_worktree(ROW)
        sys.exit()
    assert [] == opened.worktrees()
    with opened.transaction():
        opened.put_worktree(ROW)
    assert [ROW] == opened.worktrees()


def test_a_full_disk_is_an_os_error_and_the_state_stays_usable(opened):
    """So that it becomes data of the conversation concerned, like any other full disk."""
    pages = opened._rows("PRAGMA page_count")[0][0]
    opened._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OSError, match="full"), opened.transaction():
        opened.put_pending("abcde", C, "/w", "x" * 1_000_000)
    opened._db.execute("PRAGMA max_page_count = 1000000")
    with opened.transaction():
        opened.put_worktree(ROW)
    assert [ROW] == opened.worktrees()


WRITE = """
import sys
from convsync_agent import state
opened = state.writer(sys.argv[1])
for number in range(40):
    with opened.transaction():
        opened.put_records([("abcde", sys.argv[2], number, sys.argv[2].encode())])
opened.close()
"""


def test_writers_of_several_processes_take_turns_from_the_first_open_on(tmp_path):
    """No "database is locked", not even while the file is made; no row is lost."""
    roots = [f"/r{n}" for n in range(4)]
    argv = [sys.executable, "-c", WRITE, str(tmp_path)]
    processes = [subprocess.Popen([*argv, r], stderr=subprocess.PIPE, text=True) for r in roots]
    errors = [p.communicate()[1] for p in processes]
    assert [0] * 4 == [p.returncode for p in processes], errors
    opened = state.reader(str(tmp_path))
    for root in roots:
        assert opened.records("abcde", root) == {n: root.encode() for n in range(40)}
    opened.close()


@pytest.mark.parametrize("umask", [0o022, 0o000], ids=["022", "000"])
def test_only_the_owner_may_read_it_and_what_lies_beside_it(tmp_path, umask):
    """0600 from the first byte on, the write-ahead log too (design 5)."""
    old = os.umask(umask)
    try:
        opened = state.writer(str(tmp_path))
        with opened.transaction():
            opened.put_worktree(ROW)
        modes = {p.name: oct(stat.S_IMODE(p.stat().st_mode)) for p in tmp_path.iterdir()}
    finally:
        os.umask(old)
    opened.close()
    assert {"0o600"} == set(modes.values()), modes


# -- contents -----------------------------------------------------------------------------


def test_the_registry_forgets_a_worktree_with_all_that_was_seen_in_it(opened):
    """The last worktree of a workspace takes the workspace along; others stay."""
    two = ROW._replace(path="/x", workspace="fghij")
    with opened.transaction():
        for row in (ROW, two):
            opened.put_worktree(row)
            opened.put_workspace(Workspace(row.workspace, "/silo", "/data"))
            opened.put_records([(row.workspace, f"{row.path}/.jp", C, b"r"), (row.workspace, "/silo", C, b"s")])
            opened.put_attention(Attention("held", row.workspace, C, f"{row.path}/.jp", 5, "d", False))
            opened.put_pending(row.workspace, C, "/silo", "{}")
        opened.remove_worktree("/w", "/w/.jp")
    assert [two] == opened.worktrees()
    assert ["fghij"] == [w.id for w in opened.workspaces()]
    assert ["fghij"] == [a.workspace for a in opened.attention()]
    assert ["fghij"] == [p[0] for p in opened.pending()]
    assert {} == opened.records("abcde", "/silo")
    assert {C: b"s"} == opened.records("fghij", "/silo")


def test_a_silo_takes_its_records_to_its_final_name(opened):
    """It is built under a temporary one."""
    with opened.transaction():
        opened.put_records([("abcde", "/tmp-silo", C, b"r")])
        opened.put_pending("abcde", C, "/tmp-silo", "{}")
        opened.put_attention(Attention("held", "abcde", C, "/tmp-silo", 5, "d", False))
        opened.rename_root("/tmp-silo", "/silo")
    assert {C: b"r"} == opened.records("abcde", "/silo")
    assert ["/silo"] == [p[2] for p in opened.pending()]
    assert ["/silo"] == [a.root for a in opened.attention()]


def test_attention_keeps_its_first_time(opened):
    """Since when it is so, whatever is said of it now."""
    entry = Attention("held", "abcde", C, "/w", 5, "first", False)
    with opened.transaction():
        opened.put_attention(entry)
        opened.put_attention(entry._replace(since_ms=9, detail="then"))
    assert [entry._replace(detail="then")] == opened.attention()


def test_the_log_is_bounded(opened, monkeypatch):
    """The newest rows stay."""
    monkeypatch.setattr(state, "LOG_ROWS", 10)
    with opened.transaction():
        opened.log([(n, "update", "abcde", C, "stream", "", "", 0) for n in range(25)])
        opened.trim_log()
    assert list(range(15, 25)) == [r[0] for r in opened._rows("SELECT at_ms FROM log ORDER BY at_ms")]


def test_no_text_of_a_conversation_is_in_it_nor_its_name(tmp_path, monkeypatch):
    """Not a title, a slug, an event, nor the name of an unmanaged file, in any file of the state (R9)."""
    world = World(tmp_path, monkeypatch)
    a, b = world.enroll("a"), world.enroll("b")
    for top in (a, b):
        world.write(top, C, "canary-text", slug="canary-slug", title="canary-title")
    (world.directory(a, C) / "canary-extra.md").write_text("canary-content")
    world.register("a", "b")
    moved = world.directory(a, C)
    (moved / "metadata.json").write_bytes(as_jp({"last_activated_at": "x", "title": "canary-new"}))
    moved = moved.rename(moved.with_name(f"{C}-canary-new"))
    (moved / "events.json").write_bytes(b"[canary-broken")
    world.sync()
    (world.directory(b, C) / "metadata.json").write_bytes(as_jp({"last_activated_at": 5, "title": "canary-held"}))
    world.sync()
    for path in world.state_dir.iterdir():
        assert b"canary" not in path.read_bytes(), path.name


# -- records --------------------------------------------------------------------------------

times = st.integers(-(2**62), 2**62)
stamps = st.builds(Stamp, times, st.integers(0, 2**40), st.integers(0, 2**64 - 1), times)
digests = st.binary(min_size=16, max_size=16).filter(any)
files = st.tuples(*(st.builds(FileCopy, st.just(n), st.none() | stamps, digests) for n in MANAGED))
names = st.text(max_size=20).map(lambda t: f"{C}-{t}")
extras = st.lists(st.builds(Extra, st.text(min_size=1, max_size=9), stamps), max_size=3, unique_by=lambda e: e.path)


def copy_of(found, name, extra, *, archived=False, inode=7):
    part = Partition.ARCHIVED if archived else Partition.LIVE
    one, two = UnitCopy(found[:2]), UnitCopy(found[2:])
    return Copy(Root(Kind.SILO, "/s"), C, name, part, inode, one, two, tuple(sorted(extra)))


@given(files, names, extras, st.booleans(), st.integers(0, 2**64 - 1), times, times)
def test_a_record_gives_back_what_went_in(found, name, extra, archived, inode, dir_mtime, taken_at):
    """Stamps, digests, partition, inode; an absent file stays absent; and it takes few bytes."""
    copy = copy_of(found, name, extra, archived=archived, inode=inode)
    packed = records.pack(copy, dir_mtime, taken_at)
    record = records.unpack(packed)
    assert len(packed) == records.SIZE < 256
    assert record.archived is archived
    assert record.inode == inode
    assert record.dir_mtime == dir_mtime == records.dir_mtime_of(packed)
    assert record.stamps == tuple(f.stamp for f in found)
    assert record.sound is copy.whole
    agreed = record.agreed()
    assert agreed.stream == copy.stream.digest
    assert agreed.metadata == copy.metadata.digest
    for file in found:
        fresh = records.racy(file.stamp, taken_at)
        if file.stamp is not None:
            assert record.known(file.name, file.stamp) == (None if fresh else file.digest)
            assert record.known(file.name, file.stamp._replace(size=file.stamp.size + 1)) is None
    quiet = not any(records.racy(f.stamp, taken_at) for f in found)
    assert records.settled(packed) is (copy.whole and quiet and not extra)


@pytest.mark.parametrize("grade", [g for g in Grade if g is not Grade.VALID])
def test_a_unit_that_is_not_valid_makes_no_sound_record(grade):
    """Its digest is never believed without being read again."""
    found = tuple(FileCopy(n, Stamp(1, 1, 1, 1), b"d" * 16) for n in MANAGED)
    copy = copy_of(found, str(C), ())
    bad = Copy(copy.root, C, copy.name, copy.partition, 7, UnitCopy(found[:2], grade), copy.metadata)
    packed = records.pack(bad, 1, 10**18)
    assert not records.settled(packed)
    assert not records.unpack(packed).sound


@pytest.mark.parametrize("ns", [2**63, 13_569_465_600 * 10**9, -(2**63) - 1])
def test_a_time_that_does_not_fit_is_never_believed(ns):
    """It is read again each time, and that is all."""
    found = tuple(FileCopy(n, Stamp(ns, 1, 1, 1), b"d" * 16) for n in MANAGED)
    packed = records.pack(copy_of(found, str(C), ()), ns, time.time_ns())
    assert not records.settled(packed)
    assert records.unpack(packed).known("events.json", found[1].stamp) is None
