"""Kept copies on real directories: what is held and how, what comes back, what crashes leave."""

from __future__ import annotations

import errno
import gzip
import json
import os
import pickle
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from convsync_agent import fs, grip, kernel, plot
from convsync_agent.digest import content_digest
from convsync_agent.keepsake import MANIFEST, How
from convsync_agent.model import Copy, Kind, Partition, Root, Unit
from convsync_agent.observe import Eye
from convsync_agent.pressing import OLDER_MS
from convsync_agent.rules import DAY_MS
from convsync_agent.scan import Place
from convsync_agent.shelter import Shelter
from faults import Faults
from machine import as_jp, event, put

WS, C = "abcde", 17_000_000_001
T0 = 1_800_000_000_000
MTIME = 1_700_000_000_123_456_789
FILES = ("base_config.json", "events.json", "metadata.json")
ALL = {"files": 10**6, "size": 1 << 40, "older_ms": 0}


@pytest.fixture(autouse=True)
def _leases():
    """As in every process of ours: who opens a file while a lease on it is held sends us a signal."""
    old = signal.signal(signal.SIGIO, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGIO, old)


class Silo:
    """One silo, written to as JP does, and the kept copies beside it."""

    def __init__(self, base, data=None):
        self.root = Root(Kind.SILO, str(base / "silo"))
        self.data = Path(data or base / "data")
        self.shelter = Shelter(str(self.data))
        self.saved = []

    def directory(self, conversation=C, *, archived=False):
        top = Path(self.root.path, "conversations", ".archive" if archived else "")
        return top / f"{conversation}-my-private-title"

    def write(self, text="one", conversation=C, mtime_ns=MTIME, *, archived=False):
        top = self.directory(conversation, archived=archived)
        top.mkdir(parents=True, exist_ok=True)
        values = ({}, [event(text)], {"last_activated_at": "2023-11-14 22:13:20.0"})
        for name, value in zip(FILES, values, strict=True):
            raw = as_jp(value)
            if not (top / name).exists() or (top / name).read_bytes() != raw:
                put(top / name, raw, mtime_ns)
        return top

    def copy(self, conversation=C, *, archived=False) -> Copy:
        """As the engine sees it, long after the last write."""
        eye = Eye(lambda: 2 * 10**18, lambda *_: 10**12, lambda *_: True)
        place = Place(self.directory(conversation).name, archived=archived)
        return eye.look(self.root, conversation, place, None)[0]

    def keep(self, conversation=C, *, at_ms=T0, **facts):
        return self.shelter.keep(WS, self.copy(conversation, **facts), at_ms=at_ms)

    def remove(self, conversation=C, at_ms=T0):
        """What a person does, and what the engine says of it."""
        shutil.rmtree(self.directory(conversation))
        assert self.shelter.removed(WS, conversation, at_ms)

    def settle(self, now_ms=T0 + OLDER_MS, shelter=None, **limits):
        return (shelter or self.shelter).settle(now_ms, lambda *args: self.saved.append(args), **limits)

    def place(self, conversation=C):
        return self.data / "trash" / WS / f"jp-c{conversation}"

    def names(self, conversation=C):
        return {p.name for p in self.place(conversation).iterdir()}

    def due(self):
        return [int(p.name[4:]) for p in (self.data / "trash" / WS / ".due").glob("*")]

    def how(self, conversation=C):
        return {f.name: f.how for f in self.shelter.held(WS, conversation).files}

    def restored(self, conversation=C, shelter=None):
        """name: (mtime, content) of what comes back."""
        top = self.data.with_name(f"restored-{random.randrange(10**12)}")
        top.mkdir()
        with fs.opened_dir(str(top)) as fd:
            (shelter or self.shelter).restore_into(WS, conversation, fd, sync=False)
        return contents(top)


def contents(top):
    files = [p for p in sorted(top.rglob("*")) if p.is_file()]
    return {p.relative_to(top).as_posix(): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


@pytest.fixture
def silo(tmp_path):
    return Silo(tmp_path)


# -- keeping and restoring ------------------------------------------------------------


@pytest.mark.parametrize("settled", [False, True], ids=["at once", "settled"])
def test_what_was_removed_comes_back(silo, settled):
    """Bytes and times to the nanosecond, in the minute of links and after it."""
    before = contents(silo.write())
    assert silo.keep().new
    if settled:
        silo.settle()
    silo.remove()
    assert silo.restored() == before
    assert {(n, (t, raw)) for n, raw, t in silo.shelter.read(WS, C)} == set(before.items())


def test_unmanaged_files_are_kept_too(silo):
    """With their paths; an unmanaged file that changes makes a new kept copy, one that does not is not read again."""
    top = silo.write()
    (top / "notes/deep").mkdir(parents=True)
    (top / "notes/deep/a.md").write_bytes(b"a")
    (top / "b.bin").write_bytes(b"\0\xff")
    silo.keep()
    assert silo.restored() == contents(top)
    assert not silo.keep().new
    (top / "b.bin").write_bytes(b"other")
    assert silo.keep().new
    silo.settle()
    assert silo.restored() == contents(top)


def test_a_legacy_pair_is_whole(silo):
    """A stream without base_config.json is kept as such."""
    top = silo.write()
    (top / "base_config.json").unlink()
    (top / "events.json").write_bytes(as_jp([event(kind="config_delta", delta={}), event()]))
    assert silo.keep().new
    held = silo.shelter.held(WS, C)
    assert held.whole
    assert held.digest(Unit.STREAM)[0] is None
    assert silo.restored() == contents(top)


def test_the_manifest_describes_itself_and_holds_no_title(silo):
    """Ids, partition, times, files; the directory's name is chat text and is nowhere (R9)."""
    silo.write()
    silo.shelter.keep(WS, silo.copy(), at_ms=T0, events=1)
    data = json.loads((silo.place() / MANIFEST).read_bytes())
    files = data.pop("files")
    assert data == {
        "schema": 1,
        "workspace": WS,
        "conversation": f"jp-c{C}",
        "partition": "live",
        "at": T0,
        "removed": None,
        "events": 1,
    }
    raw = (silo.directory() / "events.json").read_bytes()
    inode = (silo.directory() / "events.json").stat().st_ino
    digest = content_digest(raw).hex()
    assert files[1] == {
        "name": "events.json",
        "digest": digest,
        "size": len(raw),
        "mtime_ns": MTIME,
        "how": "link",
        "held": f"{digest}.events.{inode}.link",
    }
    assert not [p for p in silo.data.rglob("*") if "title" in str(p)]
    assert b"title" not in (silo.place() / MANIFEST).read_bytes()


def test_equal_content_costs_one_stat(silo, monkeypatch):
    """A second kept copy of it is none, whoever asks; where it was asked before, nothing is even opened."""
    silo.write()
    copy = silo.copy()
    assert silo.shelter.keep(WS, copy, at_ms=T0).new
    before = contents(silo.data)
    again = Shelter(str(silo.data))
    assert again.keep(WS, copy, at_ms=T0 + 1) == (False, {})
    calls = []
    for name in ("open", "stat", "lstat", "listdir", "mkdir", "link"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, _real=real, _name=name, **k: calls.append(_name) or _real(*a, **k))
    assert again.current(WS, copy)
    assert again.keep(WS, copy, at_ms=T0 + 2) == (False, {})
    assert calls == ["lstat", "lstat"]
    assert contents(silo.data) == before


def test_newer_content_replaces_what_was_kept(silo):
    """One kept copy at a time; a file that did not change stays held as it is."""
    silo.write("one")
    silo.keep()
    base = silo.shelter.held(WS, C).files[0]
    silo.write("two", mtime_ns=MTIME + 1)
    assert silo.keep().new
    assert silo.shelter.held(WS, C).files[0] == base
    assert silo.restored() == contents(silo.directory())
    assert len(silo.names()) == 4
    silo.settle()
    assert silo.names() == {MANIFEST, *(f.held for f in silo.shelter.held(WS, C).files)}


def test_another_process_is_noticed(silo):
    """What one remembers of a kept copy is good only while nobody published another."""
    silo.write("one")
    one = silo.copy()
    silo.keep()
    silo.write("two")
    other = Shelter(str(silo.data))
    assert other.keep(WS, silo.copy(), at_ms=T0).new
    assert not silo.shelter.current(WS, one)
    assert silo.shelter.current(WS, silo.copy())


def test_the_partition_is_part_of_it(silo):
    """An archived conversation is put back among the archived; its files stay held as they are."""
    silo.write()
    silo.keep()
    before = silo.shelter.held(WS, C)
    target = silo.directory(archived=True)
    target.parent.mkdir()
    silo.directory().rename(target)
    assert silo.keep(archived=True).new
    held = silo.shelter.held(WS, C)
    assert (held.partition, held.files) == (Partition.ARCHIVED, before.files)


@pytest.mark.parametrize("how", ["broken", "lacking", "young", "unread"])
def test_only_a_whole_valid_quiet_copy_replaces_a_kept_one(silo, how):
    """A broken durable copy never keeps a good one out (R3)."""
    before = contents(silo.write())
    silo.keep()
    if how == "broken":
        put(silo.directory() / "events.json", b"[")
    elif how == "lacking":
        (silo.directory() / "metadata.json").unlink()
    else:
        silo.write("two")
    copy = silo.copy()
    if how == "young":
        copy = changed(copy, age_ns=0, closed=False)
    elif how == "unread":
        copy = changed(copy, files=tuple(changed(f, digest=None) for f in copy.stream.files))
    assert silo.shelter.keep(WS, copy, at_ms=T0) == (False, {})
    assert silo.restored() == before


def changed(value, **facts):
    """A value with other facts; of a copy, those of its stream."""
    return (
        replace(value, **facts)
        if not isinstance(value, Copy)
        else replace(value, stream=replace(value.stream, **facts))
    )


def test_zero_days_keep_nothing(silo):
    """`trash.keep_days = 0` makes no kept copies and no directory."""
    silo.write()
    assert Shelter(str(silo.data), keep_days=0).keep(WS, silo.copy(), at_ms=T0) == (False, {})
    assert not silo.data.exists()


@pytest.mark.parametrize("how", ["replaced", "written", "gone", "symlink", "directory gone"])
def test_what_is_not_as_planned_is_not_kept(silo, how):
    """The stamp is taken again after linking; what was kept before stays as it is."""
    before = contents(silo.write("one"))
    silo.keep()
    silo.write("two")
    copy, events = silo.copy(), silo.directory() / "events.json"
    if how == "replaced":
        put(events, as_jp([event("three")]), MTIME + 5)
    elif how == "written":
        with events.open("ab") as file:
            file.write(b" ")
    elif how == "gone":
        events.unlink()
    elif how == "symlink":
        events.rename(events.with_name("other"))
        events.symlink_to("other")
    else:
        shutil.rmtree(silo.directory())
    with pytest.raises((fs.ChangedError, FileNotFoundError)):
        silo.shelter.keep(WS, copy, at_ms=T0)
    assert silo.restored() == before
    silo.settle()
    assert len(silo.names()) == 4
    assert silo.due() == []


def test_new_ctimes_are_told(silo):
    """A link changes the ctime of the durable file and nothing else: twice, and both times it is said."""
    silo.write()
    seen = silo.copy()
    taken = silo.keep()
    now = {n: fs.stamp_of((silo.directory() / n).stat()) for n in FILES}
    assert taken.bumped == now
    pressed = silo.settle()
    after = {n: fs.stamp_of((silo.directory() / n).stat()) for n in FILES}
    assert {b.name: b.stamp for b in pressed.bumped} == after
    assert all(after[f.name][:3] == f.stamp[:3] for f in (*seen.stream.files, *seen.metadata.files))
    silo.remove()
    assert silo.settle().bumped == []


# -- how it is held -------------------------------------------------------------------


def test_a_link_is_exchanged_for_compressed_content(silo):
    """Not before its time; then nothing is linked, nothing is due and nothing more is written."""
    silo.write()
    silo.keep()
    assert set(silo.how().values()) == {How.LINK}
    assert silo.settle(T0 + OLDER_MS - 1).files == 0
    assert set(silo.how().values()) == {How.LINK}
    pressed = silo.settle()
    assert (pressed.files, pressed.saved, pressed.waiting) == (3, 0, 0)
    assert set(silo.how().values()) == {How.PACKED}
    assert all((silo.directory() / n).stat().st_nlink == 1 for n in FILES)
    raw = (silo.directory() / "events.json").read_bytes()
    assert gzip.decompress((silo.place() / f"{content_digest(raw).hex()}.gz").read_bytes()) == raw
    before = contents(silo.data)
    assert silo.settle(T0 + 10**9).files == 0
    assert contents(silo.data) == before
    assert silo.due() == []


def test_a_conversation_that_never_rests_is_settled_in_time(silo):
    """The time runs from the first link, however often a new one comes."""
    for n in range(4):
        silo.write(str(n))
        silo.keep(at_ms=T0 + n * 10_000)
    assert silo.settle(T0 + OLDER_MS).files == 3


def test_a_clock_that_went_back_delays_nothing(silo):
    """What is due since a time to come is due."""
    silo.write()
    silo.keep(at_ms=T0 + 10**9)
    assert silo.settle(T0).files == 3


def test_work_is_bounded(silo):
    """So many files or bytes at each call, at least one; what is left is told, and another process can do it."""
    for n in range(5):
        silo.write(conversation=C + n)
        silo.keep(C + n)
    one = silo.settle(files=4)
    assert (one.files, one.waiting > 0) == (4, True)
    two = silo.settle(shelter=Shelter(str(silo.data)), size=1)
    assert (two.files, two.waiting > 0) == (1, True)
    assert len(silo.due()) == 4
    three = silo.settle(**ALL)
    assert (three.files, three.waiting, silo.due()) == (10, 0, [])
    for n in range(5):
        silo.remove(C + n)
        assert len(silo.restored(C + n)) == 3


def test_a_write_in_place_through_a_link_is_noticed(silo):
    """Its bytes go to the history with their name and time, the entry goes, the rest stays."""
    top = silo.write()
    silo.keep()
    raw = as_jp([event("written in place")])
    (top / "events.json").write_bytes(raw)
    os.utime(top / "events.json", ns=(MTIME + 9, MTIME + 9))
    assert silo.shelter.held(WS, C).whole
    with pytest.raises(fs.ChangedError):
        silo.shelter.read(WS, C)
    assert silo.settle().saved == 1
    assert silo.saved == [(WS, C, "events.json", raw, MTIME + 9)]
    held = silo.shelter.held(WS, C)
    assert [f.name for f in held.files] == ["base_config.json", "metadata.json"]
    assert not held.whole
    assert (top / "events.json").read_bytes() == raw
    assert silo.keep().new
    assert silo.restored() == contents(top)


def test_a_write_in_place_before_a_removal_is_saved_once(silo):
    """The last name of it is the link, which goes when its bytes are in the history; a touch alone saves nothing."""
    top = silo.write()
    silo.keep()
    (top / "events.json").write_bytes(b"in place")
    os.utime(top / "metadata.json", ns=(5, 5))
    silo.remove()
    assert silo.settle().saved == 1
    assert [(s[2], s[3]) for s in silo.saved] == [("events.json", b"in place")]
    assert set(silo.restored()) == {"base_config.json", "metadata.json"}
    assert len(silo.names()) == 3
    assert silo.due() == []


@pytest.mark.parametrize("how", ["symlink", "directory"])
def test_a_stranger_in_our_trash_stops_only_its_place(silo, how):
    """What is no file of ours is neither followed nor removed; the trouble is an OSError, the rest is done."""
    for n in range(2):
        silo.write(conversation=C + n)
        silo.keep(C + n)
    held = silo.place() / silo.shelter.held(WS, C).files[1].held
    held.unlink()
    held.symlink_to("/nowhere") if how == "symlink" else held.mkdir()
    with pytest.raises((fs.ChangedError, OSError)):
        silo.shelter.read(WS, C)
    with pytest.raises(OSError, match=r".") as told:
        silo.settle(**ALL)
    assert "title" not in str(told.value)
    assert set(silo.how(C + 1).values()) == {How.PACKED}
    assert silo.due() == [C]


def test_a_write_in_place_before_a_replacement_is_not_lost(silo):
    """Then the link is the last name of what was written: `keep` leaves it to `settle`, which saves it."""
    top = silo.write()
    silo.keep()
    raw = as_jp([event("only here")])
    (top / "events.json").write_bytes(raw)
    silo.write("two")
    silo.keep()
    assert silo.restored() == contents(top)
    assert silo.settle().saved == 1
    assert silo.saved[0][:4] == (WS, C, "events.json", raw)
    assert len(silo.names()) == 4
    assert silo.due() == []


def test_a_writer_who_has_the_last_name_open_is_waited_for(silo):
    """RACE of `grip.release`: what he writes after the durable file was replaced is not lost either."""
    top = silo.write()
    silo.keep()
    raw = as_jp([event("late")])
    with (top / "events.json").open("r+b") as writer:
        if not kernel.being_written(writer.fileno()):
            pytest.skip("no leases on this file system")
        silo.write("two")
        silo.keep()
        assert silo.settle().waiting == 1
        assert silo.due() == [C]
        writer.truncate()
        writer.write(raw)
    assert silo.settle().waiting == 0
    assert [s[3] for s in silo.saved] == [raw]


def test_a_history_that_refuses_stops_nothing_from_being_there(silo):
    """What could not be saved stays held, and is offered again."""
    top = silo.write()
    silo.write(conversation=C + 1)
    silo.keep()
    silo.keep(C + 1)
    (top / "events.json").write_bytes(as_jp([event("in place")]))

    def refuse(*_):
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(OSError, match="full"):
        silo.shelter.settle(T0, refuse, **ALL)
    assert silo.due() == [C]
    assert set(silo.how(C + 1).values()) == {How.PACKED}
    assert silo.settle(**ALL).saved == 1


@pytest.mark.parametrize("error", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP])
def test_without_links_it_is_compressed_at_once(silo, monkeypatch, error):
    """Another file system, a system that refuses, too many names: the same kept copy, and it is synced later."""

    def refuse(*_, **__):
        raise OSError(error, os.strerror(error))

    before = contents(silo.write())
    monkeypatch.setattr(os, "link", refuse)
    assert silo.keep() == (True, {})
    assert set(silo.how().values()) == {How.PACKED}
    synced = []
    real = kernel.fsync
    monkeypatch.setattr(kernel, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino) or real(fd))
    silo.settle()
    assert synced[:3] == [(silo.place() / f.held).stat().st_ino for f in silo.shelter.held(WS, C).files]
    silo.remove()
    assert silo.restored() == before


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs a second file system")
def test_a_data_directory_on_another_file_system(tmp_path):
    """For real: memory here, disk there."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        if os.stat(elsewhere).st_dev == tmp_path.stat().st_dev:
            pytest.skip("the same file system")
        silo = Silo(tmp_path, Path(elsewhere) / "data")
        before = contents(silo.write())
        silo.keep()
        assert set(silo.how().values()) == {How.PACKED}
        silo.settle()
        assert silo.restored() == before


def test_a_reflink_is_a_file_of_its_own(silo, monkeypatch):
    """Where the file system shares blocks nothing is linked: a write in place does not reach it."""

    def share(source, path):  # what FICLONE does, seen from outside
        Path(path).write_bytes(os.pread(source, 1 << 20, 0))
        return True

    monkeypatch.setattr(grip, "_no_clones", set())
    monkeypatch.setattr(grip, "share_blocks", share)
    top = silo.write()
    (top / "a.md").write_bytes(b"a")
    before = contents(top)
    assert silo.keep() == (True, {})
    assert set(silo.how().values()) == {How.CLONE}
    (top / "events.json").write_bytes(b"in place")
    assert silo.restored() == before
    assert silo.settle().saved == 0
    assert set(silo.how().values()) == {How.CLONE}
    put(top / "events.json", as_jp([event("two")]))
    silo.keep()
    assert len(silo.names()) == 5
    events = silo.copy()
    (top / "events.json").write_bytes(b"[] ")
    with pytest.raises(fs.ChangedError):
        Shelter(str(silo.data) + "2").keep(WS, events, at_ms=T0)


def test_the_real_reflink_is_tried_once(silo, monkeypatch):
    """A file system that cannot is asked once for each device; one that can holds by it."""
    asked = []
    real = grip.share_blocks
    monkeypatch.setattr(grip, "share_blocks", lambda s, p: asked.append(p) or real(s, p))
    monkeypatch.setattr(grip, "_no_clones", set())
    before = contents(silo.write())
    silo.keep()
    if How.CLONE in silo.how().values():
        assert len(asked) == 3
    else:
        assert len(asked) == 1
    assert silo.restored() == before


# -- removed ones ---------------------------------------------------------------------


def test_removed_ones_are_listed_and_go_in_time(silo):
    """Retention counts from the removal. What is there is not listed and never goes."""
    for n in range(3):
        silo.write(conversation=C + n)
        silo.keep(C + n, at_ms=T0)
    silo.remove(C, T0)
    silo.remove(C + 1, T0 + 5)
    size = silo.shelter.held(WS, C).size
    assert silo.shelter.ls() == (
        [
            (WS, C + 1, T0 + 5, T0 + 5 + 30 * DAY_MS, size, None, True),
            (WS, C, T0, T0 + 30 * DAY_MS, size, None, True),
        ],
        [],
    )
    assert silo.shelter.ls("other") == ([], [])
    assert silo.shelter.conversations(WS) == {C, C + 1, C + 2}
    assert silo.shelter.prune(T0 + 30 * DAY_MS) == (0, 0)
    assert silo.shelter.prune(T0 + 30 * DAY_MS + 1) == (1, size)
    assert not silo.place().exists()
    assert silo.shelter.held(WS, C) is None
    with pytest.raises(FileNotFoundError):
        silo.shelter.read(WS, C)
    assert silo.shelter.prune(T0 + 10**14).copies == 1
    assert silo.shelter.prune(T0 + 10**14, 0).copies == 0
    assert silo.shelter.held(WS, C + 2) is not None


def test_one_that_came_back_is_not_in_the_trash(silo):
    """By `returned`, or by keeping it again; a second removal counts anew, telling one twice does not."""
    top = silo.write()
    silo.keep()
    saved = silo.directory().with_name("aside")
    shutil.copytree(top, saved)
    silo.remove(at_ms=T0)
    assert not silo.shelter.removed(WS, C, T0 + 7)
    assert silo.shelter.ls()[0][0].removed_ms == T0
    assert silo.shelter.returned(WS, C)
    assert silo.shelter.ls() == ([], [])
    assert silo.shelter.removed(WS, C, T0 + 9)
    saved.rename(top)
    assert silo.keep().new
    assert silo.shelter.ls() == ([], [])
    assert not silo.shelter.removed(WS, C + 1, T0)


def test_emptying_spares_what_is_there_and_the_tombstones(silo):
    """All, one workspace or one conversation; never a conversation that is not gone."""
    for n in range(4):
        silo.write(conversation=C + n)
        silo.keep(C + n)
    for n in range(3):
        silo.remove(C + n)
        (silo.place(C + n) / "tombstone.json").write_text("{}")
    assert silo.shelter.empty("other").copies == 0
    assert silo.shelter.empty(WS, C + 3).copies == 0
    assert silo.shelter.empty(WS, C + 1).copies == 1
    assert silo.shelter.empty().copies == 2
    assert [silo.names(C + n) for n in range(3)] == [{"tombstone.json"}] * 3
    assert silo.shelter.conversations(WS) == {C + 3}
    assert silo.due() == [C + 3]


def test_emptying_does_not_delete_unread_what_went_through_a_link(silo):
    """Written in place, removed and emptied within the minute: the bytes still get to the history."""
    top = silo.write()
    silo.keep()
    (top / "events.json").write_bytes(b"in place")
    silo.remove()
    assert silo.shelter.empty().copies == 1
    assert silo.settle().saved == 1
    assert silo.saved[0][3] == b"in place"
    assert not silo.place().exists()
    assert silo.due() == []


BROKEN = {
    "empty": b"",
    "cut": b'{"schema": 1, "work',
    "nul": b"\0" * 100,
    "list": b"[]",
    "latin": b'{"\xff": 1}',
    "deep": b"[" * 100_000,
    "schema": {"schema": 9},
    "workspace": {"workspace": "other"},
    "conversation": {"conversation": "jp-c1"},
    "partition": {"partition": "gone"},
    "time": {"at": "x"},
    "none": {"files": []},
    "up": {"files": [{"name": "../x", "digest": "0" * 32, "size": 1, "mtime_ns": 1, "held": "0" * 32 + ".gz"}]},
    "held": {"files": [{"name": "x", "digest": "0" * 32, "size": 1, "mtime_ns": 1, "held": "../../x.gz"}]},
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_manifest_that_is_not_understood_is_told_and_replaced(silo, kind):
    """It counts as no kept copy; what lies beside it stays until a new one is made."""
    silo.write()
    silo.keep()
    path, how = silo.place() / MANIFEST, BROKEN[kind]
    path.write_bytes(how if isinstance(how, bytes) else json.dumps(json.loads(path.read_bytes()) | how).encode())
    assert silo.shelter.held(WS, C) is None
    found, [problem] = silo.shelter.ls()
    assert (found, problem.conversation) == ([], C)
    assert problem.detail.startswith("its kept copy is ")
    with pytest.raises(ValueError, match=r"damaged|schema|of another|gone"):
        silo.shelter.read(WS, C)
    before = silo.names()
    silo.settle()
    assert silo.names() == before
    assert not silo.shelter.removed(WS, C, T0)
    assert silo.keep().new
    assert silo.restored() == contents(silo.directory())


@pytest.mark.parametrize("how", ["changed", "gone", "garbage"])
def test_damage_to_what_is_held_is_found(silo, how):
    """Content that is not what was kept is never put back for it."""
    silo.write()
    silo.keep()
    silo.settle()
    held = silo.place() / silo.shelter.held(WS, C).files[1].held
    if how == "gone":
        held.unlink()
    else:
        held.write_bytes(gzip.compress(b"[]") if how == "changed" else b"garbage")
    with pytest.raises((fs.ChangedError, FileNotFoundError)):
        silo.restored()


@pytest.mark.parametrize("umask", [0, 0o077])
def test_only_the_owner_may_look(silo, umask):
    """Directories 0700, our files 0600; a link has the mode of the file it is, behind a closed door."""
    silo.write()
    old = os.umask(umask)
    try:
        silo.keep()
        silo.settle()
    finally:
        os.umask(old)
    for path in silo.data.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_the_hot_path_waits_for_no_disk(silo, monkeypatch):
    """`keep` syncs nothing; `settle` syncs content before the manifest that names it, and that before links go."""
    log = []
    for name in ("fsync", "rename", "unlink"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, _r=real, _n=name, **k: log.append((_n, str(a[-1]))) or _r(*a, **k))
    silo.write()
    silo.keep()
    log.clear()
    silo.write(conversation=C + 1)
    silo.keep(C + 1, at_ms=T0 + 1)
    assert log
    assert "fsync" not in [n for n, _ in log]
    log.clear()
    silo.settle()
    names = [n for n, _ in log]
    manifest = next(i for i, (n, p) in enumerate(log) if n == "rename" and p.endswith(MANIFEST))
    links = [i for i, (n, p) in enumerate(log) if n == "unlink" and p.endswith(".link")]
    assert names[:manifest].count("fsync") >= 4
    assert len(links) == 3
    assert "fsync" in names[manifest : links[0]]


def test_ten_thousand_conversations_fit_in_little_memory(silo):
    """One number for each, no object per file."""
    silo.write()
    copy = silo.copy()
    silo.keep()
    tracemalloc.start()
    try:
        for n in range(10_000):
            silo.shelter._note(silo.shelter._place(WS, C + n), b"12345678", (n, n))
        assert tracemalloc.get_traced_memory()[0] < 2_000_000
    finally:
        tracemalloc.stop()
    assert silo.shelter.keep(WS, copy, at_ms=T0) == (False, {})


def test_a_place_that_goes_while_it_is_waited_for(tmp_path):
    """Who waits for the lock of a directory that is taken away locks the next one, or hears that there is none."""
    place = plot.plot(str(tmp_path / "data"), WS, C)
    for n in range(20):
        locked = []

        def wait(locked=locked):
            with plot.locked(place, make=True):
                locked.append(Path(place.path).is_dir())

        with plot.locked(place, make=True):
            waiter = threading.Thread(target=wait)
            waiter.start()
            if n % 2:
                waiter.join(0.01)
            plot.leave(place)
        waiter.join(60)
        assert locked == [True]
        plot.leave(place)
        with pytest.raises(FileNotFoundError), plot.locked(place):
            pass


# -- crashes --------------------------------------------------------------------------


def build(base, how):
    """A silo whose kept copy is old, and what a step does to it: (silo, step, allowed contents)."""
    silo = Silo(base)
    old = contents(silo.write("one"))
    silo.keep()
    if how in {"keep", "settle"}:
        silo.settle()
        new = contents(silo.write("two", mtime_ns=MTIME + 1))
    if how == "keep":
        copy = silo.copy()
        return silo, lambda s: s.keep(WS, copy, at_ms=T0), [old, new]
    if how == "settle":
        silo.keep()
        return silo, lambda s: s.settle(T0, lambda *a: silo.saved.append(a), **ALL), [new]
    shutil.rmtree(silo.directory())
    if how == "removed":
        return silo, lambda s: s.removed(WS, C, T0), [old]
    silo.shelter.removed(WS, C, T0)
    return silo, lambda s: s.empty(), [old, None]


@pytest.mark.parametrize("kind", [errno.EIO, errno.ENOSPC, "full", "die"])
@pytest.mark.parametrize("how", ["keep", "settle", "removed", "empty"])
def test_a_fault_at_each_step_leaves_the_old_or_the_new(tmp_path, monkeypatch, how, kind):
    """The kept copy is whole at every moment; after it, another process clears up and the same step ends well."""
    faults = Faults(monkeypatch, kind, 0)
    for at in range(1, 400):
        base = tmp_path / str(at)
        base.mkdir()
        silo, step, allowed = build(base, how)
        faults.at, faults.count, faults.hit = at, 0, ""
        trouble = None
        try:
            with faults.watching():
                step(silo.shelter)
        except (OSError, fs.ChangedError) as error:
            trouble = error
        again = Shelter(str(silo.data))
        found = silo.restored(shelter=again) if again.held(WS, C) else None
        assert found in allowed, f"{at}: {faults.hit}"
        assert trouble is None or faults.hit
        step(again)
        silo.settle(shelter=again, **ALL)
        found = silo.restored(shelter=again) if again.held(WS, C) else None
        assert found == allowed[-1], f"{at}: {faults.hit}"
        assert silo.due() == []
        # Of what was being dropped nobody knows any more why it is there: it is saved, not deleted unread.
        assert {s[3] for s in silo.saved} <= ({raw for _, raw in allowed[0].values()} if how == "empty" else set())
        left = silo.names() if silo.place().exists() else set()
        held = again.held(WS, C)
        assert left == ({MANIFEST, *(f.held for f in held.files)} if held else set()), f"{at}: {faults.hit}"
        shutil.rmtree(base)
        if not faults.hit:
            break
    assert at > 4


KILLED = """
import os, pickle, signal, sys
from convsync_agent.shelter import Shelter
signal.signal(signal.SIGIO, signal.SIG_IGN)
data, left, copy = sys.argv[1], int(sys.argv[2]), pickle.loads(bytes.fromhex(sys.argv[3]))
def wrap(real):
    def call(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return call
for name in "mkdir write fsync rename fchmod link unlink utime".split():
    setattr(os, name, wrap(getattr(os, name)))
shelter = Shelter(data)
shelter.keep("abcde", copy, at_ms=5)
shelter.settle(5, print, older_ms=0)
"""


def test_a_kill_at_each_step_leaves_the_old_or_the_new(silo):
    """SIGKILL before any step of keeping and settling: whole, and the lock died with its process."""
    base = contents(silo.write("0"))
    silo.keep()
    for at in range(200):
        new = contents(silo.write(str(at + 1), mtime_ns=MTIME + at))
        copy = pickle.dumps(silo.copy()).hex()
        code = subprocess.run(
            [sys.executable, "-c", KILLED, str(silo.data), str(at), copy], check=False, timeout=60
        ).returncode
        assert code in (0, -signal.SIGKILL)
        assert silo.restored(shelter=Shelter(str(silo.data))) in (base, new)
        silo.keep()
        base = silo.restored()
        assert base == new
        silo.settle(T0 + 10**9, **ALL)
        assert silo.names() == {MANIFEST, *(f.held for f in silo.shelter.held(WS, C).files)}
        if code == 0:
            break
    assert at > 15
    assert silo.saved == []


KEEPER = """
import pickle, signal, sys
from convsync_agent.shelter import Shelter
signal.signal(signal.SIGIO, signal.SIG_IGN)
shelter, copies = Shelter(sys.argv[1]), pickle.loads(bytes.fromhex(sys.argv[2]))
for n in range(60):
    shelter.keep("abcde", copies[n % 2], at_ms=5)
    if n % 7 == 0:
        shelter.settle(5, print, older_ms=0)
"""


def test_several_processes_keep_and_settle_at_once(silo):
    """Whoever is last, what is named is there: a place has one owner at a time."""
    silo.write("one")
    first = silo.copy()
    target = silo.directory(archived=True)
    target.parent.mkdir()
    shutil.copytree(silo.directory(), target)
    put(target / "events.json", as_jp([event("two")]), MTIME)
    copies = pickle.dumps([first, silo.copy(archived=True)]).hex()
    running = [
        subprocess.Popen([sys.executable, "-c", KEEPER, str(silo.data), copies], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [p.communicate(timeout=60)[0] for p in running] == [b""] * 3
    assert [p.returncode for p in running] == [0] * 3
    assert [raw for _, raw, _ in silo.shelter.read(WS, C)][2]
    silo.settle(T0 + 10**9, **ALL)
    assert silo.names() == {MANIFEST, *(f.held for f in silo.shelter.held(WS, C).files)}
