"""What a deputy hands back is what the agent would have known, had it done the cycle itself."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
from contextlib import ExitStack, closing
from dataclasses import replace

import pytest

from agents import until
from convsync_agent import delegation, scan, setback, state
from convsync_agent.agenda import Agenda
from convsync_agent.delegation import Delegation, absorb, job_of
from convsync_agent.deputy import Charter, Deputy
from convsync_agent.engine import Engine
from convsync_agent.settings import Settings
from machine import WS, as_jp, event, put

C, D, E, GONE = 17_000_000_001, 17_000_000_002, 17_000_000_003, 17_000_000_004
ALL = {C, D, E, GONE}


@pytest.fixture
def tree(machine):
    """A worktree in step: an append, an edit whose loser is kept, one that breaks."""
    tree = machine.worktree("a")
    for conversation in ALL:
        machine.write(tree, conversation, "one", "two")
    machine.ok("sync")
    return tree


@pytest.fixture
def engines(machine, tree):
    """Opens engines on that machine, each on a state of its own that knows what the machine's does."""
    with ExitStack() as stack:

        def opened(kind, name):
            path = machine.base / name
            shutil.copytree(machine.base / "state/convsync", path)
            if kind is Deputy:
                made = Deputy(Charter(str(path), str(machine.base / "data/convsync"), Settings()))
                stack.callback(made.state.close)
                return made
            known = stack.enter_context(closing(state.writer(str(path))))
            return Engine(known, str(machine.base / "data/convsync"), Settings())

        yield opened


def change(machine, tree):
    """An append, an edit of what was there, and a broken file."""
    put(machine.directory(tree, C) / "events.json", as_jp([event("one"), event("two"), event("three")]))
    put(machine.directory(tree, D) / "events.json", as_jp([event("other"), event("two")]))
    put(machine.directory(tree, E) / "events.json", b"[{")


def known(engine):
    """All that an engine remembers of what it did: what counts for the next cycle."""
    site = engine.sites[WS]
    return {
        "listed": [(v.root, v.listing.live, v.listing.archived, v.records.keys()) for v in site.views()],
        "stamps": [{c: raw[:-8] for c, raw in v.records.items()} for v in site.views()],
        "entries": {key: (e.detail, e.lasting) for key, e in engine.ledger.entries.items()},
        "placed": engine.placed,
        "unsaved": {k: c.stream.digest for k, c in engine.losses.copies.items()},
        "stored": len(engine.history.pressing),
        "staged": engine.staged_in,
    }


def test_the_agent_goes_on_as_if_it_had_done_it(machine, tree, engines):
    """Listings, records, attention, what is placed, unsaved and staged: the same as after a cycle of its own."""
    twin = machine.base / "twin"
    change(machine, tree)
    shutil.copytree(machine.base, twin, symlinks=True, ignore=shutil.ignore_patterns("twin", "one", "two", "run"))
    mine, helper = engines(Engine, "one"), engines(Deputy, "two")
    site = mine.sites[WS]
    dirty = mine.rescan(site)
    assert dirty >= {C, D, E}

    job = job_of(mine, site, frozenset({C, D, E}))
    answer = pickle.loads(pickle.dumps(helper.perform_job(pickle.loads(pickle.dumps(job)))))
    assert answer.refused == set()
    absorb(mine, site, answer)

    assert machine.questions(machine.silo(), C) == ["one", "two", "three"]
    assert machine.questions(machine.silo(), D) == ["other", "two"]
    assert machine.questions(machine.silo(), E) == ["one", "two"]
    assert mine.history.versions(WS, D)
    assert answer.outcome.again.keys() == {E}, "a broken file may be one that is being written"
    stale = {c for v in site.views() for c in scan.sweep(v, scan.list_root(v.root.path), strict=False)}
    assert stale <= {E}, "what was done is recorded"
    again = mine.cycle(site, {C, D, E})
    assert again.results == []
    assert set(again.again) <= {E}
    assert mine.state.records(WS, str(machine.silo())).keys() == ALL

    for conversation in (C, D, E):  # the very same, done by one engine alone
        for root in (tree, machine.silo()):
            gone = machine.directory(root, conversation)
            shutil.rmtree(gone)
            shutil.copytree(twin / gone.relative_to(machine.base), gone)
    alone = engines(Engine, "three")
    alone.rescan(alone.sites[WS])
    alone.cycle(alone.sites[WS], {C, D, E})
    told, own = known(mine), known(alone)
    for table in ("listed", "entries", "placed", "unsaved", "staged"):
        assert told[table] == own[table], table
    assert mine.cycle(site, ALL).results == []


def test_what_has_gone_is_left_to_the_agent(machine, tree, engines):
    """Nothing is put back, buried or forgotten by a deputy: it has not seen what came before."""
    change(machine, tree)
    mine, helper = engines(Engine, "one"), engines(Deputy, "two")
    site = mine.sites[WS]
    mine.rescan(site)
    job = job_of(mine, site, frozenset({C, GONE}))
    shutil.rmtree(machine.directory(machine.silo(), GONE))

    answer = helper.perform_job(job)
    absorb(mine, site, answer)

    assert answer.refused == {GONE}
    assert GONE not in answer.outcome.looked
    assert machine.directory(machine.silo(), GONE) is None
    assert GONE in site.silo.records
    assert machine.questions(machine.silo(), C) == ["one", "two", "three"]


@pytest.mark.parametrize("fault", ["another silo", "no such workspace"])
def test_another_machine_than_the_agent_means_is_not_touched(machine, tree, engines, fault):
    """Everything is refused, and every byte is as it was."""
    change(machine, tree)
    mine, helper = engines(Engine, "one"), engines(Deputy, "two")
    site = mine.sites[WS]
    mine.rescan(site)
    job = job_of(mine, site, frozenset({C, D}))
    before = machine.inventory(tree, machine.silo())

    answer = helper.perform_job(
        replace(job, silo=(1, 1)) if fault == "another silo" else replace(job, workspace="nobody")
    )

    assert answer.refused == {C, D}
    assert answer.outcome.looked == set()
    assert machine.inventory(tree, machine.silo()) == before


@pytest.fixture
def office(machine, tree):
    """A delegation with a real deputy process, an engine and an agenda."""
    with closing(state.writer(str(machine.base / "state/convsync"))) as opened:
        engine = Engine(opened, str(machine.base / "data/convsync"), Settings())
        made = Delegation(str(machine.base / "state/convsync"), str(machine.base / "data/convsync"), lambda: None)
        yield made, engine, Agenda()
        made.close()


def give(office, site, conversations, monkeypatch):
    """Hand these over, as if each of them was huge; the process that has them."""
    made, engine, agenda = office
    monkeypatch.setattr(delegation, "HUGE", 0)
    assert made.without_huge(engine, agenda, site, set(conversations)) == set()
    return made


def test_what_is_lent_is_not_due(machine, tree, office, monkeypatch):
    """While somebody else looks at it, a hint waits; given back, it is due again."""
    made, engine, agenda = office
    site = engine.sites[WS]
    dirty = engine.rescan(site)
    give(office, site, {C}, monkeypatch)
    agenda.add_all(WS, {C, D} | dirty)

    assert agenda.lent(WS, C)
    taken = agenda.take(10)
    assert taken is not None
    assert C not in taken[1]
    assert not agenda.ready()
    assert not agenda.idle()
    assert agenda.size == 1
    found = until(lambda: list(made.answers(agenda)), "an answer")
    assert [a.job.conversations for a in found] == [{C}]
    assert agenda.take(10) == (WS, {C})


def test_a_deputy_that_hangs_is_ended_and_its_work_comes_back(machine, tree, office, monkeypatch):
    """The agent does it then, and does not give it away again; after some deaths nobody is asked any more."""
    made, engine, agenda = office
    site = engine.sites[WS]
    engine.rescan(site)
    monkeypatch.setattr(delegation, "HANG_SECONDS", 0.0)  # stopped for good: it would hang for any time
    for death in range(delegation.MOST_DEATHS):
        give(office, site, {C}, monkeypatch)
        victim = made.pid
        os.kill(victim, signal.SIGSTOP)
        made.step()
        until(lambda: list(made.answers(agenda)) or not agenda.lent(WS, C), "given back")
        assert made.pid is None
        assert agenda.take(10) == (WS, {C}), death
        assert made.without_huge(engine, agenda, site, {C}) == {C}, "the agent does this one"
    assert made.without_huge(engine, agenda, site, {C, D}) == {C, D}
    assert made.pid is None


def test_one_that_was_let_go_and_hangs_is_ended_too(machine, tree, office, monkeypatch):
    """What it has in hand when the registry changes is not away for good: it is waited for, and given back."""
    made, engine, agenda = office
    site = engine.sites[WS]
    engine.rescan(site)
    give(office, site, {C}, monkeypatch)
    os.kill(made.pid, signal.SIGSTOP)
    made.retire()
    assert made.pid is None
    assert made.busy
    assert 0 < made.wait() < float("inf")
    monkeypatch.setattr(delegation, "HANG_SECONDS", 0.0)
    made.step()
    until(lambda: list(made.answers(agenda)) or not agenda.lent(WS, C), "given back")

    assert not made.busy
    assert agenda.take(10) == (WS, {C})
    assert made.wait() == float("inf")


def test_a_kept_copy_is_made_there_as_here(machine, tree, office, monkeypatch):
    """What the durable copy went back from is in the history first, a person hears of it, and the kept copy is new."""
    made, engine, agenda = office
    site = engine.sites[WS]
    monkeypatch.setattr(delegation, "HUGE", 0)
    engine.cycle(site, engine.rescan(site))
    engine.vault.step_all(engine, engine.sites)
    stream = machine.directory(machine.silo(), C) / "events.json"
    put(stream, as_jp([event("one")]), stream.stat().st_mtime_ns)
    put(machine.directory(tree, C) / "events.json", stream.read_bytes(), stream.stat().st_mtime_ns)
    until(lambda: not engine.cycle(site, engine.rescan(site) | {C}).again, "recorded")

    assert made.keeps_huge(engine, agenda, site, C)
    assert agenda.lent(WS, C)
    until(lambda: made.turn(engine, agenda, lambda *_: None, lambda *_: None) or not made.busy, "kept")
    (old,) = [m for m in engine.history.versions(WS, C) if m.events == 2]
    assert old.why == setback.WHY
    assert [e.kind for e in engine.ledger.entries.values() if e.conversation == C] == ["conflict"]
    files = {name: raw for name, raw, _ in engine.vault.shelter.read(WS, C)}
    assert files["events.json"] == stream.read_bytes()


def test_a_kept_copy_whose_deputy_dies_is_due_again(machine, tree, office, monkeypatch):
    """It is a net, and nobody else would make it before the next change."""
    made, engine, agenda = office
    site = engine.sites[WS]
    monkeypatch.setattr(delegation, "HUGE", 0)
    engine.rescan(site)
    engine.vault.step_all(engine, engine.sites)
    assert made.keeps_huge(engine, agenda, site, C)
    os.kill(made.pid, signal.SIGKILL)  # before it has imported anything
    until(lambda: made.turn(engine, agenda, lambda *_: None, lambda *_: None) or not made.busy, "given back")

    assert engine.vault.wait() < float("inf")


def test_one_that_has_nothing_to_do_goes(machine, tree, office, monkeypatch):
    """Of itself, and its process is gone when it was let go."""
    made, engine, agenda = office
    site = engine.sites[WS]
    engine.rescan(site)
    give(office, site, {C}, monkeypatch)
    until(lambda: list(made.answers(agenda)), "an answer")
    pid = made.pid
    assert made.wait() > 0
    monkeypatch.setattr(delegation, "IDLE_SECONDS", 0.0)  # that it had nothing to do was long enough
    made.step()

    assert made.pid is None
    until(lambda: list(made.answers(agenda)) == [] and not os.path.exists(f"/proc/{pid}"), "the process ended")
    assert made.wait() == float("inf")


def test_a_deputy_that_cannot_be_started_is_no_trouble(machine, tree, office, monkeypatch):
    """Without processes to be had the agent does everything itself."""
    made, engine, agenda = office
    site = engine.sites[WS]
    engine.rescan(site)
    monkeypatch.setattr(delegation, "HUGE", 0)

    def refuse(*_, **__):  # a limit of processes does not hold for root
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    for _ in range(delegation.MOST_DEATHS + 1):
        assert made.without_huge(engine, agenda, site, {C, D}) == {C, D}
    assert agenda.idle()
