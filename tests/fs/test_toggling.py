"""`project`, `unproject` and the write of an edit fail at each of their steps: nothing partial, nothing lost."""

from __future__ import annotations

import contextlib
import errno
import itertools
import time

import pytest

from convsync_agent.editing import begin, commit
from convsync_agent.errors import ConvsyncError
from convsync_agent.index import load_index
from convsync_agent.model import Projection, Unit
from convsync_agent.toggling import reach
from faults import Faults, World
from machine import LONG_AGO, SECOND, WS, as_jp, event, put

C = 17_000_000_001
NAMES = ["base_config.json", "events.json", "metadata.json"]


@pytest.fixture
def world(tmp_path, monkeypatch):
    """In a and b in step; the silo has a note, the copy in `a` a file that never travels."""
    made = World(tmp_path, monkeypatch)
    for name in "ab":
        made.write(made.enroll(name), C, "one", "two", title="t")
    made.register("a", "b")
    put(made.directory(made.silo(), C) / "note.md", b"a note", LONG_AGO)
    put(made.directory(made.base / "a", C) / ".mine", b"only here", LONG_AGO)
    made.sync()
    return made


def toggled(world, projection, known=None):
    with world.engine() if known is None else contextlib.nullcontext(known) as engine:
        site = engine.sites[WS]
        entry = next(e for e in load_index(site) if e.id == C)
        tree = next(t for t in site.trees.values() if t.worktree.path == str(world.base / "a"))
        return reach(engine, site, entry, tree, projection, deadline=time.monotonic() + 0.2)


def names(world):
    """The files of the conversation's directory in `a`; None where there is none."""
    at = world.directory(world.base / "a", C)
    return None if at is None else sorted(p.name for p in at.iterdir() if p.name != ".mine")


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["die", "full", errno.EIO])
@pytest.mark.parametrize("wanted", list(Projection))
def test_phase5_a_fault_at_any_step_leaves_a_projection_or_none(world, monkeypatch, wanted, fault):
    """At once and after the next start: a whole one or none, the durable copy as it was, every byte somewhere."""
    if wanted is Projection.PROJECTED:
        toggled(world, Projection.LOCAL_ONLY)
    world.remember()
    durable = world.inventory(world.directory(world.silo(), C))
    everything = world.everywhere()
    for number in itertools.count(1, 3 if fault == errno.EIO else 1):  # those count every call, not only changes
        world.set_back()
        with world.engine() as engine, monkeypatch.context() as patched:
            faults = Faults(patched, fault, number)
            with faults.watching(), contextlib.suppress(ConvsyncError):
                toggled(world, wanted, engine)
        if not faults.hit:
            break
        note = f"{wanted}: {fault} at {number}, {faults.hit}"
        assert names(world) in (None, NAMES), note
        assert everything <= world.everywhere(), note
        world.sync()
        assert names(world) in (None, NAMES), note
        assert everything <= world.everywhere(), note
        assert {p: raw for p, (_, raw) in world.inventory(world.directory(world.silo(), C)).items()} == {
            p: raw for p, (_, raw) in durable.items()
        }, note
        assert world.staged() == [], note
        toggled(world, wanted)
        assert names(world) == (NAMES if wanted is Projection.PROJECTED else None), note
        assert world.lock_files() == [], note
    assert number > 20


def test_phase5_what_failed_is_not_meant(world, monkeypatch):
    """A projection that could not be taken away is no unprojected one: a worktree that is made again gets it back."""
    from convsync_agent import kernel

    def refused(*_):  # a mode that refuses it does not refuse root
        raise PermissionError(errno.EACCES, "no")

    with monkeypatch.context() as patched:
        patched.setattr(kernel, "rename_new", refused)
        with pytest.raises(ConvsyncError, match="cannot take the projection away"):
            toggled(world, Projection.LOCAL_ONLY)
    with world.engine() as engine:
        assert engine.state.unprojected(str(world.base / "a/.jp")) == {}
    assert names(world) == NAMES
    assert world.staged() == []


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["die", "full"])
def test_phase6_edit_a_fault_at_any_step_leaves_the_old_or_the_new(world, monkeypatch, fault):
    """Whole in every root once it is started again, whatever step failed; what was there is nowhere lost."""
    world.remember()
    new = [("base_config.json", as_jp({"x": 1})), ("events.json", as_jp([event("edited")]))]
    everything = world.everywhere()
    old = stream(world, world.silo())
    for number in itertools.count(1):
        world.set_back()
        with world.engine() as engine, monkeypatch.context() as patched:
            site = engine.sites[WS]
            entry = next(e for e in load_index(site) if e.id == C)
            current = begin(engine, site, entry, deadline=time.monotonic() + 1)
            faults = Faults(patched, fault, number)
            with faults.watching(), contextlib.suppress(ConvsyncError, OSError):
                commit(engine, site, entry, current, {Unit.STREAM: new}, deadline=time.monotonic() + 0.2)
        if not faults.hit:
            break
        note = f"{fault} at {number}, {faults.hit}"
        assert everything <= world.everywhere(), note
        world.sync()
        assert everything <= world.everywhere(), note
        found = {stream(world, r) for r in (world.silo(), world.base / "a", world.base / "b")}
        assert len(found) == 1, note
        assert found <= {old, tuple(raw for _, raw in new)}, note
        assert world.staged() == [], note
    assert number > 20
    assert {stream(world, r) for r in (world.silo(), world.base / "a")} == {tuple(raw for _, raw in new)}


def stream(world, root):
    at = world.directory(root, C)
    return tuple((at / n).read_bytes() for n in NAMES[:2])


def test_phase5_a_clock_that_stands_does_not_blur_who_took_it(world):
    """What was unprojected and made again by JP, long after, is a projection like any other."""
    toggled(world, Projection.LOCAL_ONLY)
    root = str(world.base / "a/.jp")
    with world.engine() as engine, engine.state.transaction():
        engine.state.put_unprojected(root, C, (time.time_ns() - 3600 * SECOND) // 1_000_000)
    world.write(world.base / "a", C, "one", "two", title="t")
    world.sync()
    with world.engine() as engine:
        site = engine.sites[WS]
        (world.base / "a").rename(world.base / "gone")
        engine.locate(site)
        assert set(next(t for t in site.trees.values() if t.root.path == root).held) == {C}
