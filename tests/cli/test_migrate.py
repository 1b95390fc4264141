"""Phase 1: `migrate`, with the eras of user-local storage that are found on disks. Real files, locks, real deaths."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from agents import in_step, status, until
from convsync_agent.history import History
from deaths import dead_somewhere, no_strace, run
from faults import World
from jp import JP
from machine import LONG_AGO, SECOND, WS, as_jp, event, put

ONE, MAIN, FEATURE, LOOSE, ARCHIVED = range(17_000_000_001, 17_000_000_006)
KILLS = int(os.environ.get("CONVSYNC_KILLS", "6"))


def silo(machine, name):
    return machine.silo().with_name(f"{name}-{WS}")


def silos(machine):
    top = machine.silo().parent
    return sorted(p.name for p in top.iterdir() if p.name.endswith(WS)) if top.is_dir() else []


def set_up(machine, *, register=False):
    """Two silos that both have ONE, one of them newer; each has one alone; a worktree has two that no silo has."""
    a = machine.worktree("a", register=False)
    machine.write(a, ONE, "one")
    for name, late in (("main", 0), ("feature", 60 * SECOND)):
        machine.write(silo(machine, name), ONE, f"one in {name}", mtime_ns=LONG_AGO + late + SECOND)
    machine.write(silo(machine, "main"), MAIN, "only in main")
    machine.write(silo(machine, "feature"), FEATURE, "only in feature")
    (silo(machine, "main") / "sessions").mkdir()
    (silo(machine, "main") / "sessions/getsid-1.json").write_text("{}")
    now = LONG_AGO + 10**15
    os.utime(silo(machine, "feature") / "conversations", ns=(now, now))
    os.utime(silo(machine, "main") / "conversations", ns=(now - SECOND, now - SECOND))
    os.utime(silo(machine, "main") / "sessions", ns=(now - SECOND, now - SECOND))
    machine.write(a, LOOSE, "loose")
    machine.write(a, ARCHIVED, "archived", archived=True)
    machine.quiet()
    if register:
        aside = machine.base / "data/jp/aside"
        machine.silo().parent.rename(aside)
        machine.ok("register", a, "--set", "import.policy=manual")
        shutil.rmtree(machine.silo().parent)
        aside.rename(machine.silo().parent)
        for name in ("main", "feature"):
            os.utime(silo(machine, name) / "conversations", ns=(now, now))
    return machine


def history(machine, conversation=ONE):
    kept = History(str(machine.base / "data/convsync"))
    return {r for m in kept.versions(WS, conversation) for _, r, _ in kept.read(WS, conversation, m.version)}


@pytest.mark.parametrize("here", [True, False], ids=["in it", "by its path"])
def test_phase1_an_existing_setup_is_migrated(machine, monkeypatch, here):
    """One silo with everything, the loser kept in history and trash, imports of both kinds."""
    set_up(machine)
    if here:
        monkeypatch.chdir(machine.base / "a")
    where = () if here else (machine.base / "a",)
    before = machine.inventory(machine.base / "a")

    [done] = machine.ok("migrate", *where, "--json").json["workspaces"]

    kept = {"id": WS, "silo": str(silo(machine, "feature")), "merged": [str(silo(machine, "main"))]}
    assert done == kept | {"moved": 1, "imported": 2, "conflicts": 1, "dry_run": False}
    assert silos(machine) == [f"feature-{WS}"]
    there = silo(machine, "feature")
    assert machine.questions(there, ONE) == ["one in feature"]
    assert machine.questions(there, MAIN) == ["only in main"]
    assert machine.questions(there, FEATURE) == ["only in feature"]
    assert machine.questions(there, LOOSE) == ["loose"]
    assert machine.questions(there, ARCHIVED, archived=True) == ["archived"]
    assert (there / "sessions/getsid-1.json").exists()
    assert as_jp([event("one in main")]) in history(machine)
    assert machine.inventory(machine.base / "a") == before
    assert JP(there, machine.base / "a/.jp").sanitize() == []
    assert len(list((machine.base / "data/convsync/trash/silos").iterdir())) == 1

    again = machine.ok("migrate", *where)
    assert again.out == "nothing to migrate\n"
    assert machine.ok("migrate", *where, "--json").json["workspaces"][0]["merged"] == []


def told(machine):
    """The inventory of the machine, less what SQLite makes to read: its `-shm`, and the time of that directory."""
    return {k: v for k, v in machine.inventory().items() if not k.endswith(("-shm", "-wal", "state/convsync"))}


@pytest.mark.parametrize("registered", [False, True])
def test_phase1_the_plan_changes_nothing(machine, monkeypatch, registered):
    """`--dry-run` counts what comes true afterwards; no byte and no time is another one, our own places included."""
    set_up(machine, register=registered)
    monkeypatch.chdir(machine.base / "a")
    before = told(machine)

    [planned] = machine.ok("migrate", "--dry-run", "--json").json["workspaces"]
    text = machine.ok("migrate", "--dry-run").out

    assert told(machine) == before
    assert "would have merged" in text
    assert "nothing was changed" in text
    [done] = machine.ok("migrate", "--json").json["workspaces"]
    assert done == planned | {"dry_run": False}
    assert planned["dry_run"] is True
    assert machine.ok("migrate", "--dry-run").out == "nothing to migrate\n"


def test_phase1_nothing_is_there(machine, monkeypatch):
    """No worktree, or one without any silo yet: nothing to migrate, exit 0, and nothing is made."""
    assert machine.ok("migrate").out == "nothing to migrate\n"
    monkeypatch.chdir(machine.worktree("a", register=False))

    assert machine.ok("migrate", "--dry-run").out == "nothing to migrate\n"
    assert machine.ok("migrate", "--json").json == {"schema": 1, "workspaces": []}
    assert silos(machine) == []


def test_phase1_a_path_that_is_none(machine):
    """Nowhere is 3, a bad `.jp/.id` is 2; nothing changes."""
    bad = machine.worktree("bad", "no", register=False)
    machine.write(silo(machine, "main"), ONE, "one")
    before = machine.inventory(machine.silo().parent)

    assert machine.run("migrate", machine.base / "nowhere").code == 3
    assert machine.run("migrate", machine.home).code == 3
    assert machine.run("migrate", bad).code == 2
    assert machine.inventory(machine.silo().parent) == before


@pytest.mark.parametrize("name", ["main", "feature"])
def test_phase1_a_running_jp_is_waited_for(machine, monkeypatch, name):
    """It works in the silo that is to be folded, or in the other on what both have: exit 5, not a byte changed."""
    monkeypatch.setenv("JP_LOCK_DURATION", "200ms")
    set_up(machine)
    before = machine.inventory(machine.silo().parent, machine.base / "a")

    with machine.holding(ONE, f"{name}-{WS}"):
        ran = machine.run("migrate", machine.base / "a")

    assert ran.code == 5
    shutil.rmtree(silo(machine, name) / "locks")
    after = machine.inventory(machine.silo().parent, machine.base / "a")
    assert {k: v for k, v in after.items() if v[1]} == {k: v for k, v in before.items() if v[1]}
    machine.ok("migrate", machine.base / "a")


ERAS = {
    "local flag": ({"local": True}, {}, False),
    "user flag": ({"user": True, "title": "t"}, {}, False),
    "config packed": ({}, None, False),
    "unknown fields": ({"future": {"deep": [1, 2.50]}}, {}, False),
    "archived": ({"local": False}, {}, True),
}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("source", ["sibling", "worktree"])
def test_phase1_what_earlier_versions_wrote_loads_and_keeps_its_bytes(machine, era, source):
    """The `local` and `user` flags, config packed into the events, one root only: taken over byte for byte."""
    fields, base, archived = ERAS[era]
    a = machine.worktree("a", register=False)
    machine.write(silo(machine, "main"), ONE, "one")
    root = silo(machine, "old") if source == "sibling" else a
    path = machine.write(root, MAIN, "old", archived=archived, **fields)
    if base is None:
        (path / "base_config.json").unlink()
        put(path / "events.json", as_jp([event(kind="config_delta", delta={}), event("packed")]), LONG_AGO)
    now = LONG_AGO + 10**15
    os.utime(silo(machine, "main") / "conversations", ns=(now, now))
    machine.quiet()
    wanted = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in path.iterdir()}

    machine.ok("migrate", a)

    [there] = [silo(machine, n.removesuffix(f"-{WS}")) for n in silos(machine)]
    copy = machine.directory(there, MAIN, archived=archived)
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in copy.iterdir()} == wanted
    assert JP(there, a / ".jp").sanitize() == []


def test_phase1_a_registered_workspace_follows_its_silo(machine, agent):
    """The silo that was registered loses: the registry and a running agent go on with the one that stays."""
    a = machine.worktree("a", register=False)
    machine.write(a, ONE, "one")
    machine.ok("register", a)
    agent()
    until(lambda: status(machine)["verdict"] == "in-sync", "in sync")
    machine.write(silo(machine, "zz"), MAIN, "only there")
    now = LONG_AGO + 10**18
    os.utime(silo(machine, "zz") / "conversations", ns=(now, now))

    machine.ok("migrate")

    assert silos(machine) == [f"zz-{WS}"]
    until(lambda: status(machine)["workspaces"][0]["silo"] == str(silo(machine, "zz")), "the agent follows")
    until(lambda: status(machine)["verdict"] == "in-sync", "in sync")
    put(machine.directory(a, ONE) / "events.json", as_jp([event("one"), event("two")]))
    until(lambda: in_step(machine, ONE, silo(machine, "zz"), a), "an edit is durable there")


def test_phase1_a_silo_that_is_not_there(machine):
    """Not mounted is not migrated: exit 6, and no skeleton is made."""
    machine.ok("register", machine.worktree("a", register=False))
    machine.silo().rename(machine.base / "away")

    assert [machine.run("migrate", *flags).code for flags in ((), ("--dry-run",))] == [6, 6]
    assert silos(machine) == []


def test_phase1_what_nobody_registered_is_forgotten(machine):
    """Migrated, then a jp removes one, then registered: nothing is remembered that could bring it back."""
    set_up(machine)
    a = machine.base / "a"
    machine.ok("migrate", a)
    shutil.rmtree(machine.directory(silo(machine, "feature"), MAIN))
    shutil.rmtree(machine.directory(silo(machine, "feature"), ONE))

    machine.ok("register", a)

    assert machine.directory(silo(machine, "feature"), MAIN) is None
    assert machine.questions(silo(machine, "feature"), ONE) == ["one"]
    assert [e["detail"] for e in status(machine)["attention"] if e["kind"] in ("lost", "removed")] == []


def test_phase1_what_was_removed_is_not_imported(machine):
    """A tombstone stands: a left-over in a worktree is no conversation that waits for its import."""
    for name in "ab":
        machine.write(machine.worktree(name, register=False), ONE, "one")
        machine.ok("register", machine.base / name)
    aside = machine.base / "aside"
    (machine.base / "b").rename(aside)
    machine.ok("rm", str(ONE), "--yes")
    aside.rename(machine.base / "b")

    assert machine.ok("migrate", "--json").json["workspaces"][0]["imported"] == 0
    assert machine.directory(machine.silo(), ONE) is None


@pytest.mark.slow
def test_phase1_killed_at_any_step_it_ends_the_same(tmp_path, monkeypatch):
    """SIGKILL, and again: one silo with everything, every content is somewhere at every moment.

    It is the one that was changed last, as for JP: a death after the last step of all may leave both equally young.
    """
    if no_strace():
        pytest.skip(no_strace())
    world = World(tmp_path, monkeypatch)
    set_up(world, register=False)
    world.remember()
    argv = ["migrate", "a"]
    files = {p.read_bytes() for p in world.base.rglob("*.json")}
    for note in dead_somewhere(world, argv, KILLS, "migrate"):
        there = {p.read_bytes() for p in world.base.rglob("*") if p.is_file()} | world.kept()
        assert files <= there, note
        again = run(world, argv)
        assert again.returncode == 0, (note, again)
        [left] = silos(world)
        assert left in {f"feature-{WS}", f"main-{WS}"}, note
        silo_left = world.silo().parent / left
        ids = {p.name for p in (silo_left / "conversations").iterdir() if p.name.isdigit()}
        assert ids == {str(c) for c in (ONE, MAIN, FEATURE, LOOSE)}, note
        assert world.directory(silo_left, ARCHIVED, archived=True), note
        assert as_jp([event("one in main")]) in world.kept(), note
        last = run(world, [*argv, "--json"])
        assert [m["merged"] + [m["imported"]] for m in json.loads(last.stdout)["workspaces"]] == [[0]], note
