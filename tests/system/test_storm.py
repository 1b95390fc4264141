"""Everybody at once: JP-shaped writers, editors, git and rsync on the same conversations under a running agent."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import threading
import time

import pytest

from agents import in_step, status, until
from machine import as_jp, event, put

SECONDS = float(os.environ.get("CONVSYNC_STORM_SECONDS", "6"))
FIRST, COUNT = 17_000_000_001, 12


def jp_writer(machine, roots, seed, stop, errors):
    """Appends a turn to a conversation, silo first, then the worktree, in JP's order."""
    rng = random.Random(seed)
    while not stop.is_set():
        conversation = FIRST + rng.randrange(COUNT)
        try:
            for root in roots:
                directory = machine.directory(root, conversation)
                if directory is None:
                    continue
                events = json.loads((directory / "events.json").read_bytes())
                events.append(event(f"{seed} {time.monotonic_ns()}"))
                put(directory / "events.json", as_jp(events))
        except (FileNotFoundError, json.JSONDecodeError):
            continue  # another writer was in the middle: a real JP would try again, too
        except Exception as error:  # noqa: BLE001  # reported by the test
            errors.append(error)
        stop.wait(rng.random() * 0.02)


def editor(machine, root, stop):
    """Rewrites metadata in place."""
    number = 0
    while not stop.is_set():
        number += 1
        directory = machine.directory(root, FIRST + number % COUNT)
        try:
            with open(directory / "metadata.json", "r+b") as file:
                file.truncate(0)
                file.write(as_jp({"title": f"t{number}", "last_activated_at": "2025-01-01 00:00:00.0"}))
        except (FileNotFoundError, TypeError):
            continue
        stop.wait(0.05)


@pytest.mark.slow
def test_a_storm_of_writers_ends_in_step(machine, agent):
    """No error, everything valid at the end, all roots equal, `verify` agrees (seeded writers, printed seed)."""
    seed = random.randrange(10_000)
    print(f"seed {seed}")  # noqa: T201  # to run the same storm again
    a, b = machine.worktree("a", register=False), machine.worktree("b", register=False)
    for number in range(COUNT):
        machine.write(a, FIRST + number, "one")
        machine.write(b, FIRST + number, "one")
    machine.ok("register", a)
    machine.ok("register", b)
    one = agent()
    mirror = machine.base / "mirror"
    stop, errors = threading.Event(), []
    threads = [
        threading.Thread(target=jp_writer, args=(machine, [machine.silo(), a], seed, stop, errors)),
        threading.Thread(target=jp_writer, args=(machine, [b], seed + 1, stop, errors)),
        threading.Thread(target=editor, args=(machine, b, stop)),
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if shutil.which("rsync"):
            subprocess.run(["rsync", "-a", f"{a}/.jp/conversations/", f"{mirror}/"], check=False, capture_output=True)
        if shutil.which("git"):
            git = ["git", "-C", str(b), "-c", "user.name=t", "-c", "user.email=t@t"]
            subprocess.run([*git, "init", "-q"], check=False, capture_output=True)
            subprocess.run([*git, "add", "-A"], check=False, capture_output=True)
            subprocess.run([*git, "commit", "-qm", "x"], check=False, capture_output=True)
            subprocess.run([*git, "status"], check=False, capture_output=True)
    stop.set()
    for thread in threads:
        thread.join()
    for number in range(COUNT):  # the last word on each, so that what an in-place writer left torn is mended
        put(
            machine.directory(a, FIRST + number) / "metadata.json",
            as_jp({"last_activated_at": "2025-02-02 00:00:00.0"}),
        )
    until(lambda: all(in_step(machine, FIRST + n, a, b, machine.silo()) for n in range(COUNT)), "in step")
    until(lambda: status(machine)["verdict"] in ("in-sync", "attention"))

    assert [] == errors
    assert one.process.poll() is None
    assert [] == [line for line in one.lines() if line["level"] in ("error", "critical")]
    assert 0 == machine.run("verify").code
    if shutil.which("git"):
        said = subprocess.run(
            ["git", "-C", str(b), "status", "--porcelain"], capture_output=True, text=True, check=True
        )
        assert ".convsync" not in said.stdout
