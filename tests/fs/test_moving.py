"""Directories that follow into the archive and out of it: real renames, a death or a fault at every step."""

from __future__ import annotations

import errno
import itertools

import pytest

from agents import FILES, status
from convsync_agent.plan import Keep, Move
from convsync_agent.results import Done, Failed, Postponed
from faults import Faults, World
from machine import LONG_AGO, WS, as_jp, put

C = 17_000_000_001
META = {"last_activated_at": "2023-11-14 22:13:20.0", "title": "t"}
ages = itertools.count(1)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The silo and the worktrees a and b hold one conversation, in step, with a base.

    Our clock is half a minute ahead of the directories': no split is too young.
    """
    made = World(tmp_path, monkeypatch)
    for name in "ab":
        path = made.write(made.enroll(name), C, "one", "two", slug="t", title="t")
        (path / "NOTE.md").write_text("unmanaged\n")
    made.register("a", "b")
    return made


def places(world):
    """Where the conversation lies in each root: one directory, whole, everywhere."""
    found = {}
    for name, root in (("silo", world.silo()), ("a", world.base / "a"), ("b", world.base / "b")):
        paths = [p for p in (world.store(root) / "conversations").glob(f"**/{C}*") if p.is_dir()]
        assert len(paths) == 1, (name, paths)
        assert {p.name for p in paths[0].iterdir()} == {*FILES, "NOTE.md"}
        found[name] = paths[0]
    return found


def partitions(world):
    return {n: p.parent.name == ".archive" for n, p in places(world).items()}


def jp_moves(world, *names):
    """As JP archives or unarchives two roots: the metadata is written first, then the worktree renamed, then the silo.

    One root alone is as a person moves it: a rename and nothing else.
    """
    now = next(ages)
    for name in sorted(names):
        path = places(world)[name]
        live = path.parent if path.parent.name != ".archive" else path.parent.parent
        there = live / ".archive" if path.parent == live else live
        if len(names) > 1:
            put(path / "metadata.json", as_jp(META | {"archived_at": str(now)}), LONG_AGO + now)
        there.mkdir(exist_ok=True)
        path.rename(there / path.name)


@pytest.mark.parametrize("movers", [("a", "silo"), ("a",), ("silo",)], ids=" ".join)
def test_the_others_follow_there_and_back(world, movers):
    """Every root's directory is where the moved one is, by a rename, and a second sync writes nothing."""
    inodes = {n: p.stat().st_ino for n, p in places(world).items()}
    for archived in (True, False):
        jp_moves(world, *movers)
        outcome = world.sync()
        assert [] == outcome.failed
        assert {len({"a", "b", "silo"} - {*movers})} == {len([r for r in outcome.done if isinstance(r.action, Move)])}
        assert partitions(world) == dict.fromkeys(("silo", "a", "b"), archived)
        assert inodes == {n: p.stat().st_ino for n, p in places(world).items()}
        before = world.inventory(*world.roots())
        assert [] == world.sync().results
        assert before == world.inventory(*world.roots())
    texts = {(p / "metadata.json").read_bytes() for p in places(world).values()}
    assert len(texts) == 1, "out of the archive all are in step"
    assert [] == world.staged()
    assert [] == world.lock_files()


@pytest.mark.parametrize("fault", ["die", "full", errno.EIO], ids=["die", "full", "EIO"])
@pytest.mark.parametrize("movers", [("a", "silo"), ("a",)], ids=" ".join)
def test_a_fault_at_any_step_leaves_every_directory_whole(world, movers, fault, monkeypatch):
    """One whole directory in each root, and not a byte written, at any moment; the next start ends the move."""
    archived = False
    for number in itertools.count(1):
        archived = not archived
        if archived:  # so that it has to be made
            for root in world.roots():
                if (root / "conversations/.archive").is_dir():
                    (root / "conversations/.archive").rmdir()
        jp_moves(world, *movers)
        contents = world.contents()
        with world.engine() as engine, monkeypatch.context() as patched:
            plan = world.plan(engine)
            assert {Move} == {type(a) for a in plan.actions} - {Keep}
            faults = Faults(patched, fault, number)
            results = []
            with faults.watching():
                results = engine.perform(engine.sites[WS], plan)
        assert partitions(world)["a"] is archived, (number, faults.hit)
        assert contents == world.contents(), (number, faults.hit)
        if faults.hit and fault != "die":
            assert all(isinstance(r, Done | Failed | Postponed) for r in results)
            assert sorted(plan.actions, key=repr) == sorted((r.action for r in results), key=repr)
        world.sync()
        assert partitions(world) == dict.fromkeys(("silo", "a", "b"), archived), (number, faults.hit)
        assert [] == world.lock_files(), (number, faults.hit)
        if not faults.hit:
            break
    assert number > 4


def test_a_held_lock_and_a_taken_name_move_nothing(world):
    """JP at work is not waited for (R7); what has the name is not replaced, and a person hears of it."""
    jp_moves(world, "a")
    with world.holding(C):
        assert {"locked"} == {d.reason for d in world.sync().deferred}
        assert partitions(world) == {"silo": False, "a": True, "b": False}
    taken = world.base / "b/.jp/conversations/.archive" / f"{C}-t"
    taken.parent.mkdir()
    taken.write_text("a file\n")
    outcome = world.sync()
    assert {"held"} == {p.kind for p in outcome.problems}
    assert partitions(world) == {"silo": True, "a": True, "b": False}
    assert taken.read_text() == "a file\n"
    taken.unlink()
    world.sync()
    assert partitions(world) == dict.fromkeys(("silo", "a", "b"), True)


def test_what_changed_between_plan_and_rename_is_left_alone(world):
    """Another directory has the name now: not moved; nothing follows a silo that did not move."""
    jp_moves(world, "a")
    with world.engine() as engine:
        plan = world.plan(engine)
        path = places(world)["silo"]
        path.rename(path.with_name(f"{C}-u"))
        results = engine.perform(engine.sites[WS], plan)
    assert [Postponed, Postponed] == [type(r) for r in results if isinstance(r.action, Move)]
    assert partitions(world) == {"silo": False, "a": True, "b": False}
    world.sync()
    assert partitions(world) == dict.fromkeys(("silo", "a", "b"), True)


def test_a_copy_of_the_directory_is_nobodys_word(world):
    """Copied into the archive and removed, as git does it: a person decides, and their own move ends it."""
    path = places(world)["a"]
    there = path.parent / ".archive" / path.name
    there.mkdir(parents=True)
    for file in list(path.iterdir()):
        (there / file.name).write_bytes(file.read_bytes())
        file.unlink()
    path.rmdir()
    for _ in range(2):
        outcome = world.sync()
        assert ["split"] == [p.kind for p in outcome.problems]
        assert partitions(world) == {"silo": False, "a": True, "b": False}
    jp_moves(world, "silo")
    world.sync()
    assert partitions(world) == dict.fromkeys(("silo", "a", "b"), True)


def test_the_plan_says_so(world, capsys):
    """`sync --dry-run --json` has the verbs of the command-line contract, and changes nothing."""
    world.capsys = capsys
    for verb, flag in (("archive", True), ("unarchive", False)):
        jp_moves(world, "a")
        planned = world.ok("sync", "--dry-run", "--json").json["actions"]
        actions = [a for a in planned if a["action"] != "keep"]
        assert {verb} == {a["action"] for a in actions}
        assert [(".archive" in a["source"], ".archive" in a["target"]) for a in actions] == [(not flag, flag)] * 2
        assert {"all"} == {a["unit"] for a in actions}
        world.ok("sync")
        assert partitions(world) == dict.fromkeys(("silo", "a", "b"), flag)
    assert "split" not in {e["kind"] for e in status(world)["attention"]}
