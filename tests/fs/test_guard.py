"""Phase 3: a write takes a projection intent, carried by the lock, and happens under it only. Real files and locks."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time

import pytest

from agents import in_step
from convsync_agent import locks
from convsync_agent.errors import LockHeld, NotFound, Refused
from convsync_agent.guard import held
from convsync_agent.index import load_index
from convsync_agent.locks import BusyError, conversation_lock
from convsync_agent.model import EVENTS, INTENTS, METADATA, Presence, Projection, Unit
from faults import opened_engine
from machine import WS, as_jp, event, put

A = 17_000_000_001


@pytest.fixture
def engine(machine):
    """One registered worktree, `a`, with one projected conversation."""
    machine.write(machine.worktree("a", register=False), A, "one")
    machine.ok("register", machine.base / "a")
    with opened_engine(machine) as opened:
        yield opened


def entry(site, conversation=A):
    return next(e for e in load_index(site) if e.id == conversation)


def tree_of(site):
    return next(iter(site.trees.values()))


def soon():
    return time.monotonic() + 5


def metadata(**fields):
    return [(METADATA, as_jp({"last_activated_at": "2023-11-14 22:13:20.0"} | fields))]


@pytest.mark.parametrize(
    ("presence", "intent"),
    [
        (Presence.USER_LOCAL_ONLY, Projection.LOCAL_ONLY),
        (Presence.PROJECTED, Projection.PROJECTED),
        (Presence.WORKSPACE_ONLY, Projection.PROJECTED),
    ],
)
def test_phase3_presence_gives_the_intent(presence, intent):
    """Contract 6.2: what was there when the lock was taken decides what a write reaches."""
    assert INTENTS[presence] is intent


@pytest.mark.parametrize("presence", list(Presence))
def test_phase3_the_lock_carries_the_intent(machine, engine, site, presence):
    """Taken from the presence in the worktree that is meant."""
    if presence is Presence.USER_LOCAL_ONLY:
        machine.write(machine.silo(), A + 1, "local")
    elif presence is Presence.WORKSPACE_ONLY:
        machine.write(machine.base / "a", A + 1, "external")
    number = A if presence is Presence.PROJECTED else A + 1
    with held(engine, site, entry(site, number), tree=tree_of(site), deadline=soon()) as guard:
        assert guard.projection is INTENTS[presence]


def test_phase3_local_only_leaves_the_worktree_empty(machine, engine, site):
    """Written local-only: the silo has it, the worktree's directory is gone, and no part of it was ever seen there."""
    with held(engine, site, entry(site), tree=tree_of(site), deadline=soon()) as guard:
        guard.write(Unit.METADATA, metadata(title="x"), Projection.LOCAL_ONLY)
    assert machine.directory(machine.base / "a", A) is None
    assert json.loads((machine.directory(machine.silo(), A) / METADATA).read_bytes())["title"] == "x"


def test_phase3_projected_writes_both(machine, engine, site):
    """Also where the worktree had none; the durable copy first."""
    machine.write(machine.silo(), A + 1, "local")
    stream = [("base_config.json", as_jp({})), (EVENTS, as_jp([event("local"), event("more")]))]
    with held(engine, site, entry(site, A + 1), tree=tree_of(site), deadline=soon()) as guard:
        guard.write(Unit.STREAM, stream, Projection.PROJECTED)
    for root in (machine.silo(), machine.base / "a"):
        assert machine.questions(root, A + 1) == ["local", "more"]


def free_for_others(machine) -> bool:
    """Another process can take JP's lock, by util-linux."""
    path = machine.silo() / "locks" / f"jp-c{A}.lock"
    return not path.exists() or subprocess.run(["flock", "-n", str(path), "true"], check=False).returncode == 0


def test_phase3_what_is_dirty_is_flushed_by_an_exception_and_under_the_lock(machine, engine, site):
    """The guard flushes on the way out, whatever the way; until then no other process gets the lock."""
    with pytest.raises(KeyError), held(engine, site, entry(site), deadline=soon()) as guard:  # noqa: PT012
        guard.write(Unit.METADATA, metadata(title="early"), guard.projection)
        guard.flush()
        assert not free_for_others(machine)
        assert not guard.dirty
        guard.write(Unit.METADATA, metadata(title="late"), guard.projection)
        raise KeyError
    assert json.loads((machine.directory(machine.silo(), A) / METADATA).read_bytes())["title"] == "late"
    assert free_for_others(machine)
    assert in_step(machine, A, machine.silo(), machine.base / "a")


def test_phase3_nothing_is_written_outside_of_the_guard(engine, site):
    """A guard that was left refuses."""
    with held(engine, site, entry(site), deadline=soon()) as guard:
        pass
    with pytest.raises(RuntimeError, match="under its lock"):
        guard.write(Unit.METADATA, metadata(), guard.projection)
    with pytest.raises(RuntimeError, match="under its lock"):
        guard.flush()


def test_phase3_content_that_jp_could_not_load_is_refused(machine, engine, site):
    """Nothing changes, in any root."""
    before = machine.inventory(machine.silo() / "conversations", machine.base / "a")
    with pytest.raises(Refused, match="not valid"), held(engine, site, entry(site), deadline=soon()) as guard:
        guard.write(Unit.STREAM, [("base_config.json", b"{}"), (EVENTS, b"x")], guard.projection)
    assert machine.inventory(machine.silo() / "conversations", machine.base / "a") == before


def test_phase3_equal_content_is_not_written_again(machine, engine, site):
    """Contract 11, 9: managed files keep their mtimes."""
    before = machine.inventory(machine.silo() / "conversations", machine.base / "a")
    raw = (machine.directory(machine.silo(), A) / METADATA).read_bytes()
    with held(engine, site, entry(site), deadline=soon()) as guard:
        guard.write(Unit.METADATA, [(METADATA, raw)], guard.projection)
    assert machine.inventory(machine.silo() / "conversations", machine.base / "a") == before


def test_phase3_a_stale_handle_is_not_found(machine, engine, site):
    """What the index knew and is gone cannot be written."""
    known = entry(site)
    for root in (machine.silo(), machine.base / "a"):
        shutil.rmtree(machine.directory(root, A))
    with pytest.raises(NotFound), held(engine, site, known, deadline=soon()):
        pass


def test_phase3_a_held_lock_is_waited_for_and_named(machine, engine, site):
    """Exit 5 names pid and session of the holder."""
    with (
        machine.holding(A),
        pytest.raises(LockHeld, match="session getsid-1"),
        held(engine, site, entry(site), deadline=time.monotonic()),
    ):
        pass


def test_a_lock_that_is_ours_is_taken_again_and_released_once(machine, site):
    """The inner holder covers it; the file stays until the outermost lets go."""
    silo, path = str(machine.silo()), machine.silo() / "locks" / f"jp-c{A}.lock"
    with conversation_lock(silo, A) as outer:
        with conversation_lock(silo, A) as inner:
            assert inner.still_ours()
            assert not locks.busy_conversations(silo, [A])
        assert outer.still_ours()
        assert not free_for_others(machine)
    assert not path.exists()


def test_a_stray_lock_file_that_appears_is_taken_by_the_inner_holder(machine, site):
    """And released by it, without being removed: it is not ours."""
    stray = machine.base / "a/.jp/locks" / f"jp-c{A}.lock"
    stores = [str(machine.base / "a/.jp")]
    with conversation_lock(str(machine.silo()), A, stores):
        stray.parent.mkdir()
        stray.touch()
        with conversation_lock(str(machine.silo()), A, stores):
            assert subprocess.run(["flock", "-n", str(stray), "true"], check=False).returncode
        assert subprocess.run(["flock", "-n", str(stray), "true"], check=False).returncode == 0
    assert stray.exists()


def test_another_thread_is_somebody_else(machine, site):
    """Only who holds the lock may ask again."""
    with conversation_lock(str(machine.silo()), A):
        found = []

        def ask():
            try:
                with conversation_lock(str(machine.silo()), A):
                    found.append("got it")
            except BusyError:
                found.append("busy")

        asking = threading.Thread(target=ask)
        asking.start()
        asking.join()
    assert found == ["busy"]


@pytest.mark.parametrize("again", [False, True])
def test_phase5_unprojected_and_projected_again(machine, engine, site, again):
    """Contract 11, 34: the worktree's copy disappears and reappears; the durable one stays, the intent is kept."""
    tree = tree_of(site)
    draft = machine.directory(machine.silo(), A) / "QUERY_MESSAGE.md"
    draft.write_text("draft")
    with held(engine, site, entry(site), tree=tree, deadline=soon()) as guard:
        assert guard.reach(tree, Projection.LOCAL_ONLY)
        assert machine.directory(machine.base / "a", A) is None
        assert A in engine.state.unprojected(tree.root.path)
        if again:
            assert guard.reach(tree, Projection.PROJECTED)
            assert A not in engine.state.unprojected(tree.root.path)
    assert draft.read_text() == "draft"
    if again:
        names = sorted(p.name for p in machine.directory(machine.base / "a", A).iterdir())
        assert names == ["base_config.json", "events.json", "metadata.json"]
        assert in_step(machine, A, machine.silo(), machine.base / "a")
    assert not (machine.store(machine.base / "a") / "conversations/.convsync").exists() or again


def test_phase5_what_only_the_projection_had_is_in_the_history(machine, engine, site):
    """A note that never travelled, and an edit that came late: neither goes unread."""
    at = machine.directory(machine.base / "a", A)
    (at / ".note").write_text("mine")
    put(at / EVENTS, as_jp([event("late")]))
    with held(engine, site, entry(site), tree=tree_of(site), deadline=soon()) as guard:
        guard.reach(guard.tree, Projection.LOCAL_ONLY)
    kept = [engine.history.read(WS, A, m.version) for m in engine.history.versions(WS, A)]
    bodies = [raw for files in kept for _, raw, _ in files]
    assert b"mine" in bodies
    assert as_jp([event("late")]) in bodies
