"""A machine with a conversation of every kind, and what `ls` says of it."""

from __future__ import annotations

from convsync_agent.site import load_sites
from convsync_agent.state import reader
from machine import event

BOTH, LOCAL, EXTERNAL, STORED = 17000000001, 17000000002, 18000000003, 16900000004


KEYS = ["id", "createdAt", "lastActivityAt", "title", "status", "workspaceId", "presence", "worktrees", "events", "cwd"]
KEYS += ["behind"]

GIT = ["-c", "user.name=a", "-c", "user.email=a@example.org"]


def of_every_kind(machine):
    """In worktree a one projected and one external; in the silo also one local; one archived in both; b empty."""
    a = machine.worktree("a", register=False)
    machine.write(a, BOTH, event("first", "2024-01-01 10:00:00.0"), slug="first", title="First of all")
    machine.write(a, STORED, event("put away", "2023-01-01 10:00:00.0"), archived=True)
    machine.ok("register", a)
    machine.worktree("b")
    machine.write(
        machine.silo(),
        LOCAL,
        event("a", "2024-03-01 10:00:00.0"),
        event("b", "2024-03-01 10:00:01.5"),
        title="Only\nhere",
    )
    machine.write(a, EXTERNAL, event("x" * 200, "2024-02-01 10:00:00.0"))
    return machine


def ids(ran):
    return [int(c["id"].removeprefix("jp-c")) for c in ran.json["conversations"]]


def listed(machine, *flags):
    return ids(machine.ok("ls", "--json", *flags))


def index_of(machine, workspace="abcde"):
    opened = reader(str(machine.base / "state" / "convsync"))
    site = load_sites(opened, 0)[workspace]
    opened.close()
    return site
