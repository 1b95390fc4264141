"""What is large lives as what is small: the same copies, the same history, the same words."""

from __future__ import annotations

import os

import pytest

from changes import C
from convsync_agent.history import History
from convsync_agent.layout import STAGING
from convsync_agent.model import EVENTS
from convsync_agent.undoing import undo
from convsync_agent.verifying import verify
from machine import WS, as_jp, event, put
from pieces import LATER, at, stream

OTHER = C + 7


def write(world, name, raw, *, later=0):
    put(at(world, name) / EVENTS, raw, LATER + later)
    return world.sync()


def append(world):
    return write(world, "a", stream("one", "two", "three"))


def append_in_another_layout(world):
    return write(world, "a", stream("one", "two").replace(b"\n]\n", b"") + b' ,{"type":"new","timestamp":1}]')


def append_of_what_is_broken(world):
    return write(world, "a", stream("one", "two").replace(b"\n]\n", b"") + b',{"type":"new"}]')


def rewrite(world):
    return write(world, "a", stream("one", "other"))


def shrink(world):
    return write(world, "a", as_jp([event("one")]))


def grow_from_small(world):
    shrink(world)
    return write(world, "a", as_jp([event("one"), event("x" * 900)]), later=1)


def conflict(world):
    put(at(world, "b") / EVENTS, stream("one", "two", "of b"), LATER)
    return write(world, "a", stream("one", "two", "of a"), later=1)


def other_base(world):
    put(at(world, "a") / "base_config.json", as_jp({"other": True}), LATER)
    return write(world, "a", stream("one", "two", "three"))


def packed(*words) -> bytes:
    head = {"type": "config_delta", "timestamp": "2023-11-14 22:13:20.0", "delta": {}}
    return as_jp([head, *[event(f"{word} " * 30) for word in words]])


def cut_off(world):
    return write(world, "a", stream("one", "two", "three")[:-50])


def merged(world):
    return write(world, "a", stream("one", "two").replace(b"  {", b"<<<<<<< ours\n  {"))


def zeroes(world):
    return write(world, "a", bytes(2000))


def nothing_but_space(world):
    return write(world, "a", b" \n" * 500)


def imported(world):
    world.write(world.base / "b", OTHER, "one")
    put(at(world, "b", OTHER) / EVENTS, stream("alone", "there"), LATER)
    return world.sync()


def undone(world):
    rewrite(world)
    with world.engine() as engine:
        undo(engine, engine.sites[WS], C, patience=5)
    return world.sync()


def overlaid(world):
    append(world)
    write(world, "silo", stream("one", "older"), later=5)
    return world.sync()


def left_in_staging(world):
    place = world.silo() / "conversations" / STAGING
    place.mkdir()
    (place / f"c{C}.999999999.1.{EVENTS}").write_bytes(stream("nowhere", "else"))
    (place / f"c{C}.999999999.2.{EVENTS}").write_bytes(stream("one", "two"))
    return world.sync()


def unmanaged(world):
    (at(world, "a") / "picture.png").write_bytes(bytes(range(256)) * 4)
    world.sync()
    (at(world, "a") / "picture.png").write_bytes(bytes(range(255, -1, -1)) * 4)
    return world.sync()


STORIES = [
    append, append_in_another_layout, append_of_what_is_broken, rewrite, shrink, grow_from_small, conflict, other_base,
    cut_off, merged, zeroes, nothing_but_space, imported, undone, overlaid, left_in_staging, unmanaged,
]  # fmt: skip


def told(world, outcome):
    """All that can be seen of it, without times."""
    roots = {str(p.relative_to(world.base)): p.read_bytes() for r in world.roots() for p in r.rglob("*") if p.is_file()}
    history = History(str(world.data))
    versions = [
        (m.unit, m.why, m.valid, m.events, [(f.name, f.digest, f.size) for f in m.files])
        for conversation in history.conversations(WS)
        for m in history.versions(WS, conversation)
    ]
    with world.engine() as engine:
        site = engine.sites[WS]
        kept = {
            (f.name, f.digest)
            for c in engine.vault.shelter.conversations(WS)
            for f in engine.vault.shelter.held(WS, c).files
        }
        receipt = verify([site], engine.history, engine.state.attention())
    problems = sorted((p.kind, p.conversation, p.detail) for p in outcome.problems)
    return roots, versions, world.kept(), kept, problems, sorted(t.detail for t in receipt.problems)


@pytest.mark.parametrize("story", STORIES, ids=lambda s: s.__name__)
def test_the_same_as_for_a_small_one(world, by_pieces, story):
    """A whole life, once with streams in memory and once by pieces."""
    write(world, "a", stream("one", "two"), later=-1)
    world.remember()
    small = told(world, story(world))
    world.set_back()
    by_pieces()
    large = told(world, story(world))

    for mine, its in zip(large, small, strict=True):
        assert mine == its


def test_a_config_that_moves_into_a_large_stream_or_out_of_it(world, by_pieces):
    """That the new layout has all of the old one is not looked for: one version more is kept, and nothing is lost."""
    write(world, "a", stream("one", "two"), later=-1)
    by_pieces()
    kept = len(world.kept())
    os.unlink(at(world, "a") / "base_config.json")
    write(world, "a", packed("one", "two", "three"))

    assert {at(world, n).joinpath(EVENTS).read_bytes() for n in ("a", "b", "silo")} == {packed("one", "two", "three")}
    assert not (at(world, "silo") / "base_config.json").exists()
    assert len(world.kept()) == kept + 1
    assert stream("one", "two") in world.kept()
    write(world, "a", packed("one", "two", "three", "four"), later=1)
    assert len(world.kept()) == kept + 1
