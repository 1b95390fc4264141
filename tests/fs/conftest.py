"""A root that is watched, an engine in this process, two worktrees in step."""

from __future__ import annotations

import pytest

import memory
from changes import C
from convsync_agent import bulk, fs
from convsync_agent.inotify import InotifyWatcher
from faults import World
from holder import NAME
from machine import WS
from pieces import LARGE, PIECE
from watching import MAKERS, Ear, Root


@pytest.fixture
def tmp_path():
    """In memory, where there is room."""
    with memory.directory() as path:
        yield path


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path / "ws" / "silo")


@pytest.fixture
def ear():
    return Ear()


@pytest.fixture(params=MAKERS)
def watcher(request, ear):
    made = MAKERS[request.param](ear.queue.put)
    yield made
    made.close()
    assert made.watches == 0
    assert not made.healthy()


@pytest.fixture
def armed(watcher, root):
    assert watcher.arm(root.path, silo=True).failed == ()
    return watcher


@pytest.fixture
def inotify(ear):
    made = InotifyWatcher(ear.queue.put)
    yield made
    made.close()


@pytest.fixture
def site(engine):
    """Of the engine that a module sets up."""
    return engine.sites[WS]


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The silo and the worktrees a and b hold one conversation, in step, with a base."""
    made = World(tmp_path, monkeypatch)
    for name in "ab":
        made.write(made.enroll(name), C, "one", "two", slug="t", title="t")
    made.register("a", "b")
    return made


@pytest.fixture
def by_pieces(monkeypatch):
    """Call it: from then on every event stream is large, and none may be read as a whole."""
    real = fs.read_opened

    def small_ones(fd, before):
        assert before.st_size < LARGE
        return real(fd, before)

    def begin():
        monkeypatch.setattr(bulk, "LARGE", LARGE)
        monkeypatch.setattr(bulk, "PIECE", PIECE)
        monkeypatch.setattr(fs, "read_opened", small_ones)

    return begin


@pytest.fixture
def silo(tmp_path):
    path = tmp_path / "silo"
    path.mkdir()
    return path


@pytest.fixture
def lock(silo):
    """Where the lock file of the conversation lies; the directory is there."""
    (silo / "locks").mkdir()
    return silo / "locks" / NAME
