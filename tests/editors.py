"""What the tests of `edit` share: editors that are scripts, and what is looked at after them."""

from __future__ import annotations

from convsync_agent.history import History
from machine import WS, as_jp, event

A, B, EXT = 17_000_000_001, 17_000_000_002, 17_000_000_009
NEW = as_jp([event("one"), event("edited")])


def in_two_worktrees(machine):
    """A is projected in the worktrees `a` and `b`, both registered."""
    for name in "ab":
        machine.write(machine.worktree(name, register=False), A, "one", slug="talk", title="talk")
    for name in "ab":
        machine.ok("register", machine.base / name)


def saving(machine, raw, name="new"):
    """A line of a script that saves these bytes over `$1`."""
    path = machine.base / name
    path.write_bytes(raw)
    return f'cat "{path}" > "$1"'


def roots(machine):
    return [machine.silo(), machine.base / "a", machine.base / "b"]


def contents(machine, conversation=A, file="events.json"):
    return [(machine.directory(r, conversation) / file).read_bytes() for r in roots(machine)]


def picture(machine):
    return machine.inventory(machine.silo() / "conversations", machine.base / "a", machine.base / "b")


def kept(machine, conversation=A):
    known = History(str(machine.base / "data/convsync"))
    versions = known.versions(WS, conversation)
    return {raw for m in versions for _, raw, _ in known.read(WS, conversation, m.version)}


def private(machine):
    return list((machine.base / "data/convsync").glob("editing-*"))
