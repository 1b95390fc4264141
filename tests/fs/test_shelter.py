"""Kept copies on real directories: what is held and how, what comes back, what crashes leave."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from convsync_agent import fs, grip
from convsync_agent.digest import content_digest
from convsync_agent.keepsake import MANIFEST, How
from convsync_agent.model import Copy, Partition, Unit
from convsync_agent.shelter import Shelter
from machine import as_jp, event, put
from sheltered import MTIME, T0, WS, C, Silo, contents


@pytest.fixture
def silo(tmp_path):
    return Silo(tmp_path)


# -- keeping and restoring ------------------------------------------------------------


def test_what_was_removed_comes_back(silo):
    """Bytes and times to the nanosecond; compressed, and readable without us."""
    top = silo.write()
    before, raw = contents(top), (top / "events.json").read_bytes()
    assert silo.keep()
    if silo.how()["events.json"] is How.PACKED:
        assert gzip.decompress((silo.place() / f"{content_digest(raw).hex()}.gz").read_bytes()) == raw
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
    assert not silo.keep()
    (top / "b.bin").write_bytes(b"other")
    assert silo.keep()
    assert silo.restored() == contents(top)


def test_a_legacy_pair_is_whole(silo):
    """A stream without base_config.json is kept as such."""
    top = silo.write()
    (top / "base_config.json").unlink()
    (top / "events.json").write_bytes(as_jp([event(kind="config_delta", delta={}), event()]))
    assert silo.keep()
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
    digest, how = content_digest(raw).hex(), silo.how()["events.json"]
    assert files[1] == {
        "name": "events.json",
        "digest": digest,
        "size": len(raw),
        "mtime_ns": MTIME,
        "how": how,
        "held": digest + (".gz" if how is How.PACKED else ".raw"),
    }
    assert not [p for p in silo.data.rglob("*") if "title" in str(p)]
    assert b"title" not in (silo.place() / MANIFEST).read_bytes()


def test_equal_content_costs_one_stat(silo, monkeypatch):
    """A second kept copy of it is none, whoever asks; where it was asked before, nothing is even opened."""
    silo.write()
    copy = silo.copy()
    assert silo.shelter.keep(WS, copy, at_ms=T0)
    before = contents(silo.data)
    again = Shelter(str(silo.data))
    assert again.keep(WS, copy, at_ms=T0 + 1) is False
    calls = []
    for name in ("open", "stat", "lstat", "listdir", "mkdir", "link"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, _real=real, _name=name, **k: calls.append(_name) or _real(*a, **k))
    assert again.current(WS, copy)
    assert again.keep(WS, copy, at_ms=T0 + 2) is False
    assert calls == ["lstat", "lstat"]
    assert contents(silo.data) == before


def test_newer_content_replaces_what_was_kept(silo):
    """One kept copy at a time; a file that did not change stays held as it is."""
    silo.write("one")
    silo.keep()
    base = silo.shelter.held(WS, C).files[0]
    silo.write("two", mtime_ns=MTIME + 1)
    assert silo.keep()
    assert silo.shelter.held(WS, C).files[0] == base
    assert silo.restored() == contents(silo.directory())
    assert len(silo.names()) == 4
    assert silo.names() == {MANIFEST, *(f.held for f in silo.shelter.held(WS, C).files)}


def test_another_process_is_noticed(silo):
    """What one remembers of a kept copy is good only while nobody published another."""
    silo.write("one")
    one = silo.copy()
    silo.keep()
    silo.write("two")
    other = Shelter(str(silo.data))
    assert other.keep(WS, silo.copy(), at_ms=T0)
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
    assert silo.keep(archived=True)
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
    assert silo.shelter.keep(WS, copy, at_ms=T0) is False
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
    assert Shelter(str(silo.data), keep_days=0).keep(WS, silo.copy(), at_ms=T0) is False
    assert not silo.data.exists()


@pytest.mark.parametrize("how", ["replaced", "written", "gone", "symlink", "directory gone"])
def test_what_is_not_as_planned_is_not_kept(silo, how):
    """The stamp is compared when it is read; what was kept before stays as it is."""
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
    assert len(silo.names()) == 4


# -- how it is held -------------------------------------------------------------------


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
        assert silo.restored() == before


def test_a_reflink_is_a_file_of_its_own(silo, monkeypatch):
    """Where the file system shares blocks: a write in place does not reach it."""

    def share(source, path):  # what FICLONE does, seen from outside: few file systems of a test can
        Path(path).write_bytes(os.pread(source, 1 << 20, 0))
        return True

    monkeypatch.setattr(grip, "_no_clones", set())
    monkeypatch.setattr(grip, "share_blocks", share)
    top = silo.write()
    (top / "a.md").write_bytes(b"a")
    before = contents(top)
    assert silo.keep()
    assert set(silo.how().values()) == {How.CLONE}
    (top / "events.json").write_bytes(b"in place")
    assert silo.restored() == before
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
