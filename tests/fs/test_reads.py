"""How often a cycle reads what it has to know: every changed file once, what it placed itself never."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from agents import until
from convsync_agent import fs
from convsync_agent.records import unpack
from faults import opened_engine
from machine import LONG_AGO, as_jp, event, put

C = 17_000_000_001
HEAD = {"type": "config_delta", "timestamp": "2023-11-14 22:13:20.0", "delta": {}}
DAY_NS = 86_400_000_000_000


@pytest.fixture
def reads(monkeypatch):
    """(root, file) of every managed file that is read from here on, by how often."""
    found, real = Counter(), fs.read_file

    def spied(name, fd):
        directory = os.readlink(f"/proc/self/fd/{fd}")
        found["silo" if "/workspace/" in directory else "tree", name] += 1
        return real(name, fd)

    monkeypatch.setattr(fs, "read_file", spied)
    return found


def lay_out(directory, *words, packed):
    """The conversation says these words, its config beside them or `packed` into them, as an older JP has it."""
    head = [HEAD] if packed else []
    put(directory / "events.json", as_jp([*head, *map(event, words)]), LONG_AGO + len(words) * DAY_NS)
    if packed:
        (directory / "base_config.json").unlink(missing_ok=True)


def at_rest(engine, site):
    """A cycle has nothing to do, and the stamps that it leaves say that nothing changed."""
    engine.cycle(site, {C})
    return not any(unpack(view.records[C]).racy for view in site.views())


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="which file a descriptor is tells /proc")
@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
@pytest.mark.parametrize(
    ("then", "expected"),
    [
        pytest.param(("one", "two", "three"), {("tree", "events.json"): 1, ("silo", "events.json"): 1}, id="append"),
        pytest.param(("other", "two", "three"), {("tree", "events.json"): 1, ("silo", "events.json"): 1}, id="edit"),
    ],
)
def test_a_change_is_read_once_on_each_side(machine, reads, packed, then, expected):
    """The events that changed and the durable ones they replace; nothing that did not change, nothing that was placed.

    An edit whose loser goes into the history reads its base config beside that: it is a part of the version.
    """
    tree = machine.worktree(register=False)
    directory = machine.write(tree, C, "one", "two")
    lay_out(directory, "one", "two", packed=packed)
    machine.ok("register", tree)
    with opened_engine(machine) as engine:
        (site,) = engine.sites.values()
        until(lambda: at_rest(engine, site), "young no more")
        lay_out(directory, *then, packed=packed)
        engine.closed.add((f"{tree}/.jp", C, "events.json"))
        reads.clear()
        outcome = engine.cycle(site, engine.rescan(site))
        assert [type(r).__name__ for r in outcome.results] == ["Done"], outcome
        base = reads.pop(("silo", "base_config.json"), 0)
        assert dict(reads) == expected
        assert base == (1 if then[0] == "other" and not packed else 0)

        until(lambda: at_rest(engine, site), "young no more")
        reads.clear()
        assert at_rest(engine, site)
        assert not reads


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="which file a descriptor is tells /proc")
@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_an_import_is_read_once(machine, reads, packed):
    """What was built in the silo is known: it was valid where it came from, and its digest was taken there."""
    tree = machine.worktree()
    with opened_engine(machine) as engine:
        (site,) = engine.sites.values()
        lay_out(machine.write(tree, C, "one"), "one", packed=packed)
        outcome = engine.cycle(site, engine.rescan(site))
        assert [type(r).__name__ for r in outcome.results] == ["Done"]
        assert {root for root, _ in reads} == {"tree"}
        assert set(reads.values()) == {1}
