"""One silo, written to as JP does, and the kept copies beside it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from convsync_agent import fs
from convsync_agent.model import Copy, Kind, Root
from convsync_agent.observe import Eye
from convsync_agent.scan import Place
from convsync_agent.shelter import Shelter
from machine import as_jp, event, put

WS, C = "abcde", 17_000_000_001
T0 = 1_800_000_000_000
MTIME = 1_700_000_000_123_456_789
FILES = ("base_config.json", "events.json", "metadata.json")


class Silo:
    """One silo, written to as JP does, and the kept copies beside it."""

    def __init__(self, base, data=None):
        self.root = Root(Kind.SILO, str(base / "silo"))
        self.data = Path(data or base / "data")
        self.shelter = Shelter(str(self.data))

    def directory(self, conversation=C, *, archived=False):
        top = Path(self.root.path, "conversations", ".archive" if archived else "")
        return top / f"{conversation}-my-private-title"

    def write(self, text="one", conversation=C, mtime_ns=MTIME, *, archived=False):
        top = self.directory(conversation, archived=archived)
        top.mkdir(parents=True, exist_ok=True)
        values = ({}, [event(text)], {"last_activated_at": "2023-11-14 22:13:20.0"})
        for name, value in zip(FILES, values, strict=True):
            raw = as_jp(value)
            if not (top / name).exists() or (top / name).read_bytes() != raw:
                put(top / name, raw, mtime_ns)
        return top

    def copy(self, conversation=C, *, archived=False) -> Copy:
        """As the engine sees it, long after the last write."""
        eye = Eye(lambda: 2 * 10**18, lambda *_: 10**12, lambda *_: True)
        place = Place(self.directory(conversation).name, archived=archived)
        return eye.look(self.root, conversation, place, None)[0]

    def keep(self, conversation=C, *, at_ms=T0, **facts):
        return self.shelter.keep(WS, self.copy(conversation, **facts), at_ms=at_ms)

    def remove(self, conversation=C, at_ms=T0):
        """What a person does, and what the engine says of it."""
        shutil.rmtree(self.directory(conversation))
        assert self.shelter.removed(WS, conversation, at_ms)

    def place(self, conversation=C):
        return self.data / "trash" / WS / f"jp-c{conversation}"

    def names(self, conversation=C):
        return {p.name for p in self.place(conversation).iterdir()}

    def how(self, conversation=C):
        return {f.name: f.how for f in self.shelter.held(WS, conversation).files}

    def restored(self, conversation=C, shelter=None):
        """name: (mtime, content) of what comes back."""
        top = self.data.with_name(f"restored-{random.randrange(10**12)}")
        top.mkdir()
        with fs.opened_dir(str(top)) as fd:
            (shelter or self.shelter).restore_into(WS, conversation, fd, sync=False)
        return contents(top)


def contents(top):
    files = [p for p in sorted(top.rglob("*")) if p.is_file()]
    return {p.relative_to(top).as_posix(): (p.stat().st_mtime_ns, p.read_bytes()) for p in files}
