"""The history under faults, kills and power failures: the old or the new, never less."""

from __future__ import annotations

import contextlib
import errno
import os
import signal

import pytest

from convsync_agent.history import History
from convsync_agent.model import Unit
from keeping import ID, KEEP, STEPS, WS, Disk, contents, dot_names, hexes, keep, killed, objects, place


@pytest.fixture
def history(tmp_path):
    return History(str(tmp_path / "data"))


class Fault:
    """Lets `left` file system steps happen, then fails once."""

    def __init__(self, monkeypatch, left):
        self.left = left
        for name in STEPS:
            monkeypatch.setattr(os, name, self.wrap(name, getattr(os, name)))

    def wrap(self, name, real):
        def step(*args, **kwargs):
            reads = name == "open" and not args[1] & (os.O_CREAT | os.O_DIRECTORY)
            self.left -= not reads  # to read takes no space
            if self.left == -1 and not reads:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        return step


@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_a_fault_at_each_step_leaves_the_old_or_the_new(tmp_path, monkeypatch, first):
    """Whichever step fails, the versions are the old or the new ones, whole, no temporary name stays, a retry works.

    Each fault is heard.
    """
    unheard = 0
    for n in range(1000):
        history = History(str(tmp_path / f"{n}"))
        old = [] if first else [b"old"]
        for raw in old:
            keep(history, raw)
        failed = False
        with monkeypatch.context() as patch:
            fault = Fault(patch, n)
            try:
                keep(History(history.data_dir), b"new")
            except OSError:
                failed = True
        assert contents(history) in ([[b"new", *old], old] if failed else [[b"new", *old]])
        assert dot_names(history) == []
        if fault.left >= 0:
            break
        unheard += not failed
        keep(history, b"new")
        assert contents(history) == [b"new", *old]
    assert unheard == 0
    assert n > 20


def test_a_kill_at_each_step_leaves_the_old_or_the_new(tmp_path):
    """SIGKILL before any step: old or new, whole; sweep clears the rest; the same keep then succeeds."""
    for n in range(1000):
        history = History(str(tmp_path / f"{n}"))
        keep(history, b"old")
        code = killed(KEEP, history, n)
        assert contents(history) in ([b"new", b"old"], [b"old"])
        assert code in (0, -signal.SIGKILL)
        assert code or contents(history) == [b"new", b"old"]
        history = History(history.data_dir)
        history.sweep()
        assert dot_names(history) == []
        assert objects(history) == {f.digest for m in history.versions(WS, ID) for f in m.files}
        keep(history, b"new")
        assert contents(history) == [b"new", b"old"]
        if code == 0:
            break
    assert n > 15


def test_a_kill_in_pruning_leaves_whole_versions(tmp_path):
    """SIGKILL before any step of a prune: every version that is left reads back, and the next prune finishes."""
    prune = "History(sys.argv[1]).prune(None, 9, keep_days=9, keep_versions=1, max_bytes=1 << 40)"
    for n in range(1000):
        history = History(str(tmp_path / f"{n}"))
        for raw in (b"1", b"2", b"3"):
            keep(history, raw)
        code = killed(prune, history, n, "unlink", "rmdir")
        assert contents(history)[:1] == [b"3"]
        assert code in (0, -signal.SIGKILL)
        history.sweep()
        history.prune(None, 9, keep_days=9, keep_versions=1, max_bytes=1 << 40)
        assert contents(history) == [b"3"]
        assert objects(history) == set(hexes(b"{}", b"3"))
        assert dot_names(history) == []
        if code == 0:
            break
    assert n > 5


def test_all_is_durable_when_keep_returns(history, monkeypatch):
    """R4: content and every new name are synced when keep returns, and nothing relies on them before."""
    disk = Disk(monkeypatch)
    for raw in (b"a", b"b"):
        keep(history, raw)
        assert disk.exposed() == []


@pytest.mark.parametrize("fresh", [True, False], ids=["later", "at once"])
@pytest.mark.parametrize("ask", ["keep", "holds", "has_content"])
def test_what_an_earlier_fault_left_is_made_durable_before_it_counts(tmp_path, monkeypatch, ask, fresh):
    """A version whose last sync did not happen is synced before anyone is told that it is there."""
    disk, counted = Disk(monkeypatch), 0
    for n in range(1000):
        history = History(str(tmp_path / f"{n}"))
        with monkeypatch.context() as patch:
            Fault(patch, n)
            with contextlib.suppress(OSError):
                keep(history, b"a")
                break
        history = History(history.data_dir) if fresh else history
        answer = {
            "keep": lambda h: keep(h, b"a"),
            "holds": lambda h: h.holds(WS, ID, Unit.STREAM, hexes(b"{}", b"a")),
            "has_content": lambda h: h.has_content(WS, ID, *hexes(b"a")),
        }[ask](history)
        # What a failed barrier stood for is made anew under another name; an answer about one file needs no other.
        unused = {"keep": {"manifest.json"}, "has_content": {f"{hexes(b'{}')[0]}.gz"}}
        assert not answer or set(disk.exposed()) <= unused.get(ask, set())
        counted += bool(answer)
        disk.forget()
    assert n > 20
    assert counted or not (fresh or ask == "keep")  # who met the fault believes it to be there when it is kept again


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(b"new", 5), (b"old", 1)],
    ids=["an object, its name, a manifest, its name, the version's name", "the new age"],
)
def test_what_was_synced_here_is_not_synced_again(history, monkeypatch, raw, expected):
    """In a conversation that is known, a keep syncs what it made and nothing else."""
    keep(history, b"old")
    disk = Disk(monkeypatch)
    keep(history, raw)
    assert disk.fsyncs == expected
    assert disk.exposed() == []
    disk.fsyncs = 0
    assert history.holds(WS, ID, Unit.STREAM, hexes(b"{}", raw))
    assert disk.fsyncs == 0


@pytest.mark.parametrize("ask", ["holds", "has_content"])
def test_an_object_whose_sync_failed_is_not_trusted_again(history, monkeypatch, ask):
    """A failed sync is told once only: the object does not count, and the next keep of it makes a new one."""
    keep(history, b"a")
    [digest] = hexes(b"a")
    path = place(history) / "objects" / f"{digest}.gz"
    before = path.stat().st_ino
    other = History(history.data_dir)
    with monkeypatch.context() as patch:
        real = os.fsync

        def fsync(fd):
            if os.fstat(fd).st_ino == before:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(fd)

        patch.setattr(os, "fsync", fsync)
        asked = {
            "holds": lambda: other.holds(WS, ID, Unit.STREAM, hexes(b"{}", b"a")),
            "has_content": lambda: other.has_content(WS, ID, digest),
        }[ask]
        assert not asked()
    assert not asked()
    keep(other, b"a")
    assert path.stat().st_ino != before
    assert asked()
