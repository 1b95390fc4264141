"""`runtime.json`: what the running agent says of itself. Ids, counts, times and paths of roots only (R9).

Written by the agent when something changed, never when idle. `status` asks for a fresh one by dropping
a file into the signal directory; the answer names it in `seen`, so a verdict is never older than the question.
Who asks needs nothing else of the agent, so this module imports nothing of it: a person waits for the answer.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

from convsync_agent import __version__

NAME = "runtime.json"
SIGNALS = "signals"
RELOAD, POKE = "reload", "poke-"
DEGRADED = frozenset({"no-space"})
ATTENTION = frozenset({"held", "conflict", "split", "lost", "denied", "io", "deaf", "future"})


def write(directory: str, document: dict[str, Any]) -> None:
    """Replace `runtime.json` in one step. Not fsynced: after a power failure nothing in it is true anyway."""
    path = os.path.join(directory, NAME)
    fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        json.dump(document, file, separators=(",", ":"))
    os.replace(path + ".new", path)


def read(directory: str) -> dict[str, Any] | None:
    """The last published document, None if there is none or it cannot be understood."""
    try:
        with open(os.path.join(directory, NAME), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("schema") == 1 else None


def remove(directory: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(directory, NAME))


def signal(state_dir: str, runtime_dir: str, name: str) -> list[str]:
    """Drop a file where a running agent listens: the paths, none where that cannot be written.

    The agent says where it listens: a service has the runtime directory of its user's session, which a shell of cron
    or su knows nothing of. What it says may be from an agent before it, so our own idea of the place counts as well.
    """
    said = (read(state_dir) or {}).get("signals")
    folders = {os.path.join(runtime_dir, SIGNALS), said if isinstance(said, str) else ""} - {""}
    dropped = []
    for path in sorted(os.path.join(folder, name) for folder in folders):
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            dropped.append(path)
    return dropped


def ask(state_dir: str, runtime_dir: str, patience: float = 2.0) -> dict[str, Any] | None:
    """Poke the agent and wait for an answer that is newer than the question. None: it does not answer."""
    name = f"{POKE}{os.getpid()}-{time.time_ns()}"
    dropped = signal(state_dir, runtime_dir, name)
    deadline = time.monotonic() + (patience if dropped else 0.0)
    try:
        while time.monotonic() < deadline:
            found = read(state_dir)
            if found and name in found.get("seen", ()):
                return found
            time.sleep(0.001)
        return None
    finally:
        for path in dropped:
            with contextlib.suppress(OSError):
                os.unlink(path)


def header(started_ms: int, watches: int, queue: int, error: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "version": __version__,
        "started_at": started_ms,
        "watches": watches,
        "queue": queue,
        "last_error": error,
    }


def document(
    agent: dict[str, Any],
    workspaces: list[dict[str, Any]],
    deaf: list[dict[str, Any]],
    seen: set[str],
    signals: str,
    metrics: dict[str, Any],
) -> dict[str, Any]:
    """All of `runtime.json`. `seen`: the questions that it answers. `signals`: where it is asked."""
    about = {"schema": 1, "agent": agent, "signals": signals, "workspaces": workspaces, "deaf": deaf}
    return about | {"metrics": metrics, "seen": sorted(seen)}


def verdict(kinds: set[str], *, missing_silo: bool, unwritten: bool, pending: bool) -> str:
    """The one word (cli.md): degraded, else attention, else pending, else in-sync. `unwritten`: a write failed."""
    if missing_silo or unwritten or kinds & DEGRADED:
        return "degraded"
    if kinds & ATTENTION:
        return "attention"
    return "pending" if pending else "in-sync"
