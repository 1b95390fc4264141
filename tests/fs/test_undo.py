"""`undo` dies, or finds the disk full, at each of its steps: nothing is lost, and the next one still goes through."""

from __future__ import annotations

import contextlib
import itertools

import pytest

from convsync_agent.errors import ConvsyncError
from convsync_agent.history import History
from convsync_agent.model import Unit
from convsync_agent.undoing import undo
from faults import Faults, World
from machine import LONG_AGO, SECOND, WS, as_jp, event, put

C = 17_000_000_001
META = {"last_activated_at": "2023-11-14 22:13:20.0"}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The copies in the silo, a and b are in step; both units were overwritten once, and an unmanaged file as well."""
    made = World(tmp_path, monkeypatch)
    for name in "ab":
        place = made.write(made.enroll(name), C, "one", "two", title="old")
        put(place / "note.md", b"old note", LONG_AGO)
    made.register("a", "b")
    place = made.directory(made.base / "a", C)
    for name, value in (
        ("base_config.json", {"assistant": "new"}),
        ("events.json", [event("other")]),
        ("metadata.json", META | {"title": "new"}),
    ):
        put(place / name, as_jp(value), LONG_AGO + 60 * SECOND)
    put(place / "note.md", b"new note", LONG_AGO + 60 * SECOND)
    made.sync()
    made.remember()
    return made


OLD = {
    "split": (as_jp({}), as_jp([event("one"), event("two")])),
    "legacy": (b"", as_jp([event(kind="config_delta", delta={}), event("packed")])),
}


def make_legacy(world):
    """What is to be undone replaced a stream that had no base config: one file is there too many."""
    new = {n: (world.directory(world.base / "a", C) / n).read_bytes() for n in ("base_config.json", "events.json")}
    for step, files in enumerate(({"events.json": OLD["legacy"][1]}, new), start=2):
        for name in new:
            (world.directory(world.base / "a", C) / name).unlink(missing_ok=True)
        for name, raw in files.items():
            put(world.directory(world.base / "a", C) / name, raw, LONG_AGO + 60 * step * SECOND)
        world.sync()
    world.remember()


def undone(world):
    with world.engine() as engine:
        return undo(engine, engine.sites[WS], C, patience=5)


def units(world):
    """Both units of every copy."""
    places = [world.directory(r, C) for r in (world.silo(), world.base / "a", world.base / "b")]
    names = ("base_config.json", "events.json", "metadata.json")
    return [tuple((p / n).read_bytes() if (p / n).exists() else b"" for n in names) for p in places]


def streams(world):
    """Every stream that is whole somewhere: in a root, or in the history as one version."""
    history = History(str(world.data))
    kept = [
        {name: raw for name, raw, _ in history.read(WS, C, m.version)}
        for m in history.versions(WS, C)
        if m.unit is Unit.STREAM
    ]
    return {u[:2] for u in units(world)} | {(k.get("base_config.json", b""), k.get("events.json")) for k in kept}


def test_all_three_units_come_back_and_go(world):
    """One act replaced the stream, the metadata and an unmanaged file: undo takes all, and a second one gives back."""
    before = units(world)
    note = world.directory(world.silo(), C) / "note.md"

    versions, _ = undone(world)
    assert {str(m.unit) for m in versions} == {"stream", "metadata", "extras"}
    assert (units(world) != before, note.read_bytes()) == (True, b"old note")

    undone(world)
    assert (units(world), note.read_bytes()) == (before, b"new note")


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "form"), [("die", "split"), ("die", "legacy"), ("full", "split")])
def test_a_fault_at_any_step_loses_nothing(world, fault, form, monkeypatch):
    """Whatever step fails: every content is in a root or in the history, copies end in step, and undo still works.

    What is restored is in no root, so what a death left between the renames of base_config.json and events.json is
    finished by the next start: every stream is the old or the new one, never a mixture.
    """
    if form == "legacy":
        make_legacy(world)
    new, old = units(world)[0], OLD[form]
    all_bytes = world.everywhere()
    for number in itertools.count(60 if form == "legacy" else 1):  # nothing is placed before
        world.set_back()
        with world.engine() as engine, monkeypatch.context() as patched:
            faults = Faults(patched, fault, number)
            with faults.watching(), contextlib.suppress(ConvsyncError, OSError):
                undo(engine, engine.sites[WS], C, patience=0.2)
        if not faults.hit:
            break
        note = f"{fault} at {number}, {faults.hit}"
        assert all_bytes <= world.everywhere(), note
        world.sync()
        assert all_bytes <= world.everywhere(), note
        assert len(set(units(world))) == 1, note
        assert units(world)[0][:2] in {new[:2], old}, note
        assert {new[:2], old} <= streams(world), note
        before = units(world)
        undone(world)
        undone(world)
        assert units(world) == before, note
        assert all_bytes <= world.everywhere(), note
    assert number > 20
