"""Archived in one worktree, live in another: a real agent follows what was moved, and nothing else."""

from __future__ import annotations

import shutil

import pytest

from agents import in_step, status, until
from machine import as_jp, event, put

ARCHIVED, BY_HAND, BACK, COPIED = range(17_000_000_001, 17_000_000_005)
ALL = (ARCHIVED, BY_HAND, BACK, COPIED)


@pytest.fixture
def two(machine, agent):
    """Worktrees a and b hold four conversations, one of them archived everywhere; all in step, an agent runs."""
    for name in "ab":
        machine.worktree(name, register=False)
        for conversation in ALL:
            machine.write(machine.base / name, conversation, "one", archived=conversation == BACK)
        machine.ok("register", machine.base / name)
    agent()
    until(lambda: status(machine)["verdict"] == "in-sync", "in sync")
    return machine


def roots(machine):
    return {"silo": machine.silo(), "a": machine.base / "a", "b": machine.base / "b"}


def where(machine, conversation):
    """The roots in which it is archived; each root has it once, whole."""
    found = set()
    for name, root in roots(machine).items():
        live, archived = (machine.directory(root, conversation, archived=x) for x in (False, True))
        if live and archived:
            return None
        if archived:
            found.add(name)
    return found


def renamed(machine, name, conversation, *, archive):
    path = machine.directory(roots(machine)[name], conversation, archived=not archive)
    live = path.parent if archive else path.parent.parent
    there = live / ".archive" if archive else live
    there.mkdir(exist_ok=True)
    path.rename(there / path.name)


@pytest.mark.slow
def test_what_was_moved_is_followed_and_what_was_copied_is_not(two):
    """JP's archive and unarchive, and a rename by hand, reach every root; a copy made anew is shown as `split`."""
    inodes = {n: two.directory(r, ARCHIVED).stat().st_ino for n, r in roots(two).items()}
    with two.holding(ARCHIVED):
        for name in ("a", "silo"):
            renamed(two, name, ARCHIVED, archive=True)
    renamed(two, "b", BY_HAND, archive=True)
    for name in ("a", "silo"):
        renamed(two, name, BACK, archive=False)
    source = two.directory(two.base / "a", COPIED)
    shutil.copytree(source, source.parent / ".archive" / source.name)
    shutil.rmtree(source)

    everywhere = {"silo", "a", "b"}
    until(lambda: where(two, ARCHIVED) == everywhere, "archived everywhere")
    until(lambda: where(two, BY_HAND) == everywhere, "archived by hand everywhere")
    until(lambda: where(two, BACK) == set(), "live everywhere")
    until(lambda: [e["kind"] for e in status(two)["attention"]] == ["split"], "the copied one is split")
    assert where(two, COPIED) == {"a"}
    assert inodes == {n: two.directory(r, ARCHIVED, archived=True).stat().st_ino for n, r in roots(two).items()}

    put(two.directory(two.base / "a", BACK) / "events.json", as_jp([event("one"), event("two")]))
    until(lambda: in_step(two, BACK, *roots(two).values()), "what came back goes on as before")

    renamed(two, "silo", COPIED, archive=True)
    until(lambda: where(two, COPIED) == everywhere, "a person decided, the rest follows")
    until(lambda: status(two)["verdict"] == "in-sync", "in sync")
    two.ok("verify")
