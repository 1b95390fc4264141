"""The agent applies the rules of retention, and never to what a person still has to look at."""

from __future__ import annotations

import time

from convsync_agent import state
from convsync_agent.engine import Engine
from convsync_agent.model import Unit
from convsync_agent.retention import Retention
from convsync_agent.settings import Settings
from convsync_agent.state import Attention

A, B = 17_000_000_001, 17_000_000_002


def test_old_versions_go_but_not_under_an_open_entry(tmp_path):
    """Beyond the newest kept and too old: removed. With an open entry on the conversation: all of it stays."""
    engine = Engine(state.writer(str(tmp_path)), str(tmp_path / "data"), Settings(history_keep_versions=1))
    for conversation in (A, B):
        for number in range(3):
            rows = [("events.json", b"[%d]" % number, 0)]
            engine.history.keep(
                "abcde", conversation, Unit.STREAM, rows, root="/r", at_ms=number, why="replaced", valid=True, events=1
            )
    entry = Attention("conflict", "abcde", B, "/r", 1, "both changed", lasting=True)
    engine.ledger.entries["conflict", "abcde", B, "/r"] = entry
    daily = Retention()
    daily.run(engine)
    assert [3, 3] == [len(engine.history.versions("abcde", c)) for c in (A, B)]  # not at once
    daily._next = time.monotonic()
    daily.run(engine)

    assert [1, 3] == [len(engine.history.versions("abcde", c)) for c in (A, B)]
    engine.state.close()
