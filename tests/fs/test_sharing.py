"""What several conversations can wait for together they do: the disk is asked as often for many as for some."""

from __future__ import annotations

from collections import Counter

import pytest

from convsync_agent import kernel
from convsync_agent.state import State
from faults import opened_engine
from machine import LONG_AGO, as_jp, put

FIRST = 17_000_000_001
SOME, MANY = 10, 40
DAY_NS = 86_400_000_000_000


@pytest.fixture
def waits(monkeypatch):
    """How often the disk is waited for, by what for."""
    found = Counter()

    def counted(owner, name):
        real = getattr(owner, name)

        def call(*args):
            found[name] += 1
            return real(*args)

        monkeypatch.setattr(owner, name, call)

    counted(kernel, "fsync")
    counted(kernel, "sync_file_system")
    counted(State, "transaction")
    return found


def retitle(tree, conversations, number):
    """As JP does it: another directory name, and another title in the metadata."""
    for conversation in conversations:
        (old,) = (tree / ".jp/conversations").glob(f"{conversation}*")
        new = old.with_name(f"{conversation}-{number}")
        old.rename(new)
        metadata = {"last_activated_at": f"2025-01-0{number} 00:00:00.0", "title": f"{number}"}
        put(new / "metadata.json", as_jp(metadata), LONG_AGO + number * DAY_NS)


@pytest.mark.skipif(not kernel.has_syncfs(), reason="here each file is waited for by itself")
def test_many_titles_wait_for_the_disk_as_often_as_some(machine, waits):
    """A directory that is renamed and metadata that are exchanged, in the silo and in another worktree."""
    tree, other = machine.worktree("a", register=False), machine.worktree("b", register=False)
    everything = range(FIRST, FIRST + MANY)
    for conversation in everything:
        machine.write(tree, conversation, "one")
        machine.write(other, conversation, "one")
    machine.ok("register", tree)
    machine.ok("register", other)
    counts = []
    with opened_engine(machine) as engine:
        (site,) = engine.sites.values()
        engine.cycle(site, engine.rescan(site))
        for number, batch in enumerate((everything[:SOME], everything), 1):
            retitle(tree, batch, number)
            dirty = engine.rescan(site)
            engine.closed |= {(f"{tree}/.jp", c, "metadata.json") for c in batch}
            waits.clear()
            outcome = engine.cycle(site, dirty)
            assert not outcome.failed
            counts.append(Counter(waits))
        assert engine.state.pending() == []

    for top in (machine.silo() / "conversations", other / ".jp/conversations"):
        assert sorted(p.name for p in top.iterdir() if p.name[0] != ".") == [f"{c}-2" for c in everything]
    assert counts[0] == counts[1]
