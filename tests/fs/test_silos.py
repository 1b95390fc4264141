"""The silo of a workspace: found, made complete, merged with its siblings, and never half there (contract 2.3, 2.4)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agents import until
from convsync_agent import registry, silos
from convsync_agent.errors import ConvsyncError, LockHeld
from faults import World
from machine import LONG_AGO, WS, as_jp, event, put

C = 17_000_000_001
LATER = LONG_AGO + 60_123_456_789


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def parent(world):
    return world.silo().parent


def names(world):
    """What a JP takes for a silo of this workspace."""
    if not parent(world).is_dir():
        return []
    return sorted(p.name for p in parent(world).iterdir() if p.name == WS or p.name.endswith(f"-{WS}"))


def other_silo(world, name, *, entries_ns=None):
    """A sibling silo as JP leaves it; `entries_ns` is the age of its newest entry."""
    path = parent(world) / name
    (path / "conversations").mkdir(parents=True)
    if entries_ns is not None:
        os.utime(path / "conversations", ns=(entries_ns, entries_ns))
    return path


def trashed(world):
    found = sorted(world.data.glob("trash/silos/*")) + sorted(parent(world).glob(".convsync-trash/*"))
    return {p.read_bytes() for t in found for p in t.rglob("*") if p.is_file() and not p.is_symlink()}


def files(path):
    return {p.read_bytes() for p in Path(path).rglob("*") if p.is_file() and not p.is_symlink()}


def register(world, name="a", **settings):
    slug = settings.pop("slug", None)
    with world.engine(**settings) as engine:
        return registry.register(engine, str(world.base / name), str(world.data), slug=slug)


# -- finding and making (cases 12-20) ---------------------------------------------------


@pytest.mark.parametrize(("slug", "expected"), [(None, WS), ("main", f"main-{WS}")], ids=["12-bare", "15-slug"])
def test_a_silo_is_made_under_its_name_with_its_storage_link(world, slug, expected):
    """`<id>`, or `<slug>-<id>`, with `storage` leading to the workspace's `.jp`, and nothing else left beside it."""
    world.write(world.enroll("a"), C, "one")
    done = register(world, slug=slug)
    silo = parent(world) / expected
    assert done.created_silo
    assert done.silo == str(silo)
    assert [p.name for p in parent(world).iterdir()] == [expected]
    assert os.readlink(silo / "storage") == str(world.base / "a/.jp")


def test_an_existing_silo_is_reused_as_it_is(world):
    """13, 16: not renamed, nothing made beside it, sessions kept, its link is JP's to repoint."""
    world.enroll("a")
    silo = other_silo(world, f"main-{WS}")
    (silo / "sessions").mkdir()
    (silo / "sessions/k.json").write_text("{}")
    (silo / "storage").symlink_to("/stale")
    done = register(world, slug="other")
    assert not done.created_silo
    assert names(world) == [f"main-{WS}"]
    assert (silo / "sessions/k.json").read_text() == "{}"


def test_of_two_silos_the_slug_s_survives_with_the_newer_content(world):
    """14: the slug match survives, the sibling goes, the newer unit of either is kept."""
    world.enroll("a")
    one, two = other_silo(world, f"main-{WS}"), other_silo(world, f"old-{WS}")
    world.write(one, C, "old", title="newer", last_activated_at="2024-01-01 00:00:00.0")
    put(one / f"conversations/{C}/metadata.json", as_jp({"last_activated_at": "x", "title": "newer"}), LATER)
    world.write(two, C, "new", title="older")
    put(two / f"conversations/{C}/events.json", as_jp([event("new")]), LATER)
    done = register(world, slug="main")
    assert done.merged_silos == [str(two)]
    assert names(world) == [f"main-{WS}"]
    silo = parent(world) / f"main-{WS}"
    assert world.questions(silo, C) == ["new"]
    assert b"newer" in (world.directory(silo, C) / "metadata.json").read_bytes()


def test_without_a_slug_the_most_recently_changed_silo_is_chosen(world):
    """17: by the newest of its immediate entries."""
    world.enroll("a")
    other_silo(world, f"b-{WS}", entries_ns=LATER)
    other_silo(world, f"c-{WS}", entries_ns=LONG_AGO)
    assert register(world).silo == str(parent(world) / f"b-{WS}")


@pytest.mark.parametrize("archived", [False, True], ids=["18-live", "19-archived"])
@pytest.mark.parametrize("policy", ["auto", "manual", "on-write"])
def test_a_new_silo_is_complete_and_the_worktree_stays(world, archived, policy):
    """18, 19: JP imports only where it finds no silo, so ours has everything before it has its name (contract 10.7)."""
    a = world.enroll("a")
    world.write(a, C, "one", slug="t", title="t", archived=archived)
    before = world.inventory(a)
    register(world, import_policy=policy)
    assert world.questions(world.silo(), C, archived=archived) == ["one"]
    assert before == world.inventory(a)


def test_register_again_changes_nothing(world):
    """Not one byte, not one mtime, in no root; and the worktree is said to be known (20: nothing new is made)."""
    world.write(world.enroll("a"), C, "one")
    register(world)
    before = world.inventory(*world.roots())
    again = register(world)
    assert again.already_registered
    assert not again.created_silo
    assert before == world.inventory(*world.roots())


def test_a_silo_that_was_lost_is_made_anew_and_complete(world):
    """Whatever is known of the worktrees from before: everything they hold is in it."""
    a = world.enroll("a")
    world.write(a, C, "one")
    world.write(a, C + 1, "two", archived=True)
    register(world)
    shutil.rmtree(world.silo())
    done = register(world)
    assert done.created_silo
    assert world.questions(world.silo(), C) == ["one"]
    assert world.questions(world.silo(), C + 1, archived=True) == ["two"]


# -- merging ------------------------------------------------------------------------------


def two_silos(world):
    """A chosen silo and a sibling that has something of every kind."""
    world.enroll("a")
    target = other_silo(world, f"main-{WS}")
    loser = other_silo(world, f"old-{WS}")
    world.write(target, C, "both", "ours")
    world.write(loser, C, "theirs", mtime_ns=LONG_AGO - 10**9)
    world.write(loser, C + 1, "only there", slug="t", title="t")
    world.write(loser, C + 2, "archived there", archived=True)
    (loser / f"conversations/{C}/QUERY_MESSAGE.md").write_text("a draft")
    (loser / f"conversations/{C + 1}-t/QUERY_MESSAGE.md").write_text("another draft")
    (loser / f"conversations/{C}/NOTE.md").write_text("a note")
    for top, key in ((target, "both"), (loser, "both"), (loser, "one")):
        (top / "sessions").mkdir(exist_ok=True)
        (top / f"sessions/{key}.json").write_text(f'"{key} {top.name}"')
    (loser / "config.toml").write_text("theirs = true")
    (loser / "conversations/.trash/x").mkdir(parents=True)
    (loser / "conversations/.trash/x/events.json").write_text("trashed by jp")
    (loser / "locks").mkdir()
    return target, loser


def test_a_merge_moves_everything_and_deletes_nothing(world):
    """Every byte of the sibling is in the target, the history or our trash; what is missing moves over."""
    target, loser = two_silos(world)
    content = files(loser)
    register(world, slug="main")
    assert names(world) == [f"main-{WS}"]
    assert content <= files(target) | world.kept() | trashed(world)
    assert world.questions(target, C) == ["both", "ours"]
    assert as_jp([event("theirs")]) in world.kept()
    assert world.questions(target, C + 1) == ["only there"]
    assert world.questions(target, C + 2, archived=True) == ["archived there"]
    assert (target / f"conversations/{C}/QUERY_MESSAGE.md").read_text() == "a draft"
    assert (target / f"conversations/{C + 1}-t/QUERY_MESSAGE.md").read_text() == "another draft"
    assert (target / f"conversations/{C}/NOTE.md").read_text() == "a note"
    assert (target / "sessions/one.json").exists()
    assert target.name in (target / "sessions/both.json").read_text()
    assert (target / "config.toml").exists()


@pytest.mark.parametrize("policy", ["manual", "on-write"])
def test_a_merge_takes_conversations_over_whatever_the_import_policy(world, policy):
    """They were durable before: moving them is no import from a worktree."""
    target, _ = two_silos(world)
    register(world, slug="main", import_policy=policy)
    assert world.questions(target, C + 1) == ["only there"]


@pytest.mark.parametrize("state", ["being written", "torn"])
def test_a_sibling_that_is_still_being_written_is_not_put_away(world, state, monkeypatch):
    """The newest turn may be in it: it is taken over, or the merge is refused; never just moved out of sight."""
    monkeypatch.undo()
    world = World(world.base.parent / "now", monkeypatch)
    target, loser = two_silos(world)
    monkeypatch.setattr("time.time_ns", _real_clock)
    path = loser / f"conversations/{C}/events.json"
    newest = as_jp([event("newest")])
    path.write_bytes(newest if state == "being written" else newest[:-5])
    with open(path, "r+b") as writer:
        try:
            register(world, slug="main")
        except ConvsyncError:
            assert loser.is_dir()
            return
        if state == "torn":
            writer.write(newest)
            assert loser.is_dir() or newest[:-5] in world.kept() | files(target)
        else:
            assert newest in files(target) | world.kept()


_real_clock = __import__("time").time_ns


def test_a_sibling_that_a_jp_works_in_is_left_alone(world):
    """A held lock in it refuses the merge; both stay as they are."""
    _, loser = two_silos(world)
    with open(loser / f"locks/jp-c{C}.lock", "w") as held:
        import fcntl

        fcntl.flock(held, fcntl.LOCK_EX)
        before = world.inventory(loser)
        with pytest.raises(LockHeld):
            register(world, slug="main")
        assert before == world.inventory(loser)
    register(world, slug="main")
    assert not loser.exists()


def test_a_conversation_that_is_archived_in_one_and_live_in_the_other_is_not_lost(world):
    """Neither partition is decided; the content of both stays where it can be found."""
    target, _ = two_silos(world)
    world.write(target, C + 2, "live here")
    register(world, slug="main")
    everything = files(target) | world.kept() | trashed(world)
    assert {as_jp([event("live here")]), as_jp([event("archived there")])} <= everything


# -- JP at the same time ---------------------------------------------------------------------


@pytest.mark.parametrize("name", [WS, f"a-{WS}"], ids=["same-name", "jps-own-name"])
def test_a_silo_that_jp_makes_meanwhile_is_merged_into(world, name, monkeypatch):
    """JP names its silo after the directory: ours never stands beside it, and what JP wrote stays."""
    a = world.enroll("a")
    world.write(a, C, "one")
    world.write(a, C + 1, "two")
    real = silos.finish_silo

    def finish(*args):
        jps = other_silo(world, name)
        world.write(jps, C, "one", "by jp", mtime_ns=LATER)
        return real(*args)

    monkeypatch.setattr(silos, "finish_silo", finish)
    done = register(world)
    assert names(world) == [name]
    assert done.silo == str(parent(world) / name)
    assert world.questions(parent(world) / name, C) == ["one", "by jp"]
    assert world.questions(parent(world) / name, C + 1) == ["two"]


def test_at_no_moment_is_there_a_second_directory_that_jp_takes_for_a_silo(world):
    """It would merge and delete it (contract 10.7): sampled while silos are made, and merged."""
    a = world.enroll("a")
    for number in range(30):
        world.write(a, C + number, "one")
    seen, stop = set(), threading.Event()

    def sample():
        while not stop.is_set():
            seen.add(tuple(names(world)))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        until(lambda: seen)
        register(world)
        for number in range(5):
            loser = other_silo(world, f"old{number}-{WS}")
            world.write(loser, C + 100 + number, "there")
            register(world)
    finally:
        stop.set()
        thread.join()
    assert {name for found in seen for name in found} == {WS} | {f"old{n}-{WS}" for n in range(5)}
    assert max(map(len, seen)) <= 2


def building(world):
    """How many conversations a silo under construction has."""
    return len(list(parent(world).glob(".convsync-*/conversations/1*")))


MAKE = """
import sys
from convsync_agent import registry, state
from convsync_agent.engine import Engine
from convsync_agent.settings import Settings
engine = Engine(state.writer(sys.argv[1]), sys.argv[2], Settings())
registry.register(engine, sys.argv[3], sys.argv[2])
"""


@pytest.mark.slow
def test_a_killed_creation_leaves_no_half_silo_under_a_real_name(world):
    """SIGKILL at any time: no silo, or a complete one. Then `register` makes it complete, the rest is in the trash."""
    a = world.enroll("a")
    for number in range(20):
        world.write(a, C + number, "one")
    world.data.mkdir(parents=True)
    world.state_dir.mkdir(parents=True)
    argv = [sys.executable, "-c", MAKE, str(world.state_dir), str(world.data), str(a)]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **world.env}
    killed = 0
    for number in range(12):
        shutil.rmtree(parent(world), ignore_errors=True)
        process = subprocess.Popen(argv, env=env)
        count = number * 2
        until(lambda n=count, p=process: p.poll() is not None or building(world) >= n)
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        if names(world):
            assert 20 == len(list(world.silo().glob("conversations/1*/events.json")))
        register(world)
        assert names(world) == [WS]
        assert 20 == len(list(world.silo().glob("conversations/1*/events.json")))
        assert [p.name for p in parent(world).iterdir() if p.name.endswith(".new")] == []
    assert killed
