"""Phase 3: `fork` dies, or finds the disk full, at each of its steps: nothing new is there, or all of it."""

from __future__ import annotations

import itertools

import pytest

from agents import in_step
from convsync_agent.content import check_base_config, check_events, check_metadata
from convsync_agent.errors import ConvsyncError
from convsync_agent.forking import fork
from convsync_agent.scan import list_root
from faults import Faults, World
from machine import WS, event

C = 17_000_000_001
TURNS = [e for n in range(3) for e in (event(kind="turn_start"), event(f"q{n}"))]


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The silo and the worktrees a and b hold one conversation, in step."""
    made = World(tmp_path, monkeypatch)
    for name in "ab":
        made.write(made.enroll(name), C, *TURNS, slug="t", title="t")
    made.register("a", "b")
    made.remember()
    return made


def new_ones(world):
    """{number: the roots that list it} of what was not there before."""
    found: dict[int, list] = {}
    for root in world.roots():
        for number in list_root(str(root)).conversations() - {C}:
            found.setdefault(number, []).append(root)
    return found


def whole(directory):
    faults = (
        check_metadata((directory / "metadata.json").read_bytes()),
        check_base_config((directory / "base_config.json").read_bytes()),
        check_events((directory / "events.json").read_bytes(), packed=False),
    )
    return not any(faults) and sorted(p.name for p in directory.iterdir()) == [
        "base_config.json", "events.json", "metadata.json",
    ]  # fmt: skip


def said_by_us(world, name):
    """A file that says nothing may be anybody's: JP removes it at the end of its next run (contract 7.4)."""
    return (world.silo() / "locks" / name).stat().st_size > 0


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["die", "full"])
def test_phase3_a_fork_is_whole_or_not_there(world, monkeypatch, fault):
    """In each root: no directory that JP would see, or a complete one, the silo's first. The source is as it was."""
    seen = set()
    for number in itertools.count(1):
        world.set_back()
        source = world.inventory(*(world.directory(r, C) for r in (world.silo(), world.base / "a", world.base / "b")))
        made = None
        with world.engine() as engine, monkeypatch.context() as patched:
            site = engine.sites[WS]
            faults = Faults(patched, fault, number)
            with faults.watching():
                try:
                    made = fork(engine, site, C, turns=2)
                except ConvsyncError:
                    assert fault == "full", faults.hit
        note = (number, faults.hit)
        there = new_ones(world)
        seen.add(len(next(iter(there.values()), [])))
        assert len(there) <= 1, note
        for conversation, roots in there.items():
            assert roots[0] == world.silo(), note
            assert all(whole(world.directory(r, conversation)) for r in roots), note
        if made is not None:
            assert there, note
            assert len(there[made.id]) == 1 + len(made.worktrees), note
            assert len(made.worktrees) + len(made.left) == 2, note
        world.sync()
        assert new_ones(world).keys() == there.keys(), note
        for conversation, roots in new_ones(world).items():
            assert in_step(world, conversation, *roots), note
        assert source == world.inventory(
            *(world.directory(r, C) for r in (world.silo(), world.base / "a", world.base / "b"))
        ), note
        assert world.staged() == [], note
        assert [f for f in world.lock_files() if said_by_us(world, f)] == [], note
        if not faults.hit:
            break
    assert number > 15
    assert seen == {0, 1, 2, 3}
