"""What the agent remembers has a bound, whatever happens for however long."""

from __future__ import annotations

import time

import pytest

from agents import until
from convsync_agent import durable as durability
from convsync_agent import losses, observe, removals, snapshots
from convsync_agent.durable import Durable
from convsync_agent.engine import Engine
from convsync_agent.knowledge import MOST_KEPT, MOST_OF_ONE
from convsync_agent.model import MANAGED, FileCopy, Stamp, Unit, UnitCopy
from convsync_agent.snapshots import Sightings
from faults import opened_engine

C = 17_000_000_001
MANY = 5000


@pytest.fixture
def pair(machine):
    """One worktree with one conversation, registered, and an engine for it."""
    tree = machine.worktree(register=False)
    machine.write(tree, C, "one")
    machine.ok("register", tree)
    with opened_engine(machine) as engine:
        (site,) = engine.sites.values()
        engine.cycle(site, engine.rescan(site))
        yield engine, site


def copy_of(engine: Engine, site):
    view = next(t.view for t in site.trees.values())
    return engine.eye.look(view.root, C, view.listing.places(C)[0], None)[0]


def test_digests_of_what_was_placed(pair):
    """Files that were written by us push out the oldest, as files that were read do."""
    engine, site = pair
    copy = copy_of(engine, site)
    for number in range(observe.CACHE_FILES + 10):
        unit = UnitCopy((FileCopy(f"{number}", None, b"digest"),))
        engine.eye.trust((copy.root, copy.conversation), unit, f"{number}", Stamp(1, 1, 1, 1))

    assert len(engine.eye._facts) == observe.CACHE_FILES


def test_units_that_were_seen_to_rest(monkeypatch):
    """Those that nobody looked at for a while are forgotten when there are many; young ones stay."""
    sightings, now = Sightings(), time.time_ns()
    sightings.age(("/r", 0, "events.json"), (1,), now)
    for number in range(1, snapshots.MOST_SEEN):
        sightings.age(("/r", number, "events.json"), (1,), now)
    assert len(sightings._seen) == snapshots.MOST_SEEN
    monkeypatch.setattr(snapshots, "LONG_NS", 0)  # all of them are old now
    for number in range(MANY):
        sightings.age(("/s", number, "events.json"), (1,), now)

    assert len(sightings._seen) <= snapshots.MOST_SEEN + 1


def test_locks_that_were_released(pair, monkeypatch):
    """A release that no removal can be explained by any more is forgotten."""
    engine, _ = pair
    monkeypatch.setattr(removals, "WITNESS_NS", 0)  # all of them are old at once
    for number in range(MANY):
        engine.removals.released("abcde", number)

    assert len(engine.removals.locked) <= removals.MOST_LOCKED + 1


def test_changes_of_what_is_not_there_any_more(pair, monkeypatch):
    """Of conversations that went from a worktree that is there nothing is remembered for ever; of others it is."""
    engine, site = pair
    (store,) = site.trees
    engine.losses.wrote(store, C, "events.json")
    monkeypatch.setattr(losses, "FORGET_NS", 0)  # all of them are old at once
    for number in range(MANY):
        engine.losses.wrote(store, number, "events.json")

    assert len(engine.losses.written) <= losses.MOST_NOTED + 1
    assert (store, C) in engine.losses.written


def test_what_the_history_has(pair):
    """What is remembered as kept is looked up again when there is too much of it."""
    engine, _ = pair
    for number in range(MANY):
        engine.knower._remember(("abcde", number), Unit.STREAM, (b"x", None))
        engine.knower._remember(("abcde", C), Unit.STREAM, (b"%d" % number, None))

    assert len(engine.knower._kept) <= MOST_KEPT
    assert all(len(contents) <= MOST_OF_ONE for contents in engine.knower._kept.values())


def test_paths_that_were_synced():
    """Forgetting one costs a sync and nothing else."""
    durable = Durable()
    for number in range(3 * durability._KNOWN):
        durable.note({f"/{number}": (number, 0)}, None)

    assert len(durable._known) <= durability._KNOWN + 1


def test_a_kept_copy_of_what_was_removed(pair):
    """It is marked once and read from the disk by who asks."""
    engine, site = pair
    engine.vault.note(site.id, C)
    engine.vault.step_all(engine, engine.sites)
    assert engine.vault.shelter._known[site.id].keys() == {C}
    assert engine.vault.shelter.removed(site.id, C, 1)

    assert not engine.vault.shelter._known[site.id]


def test_closed_files_are_managed_ones(pair):
    """A cycle that settled a conversation leaves nothing of it behind."""
    engine, site = pair
    (store,) = site.trees
    engine.closed |= {(store, C, name) for name in MANAGED}
    until(lambda: not engine.cycle(site, {C}).deferred, "settled")  # it may look as if somebody wrote yet

    assert not engine.closed
