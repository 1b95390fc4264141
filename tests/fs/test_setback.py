"""A durable copy that somebody put back to older or other content: what it held is in the history first."""

from __future__ import annotations

import itertools

import pytest

from convsync_agent.history import History
from convsync_agent.setback import WENT_BACK
from convsync_agent.shelter import Shelter
from faults import Faults, World
from machine import LONG_AGO, SECOND, WS, as_jp, event, put

C = 17_000_000_001
META = {"last_activated_at": "2023-11-14 22:13:20.0"}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The silo alone holds one conversation, with an unmanaged file; its content is kept."""
    made = World(tmp_path, monkeypatch)
    made.enroll("a")
    made.register("a")
    made.write(made.silo(), C, *"abc", title="t")
    put(made.directory(made.silo(), C) / "note.md", b"a note", LONG_AGO)
    made.sync()
    assert kept(made)["events.json"] == texts(*"abc")
    return made


def texts(*questions):
    return as_jp([event(q) for q in questions])


def silo(world):
    return world.directory(world.silo(), C)


def kept(world):
    return {n: raw for n, raw, _ in Shelter(str(world.data)).read(WS, C)}


def versions(world):
    """(unit, why, from the silo) of every version, oldest first, and what the versions hold."""
    history = History(str(world.data))
    found = history.versions(WS, C)[::-1]
    rows = [(str(m.unit), m.why, m.root == str(world.silo())) for m in found]
    return rows, {raw for m in found for _, raw, _ in history.read(WS, C, m.version)}


def told(world):
    with world.engine() as engine:
        return [(e.kind, e.root, e.lasting) for e in engine.ledger.entries.values() if e.detail == WENT_BACK]


REPLACED = [("stream", "replaced", True)]


@pytest.mark.parametrize("age", [-SECOND, SECOND], ids=["with its old time", "with a new time"])
@pytest.mark.parametrize("now", ["ab", "xyz", ""], ids=["an older one", "another one", "an empty one"])
def test_what_the_durable_copy_lost_is_in_the_history(world, now, age):
    """A person hears of what is older, once; other content with a later time is an edit. What is now is kept."""
    put(silo(world) / "events.json", texts(*now), LONG_AGO + age)
    world.sync()
    assert versions(world) == (REPLACED, {texts(*"abc"), b"{}\n"})
    older = now != "xyz" or age < 0
    assert told(world) == ([("conflict", str(world.silo()), True)] if older else [])
    assert kept(world)["events.json"] == texts(*now)
    before = world.inventory(world.data, *world.roots())
    world.sync()
    assert before == world.inventory(world.data, *world.roots())


def test_to_and_fro_loses_nothing(world):
    """Two contents take turns: each is in the silo, and the others are in the history."""
    for turn, now in enumerate(["ab", "abc", "xyz", "abc", "x"]):
        put(silo(world) / "events.json", texts(*now), LONG_AGO + turn * SECOND)
        world.sync()
    assert {texts(*"abc"), texts(*"xyz")} <= versions(world)[1] | {(silo(world) / "events.json").read_bytes()}


def test_what_grows_needs_no_version(world):
    """An append contains what was kept; a later activation does, too."""
    put(silo(world) / "events.json", texts(*"abcd"), LONG_AGO + SECOND)
    put(silo(world) / "metadata.json", as_jp({"last_activated_at": "2024-01-01 00:00:00.0", "title": "t"}), LONG_AGO)
    world.sync()
    assert versions(world) == ([], set())
    assert told(world) == []
    assert kept(world)["events.json"] == texts(*"abcd")


def test_metadata_is_written_anew_all_the_time(world):
    """Another title is kept and no news; an earlier activation or time is."""
    put(silo(world) / "metadata.json", as_jp(META | {"title": "u"}), LONG_AGO + SECOND)
    world.sync()
    assert versions(world)[0] == [("metadata", "replaced", True)]
    assert told(world) == []
    earlier = {"last_activated_at": "2023-11-13 22:13:20.0", "title": "v"}
    put(silo(world) / "metadata.json", as_jp(earlier), LONG_AGO + 2 * SECOND)
    world.sync()
    assert versions(world)[0] == [("metadata", "replaced", True)] * 2
    assert len(told(world)) == 1


def test_an_unmanaged_file_is_kept_and_no_news(world):
    """Another content of it, or none: what it was is in the history."""
    put(silo(world) / "note.md", b"another note", LONG_AGO + SECOND)
    put(silo(world) / "events.json", texts(*"abcd"), LONG_AGO + SECOND)
    world.sync()
    assert versions(world) == ([("extras", "replaced", True)], {b"a note"})
    (silo(world) / "note.md").unlink()
    put(silo(world) / "events.json", texts(*"abcde"), LONG_AGO + 2 * SECOND)
    world.sync()
    assert versions(world)[1] == {b"a note", b"another note"}
    assert told(world) == []


def test_our_own_changes_are_no_setback(world):
    """A worktree wins with other content: what it replaced was kept when it was replaced."""
    place = world.write(world.base / "a", C, *"abc", title="t")
    world.sync()
    put(place / "events.json", texts(*"abcd"), LONG_AGO + SECOND)
    with world.engine() as engine:  # the next one comes before this one is kept
        site = engine.sites[WS]
        engine.cycle(site, engine.rescan(site))
    put(place / "events.json", texts(*"xy"), LONG_AGO + 2 * SECOND)
    world.sync()
    assert versions(world) == (REPLACED, {texts(*"abcd"), b"{}\n"})
    assert told(world) == []
    assert kept(world)["events.json"] == texts(*"xy")


def test_a_projection_that_goes_back_with_it_is_kept_and_told(world):
    """The content that the silo lost was in the history already, from the worktree; a person hears of it still."""
    place = world.write(world.base / "a", C, *"abc", title="t")
    world.sync()
    put(silo(world) / "events.json", texts("a"), LONG_AGO + SECOND)
    world.sync()
    assert (place / "events.json").read_bytes() == texts("a")
    assert versions(world) == ([("stream", "replaced", False)], {texts(*"abc"), b"{}\n"})
    assert len(told(world)) == 1


def test_a_broken_durable_copy_leaves_the_kept_one_alone(world):
    """What JP could not load replaces nothing that is kept (R3)."""
    put(silo(world) / "events.json", b"[\n", LONG_AGO + SECOND)
    world.sync()
    assert kept(world)["events.json"] == texts(*"abc")


def test_where_nothing_is_kept_nothing_is_done(tmp_path, monkeypatch):
    """`trash.keep_days = 0` turns it off."""
    world = World(tmp_path, monkeypatch)
    world.enroll("a")
    world.register("a")
    for now in ("abc", "x"):
        world.write(world.silo(), C, *now)
        with world.engine(trash_keep_days=0) as engine:
            site = engine.sites[WS]
            engine.cycle(site, engine.rescan(site))
            assert engine.vault.step_all(engine, engine.sites) == 0
    assert versions(world) == ([], set())


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["die", "full"])
def test_a_fault_at_any_step_leaves_the_old_content_somewhere(world, fault, monkeypatch):
    """In the kept copy or in the history, readable, at every step; and after the next one in the history."""
    put(silo(world) / "events.json", texts("x"), LONG_AGO + SECOND)
    put(silo(world) / "metadata.json", as_jp({"last_activated_at": "2023-11-13 22:13:20.0"}), LONG_AGO + SECOND)
    put(silo(world) / "note.md", b"another", LONG_AGO + SECOND)
    old = {texts(*"abc"), as_jp(META | {"title": "t"}), b"a note"}
    world.remember()
    for number in itertools.count(1, 1 if fault == "die" else 3):
        world.set_back()
        with world.engine() as engine, monkeypatch.context() as patched:
            site = engine.sites[WS]
            engine.cycle(site, engine.rescan(site))
            faults = Faults(patched, fault, number)
            with faults.watching():
                engine.vault.step_all(engine, engine.sites)
        assert old <= versions(world)[1] | set(kept(world).values()), (number, faults.hit)
        put(silo(world) / "events.json", texts("x", "y"), LONG_AGO + 2 * SECOND)  # the next change, and its next chance
        world.sync()
        assert old <= versions(world)[1], (number, faults.hit)
        assert kept(world)["events.json"] == texts("x", "y")
        if not faults.hit:
            break
    assert number > 10
