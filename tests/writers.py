"""A process that writes conversations as JP does: its lock, its order, its rule of what to load; it says what is done.

`python writers.py SILO STORE TURNS ACKS SEED SECONDS WRITES CONVERSATION...`: one line in the file ACKS for every event
that was written to the silo and to the worktree, until the time is over or so many are written. TURNS is a directory
where such writers take turns on a conversation: JP's own lock has a gap at its release, and what two JPs do to each
other is not what is looked at. Under the lock everything that JP would load has to be whole: what is not ends the
process with a traceback.

Imported, it starts such processes and says what became of what they wrote.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from agents import FILES, jp_loads
from convsync_agent.history import History
from convsync_agent.sample import as_jp, locked_as_jp, retitled, write_as_jp
from machine import WS, event


def directory(root: Path, conversation: int) -> Path | None:
    """The directory of a conversation, found as JP finds it: by its number."""
    names = [p for p in (root / "conversations").iterdir() if p.name.partition("-")[0] == str(conversation)]
    return names[0] if names else None


@contextlib.contextmanager
def turn_of(turns: Path, conversation: int):
    with open(turns / str(conversation), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def say(silo: Path, store: Path, conversation: int, text: str, title: str | None) -> None:
    """One turn: load the newest unit of each kind, add an event, write the silo, then the worktree."""
    roots = [r for r in (silo, store) if directory(r, conversation)]
    found = [directory(r, conversation) for r in roots]
    loaded = jp_loads(found[0], found[-1])
    events = json.loads(loaded["events.json"])
    json.loads(loaded["base_config.json"])
    json.loads(loaded["metadata.json"])
    loaded["events.json"] = as_jp([*events, event(text)])
    if title is not None:
        loaded["metadata.json"] = retitled(loaded["metadata.json"], title)
    called = json.loads(loaded["metadata.json"]).get("title")
    name = f"{conversation}-{called}" if called else f"{conversation}"
    for root in roots:  # whatever was changed, JP gives each directory the name that its title makes (contract 3.5)
        at = directory(root, conversation)
        write_as_jp(str(at if at.name == name else at.rename(at.with_name(name))), loaded)


def main(argv: list[str]) -> None:
    silo, store, turns, acks = map(Path, argv[:4])
    seed, seconds, writes, conversations = argv[4], float(argv[5]), int(argv[6]), [int(c) for c in argv[7:]]
    rng = random.Random(seed)
    number, deadline = 0, time.monotonic() + seconds
    with open(acks, "a", buffering=1) as log:
        while number < writes and time.monotonic() < deadline:
            conversation, text = rng.choice(conversations), f"{seed}/{number}"
            title = f"title-{rng.randrange(4)}" if rng.random() < 0.1 else None
            with turn_of(turns, conversation):
                try:
                    with locked_as_jp(os.fspath(silo), conversation):
                        say(silo, store, conversation, text, title)
                except BlockingIOError:
                    continue  # the agent has it, for milliseconds: a person would try again
            log.write(f"{conversation} {text}\n")
            number += 1
            time.sleep(rng.random() * 0.05)  # a person thinks


# -- of the test that starts them ---------------------------------------------------


class Writer(NamedTuple):
    """One process: what it is done with is in `acks`, what it says in `log`."""

    process: subprocess.Popen
    acks: Path
    log: Path

    def done(self) -> list[tuple[int, str]]:
        """(conversation, text) of every event that was written."""
        rows = [line.split() for line in self.acks.read_text().splitlines()]
        return [(int(c), text) for c, text in rows]


def start(machine, number, seed, conversations, *, seconds=3600.0, writes=1 << 30) -> Writer:
    """One writer, in one of the worktrees a and b by turns."""
    (machine.base / "turns").mkdir(exist_ok=True)
    acks, log = machine.base / f"acks-{number}", machine.base / f"writer-{number}.log"
    argv = [machine.silo(), machine.base / "ab"[number % 2] / ".jp", machine.base / "turns", acks]
    argv += [f"{seed}-{number}", seconds, writes, *conversations]
    path = os.pathsep.join(p for p in sys.path if p)
    with open(log, "wb") as said:
        process = subprocess.Popen(
            [sys.executable, __file__, *map(str, argv)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=said,
            stderr=said,
        )
    return Writer(process, acks, log)


def roots(machine) -> list[Path]:
    return [machine.silo(), machine.base / "a", machine.base / "b"]


def said(machine, conversation) -> set[str]:
    """Every text in a root or in the history, where also lies what a dying agent had half staged."""
    whole = [json.loads((machine.directory(r, conversation) / "events.json").read_bytes()) for r in roots(machine)]
    history = History(str(machine.base / "data/convsync"))
    for version in history.versions(WS, conversation):
        for name, raw, _ in history.read(WS, conversation, version.version):
            if name == "events.json":
                with contextlib.suppress(ValueError):
                    whole.append(json.loads(raw))
    return {e.get("content") for events in whole for e in events}


def same(machine, conversation) -> bool:
    """Equal names and bytes everywhere. JP writes each root at a time of its own: equal bytes are in step."""
    found = [machine.directory(r, conversation) for r in roots(machine)]
    try:
        return None not in found and 1 == len({(d.name, *((d / f).read_bytes() for f in FILES)) for d in found})
    except FileNotFoundError:  # renamed just now
        return False


if __name__ == "__main__":
    main(sys.argv[1:])
