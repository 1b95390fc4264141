"""Phase 3: a fork is a new conversation with the events of another, whatever that one is at. Real files and locks."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import threading
import time

import pytest

from agents import FILES, in_step, until
from convsync_agent.errors import NotFound, Refused
from convsync_agent.forking import begin, fork
from convsync_agent.locks import conversation_lock
from convsync_agent.model import METADATA
from convsync_agent.summary import parse_timestamp
from faults import opened_engine
from machine import WS, as_jp, event, put

A = 17_000_000_001
TURNS = [e for n in range(5) for e in (event(kind="turn_start", n=n), event(f"q{n}"))]
DELTA = event(kind="config_delta", delta={"n": 1.5e300})


@pytest.fixture
def engine(machine):
    """Two registered worktrees, `a` and `b`; A is in a, with a note, an age and an end."""
    for name in "ab":
        machine.worktree(name, register=False)
    at = machine.write(
        machine.base / "a", A, DELTA, *TURNS, slug="a-title", title="A title", expires_at="2100-01-01 00:00:00.0",
        pinned_at="2023-11-14 22:13:20.0", labels={"x": ""}, unknown=1.50,
    )  # fmt: skip
    (at / "NOTE.md").write_text("mine")
    for name in "ab":
        machine.ok("register", machine.base / name)
    with opened_engine(machine) as opened:
        yield opened


def tree(site, name):
    return next(t for t in site.trees.values() if t.worktree.path.endswith(f"/{name}"))


def files(path):
    return {f: (path / f).read_bytes() for f in FILES}


def everywhere(machine):
    return machine.inventory(*(r / "conversations" for r in (machine.silo(), machine.base / "a/.jp")))


def test_phase3_a_fork_has_the_events_of_its_source(machine, engine, site):
    """Byte for byte; title, labels and pin too; activated now, without an end. The source is not touched."""
    source = machine.directory(machine.silo(), A)
    before = machine.inventory(source, machine.directory(machine.base / "a", A), machine.base / "b")
    began = time.time_ns()
    made = fork(engine, site, A)
    there = machine.directory(machine.silo(), made.id)
    old, new = (json.loads((p / METADATA).read_bytes()) for p in (source, there))

    assert abs(made.id * 100_000_000 - began) < 10**10
    assert there.name == f"{made.id}-a-title"
    assert (there / "events.json").read_bytes() == (source / "events.json").read_bytes()
    assert (there / "base_config.json").read_bytes() == (source / "base_config.json").read_bytes()
    assert began <= parse_timestamp(new.pop("last_activated_at")) <= time.time_ns()
    assert old.pop("expires_at")
    assert old.pop("last_activated_at")
    assert list(old.items()) == list(new.items())
    assert b'"unknown": 1.5\n' in (there / METADATA).read_bytes()
    assert sorted(p.name for p in there.iterdir()) == sorted(FILES)  # notes and drafts stay with their source
    after = machine.inventory(source, machine.directory(machine.base / "a", A), machine.base / "b")
    assert before == after
    assert list((machine.silo() / "locks").glob("*")) == []


@pytest.mark.parametrize(
    ("presence", "roots", "here", "made_in"),
    [
        ("projected", "a", "", "a"),
        ("projected", "a", "a", "a"),
        ("projected", "a", "b", ""),
        ("projected", "ab", "", "ab"),
        ("projected", "ab", "b", "b"),
        ("local", "", "", ""),
        ("local", "", "b", ""),
        ("external", "a", "", "a"),
        ("external", "a", "b", "a"),
    ],
)
def test_phase3_a_fork_is_where_its_source_is(machine, engine, site, presence, roots, here, made_in):
    """Contract 6.9, 11.193: as in the worktree one stands in, durable always; an external source stays external."""
    one = A + 1
    if presence != "external":
        machine.write(machine.silo(), one, "x")
    for name in roots:
        machine.write(machine.base / name, one, "x")
    made = fork(engine, site, one, here=tree(site, here) if here else None)

    assert list(made.worktrees) == [str(machine.base / n) for n in made_in]
    assert machine.questions(machine.silo(), made.id) == ["x"]
    assert [n for n in "ab" if machine.directory(machine.base / n, made.id)] == sorted(made_in)
    assert in_step(machine, made.id, machine.silo(), *(machine.base / n for n in made_in))
    assert (machine.directory(machine.silo(), one) is None) is (presence == "external")


@pytest.mark.parametrize(("last", "questions"), [(0, []), (1, ["q4"]), (2, ["q3", "q4"]), (5, None), (9, None)])
def test_phase3_only_the_last_turns(machine, engine, site, last, questions):
    """`--last N`; config before the cut stays, with its bytes."""
    made = fork(engine, site, A, turns=last)
    raw = (machine.directory(machine.silo(), made.id) / "events.json").read_bytes()
    kinds = [e["type"] for e in json.loads(raw)]
    assert kinds.count("turn_start") == min(last, 5)
    assert kinds[0] == "config_delta"
    assert [e["content"] for e in json.loads(raw) if "content" in e] == (
        questions or [f"q{n}" for n in range(5)][-last:] if last else []
    )
    assert b"1.5e+300" in raw


def test_phase3_a_legacy_source_stays_legacy(machine, engine, site):
    """Its config is packed into the events, and cut with `--last 0` it still is."""
    at = machine.write(machine.silo(), A + 1, event(kind="config_delta", delta={"a": 1}), *TURNS)
    (at / "base_config.json").unlink()
    made = machine.directory(machine.silo(), fork(engine, site, A + 1, turns=0).id)
    assert [e["type"] for e in json.loads((made / "events.json").read_bytes())] == ["config_delta"]
    assert not (made / "base_config.json").exists()


@pytest.mark.parametrize(
    ("broken", "error", "words"),
    [
        ("archived", Refused, "archived"),
        ("gone", NotFound, "no copy"),
        ("events", Refused, "not valid"),
        ("metadata", Refused, "not valid"),
        ("half", Refused, "not valid"),
    ],
)
def test_phase3_what_cannot_be_forked_is_named(machine, engine, site, broken, error, words):
    """And nothing is made of it, nowhere."""
    number = A + 1
    if broken != "gone":
        at = machine.write(machine.silo(), number, "x", archived=broken == "archived")
    if broken in ("events", "metadata"):
        put(at / f"{broken}.json", b"[{")
    elif broken == "half":
        (at / "events.json").unlink()
    before = everywhere(machine)
    with pytest.raises(error, match=words):
        fork(engine, site, number)
    assert everywhere(machine) == before
    assert list((machine.silo() / "locks").glob("*")) == []


def test_phase3_a_held_source_is_forked_all_the_same(machine, engine, site):
    """It is not locked, and need not be: what is copied was whole at one moment."""
    with machine.holding(A):
        assert machine.questions(machine.silo(), fork(engine, site, A, turns=1).id)[1:] == [None, "q4"]


def test_phase3_a_source_that_is_written_all_the_time(machine, engine, site):
    """A hundred times a second, in the worktree: every fork is a whole moment of it, and a later one is no shorter."""
    at = machine.directory(machine.base / "a", A)
    stop, texts = threading.Event(), []

    def write():
        while not stop.is_set():
            texts.append(event(f"t{len(texts)}"))
            put(at / "events.json", as_jp(texts))
            time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        until(lambda: machine.questions(machine.base / "a", A)[0] == "t0")
        made = [fork(engine, site, A).id for _ in range(5)]
    finally:
        stop.set()
        writer.join()
    lengths = []
    for number in made:
        asked = machine.questions(machine.silo(), number)
        assert asked == [f"t{n}" for n in range(len(asked))]
        lengths.append(len(asked))
    assert lengths == sorted(lengths)
    assert lengths[0] > 0


def test_phase3_no_two_forks_have_one_id(machine, engine, site):
    """Made at the same time by several processes: each has an id of its own, and all that belongs to it."""
    running = [machine.spawn("fork", A, "--json") for _ in range(4)]
    answers = [p.communicate(timeout=120) for p in running]
    assert [p.returncode for p in running] == [0] * 4, answers
    ids = {json.loads(out)["id"] for out, _ in answers}
    assert len(ids) == 4
    for name in ids:
        assert in_step(machine, int(name[4:]), machine.silo(), machine.base / "a")


def test_phase3_an_id_that_somebody_has_is_not_taken(machine, engine, site, monkeypatch):
    """In any root and partition, under a lock, or of what was removed: the next tenth of a second is."""
    now = time.time_ns() // 100_000_000
    machine.write(machine.base / "a", now + 1, "x", archived=True)
    machine.write(machine.silo(), now + 2, "x")
    engine.removals.graves.bury(WS, now + 4, {}, at_ms=1, why="by command")
    with contextlib.ExitStack() as stack:
        stack.enter_context(machine.holding(now + 3))
        # A clock that goes on by 2 ms whenever anybody asks it, so that each of these tenths of a second is tried: the
        # real one may have left them all before the first.
        clock = itertools.count((now + 1) * 100_000_000, 2_000_000)
        monkeypatch.setattr(time, "time_ns", lambda: next(clock))
        made = fork(engine, site, A)
    assert made.id == now + 5


def test_phase3_the_new_lock_is_held_while_it_is_made(machine, engine, site):
    """Whoever takes the same id meanwhile is refused: the lock goes when the tenth of a second is over."""
    ours = fork(engine, site, A).id
    assert time.time_ns() // 100_000_000 > ours
    with conversation_lock(str(machine.silo()), ours):
        pass


@pytest.mark.parametrize("legacy", [False, True])
def test_phase3_an_empty_one_begins_with_the_config_of_its_neighbour(machine, engine, site, legacy):
    """No event, no title; projected into the worktree that is meant, and there alone."""
    at = machine.write(machine.silo(), A + 1, event(kind="config_delta", delta={"m": 1}), *TURNS, title="secret")
    put(at / "base_config.json", as_jp({"assistant": {"name": "x"}}))
    if legacy:
        (at / "base_config.json").unlink()
    made = begin(engine, site, A + 1, here=tree(site, "b"))
    there = machine.directory(machine.silo(), made.id)

    assert there.name == str(made.id)
    assert [*json.loads((there / METADATA).read_bytes())] == ["last_activated_at"]
    assert [e["type"] for e in machine.events(machine.silo(), made.id)] == ["config_delta"] * legacy
    assert legacy or (there / "base_config.json").read_bytes() == (at / "base_config.json").read_bytes()
    assert list(made.worktrees) == [str(machine.base / "b")]
    assert in_step(machine, made.id, machine.silo(), machine.base / "b")


def test_phase3_an_empty_one_beside_one_that_is_broken(machine, engine, site):
    """It has no config then."""
    put(machine.write(machine.silo(), A + 1, "x") / "events.json", b"[{")
    made = begin(engine, site, A + 1)
    assert files(machine.directory(machine.silo(), made.id))["events.json"] == b"[]\n"
    assert made.worktrees == ()


def test_phase3_a_worktree_that_cannot_be_written_takes_nothing_from_the_fork(machine, engine, site):
    """The durable copy is there; what could not be made is said."""
    tree(site, "a").worktree = tree(site, "a").worktree._replace(refresh=False)
    assert fork(engine, site, A).worktrees == ()
    (machine.base / "b/.jp/conversations").mkdir(exist_ok=True)
    machine.write(machine.base / "b", A, "x")
    blocked = machine.base / "b/.jp/conversations/.convsync"
    blocked.unlink(missing_ok=True) if blocked.is_file() else subprocess.run(["rm", "-rf", blocked], check=True)
    blocked.write_text("in the way")
    made = fork(engine, site, A)
    assert [path for path, _ in made.left] == [str(machine.base / "b")]
    assert machine.directory(machine.silo(), made.id)
