"""A stream of 64 MB costs little more memory than a small one: commands in processes whose peak is measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from machine import event

C = 17_000_000_001
MB = 1_000_000
ALLOWED_KB = 32 << 10
SIZE = 64 * MB

CHILD = """
import sys
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
