"""Four conversations and the sessions that work on them."""

from __future__ import annotations

import json

from convsync_agent.session import ENV, Session
from convsync_agent.summary import parse_timestamp

A, B, C, STORED, EXTERNAL = 17000000001, 17000000002, 17000000003, 16900000000, 17000000009


TITLE = "A private\x1b]2;evil\x07 title"


def four_conversations(machine, monkeypatch):
    """Three live conversations and an archived one in worktree `a`; this terminal is the session `one`."""
    monkeypatch.setenv("JP_SESSION", "one")
    a = machine.worktree("a", register=False)
    for conversation in (A, B, C):
        machine.write(a, conversation, "hello", title=TITLE)
    machine.write(a, STORED, "old", archived=True, archived_at="2024-01-01 00:00:00.0")
    machine.ok("register", a)
    return machine


def session_of(machine):
    return machine.ok("session", "show", "--json").json


def place(machine, name, kind="env-JP_SESSION"):
    key = Session(ENV, name, "JP_SESSION").key if kind.startswith("env") else f"{kind}-{name}"
    return machine.silo() / "sessions" / f"{key}.json"


def metadata(machine, root, conversation):
    return json.loads((machine.directory(root, conversation) / "metadata.json").read_bytes())


def activated_ns(machine, root, conversation):
    return parse_timestamp(metadata(machine, root, conversation)["last_activated_at"])
