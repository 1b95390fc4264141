"""A real agent process, conditions that are waited for, and JP's reading rule to judge what it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from convsync_agent.flocks import agent_running

FILES = ("base_config.json", "events.json", "metadata.json")
PATIENCE = 60.0  # only a bound: a condition that holds is seen at once, however slow the machine is


def until(condition: Callable[[], object], what: str = "", patience: float = PATIENCE):
    """Wait for a condition; its value, or an assertion that says what never came.

    What an agent renames or takes away just while it is read does not hold yet.
    """
    deadline = time.monotonic() + patience
    while True:
        with contextlib.suppress(FileNotFoundError):
            found = condition()
            if found:
                return found
        assert time.monotonic() < deadline, f"never: {what or condition}"
        time.sleep(0.005)


class RunningAgent:
    """`convsync agent` of one machine. Started when its first scan is done. `under`: a command that runs it."""

    def __init__(self, machine, *argv, wait=True, under=(), **env):
        self.machine = machine
        self.log = machine.base / f"agent-{time.monotonic_ns()}.log"
        env = {"PATH": os.environ["PATH"], **machine.env, **env}
        with open(self.log, "wb") as log:
            command = [*under, sys.executable, "-m", "convsync_cli", "agent", *argv]
            self.process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if wait:
            until(self.is_up, f"agent up\n{self.log.read_text()}")

    def is_up(self):
        assert self.process.poll() is None, self.log.read_text()
        found = runtime(self.machine)
        return found if found and found["agent"]["pid"] == self.process.pid else None

    def stop(self, number=signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)

    def lines(self) -> list[dict]:
        """What it has logged; a line that is being written is none yet."""
        whole, _, _ = self.log.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]


def runtime(machine):
    try:
        return json.loads((machine.base / "state/convsync/runtime.json").read_text())
    except (OSError, ValueError):
        return None


def status(machine):
    """What `status --json` says, asked in a process of its own.

    An agent that is there and too busy to answer is asked again: what it says comes after all that it had to look at
    when it was asked, and a look at the disk knows nothing of that.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        ran = machine.spawn("status", "--json")
        out, err = ran.communicate(timeout=PATIENCE)
        assert ran.returncode == 0, err
        said = json.loads(out)
        busy = said["agent"]["state"] != "running" and agent_running(str(machine.base / "state/convsync/agent.lock"))
        if not busy or time.monotonic() > deadline:
            return said


def in_step(machine, conversation, *roots) -> bool:
    """Every copy in these roots has the same bytes and the same mtimes, to the nanosecond."""
    seen = set()
    for root in roots:
        path = machine.directory(root, conversation)
        if path is None:
            return False
        try:
            row = [(f, (path / f).read_bytes(), (path / f).stat().st_mtime_ns) for f in FILES if (path / f).exists()]
        except FileNotFoundError:
            return False
        seen.add((path.name, *row))
    return len(seen) == 1


def jp_loads(silo: Path, tree: Path) -> dict[str, bytes]:
    """What JP would load from a silo directory and a worktree directory, by its own rule (contract 5.2)."""

    def age(path):
        try:
            return path.stat().st_mtime_ns
        except OSError:
            return 0

    def stream(directory):
        return max(age(directory / "events.json"), age(directory / "base_config.json"))

    def read(path):
        try:
            return path.read_bytes()
        except OSError:
            return b""

    from_stream = silo if stream(silo) >= stream(tree) else tree
    from_metadata = silo if age(silo / "metadata.json") >= age(tree / "metadata.json") else tree
    found = {f: read(from_stream / f) for f in ("base_config.json", "events.json")}
    return found | {"metadata.json": read(from_metadata / "metadata.json")}


class Sampler:
    """Reads one conversation in a tight loop as JP would, and notes every distinct unit it could have loaded."""

    def __init__(self, silo: Path, tree: Path):
        self.silo, self.tree = silo, tree
        self.streams: set[tuple[bytes, bytes]] = set()
        self.metadata: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _stamps(self):
        rows = []
        for directory in (self.silo, self.tree):
            for name in FILES:
                try:
                    found = (directory / name).stat()
                    rows.append((found.st_ino, found.st_mtime_ns, found.st_size))
                except OSError:
                    rows.append(None)
        return rows

    def _run(self):
        while not self._stop.is_set():
            before = self._stamps()
            loaded = jp_loads(self.silo, self.tree)
            if before == self._stamps():  # the picture held still while it was read
                self.streams.add((loaded["base_config.json"], loaded["events.json"]))
                self.metadata.add(loaded["metadata.json"])

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
