"""The history in a burst: one wait for the disk for many versions, and the same promises."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convsync_agent import kernel
from convsync_agent.history import History
from convsync_agent.model import Unit
from keeping import ID, WS, Disk, child, contents, dot_names, hexes, keep, killed, objects, place


@pytest.fixture
def history(tmp_path):
    return History(str(tmp_path / "data"))


with_syncfs = pytest.mark.skipif(not kernel.has_syncfs(), reason="no syncfs here: a batch is a row of single keeps")


@with_syncfs
@pytest.mark.parametrize("known", [True, False])
def test_a_batch_waits_for_the_disk_once(history, monkeypatch, known):
    """No fsync inside, one syncfs of the data directory at the end, and then all of it is durable."""
    if known:
        keep(history, b"before")
    disk = Disk(monkeypatch)
    with history.batch():
        for n in range(12):
            assert keep(history, b"%d" % n, conversation=ID + n % 3, at_ms=n).new
            assert not keep(history, b"%d" % n, conversation=ID + n % 3, at_ms=n).new
        assert (disk.fsyncs, disk.barriers) == (0, [])
        assert disk.exposed() != []
    assert disk.barriers == [os.stat(history.data_dir).st_ino]
    assert (disk.fsyncs, disk.exposed()) == (0, [])
    keep(history, b"9")
    assert disk.fsyncs == 1, "what the batch made is known to be durable"
    with history.batch():
        pass
    assert len(disk.barriers) == 1, "nothing was kept"


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"ab"]), st.integers(0, 4), st.integers(0, 2)), max_size=10))
@settings(max_examples=30, deadline=None)
def test_law_a_batch_keeps_what_single_keeps_do(steps):
    """In one batch, in batches within a batch, or one by one: the same answers and the same versions."""

    def run(top, batched):
        history = History(top)
        answers = []
        with history.batch() if batched else contextlib.nullcontext():
            for raw, at_ms, depth in steps:
                with history.batch() if batched and depth else contextlib.nullcontext():
                    answers.append(keep(history, raw, at_ms=at_ms))
        return answers, history.versions(WS, ID), contents(history), objects(history), history.problems(WS, ID)

    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        assert run(one, batched=True) == run(two, batched=False)


def test_without_syncfs_a_batch_is_durable_when_it_ends(history, monkeypatch):
    """Where one call cannot sync a file system, every file and every name is synced by itself."""
    disk = Disk(monkeypatch)
    monkeypatch.setattr(kernel, "has_syncfs", lambda: False)  # as on macOS
    with history.batch():
        for n in range(12):
            keep(history, b"%d" % n, at_ms=n)
    assert (disk.exposed(), disk.barriers) == ([], [])


def test_a_small_batch_waits_for_its_own_files_only(history, monkeypatch):
    """A few files are synced one by one: what others write to the file system keeps nobody waiting."""
    keep(history, b"before")
    disk = Disk(monkeypatch)
    with history.batch():
        keep(history, b"a")
        assert disk.fsyncs == 0
    assert (disk.exposed(), disk.barriers) == ([], [])


@with_syncfs
@pytest.mark.parametrize("end", ["the barrier", "an exception"])
def test_a_batch_that_did_not_end_well_made_nothing_durable(history, monkeypatch, end):
    """Its error comes out, and whatever it made, directories too, is synced before a later keep counts."""
    disk = Disk(monkeypatch)
    path = place(history) / "objects" / f"{hexes(b'a')[0]}.gz"
    error = OSError(errno.ENOSPC, "no space")

    def burst():
        with history.batch():
            keep(history, b"a")
            if end == "an exception":
                raise error

    def barrier(_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(kernel, "fsync", barrier)
        with pytest.raises(OSError, match="no space"):
            burst()
    assert disk.fsyncs == 0
    before = path.stat().st_ino
    again = keep(history, b"a")
    # After a failed sync a second one of the same file would say nothing: that version and its objects are made anew.
    assert again.new is (path.stat().st_ino != before) is (end == "the barrier")
    assert set(disk.exposed()) == ({"manifest.json"} if again.new else set())
    assert contents(history)[0] == b"a"


@with_syncfs
@pytest.mark.parametrize("ask", ["keep", "more", "holds", "has_content"])
def test_what_a_running_batch_made_is_synced_by_who_relies_on_it(history, monkeypatch, ask):
    """Another process that finds content of an unfinished batch makes it durable before it says so."""
    disk = Disk(monkeypatch)
    other = History(history.data_dir)
    with history.batch():
        keep(history, b"a")
        answer = {
            "keep": lambda: not keep(other, b"a").new,
            "more": lambda: keep(other, [("events.json", b"a", 5)]).new,
            "holds": lambda: other.holds(WS, ID, Unit.STREAM, hexes(b"{}", b"a")),
            "has_content": lambda: other.has_content(WS, ID, *hexes(b"a")),
        }[ask]()
        assert answer
        base = f"{hexes(b'{}')[0]}.gz"
        unused = {"more": {"manifest.json", base}, "has_content": {base}}
        assert set(disk.exposed()) <= unused.get(ask, set())


@with_syncfs
def test_in_a_batch_an_answer_is_still_durable(history, monkeypatch):
    """What a batch is asked about is durable when it says yes, without waiting for its end."""
    disk = Disk(monkeypatch)
    keep(history, b"before")
    with history.batch():
        keep(history, b"a")
        assert history.holds(WS, ID, Unit.STREAM, hexes(b"{}", b"a"))
        assert disk.exposed() == []


@with_syncfs
def test_a_batch_mends_with_durable_content(history, monkeypatch):
    """An object that older versions need is replaced by content that is durable already, in a batch too."""
    keep(history, b"a")
    (place(history) / "objects" / f"{hexes(b'a')[0]}.gz").write_bytes(b"")
    disk = Disk(monkeypatch)
    with history.batch():
        keep(history, b"a")
        assert (disk.fsyncs, disk.early) == (1, [])
    assert contents(history) == [b"a"]


@with_syncfs
def test_a_batch_syncs_each_file_system_it_wrote_to(history, monkeypatch):
    """Where the history of a workspace lies on another disk, that one is synced as well."""
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat(os.path.dirname(history.data_dir)).st_dev:
        pytest.skip("no second file system here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as far:
        os.makedirs(history.base)
        os.symlink(far, os.path.join(history.base, WS))
        disk = Disk(monkeypatch)
        with history.batch():
            for n in range(12):
                keep(history, b"%d" % n, at_ms=n)
        here, there = disk.barriers
        assert (here, there) == (os.stat(history.data_dir).st_ino, os.stat(place(history) / "objects").st_ino)


def test_a_kill_at_each_step_of_a_batch_leaves_whole_versions(tmp_path):
    """SIGKILL before any step of a burst: each version is whole, sweep clears the rest, the content then is kept."""
    burst = (
        "history = History(sys.argv[1])\n"
        "with history.batch():\n"
        "    for raw in (b'1', b'2'):\n"
        "        history.keep('otvo8', 17457886043, Unit.STREAM, [('events.json', raw, 6)],"
        " root='/r', at_ms=2, why='w', valid=True, events=1)\n"
    )
    for n in range(1000):
        history = History(str(tmp_path / f"{n}"))
        keep(history, b"old")
        code = killed(burst, history, n)
        assert contents(history) in ([b"old"], [b"1", b"old"], [b"2", b"1", b"old"])
        assert code in (0, -signal.SIGKILL)
        history = History(history.data_dir)
        history.sweep()
        assert dot_names(history) == []
        assert history.problems(WS, ID) == []
        assert objects(history) == {f.digest for m in history.versions(WS, ID) for f in m.files}
        keep(history, [("events.json", b"2", 6)])
        assert contents(history)[0] == b"2"
        if code == 0:
            break
    assert n > 15


FULL = """
import errno, os, resource, signal
from convsync_agent.history import History
from convsync_agent.model import Unit
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
files = [("base_config.json", b"{}", 5), ("events.json", os.urandom(3_000_000), 6)]
try:
    History(sys.argv[1]).keep("otvo8", 1, Unit.STREAM, files, root="/r", at_ms=2, why="w", valid=True, events=1)
except OSError as error:
    sys.exit(error.errno == errno.EFBIG)
"""


def test_a_file_that_does_not_fit_leaves_nothing_half_done(history):
    """A real refusal by the OS in mid-write comes out as the OSError it is, and the half file is gone."""
    assert child(FULL, history.data_dir).wait(120) == 1
    assert dot_names(history) == []
    assert objects(history, conversation=1) == set(hexes(b"{}"))
    assert history.versions(WS, 1) == []
