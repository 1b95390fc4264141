"""Being told: real agents, a real command, a `notify-send` that is a real process."""

from __future__ import annotations

import json
import os
import time

import pytest

from agents import status, until
from machine import put

A, B, C = 17_457_886_043, 17_457_990_001, 17_457_990_002
SECRET = "canary-slug-and-text"


@pytest.fixture
def told(machine):
    """A worktree with two conversations, and commands that write down what they get."""
    path = machine.worktree("a")
    for conversation in (A, B):
        machine.write(path, conversation, SECRET, slug=SECRET, title=SECRET)
    machine.quiet()
    machine.ok("sync")
    machine.heard = machine.base / "heard"
    machine.heard.mkdir()
    machine.command = f"cat > {machine.heard}/new.$$; mv {machine.heard}/new.$$ {machine.heard}/$$.json"
    programs = machine.base / "programs"
    programs.mkdir()
    send = programs / "notify-send"
    send.write_text(f'#!/bin/sh\ncd {machine.heard}; printf "%s\\n" "$@" > new.$$; mv new.$$ shown.$$\n')
    send.chmod(0o755)
    machine.desktop = {"PATH": f"{programs}:{os.environ['PATH']}", "DBUS_SESSION_BUS_ADDRESS": "unix:path=/nowhere"}
    return machine


def broken(machine, conversation):
    put(machine.directory(machine.base / "a", conversation) / "events.json", b"[" + SECRET.encode(), time.time_ns())


def kinds(machine):
    return sorted(e["kind"] for e in status(machine)["attention"])


def documents(machine):
    """What the command got, oldest first."""
    return [json.loads(p.read_text()) for p in sorted(machine.heard.glob("*.json"), key=lambda p: p.stat().st_mtime_ns)]


def told_of(machine, kind):
    """Those with an entry of this kind. A machine that is very busy may add one of its own: a disk that is slow."""
    return [d for d in documents(machine) if kind in {e["kind"] for e in d["attention"]}]


def shown(machine):
    return [p.read_text().splitlines() for p in machine.heard.glob("shown.*")]


def said(agent, event="told"):
    return [x for x in agent.lines() if x["event"] == event]


def test_the_command_gets_new_entries(told, agent):
    """`notify.command` runs in a shell and gets the verdict and the new entries, as in `status --json`, on stdin."""
    agent("--set", f"notify.command={told.command}")
    broken(told, A)
    (one,) = until(lambda: told_of(told, "held"))
    held = [e for e in one["attention"] if e["kind"] == "held"]

    assert one["schema"] == 1
    assert one["verdict"] in ("attention", "degraded")
    assert held == [e for e in status(told)["attention"] if e["kind"] == "held"]
    assert held[0]["conversation"] == f"jp-c{A}"
    assert SECRET not in json.dumps(one)


def test_a_restart_tells_nothing_twice(told, agent):
    """What was told is remembered, and so is when: another one of that kind within the hour waits."""
    first = agent("--set", f"notify.command={told.command}")
    broken(told, A)
    until(lambda: told_of(told, "held"))
    until(lambda: said(first))
    first.stop()
    second = agent("--set", f"notify.command={told.command}")
    broken(told, B)
    until(lambda: kinds(told).count("held") == 2)
    # Another kind is told at once: when that has come, `held` would have come before it.
    told.worktree("b")
    os.rename(told.base / "b", told.base / "gone")
    until(lambda: told_of(told, "missing"))

    assert len(told_of(told, "held")) == 1
    assert [x for x in said(second) if "held" in x["kinds"]] == []


def test_the_desktop_gets_ids_and_counts(told, agent):
    """What needs a person, in the desktop's own notification: kinds, counts, ids; no title, no path."""
    agent(**told.desktop)
    broken(told, A)
    broken(told, B)
    until(lambda: shown(told))
    text = "\n".join("\n".join(args) for args in shown(told))

    assert "convsync: something needs you" in text
    assert f"jp-c{A}" in text or f"jp-c{B}" in text
    assert SECRET not in text
    assert str(told.base) not in text


def test_degraded_is_told(told, agent):
    """A silo that is gone: the verdict is told, urgently, and again only when it went and came back."""
    agent("--set", f"notify.command={told.command}", **told.desktop)
    until(lambda: status(told)["verdict"] == "in-sync")
    os.rename(told.silo(), told.base / "taken")
    found = until(lambda: [d for d in documents(told) if d["verdict"] == "degraded"])
    until(lambda: [args for args in shown(told) if "--urgency=critical" in args])

    assert found[0]["schema"] == 1
    assert "convsync: something could not be written" in "\n".join("\n".join(args) for args in shown(told))


def test_off_by_one_setting(told, agent):
    """`notify.desktop = false`: the desktop is left alone, also where it could be told."""
    running = agent("--set", "notify.desktop=false", "--set", f"notify.command={told.command}", **told.desktop)
    broken(told, A)
    until(lambda: documents(told))

    assert {tuple(x["by"]) for x in until(lambda: said(running))} == {("command",)}
    assert not shown(told)


def test_a_command_that_fails_is_told_once(told, agent):
    """By its exit code, never with what it printed; the agent goes on."""
    noise = told.heard / "ran"
    running = agent("--set", f"notify.command=echo {SECRET}; echo {SECRET} >&2; echo x >> {noise}; exit 7")
    broken(told, A)
    until(lambda: said(running, "cannot tell"))
    told.worktree("b")
    os.rename(told.base / "b", told.base / "gone")
    until(lambda: noise.exists() and noise.read_text().count("x") >= 2)
    until(lambda: len(said(running)) >= 2)

    assert [(x["level"], x["why"]) for x in said(running, "cannot tell")] == [("warning", "exit 7")]
    assert SECRET not in running.log.read_text()
    told.write(told.base / "a", C, "goes on")
    until(lambda: told.directory(told.silo(), C))


def test_a_command_that_hangs_holds_up_nothing(told, agent):
    """Edits become durable meanwhile, and the agent stops in time and takes it along."""
    pid = told.heard / "pid"
    running = agent("--set", f"notify.command=echo $$ > {pid}; sleep 600")
    broken(told, A)
    until(lambda: pid.exists() and pid.read_text())
    told.write(told.base / "a", C, "goes on")
    until(lambda: told.directory(told.silo(), C))

    assert running.stop() == 0
    until(lambda: not os.path.exists(f"/proc/{int(pid.read_text())}"))


def test_nobody_to_tell_is_no_reason_to_write(told, agent):
    """Without a desktop and a command nothing is noted as told: who is asked later hears of it."""
    first = agent()
    broken(told, A)
    until(lambda: "held" in kinds(told))
    first.stop()
    agent("--set", f"notify.command={told.command}")

    assert until(lambda: told_of(told, "held"))
