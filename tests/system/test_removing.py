"""Phase 6 in earnest: killed commands, several at once, and somebody who looks all the time. Real processes."""

from __future__ import annotations

import os
import threading

import pytest

from agents import FILES, status, until
from convsync_agent.graves import Graves
from convsync_agent.shelter import Shelter
from deaths import dead_somewhere, no_strace, run
from faults import World
from machine import LONG_AGO, WS, put

C = 17_000_000_001
LONG = {"JP_LOCK_DURATION": "5m"}  # each has its turn, however slow the machine is
KILLS = int(os.environ.get("CONVSYNC_KILLS", "5"))


def directories(world):
    """Where the conversation lies: (root, archived) of every directory, each of them whole."""
    found = []
    for name, root in (("silo", world.silo()), ("a", world.base / "a"), ("b", world.base / "b")):
        for archived in (False, True):
            path = world.directory(root, C, archived=archived)
            if path is not None:
                assert {p.name for p in path.iterdir()} >= set(FILES), (name, archived)
                found.append((name, archived))
    return found


def everywhere(world):
    """Every content in a root, in the history or in the trash."""
    shelter = Shelter(str(world.base / "data/convsync"))
    kept = {raw for _, raw, _ in shelter.read(WS, C)} if shelter.held(WS, C) else set()
    return world.everywhere() | kept


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["archive", "unarchive", "rm"])
def test_phase6_killed_at_any_system_call(tmp_path, monkeypatch, verb):
    """Nothing is lost, no directory is half there, and the same command again ends it, whoever started in between."""
    if no_strace():
        pytest.skip(no_strace())
    world = World(tmp_path, monkeypatch)
    archived = verb == "unarchive"
    for name in "ab":
        path = world.write(world.enroll(name), C, "one", "two", slug="t", title="t", archived=archived)
        put(path / f"{name}.md", f"only in {name}".encode(), LONG_AGO)
    world.register("a", "b")
    world.remember()
    before = everywhere(world)
    argv = [verb, str(C), *(["--yes"] if verb == "rm" else [])]
    for note in dead_somewhere(world, argv, KILLS, verb):
        there = directories(world)
        lost = {raw for raw in before - everywhere(world) if b"archived_at" not in raw}
        assert not lost, note
        if verb != "rm":
            assert [root for root, _ in there] == ["silo", "a", "b"], note
        elif ("silo", False) not in there:
            assert there == [], note
        world.sync()
        again = run(world, argv)
        if verb == "rm":
            assert again.returncode == (3 if ("silo", False) not in there else 0), (note, again)
            assert directories(world) == [], note
            assert Graves(str(world.data)).stands(WS, C), note
        else:
            assert again.returncode == 0, (note, again)
            assert directories(world) == [(root, verb == "archive") for root in ("silo", "a", "b")], note
        assert run(world, ["sync"]).returncode == 0, note
        assert world.staged() == [], note
        assert world.lock_files() == [], note


@pytest.fixture
def two(machine):
    for name in "ab":
        machine.write(machine.worktree(name, register=False), C, "one", slug="t", title="t")
        machine.ok("register", machine.base / name)
    return machine


@pytest.mark.slow
def test_phase6_several_commands_at_once_beside_an_agent(two, agent):
    """Each waits for the other: in the end every root says the same, and the verdict is good."""
    agent()
    for _ in range(3):
        started = [two.spawn(verb, str(C), env=LONG) for verb in ("archive", "unarchive", "archive", "unarchive")]
        said = [p.communicate() for p in started]
        assert [p.returncode for p in started] == [0, 0, 0, 0], said
        found = directories(two)
        assert [root for root, _ in found] == ["silo", "a", "b"]
        assert len({archived for _, archived in found}) == 1
    verbs = (("rm", str(C), "--yes"), ("archive", str(C)), ("rm", str(C), "--yes"))
    started = [two.spawn(*argv, env=LONG) for argv in verbs]
    said = [p.communicate() for p in started]
    codes = [p.returncode for p in started]
    assert 0 in (codes[0], codes[2]), said
    assert set(codes) <= {0, 3}, said
    assert directories(two) == []
    until(lambda: status(two)["verdict"] == "in-sync", "in sync")
    assert status(two)["attention"] == []
    two.ok("trash", "restore", str(C))
    assert two.questions(two.silo(), C, archived=two.directory(two.silo(), C) is None) == ["one"]


@pytest.mark.slow
def test_phase6_it_is_never_absent_from_all_four_places(two):
    """Contract 8.4: who looks into both partitions of both roots, as JP's clean-up does, always finds it."""
    tops = [two.store(r) / "conversations" for r in (two.silo(), two.base / "a")]
    places = [top / part for top in tops for part in ("", ".archive")]
    missed, looks, stop, acts = [], [0], threading.Event(), [0]

    def there():
        for place in places:
            try:
                if any(n.startswith(str(C)) for n in os.listdir(place)):
                    return True
            except FileNotFoundError:
                continue
        return False

    def look():
        while not stop.is_set():
            looks[0] += 1
            # One that is renamed behind the look is found by the second: JP scans each root once, ours moves once.
            act = acts[0]
            if not there() and not there() and act == acts[0]:  # two commands within one look move it twice
                missed.append(looks[0])

    watching = threading.Thread(target=look)
    watching.start()
    try:
        for _ in range(5):
            for verb in ("archive", "unarchive"):
                acts[0] += 1
                two.ok(verb, str(C))
    finally:
        stop.set()
        watching.join()
    assert looks[0] > 100
    assert missed == []
