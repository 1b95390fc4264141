"""Phase 2: what earlier versions of JP wrote is listed, brought in step, and stays as it is, byte for byte."""

from __future__ import annotations

import json

import pytest

from agents import in_step
from machine import LONG_AGO, as_jp, event, put

A = 17_000_000_001
PACKED = {"type": "config_delta", "timestamp": "2023-11-14 22:13:20.0", "delta": {"assistant": {"name": "JP"}}}


def row(machine):
    [found] = machine.ok("ls", "--json").json["conversations"]
    return found


def write_packed(root, *texts):
    """A stream with its config in its first event, and no base_config.json (contract 4.6)."""
    at = root / ".jp" / "conversations" / str(A)
    at.mkdir(parents=True, exist_ok=True)
    put(at / "metadata.json", as_jp({"last_activated_at": "2023-11-14 22:13:20.0"}), LONG_AGO)
    put(at / "events.json", as_jp([PACKED, *map(event, texts)]), LONG_AGO)
    return at


def test_phase2_config_packed_into_the_events(machine):
    """It is a whole conversation: counted, titled, imported and updated without a base_config.json appearing."""
    a = machine.worktree("a", register=False)
    at = write_packed(a, "one")
    machine.ok("register", a)

    assert (row(machine)["events"], row(machine)["title"], row(machine)["presence"]) == (2, "one", "projected")
    assert in_step(machine, A, machine.silo(), a)
    put(at / "events.json", as_jp([PACKED, event("one"), event("two")]))
    machine.quiet()
    machine.ok("sync")
    assert in_step(machine, A, machine.silo(), a)
    assert machine.questions(machine.silo(), A) == [None, "one", "two"]
    assert not (at / "base_config.json").exists()
    machine.ok("verify")


def test_phase2_three_files(machine):
    """JP's upgrade of a packed one: base_config.json appears, the events begin without it; the whole unit follows."""
    a = machine.worktree("a", register=False)
    at = write_packed(a, "one")
    machine.ok("register", a)
    put(at / "base_config.json", as_jp(PACKED["delta"]))
    put(at / "events.json", as_jp([event("one"), event("two")]))
    machine.quiet()
    machine.ok("sync")

    assert in_step(machine, A, machine.silo(), a)
    assert json.loads((machine.directory(machine.silo(), A) / "base_config.json").read_bytes()) == PACKED["delta"]
    assert row(machine)["events"] == 2


@pytest.mark.parametrize("field", ["local", "user"])
@pytest.mark.parametrize("value", [True, False])
def test_phase2_the_flag_of_locality_decides_nothing(machine, field, value):
    """Presence is where the directories are; the old flag is kept byte for byte, as is what is unknown."""
    a = machine.worktree("a", register=False)
    at = machine.write(a, A, "one")
    raw = json.dumps({field: value, "last_activated_at": "2023-11-14 22:13:20.0", "future": [1.50]}).encode()
    put(at / "metadata.json", raw, LONG_AGO + 1)
    machine.ok("register", a)
    machine.ok("sync")

    assert row(machine)["presence"] == "projected"
    assert [(machine.directory(r, A) / "metadata.json").read_bytes() for r in (a, machine.silo())] == [raw] * 2


def test_phase2_the_file_of_the_active_conversation(machine):
    """`conversations/metadata.json` with its active_conversation_id is no conversation and stays untouched."""
    a = machine.worktree("a", register=False)
    machine.write(a, A, "one")
    old = a / ".jp" / "conversations" / "metadata.json"
    put(old, as_jp({"active_conversation_id": f"jp-c{A}"}), LONG_AGO)
    before = machine.inventory(a)
    machine.ok("register", a)
    machine.ok("sync")

    assert row(machine)["id"] == f"jp-c{A}"
    assert machine.inventory(a).keys() == before.keys()
    assert (old.read_bytes(), old.stat().st_mtime_ns) == before[str(old)][::-1]
    assert not (machine.silo() / "conversations" / "metadata.json").exists()
    assert b"active_conversation" not in (machine.base / "state/convsync/state.db").read_bytes()


def test_phase2_what_no_reader_knows_any_more(machine):
    """A directory of messages without events is listed empty, and is neither imported nor taken away (contract 4.6)."""
    a = machine.worktree("a", register=False)
    at = a / ".jp" / "conversations" / str(A)
    at.mkdir(parents=True)
    put(at / "messages.json", b"[]\n", LONG_AGO)
    put(at / "metadata.json", as_jp({"last_activated_at": "2023-11-14 22:13:20.0"}), LONG_AGO)
    before = machine.inventory(at)
    machine.ok("register", a)

    assert (row(machine)["events"], row(machine)["presence"]) == (0, "workspace_only")
    assert machine.inventory(at) == before
