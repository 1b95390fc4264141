"""Watchers, a root that is watched, and an ear for what they say."""

import contextlib
import os
import queue
import subprocess
import time
from pathlib import Path

import pytest

from convsync_agent.hints import Change
from convsync_agent.inotify import InotifyWatcher
from convsync_agent.poll import PollingWatcher
from convsync_agent.watch import observer_watcher

AGENT = str(Path(__file__).parents[1] / "agent")
ROOM = "17636257528-some-title"
FAST = 0.05
MAKERS = {
    "inotify": InotifyWatcher,
    "observer": lambda put: observer_watcher(put, interval=FAST),
    "polling": lambda put: PollingWatcher(put, interval=FAST),
}


class Ear:
    """Collects hints and waits for one, with a deadline instead of a sleep."""

    def __init__(self):
        self.queue = queue.SimpleQueue()
        self.seen = []

    def until(self, *wanted, seconds=60.0, **fields):
        """The first hint from now on with one of these changes and these fields."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(queue.Empty):
                hint = self.queue.get(timeout=max(0.0, end - time.monotonic()))
                self.seen.append(hint)
                if hint.change in wanted and all(getattr(hint, k) == v for k, v in fields.items()):
                    return hint
                continue
            pytest.fail(f"no {wanted} {fields} among {self.seen[-20:]}")

    def forget(self):
        with contextlib.suppress(queue.Empty):
            while True:
                self.queue.get_nowait()
        self.seen.clear()


class Root:
    """A silo on disk, with one conversation."""

    def __init__(self, path):
        self.path = str(path)
        self.make()

    def make(self):
        os.makedirs(self.at("conversations", ".archive"))
        os.makedirs(self.at("locks"))
        Path(self.at(".id")).write_text("otvo8\n")
        os.mkdir(self.room())
        Path(self.room("events.json")).write_text("[]")

    def at(self, *parts):
        return os.path.join(self.path, *parts)

    def room(self, *parts):
        return self.at("conversations", ROOM, *parts)

    def rename_in(self, text, name="events.json"):
        temporary = self.room(name + ".tmp")
        Path(temporary).write_text(text)
        os.replace(temporary, self.room(name))


IN_ROOM = (Change.WRITTEN, Change.TOUCHED, Change.GONE)


def silence(ear, root):
    """Two passes of every watcher are over: two changes, one after the other, were heard."""
    for name in ("1-first", "2-second"):
        os.mkdir(root.at("conversations", name))
        ear.until(Change.LISTING, conversation_dir=name)
    return [h for h in ear.seen if h.conversation_dir not in ("1-first", "2-second")]


def _python(*argv, **kwargs):
    environment = {**os.environ, "PYTHONPATH": AGENT, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, **kwargs)
