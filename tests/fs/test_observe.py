"""One conversation as it is seen: stamps, digests, grades, unmanaged files, and what is never followed."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import time
from contextlib import nullcontext

import pytest

from convsync_agent import fs, observe, records
from convsync_agent.content import check_events
from convsync_agent.digest import content_digest
from convsync_agent.extras import MAX_DEPTH
from convsync_agent.model import Grade, Kind, Partition, Root
from convsync_agent.observe import Contents, Eye
from convsync_agent.scan import Place
from machine import as_jp, event, put

C = 17_000_000_001
HOUR = 3600 * 10**9
GOOD = {
    "base_config.json": as_jp({}),
    "events.json": as_jp([event()]),
    "metadata.json": as_jp({"last_activated_at": "x"}),
}
PACKED = as_jp([event(kind="config_delta", delta={}), event()])


@pytest.fixture
def top(tmp_path):
    path = tmp_path / "conversations" / f"{C}-t"
    path.mkdir(parents=True)
    for name, raw in GOOD.items():
        put(path / name, raw, 10**18 + 7)
    return path


def eye(*, ahead=HOUR, closed=False):
    """Looks an hour after everything was written."""
    return Eye(lambda: time.time_ns() + ahead, lambda *_: 5, lambda *_: closed)


def look(top, at=None, record=None, *, archived=False):
    root = Root(Kind.WORKTREE, str(top.parent.parent.parent if archived else top.parent.parent))
    return (at or eye()).look(root, C, Place(top.name, archived=archived), record)


# -- what is seen ---------------------------------------------------------------------


def test_a_whole_copy(top):
    """Stamps and digests of all three files, the directory's inode and mtime, and no grade but valid."""
    copy, dir_mtime = look(top)
    assert (copy.name, copy.partition, copy.inode) == (f"{C}-t", Partition.LIVE, top.stat().st_ino)
    assert dir_mtime == top.stat().st_mtime_ns
    assert copy.whole
    for unit in (copy.stream, copy.metadata):
        assert unit.grade is Grade.VALID
        for file in unit.files:
            assert file.digest == content_digest(GOOD[file.name])
            assert file.stamp == fs.stamp_of((top / file.name).stat())


FAULTS = {
    "cut": ("events.json", b"[", Grade.INVALID, Grade.VALID),
    "empty": ("events.json", b"", Grade.INVALID, Grade.VALID),
    "nul": ("metadata.json", b"\0" * 50, Grade.VALID, Grade.INVALID),
    "base": ("base_config.json", b"<<<<<<<", Grade.INVALID, Grade.VALID),
    "no-events": ("events.json", None, Grade.INCOMPLETE, Grade.VALID),
    "no-metadata": ("metadata.json", None, Grade.VALID, Grade.INCOMPLETE),
    "not-packed": ("base_config.json", None, Grade.INVALID, Grade.VALID),
}


@pytest.mark.parametrize(("file", "raw", "stream", "metadata"), FAULTS.values(), ids=FAULTS)
def test_grades(top, file, raw, stream, metadata):
    """Per unit; the words for it quote nothing."""
    (top / file).unlink()
    if raw is not None:
        (top / file).write_bytes(raw)
    copy, _ = look(top)
    assert (copy.stream.grade, copy.metadata.grade) == (stream, metadata)
    assert (copy.stream.fault != "") is (stream is not Grade.VALID)


def test_a_packed_pair_is_whole(top):
    """Legacy: the config is the first element, and there is no base config (contract 4.6)."""
    (top / "base_config.json").unlink()
    put(top / "events.json", PACKED)
    copy, _ = look(top)
    assert copy.whole
    assert copy.stream.grade is Grade.VALID


ODD = {
    "symlink": lambda p, t: p.symlink_to(t),
    "dangling": lambda p, t: p.symlink_to(t / "nowhere"),
    "fifo": lambda p, _: os.mkfifo(p),
    "directory": lambda p, _: p.mkdir(),
}


@pytest.mark.parametrize("file", GOOD)
@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_odd_and_never_followed(top, tmp_path, file, kind):
    """Neither source nor target: reported as held, at once, without reading what it leads to."""
    secret = tmp_path / "secret"
    secret.write_bytes(GOOD[file])
    (top / file).unlink()
    ODD[kind](top / file, secret)
    copy, _ = look(top)
    unit = copy.metadata if file == "metadata.json" else copy.stream
    assert unit.grade is Grade.ODD
    assert unit.fault.startswith("held: ")
    assert not unit.exists


@pytest.mark.parametrize("kind", ["symlink", "file", "gone"])
def test_a_conversation_that_is_no_directory_is_an_error(top, kind):
    """Not followed, and never "empty"."""
    top.rename(top.with_name("old"))
    if kind == "symlink":
        top.symlink_to(top.with_name("old"))
    elif kind == "file":
        top.touch()
    with pytest.raises((NotADirectoryError, FileNotFoundError)):
        look(top)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("file", GOOD)
def test_what_may_not_be_read_is_unreadable_and_not_absent(top, file):
    """Its stamp is known, its content is not."""
    (top / file).chmod(0)
    copy, _ = look(top)
    unit = copy.metadata if file == "metadata.json" else copy.stream
    assert unit.grade is Grade.UNREADABLE
    assert unit.fault.startswith("denied: ")
    assert unit.file(file).stamp is not None
    assert copy.whole


# -- when bytes are read ------------------------------------------------------------------


def reads(monkeypatch):
    """The names of files that are read from here on."""
    found = []
    real = fs.read_file

    def spied(name, fd):
        found.append(name)
        return real(name, fd)

    monkeypatch.setattr(fs, "read_file", spied)
    return found


def record_of(copy, dir_mtime, ahead=HOUR):
    return records.unpack(records.pack(copy, dir_mtime, time.time_ns() + ahead))


def test_a_known_stamp_is_not_read_again(top, monkeypatch):
    """By the record of an earlier process, and by memory."""
    first = eye()
    copy, dir_mtime = look(top, first)
    seen = reads(monkeypatch)
    assert copy == look(top, first)[0]
    assert copy == look(top, eye(), record_of(copy, dir_mtime))[0]
    assert [] == seen


@pytest.mark.skipif(not hasattr(fcntl, "F_SETLEASE"), reason="only a lease proves that nobody writes")
@pytest.mark.parametrize("writer", [False, True], ids=["nobody writes", "open for writing"])
def test_what_was_written_a_moment_ago_need_not_rest_to_be_recalled(top, writer):
    """From its record or from the disk: it is quiet at once if nobody can be writing, and else when it has rested."""
    put(top / "events.json", GOOD["events.json"])
    moment = (top / "events.json").stat().st_ctime_ns + 50_000_000
    now = Eye(lambda: moment, lambda *_: 5, lambda *_: False)
    copy, dir_mtime = look(top, now)
    packed = records.pack(copy, dir_mtime, time.time_ns() + HOUR)
    with open(top / "events.json", "ab") if writer else nullcontext():
        recalled, _ = now.recall(copy.root, C, Place(top.name, archived=False), packed)
        assert recalled.stream.quiet is not writer
        assert recalled.stream.closed is look(top, now)[0].stream.closed


def test_a_stamp_that_proves_nothing_yet_is_read_again(top, monkeypatch):
    """Written within one tick of being read: a second write could have left the same stamp."""
    now = eye(ahead=0)
    put(top / "events.json", GOOD["events.json"])
    copy, dir_mtime = look(top, now)
    seen = reads(monkeypatch)
    look(top, eye(), record_of(copy, dir_mtime, ahead=0))
    assert "events.json" in seen


def test_a_record_of_a_split_stream_does_not_vouch_for_a_packed_one(top):
    """The same bytes of events are judged anew when the base config is gone."""
    copy, dir_mtime = look(top)
    record = record_of(copy, dir_mtime)
    (top / "base_config.json").unlink()
    assert look(top, eye(), record)[0].stream.grade is Grade.INVALID
    assert check_events(GOOD["events.json"], packed=True)


def test_a_file_that_changes_while_it_is_read_is_being_written(top, monkeypatch):
    """Never a mixture: no digest, and no age."""
    real = os.read

    def slowly(fd, size):
        raw = real(fd, size)
        if os.fstat(fd).st_ino == (top / "events.json").stat().st_ino:
            with open(top / "events.json", "ab") as file:
                file.write(b" ")
        return raw

    monkeypatch.setattr(os, "read", slowly)
    copy, _ = look(top)
    assert (copy.stream.grade, copy.stream.age_ns) == (Grade.INVALID, 0)
    assert (copy.stream.fault, copy.metadata.grade) == ("being written", Grade.VALID)
    assert {None} == set(copy.stream.digest)


def test_a_file_that_is_replaced_between_stat_and_read_is_being_written(top, monkeypatch):
    """The digest would belong to another stamp."""
    real = fs.read_file

    def late(name, fd):
        if name == "metadata.json":
            put(top / name, as_jp({"last_activated_at": "other"}))
        return real(name, fd)

    monkeypatch.setattr(fs, "read_file", late)
    copy, _ = look(top)
    assert copy.metadata.fault == "being written"


def test_digests_never_mix_versions_under_a_writer(top):
    """Whatever a writer does in a loop: each digest seen is one of a content that was whole once."""
    versions = [as_jp([event(letter * n)]) for n, letter in ((10, "a"), (5000, "b"), (100_000, "c"))]
    allowed = {content_digest(v) for v in (*versions, GOOD["events.json"])}
    stop = threading.Event()

    def write():
        while not stop.is_set():
            for raw in versions:
                put(top / "events.json", raw)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        seen = set()
        one = eye(ahead=0)
        for _ in range(200):
            try:
                copy, _ = look(top, one)
            except FileNotFoundError:  # a temp file of the writer went while it was listed
                continue
            if copy.stream.grade is Grade.VALID:
                seen.add(copy.stream.digest[1])
    finally:
        stop.set()
        thread.join()
    assert seen <= allowed


# -- quiet ----------------------------------------------------------------------------------


def test_a_file_is_quiet_as_soon_as_nobody_has_it_open_for_writing(top):
    """Proof by a lease where there is one; an open writer keeps it unquiet."""
    fresh = eye(ahead=0)
    with open(top / "events.json", "r+b") as writer:
        writer.write(b"[")
        writer.flush()
        assert not look(top, fresh)[0].stream.quiet
        assert look(top, eye(ahead=0, closed=True))[0].stream.quiet
    assert look(top, fresh)[0].stream.quiet in {True, not hasattr(__import__("fcntl"), "F_SETLEASE")}


# -- unmanaged files ----------------------------------------------------------------------------

EXTRAS = {
    "note": ("NOTE.md", True),
    "nested": ("sub/x", True),
    "deep": ("/".join("d" * (MAX_DEPTH)) + "/x", True),
    "too-deep": ("/".join("d" * (MAX_DEPTH + 1)) + "/x", False),
    "draft": ("QUERY_MESSAGE.md", False),
    "nested-draft": ("sub/QUERY_MESSAGE.md", False),
    "dot": (".hidden", False),
    "below-dot": (".git/x", False),
    "temp": ("x.tmp", False),
    "below-temp": ("x.tmp/y", False),
    "conversations": ("conversations/1/x", False),
    "managed": ("events.json", False),
    "managed-below": ("sub/events.json", True),
    "space": ("a b\n", True),
}


@pytest.mark.parametrize(("path", "travels"), EXTRAS.values(), ids=EXTRAS)
def test_which_unmanaged_files_travel(top, path, travels):
    """Everything but drafts, dot names, `*.tmp`, nested conversations, and what lies too deep (design 3)."""
    (top / path).parent.mkdir(parents=True, exist_ok=True)
    if not (top / path).exists():
        (top / path).write_text("x")
    assert [e.path for e in look(top)[0].extras] == ([path] if travels else [])


def test_unmanaged_names_that_are_no_text_travel(top):
    """Any bytes."""
    with open(os.fsencode(top) + b"/\xff\xfe", "wb"):
        pass
    assert [os.fsencode(e.path) for e in look(top)[0].extras] == [b"\xff\xfe"]


@pytest.mark.parametrize("kind", ["file", "directory", "dangling", "loop"])
def test_no_symlink_is_followed_among_them(top, tmp_path, kind):
    """What lies outside stays outside."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/x").write_text("x")
    target = {"file": "outside/x", "directory": "outside", "dangling": "none", "loop": f"conversations/{C}-t"}[kind]
    (top / "link").symlink_to(tmp_path / target)
    (top / "fifo").touch()
    (top / "fifo").unlink()
    os.mkfifo(top / "fifo")
    assert () == look(top)[0].extras


def test_an_archived_copy_is_seen_in_its_place(top):
    """The other partition, the same look."""
    archive = top.parent / ".archive"
    archive.mkdir()
    shutil.move(top, archive)
    copy, _ = look(archive / top.name, archived=True)
    assert copy.partition is Partition.ARCHIVED
    assert copy.whole


# -- memory -----------------------------------------------------------------------------------


def test_the_memory_of_contents_is_bounded():
    """What does not fit is read again."""
    memory = Contents(limit=10)
    memory.put(b"a", b"12345678")
    memory.put(b"b", b"1234")
    assert memory.get(b"a") == b"12345678"
    assert memory.get(b"b") is None
    assert memory.get(None) is None
    memory.clear()
    memory.put(b"b", b"1234")
    assert memory.get(b"b") == b"1234"


def test_the_memory_of_facts_is_bounded(top, monkeypatch):
    """Twenty thousand conversations must not fill it."""
    monkeypatch.setattr(observe, "CACHE_FILES", 2)
    one = eye()
    look(top, one)
    assert 2 >= len(one._facts)
