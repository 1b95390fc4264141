"""What is large is read by pieces, and never a mixture of two contents."""

from __future__ import annotations

import os
import zlib

import pytest

from convsync_agent import bulk, fs, objects
from convsync_agent.bulk import Bulk, whole
from convsync_agent.growth import contains
from convsync_agent.history import History
from convsync_agent.model import EVENTS, METADATA
from convsync_agent.observe import HELD_FILES, Contents
from convsync_agent.piecewise import Held, look
from keeping import ID, contents, keep
from keeping import WS as WORKSPACE
from machine import as_jp, put
from pieces import LATER, at, stream


def test_a_large_file_that_changes_while_it_is_read_is_being_written(world, by_pieces, monkeypatch):
    """Never a mixture; it is taken over when its writer is done."""
    by_pieces()
    real, path, left = os.pread, at(world, "a") / EVENTS, [3]

    def slowly(fd, size, offset):
        found = real(fd, size, offset)
        if left[0] and os.fstat(fd).st_ino == path.stat().st_ino:
            left[0] -= 1
            with open(path, "ab") as file:
                file.write(b" ")
        return found

    monkeypatch.setattr(os, "pread", slowly)
    put(path, stream("one", "two", "three"))
    world.sync()
    while left[0]:
        world.sync()
    world.sync()

    assert (at(world, "silo") / EVENTS).read_bytes() == path.read_bytes()


def test_what_was_looked_at_is_read_when_its_name_has_another_one(tmp_path):
    """A stream that is replaced more often than it can be copied becomes durable while it changes."""
    path = tmp_path / EVENTS
    path.write_bytes(stream("one"))
    with fs.opened_dir(str(tmp_path)) as fd:
        file = Held(EVENTS, fd)
    (tmp_path / "new").write_bytes(stream("another"))
    os.rename(tmp_path / "new", path)

    assert whole(file.content(objects.content_digest(stream("one")))) == stream("one")


def test_what_is_written_to_while_it_is_held_is_told(tmp_path, by_pieces):
    """In place, in its old size, between two pieces: whoever reads on is told at the end."""
    by_pieces()
    path = tmp_path / EVENTS
    put(path, stream("one", "two"), LATER)
    with fs.opened_dir(str(tmp_path)) as fd:
        pieces = Held(EVENTS, fd).pieces()
    next(pieces)
    with open(path, "r+b") as file:
        file.seek(-9, os.SEEK_END)
        file.write(b"!")

    with pytest.raises(fs.ChangedError):
        list(pieces)


def test_what_was_written_to_since_is_told(tmp_path, by_pieces):
    """In its place, with its old time and size: the digest tells. No symlink is followed."""
    by_pieces()
    path = tmp_path / EVENTS
    put(path, stream("one", "two"), LATER)
    content, _ = look(EVENTS, lambda: fs.opened_dir(str(tmp_path)))
    assert isinstance(content, Bulk)
    assert whole(content) == whole(content) == stream("one", "two")
    put(path, stream("one", "owt"), LATER)

    with pytest.raises(fs.ChangedError):
        whole(content)
    path.rename(tmp_path / "x")
    path.symlink_to("x")
    with pytest.raises(fs.OddFileError):
        content.pieces()


def test_nothing_is_left_of_a_file_that_could_not_be_written_whole(tmp_path, by_pieces):
    """What a large content says at its end comes too late for who wrote the beginning: it is taken away."""
    by_pieces()
    content = Bulk(8, b"other", lambda: iter((b"four",)))

    def cut():
        yield from content.pieces()
        raise fs.ChangedError

    with fs.opened_dir(str(tmp_path)) as fd, pytest.raises(fs.ChangedError):
        fs.write_new("name", Bulk(8, b"other", cut), fd, mtime_ns=1, sync=False)

    assert os.listdir(tmp_path) == []


def test_metadata_that_nobody_takes_into_memory_is_held(world, by_pieces, monkeypatch):
    """It is no source and is not overwritten; its bytes are kept all the same."""
    by_pieces()
    monkeypatch.setattr(bulk, "MOST", 1000)
    raw = as_jp({"last_activated_at": "2024-11-14 22:13:20.0", "title": "x" * 2000})
    put(at(world, "a") / METADATA, raw, LATER)
    before = (at(world, "silo") / METADATA).read_bytes()
    outcome = world.sync()

    assert [p.detail for p in outcome.problems if p.kind == "held"] == [f"{METADATA}: larger than 0 MB"]
    assert (at(world, "a") / METADATA).read_bytes() == raw
    assert (at(world, "silo") / METADATA).read_bytes() == before
    assert raw in world.kept()


def test_one_stream_in_another_one():
    """Contained by pieces: what it begins with, element by element. Everything else is no."""

    def large(raw):
        return Bulk(
            len(raw), objects.content_digest(raw), lambda: iter([raw[i : i + 7] for i in range(0, len(raw), 7)])
        )

    one, two, three = stream("one"), stream("one", "two"), stream("one", "twofold")
    base, same, other = as_jp({"a": 1}), b'{"a":1}', as_jp({})
    assert contains((base, large(two)), (base, large(two)))
    assert contains((base, large(two)), (same, large(one)))
    assert contains((base, large(two)), (base, one))
    assert contains((None, large(two)), (None, large(one)))
    assert contains((base, large(two)), (base, b"[ ]"))
    assert not contains((None, large(two)), (None, b"[]"))
    assert not contains((base, large(two)), (base, b"xx"))
    assert not contains((base, large(two)), (base, b""))
    assert not contains((base, large(two)), (other, large(one)))
    assert not contains((base, large(two)), (None, large(one)))
    assert not contains((base, large(one)), (base, large(two)))
    assert not contains((base, large(two)), (base, large(three)))
    assert not contains((base, large(b"[1, 23]")), (base, large(b"[1, 2]")))
    assert not contains((base, large(b"[1, 2, 3")), (base, large(b"[1, 2")))


def test_pieces_of_what_was_compressed_are_small(tmp_path):
    """However well it was compressed."""
    path = tmp_path / "zeroes.gz"
    path.write_bytes(zlib.compress(bytes(40 << 20), wbits=31))
    with objects.opened(str(path)) as fd:
        sizes = [len(piece) for piece in objects.pieces(fd)]

    assert sum(sizes) == 40 << 20
    assert max(sizes) <= 1 << 20


def test_a_damaged_large_object_is_damaged(tmp_path, by_pieces):
    """It is told when a version is asked for, not in the middle of what is done with it."""
    history = History(str(tmp_path / "data"))
    raw = stream("one", "two")
    kept = keep(history, [(EVENTS, raw, 1)])
    by_pieces()
    [(name, content, _)] = history.contents(WORKSPACE, ID, kept.version)
    assert isinstance(content, Bulk)
    assert whole(content) == raw
    [path] = (tmp_path / "data").rglob("*.gz")
    path.write_bytes(zlib.compress(raw.replace(b"two", b"owt"), wbits=31))

    with pytest.raises(Exception, match="damaged"):
        history.contents(WORKSPACE, ID, kept.version)
    with pytest.raises(fs.ChangedError):
        whole(content)
    assert keep(history, [(EVENTS, raw, 1)]).version == kept.version
    assert contents(history) == [raw]
    assert name == EVENTS


def test_files_that_are_held_open_are_few_and_let_go(tmp_path):
    """However many large files one cycle looks at; at its end none is open."""
    before = len(os.listdir("/proc/self/fd"))
    seen = Contents()
    with fs.opened_dir(str(tmp_path)) as fd:
        for number in range(3 * HELD_FILES):
            (tmp_path / f"{number}").write_bytes(b"x")
            seen.hold(b"%d" % number, Held(f"{number}", fd))
        assert len(os.listdir("/proc/self/fd")) == before + 1 + HELD_FILES
    seen.clear()

    assert len(os.listdir("/proc/self/fd")) == before
