"""Removed conversations, and what the trash has of them."""

from __future__ import annotations

import os
import pty
import re
import shutil
from contextlib import closing

from convsync_agent import state
from convsync_agent.engine import Engine
from convsync_agent.plan import Bury, Plan
from convsync_agent.settings import Settings
from machine import LONG_AGO, SECOND, WS, put
from terminal import everything

ID, OTHER, STAYS = 17000000001, 17000000002, 18000000003


TITLE = "A private title that is long enough to be cut off at the edge of a terminal"


HOUR = 3600 * SECOND


def data_dir(machine):
    return str(machine.base / "data/convsync")


def place(machine, conversation=ID):
    return machine.base / f"data/convsync/trash/{WS}/jp-c{conversation}"


def durable(machine, conversation=ID, **where):
    return machine.directory(machine.silo(), conversation, **where)


def contents(directory):
    """name: (mtime, bytes) of every file below."""
    files = [p for p in sorted(directory.rglob("*")) if p.is_file()]
    return {p.relative_to(directory).as_posix(): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}


def listed(machine, *flags):
    return machine.ok("trash", "ls", "--json", *flags).json["conversations"]


def rm(machine, conversation, *worktrees):
    """As `jp conversation rm` leaves it: the durable copy is gone, and these projections."""
    for root in (machine.silo(), *worktrees):
        for archived in (False, True):
            path = machine.directory(root, conversation, archived=archived)
            if path is not None:
                shutil.rmtree(path)


def bury(machine, *conversations):
    """What the agent does about it, without its two seconds of looking twice."""
    with closing(state.writer(str(machine.base / "state/convsync"))) as opened:
        engine = Engine(opened, data_dir(machine), Settings())
        site = engine.sites[WS]
        engine.perform(site, Plan(tuple(Bury(c, site.silo.root, "by command") for c in conversations)))
        engine.cycle(site, set(conversations))


def kept_in_two(machine):
    """Worktrees a and b: ID is in both, OTHER in the silo only (with an unmanaged file), STAYS in a. All is kept."""
    a, b = (machine.worktree(name, register=False) for name in "ab")
    machine.write(a, ID, "one", "two", slug="talk", title=TITLE)
    machine.write(a, STAYS, "stays")
    shutil.copytree(machine.directory(a, ID), b / ".jp/conversations" / f"{ID}-talk")
    machine.ok("register", a)
    machine.ok("register", b)
    note = machine.write(machine.silo(), OTHER, "three", title="Other title") / "notes" / "n.md"
    note.parent.mkdir()
    put(note, b"note", LONG_AGO)
    machine.quiet()
    machine.ok("sync")
    assert all((place(machine, c) / "manifest.json").exists() for c in (ID, OTHER, STAYS))
    return machine


def removed_two(two):
    """ID was removed in a and is left over in b; OTHER was removed. STAYS is there."""
    rm(two, ID, two.base / "a")
    rm(two, OTHER)
    bury(two, ID, OTHER)
    return two


def on_terminal(machine, *argv, answer=None):
    """A command in a process of its own on a terminal of 80 columns: exit code and what was seen there."""
    ours, theirs = pty.openpty()
    process = machine.spawn(
        *argv, stdin=theirs, stdout=theirs, stderr=theirs, text=False, env={"COLUMNS": "80", "TERM": "dumb"}
    )
    os.close(theirs)
    seen = everything(ours, answer)
    return process.wait(120), re.sub(r"\x1b\[[0-9;]*m", "", seen)
