"""A real agent in a user namespace that has fewer inotify watches than there are conversations."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from agents import RunningAgent, in_step, status, until
from machine import LONG_AGO

FIRST, MANY, LIMIT = 17_000_000_001, 60, 70
OLD, NEW = FIRST, FIRST + MANY - 1
FRESH = range(FIRST + 1000, FIRST + 1012)
LIMITED = ("unshare", "-Ur", "sh", "-c", f'echo {LIMIT} >/proc/sys/user/max_inotify_watches && exec "$@"', "sh")


@pytest.fixture
def crowded(machine):
    """A worktree whose conversations and their durable copies need more watches than there are.

    The higher its id, the later a conversation changed.
    """
    if subprocess.run([*LIMITED, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no private user namespace here")
    tree = machine.worktree(register=False)
    for number in range(MANY):
        machine.write(tree, FIRST + number, "one", mtime_ns=LONG_AGO + number)
    machine.ok("register", tree)
    machine.quiet()
    agent = RunningAgent(machine, under=LIMITED)
    yield machine, tree, agent
    agent.stop()


def watched(agent) -> set[int]:
    """The inodes that the kernel watches for an agent."""
    found: set[int] = set()
    for info in Path(f"/proc/{agent.process.pid}/fdinfo").iterdir():
        found |= {int(inode, 16) for inode in re.findall(r"^inotify wd:\w+ ino:(\w+) ", info.read_text(), re.MULTILINE)}
    return found


def inode(machine, root, conversation) -> int:
    return machine.directory(root, conversation).stat().st_ino


def deaf(machine) -> list[dict]:
    return [a for a in status(machine)["attention"] if a["kind"] == "deaf"]


def test_those_that_changed_last_are_watched_and_every_change_is_noticed(crowded):
    """The rest are looked at in turns and counted in `status`; no root goes without, nothing goes unseen."""
    machine, tree, agent = crowded
    silo = machine.silo()
    told = until(lambda: deaf(machine))
    inodes = watched(agent)

    assert {inode(machine, root, NEW) for root in (tree, silo)} <= inodes
    assert not {inode(machine, root, OLD) for root in (tree, silo)} & inodes
    assert {os.stat(machine.store(root) / "conversations").st_ino for root in (tree, silo)} <= inodes
    left = [root for root in (tree, silo) for n in range(MANY) if inode(machine, root, FIRST + n) not in inodes]
    numbers = {t["worktree"]: int(t["detail"].split()[0]) for t in told}
    assert numbers == {str(tree): left.count(tree), str(silo): left.count(silo)}

    for conversation in (OLD, NEW):
        machine.write(tree, conversation, "one", "two", mtime_ns=LONG_AGO + 10**9)
        until(lambda c=conversation: machine.questions(silo, c) == ["one", "two"], "the change in the silo")


def test_what_is_made_when_no_watch_is_left_is_noticed(crowded):
    """New conversations use up what was kept free, and the next ones are seen as well."""
    machine, tree, _ = crowded

    for conversation in FRESH:
        machine.write(tree, conversation, "new")
    for conversation in FRESH:
        until(lambda c=conversation: in_step(machine, c, tree, machine.silo()), "the new conversation in the silo")
        machine.write(tree, conversation, "new", "changed", mtime_ns=LONG_AGO + 10**9)
    for conversation in FRESH:
        until(lambda c=conversation: len(machine.questions(machine.silo(), c)) == 2, "its change in the silo")

    assert status(machine)["verdict"] == "attention"
