"""Kept copies of what was removed: listed, emptied, and looked at with suspicion."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import stat
import threading
import tracemalloc
from pathlib import Path

import pytest

from convsync_agent import fs, keepsake, plot
from convsync_agent.keepsake import MANIFEST
from convsync_agent.rules import DAY_MS
from sheltered import T0, WS, C, Silo, contents


@pytest.fixture
def silo(tmp_path):
    return Silo(tmp_path)


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


def test_what_is_known_to_be_there_is_not_looked_at(silo, monkeypatch):
    """Once a day costs what was removed, not what there is; what is said to be there is not dropped, either."""
    for n in range(5):
        silo.write(conversation=C + n)
        silo.keep(C + n, at_ms=T0)
    silo.remove(C, T0)
    silo.remove(C + 1, T0)
    looked, load, stamp_at = [], keepsake.load, keepsake.stamp_at
    monkeypatch.setattr(keepsake, "load", lambda place: looked.append(place.conversation) or load(place))
    monkeypatch.setattr(keepsake, "stamp_at", lambda place: looked.append(place.conversation) or stamp_at(place))

    assert silo.shelter.prune(T0 + 10**14, but={WS: {C + 1, C + 2, C + 3, C + 4}}).copies == 1
    assert set(looked) == {C}
    assert silo.shelter.held(WS, C + 1) is not None


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
    assert silo.keep()
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
    assert silo.names() == before
    assert not silo.shelter.removed(WS, C, T0)
    assert silo.keep()
    assert silo.restored() == contents(silo.directory())


@pytest.mark.parametrize("how", ["changed", "gone", "garbage"])
def test_damage_to_what_is_held_is_found(silo, how):
    """Content that is not what was kept is never put back for it."""
    silo.write()
    silo.keep()
    held = silo.place() / silo.shelter.held(WS, C).files[1].held
    if how == "gone":
        held.unlink()
    else:
        held.write_bytes(gzip.compress(b"[]") if how == "changed" else b"garbage")
    with pytest.raises((fs.ChangedError, FileNotFoundError)):
        silo.restored()


@pytest.mark.parametrize("umask", [0, 0o077])
def test_only_the_owner_may_look(silo, umask):
    """Directories 0700, our files 0600, whatever the umask."""
    silo.write()
    old = os.umask(umask)
    try:
        silo.keep()
    finally:
        os.umask(old)
    for path in silo.data.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


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
    assert silo.shelter.keep(WS, copy, at_ms=T0) is False


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
        waiter.join(120)
        assert locked == [True]
        plot.leave(place)
        with pytest.raises(FileNotFoundError), plot.locked(place):
            pass
