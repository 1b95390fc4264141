"""Two worktrees with a conversation of which an older content is kept, and what the commands say of it."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from machine import LONG_AGO, SECOND, as_jp, event, put

ID = 17000000001


HOUR = 3600 * SECOND


def project(machine, source, *worktrees):
    """Give other worktrees a copy of the conversation, times included."""
    for worktree in worktrees:
        place = machine.directory(source, ID)
        shutil.copytree(place, Path(worktree) / ".jp" / "conversations" / place.name)


def replaced_once(machine):
    """Worktrees a and b with one conversation in step, `old`; then a is rewritten as `new` and synced."""
    a = machine.worktree("a", register=False)
    b = machine.worktree("b", register=False)
    machine.write(a, ID, "old", slug="talk", title="Old title")
    project(machine, a, b)
    machine.ok("register", a)
    machine.ok("register", b)
    put(machine.directory(a, ID) / "events.json", as_jp([event("new"), event("newer")]), LONG_AGO + HOUR)
    machine.ok("sync")
    assert everywhere(machine) == [["new", "newer"]] * 3
    return machine


def roots(machine):
    return [machine.silo(), machine.base / "a", machine.base / "b"]


def everywhere(machine, **where):
    return [machine.questions(r, ID, **where) for r in roots(machine) if machine.directory(r, ID, **where)]


def versions(machine):
    return machine.ok("history", str(ID), "--json").json["versions"]


def kept_questions(machine):
    """What was asked in each kept stream, newest first, as `restore --into` gives it."""
    found = []
    for number, version in enumerate(v["version"] for v in versions(machine) if v["unit"] == "stream"):
        into = machine.base / f"look-{time.time_ns()}-{number}"
        machine.ok("restore", str(ID), "--version", version, "--into", into)
        raw = (into / f"jp-c{ID}" / "events.json").read_bytes()
        found.append([e["content"] for e in json.loads(raw)])
    return found


def title(machine):
    return machine.ok("show", str(ID), "--json").json["title"]


def bytes_of(machine, root):
    """Both units of one copy, to the last byte."""
    place = machine.directory(root, ID)
    return {f: (place / f).read_bytes() for f in ("base_config.json", "events.json", "metadata.json")}


def retitle(machine, name, text, mtime_ns):
    fields = {"title": text, "last_activated_at": "2024-01-01 00:00:00.0"}
    put(machine.directory(machine.base / name, ID) / "metadata.json", as_jp(fields), mtime_ns)


def in_conflict(two):
    """Both a and the silo were changed since they agreed: b's newest content won, a lasting entry is open."""
    put(two.directory(two.base / "a", ID) / "events.json", as_jp([event("in a")]), LONG_AGO + 2 * HOUR)
    put(two.directory(two.base / "b", ID) / "events.json", as_jp([event("in b")]), LONG_AGO + 3 * HOUR)
    two.quiet()
    two.ok("sync")
    assert everywhere(two) == [["in b"]] * 3
    assert kinds(two) == ["conflict"]
    return two


def kinds(machine):
    return [e["kind"] for e in machine.ok("status", "--json").json["attention"]]
