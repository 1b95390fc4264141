"""A stream of 64 MB costs little more memory than a small one: commands in processes whose peak is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agents import until
from machine import event

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="there is no such measure here")

C = 17_000_000_001
MB = 1_000_000
ALLOWED_KB = 32 << 10
SIZE = 64 * MB
LONG = 240.0

CHILD = """
import sys
from pathlib import Path
from convsync_cli.main import run
code = run(sys.argv[1:])
(peak,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss has the parent's, too
print(peak.split()[1], file=sys.stderr)
sys.exit(code)
"""


def peak(machine, *argv) -> int:
    """Of one command, KB; its last line on stderr is that."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, argv)],
        env=os.environ | machine.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stderr.split()[-1])


def grown(path, size: int) -> None:
    """A stream in JP's layout, about so large."""
    one = json.dumps(event("x" * 20_000), indent=2).encode().replace(b"\n", b"\n  ")
    with open(path, "wb") as file:
        file.write(b"[\n  " + one)
        file.writelines(b",\n  " + one for _ in range(size // len(one)))
        file.write(b"\n]\n")


def appended(path) -> None:
    """As JP does it, by pieces: the whole file anew, with one event more."""
    one = json.dumps(event("one more"), indent=2).encode().replace(b"\n", b"\n  ")
    with open(path, "r+b") as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"\n]\n"
        file.seek(-3, os.SEEK_END)
        file.write(b",\n  " + one + b"\n]\n")


def edited(path) -> None:
    middle = os.path.getsize(path) // 2
    with open(path, "r+b") as file:
        file.seek(middle)
        found = file.read(50_000).index(b"xxxxx")
        file.seek(middle + found)
        file.write(b"y")


@pytest.mark.slow
def test_memory_is_bounded_whatever_the_size(machine):
    """Registering it, an append, and an edit in the middle whose loser is kept."""
    machine.worktree("small", workspace="small", register=False)
    machine.write(machine.base / "small", C + 1, "one")
    least = peak(machine, "register", machine.base / "small")
    tree = machine.worktree(register=False)
    place = machine.write(tree, C, "one")
    grown(place / "events.json", SIZE)

    peaks = {"register": peak(machine, "register", tree)}
    durable = machine.directory(machine.silo(), C) / "events.json"
    assert durable.stat().st_size > SIZE
    appended(place / "events.json")
    peaks["append"] = peak(machine, "sync")
    assert durable.stat().st_size == (place / "events.json").stat().st_size
    assert not machine.run("history", C, "--json").json["versions"]
    edited(place / "events.json")
    peaks["edit"] = peak(machine, "sync")
    [version] = machine.run("history", C, "--json").json["versions"]
    assert version["bytes"] > SIZE
    peaks["undo"] = peak(machine, "undo", C)
    peaks["verify"] = peak(machine, "verify")
    assert {what: kb for what, kb in peaks.items() if kb > least + ALLOWED_KB} == {}, f"with a small one: {least}"


def held_by(agent) -> int:
    """The peak of an agent that runs, KB."""
    lines = Path(f"/proc/{agent.process.pid}/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return int(peak)


def kept_of_it(machine, size: int) -> bool:
    """A compressed kept copy of the stream as it is now is there."""
    manifests = (machine.base / "data/convsync/trash").rglob("manifest.json")
    return any(f["size"] == size for m in manifests for f in json.loads(m.read_text())["files"])


@pytest.mark.slow
def test_the_agent_stays_small(machine, agent):
    """It sees an append and an edit, keeps the loser, keeps the durable copy, and compresses both."""
    tree, running = machine.worktree(), agent()
    place = machine.write(tree, C, "one")
    durable = until(lambda: machine.directory(machine.silo(), C)) / "events.json"
    until(lambda: kept_of_it(machine, durable.stat().st_size), "kept")
    least = held_by(running)
    grown(place / "new", SIZE)
    os.rename(place / "new", place / "events.json")
    until(lambda: durable.stat().st_size > SIZE, "imported", LONG)
    appended(place / "events.json")
    until(lambda: durable.stat().st_size == (place / "events.json").stat().st_size, "appended", LONG)
    edited(place / "events.json")
    until(lambda: same(durable, place / "events.json"), "edited", LONG)
    objects = machine.base / "data/convsync/history"
    until(lambda: sum(p.stat().st_size for p in objects.rglob("*.gz")) in range(1, MB * 10), "compressed", LONG)
    until(lambda: kept_of_it(machine, durable.stat().st_size), "kept", LONG)

    assert held_by(running) < least + ALLOWED_KB


def same(one, other) -> bool:
    with open(one, "rb") as mine, open(other, "rb") as its:
        return all(
            a == b for a, b in zip(iter(lambda: mine.read(MB), b""), iter(lambda: its.read(MB), b""), strict=True)
        )
