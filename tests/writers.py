"""A process that writes conversations as JP does: its lock, its order, its rule of what to load; it says what is done.

`python writers.py SILO STORE TURNS ACKS SEED SECONDS CONVERSATION...`: one line in the file ACKS for every event that
was written to the silo and to the worktree. TURNS is a directory where such writers take turns on a conversation:
JP's own lock has a gap at its release, and what two JPs do to each other is not what is looked at. Under the lock
everything that JP would load has to be whole: what is not ends the process with a traceback.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import sys
import time
from pathlib import Path

from agents import jp_loads
from convsync_agent.sample import as_jp, locked_as_jp, retitled, write_as_jp
from machine import event


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
    seed, seconds, conversations = argv[4], float(argv[5]), [int(c) for c in argv[6:]]
    rng = random.Random(seed)
    number, deadline = 0, time.monotonic() + seconds
    with open(acks, "a", buffering=1) as log:
        while time.monotonic() < deadline:
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


if __name__ == "__main__":
    main(sys.argv[1:])
