"""The agent applies the rules of retention, and never to what a person still has to look at."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from convsync_agent import state
from convsync_agent.engine import Engine
from convsync_agent.model import Kind, Root, Unit
from convsync_agent.observe import Eye
from convsync_agent.retention import Retention
from convsync_agent.rules import DAY_MS
from convsync_agent.scan import Place
from convsync_agent.settings import Settings
from convsync_agent.state import Attention
from machine import LONG_AGO, as_jp, event, put

A, B, C = 17_000_000_001, 17_000_000_002, 17_000_000_003


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


def keep_copy(engine, base, conversation):
    """A kept copy of a conversation, made as the engine makes it."""
    top = base / "silo/conversations" / str(conversation)
    top.mkdir(parents=True)
    for name, value in (
        ("base_config.json", {}),
        ("events.json", [event("hello")]),
        ("metadata.json", {"last_activated_at": "2023-11-14 22:13:20.0"}),
    ):
        put(top / name, as_jp(value), LONG_AGO)
    eye = Eye(time.time_ns, lambda *_: 10**12, lambda *_: True)
    copy, _ = eye.look(
        Root(Kind.SILO, str(base / "silo")), conversation, Place(str(conversation), archived=False), None
    )
    assert engine.vault.shelter.keep("abcde", copy, at_ms=1)


@pytest.mark.parametrize(("days", "left"), [(30, {B, C}), (60, {A, B, C}), (0, {C})])
def test_kept_copies_go_when_their_days_are_over(tmp_path, days, left):
    """A was removed 40 days ago and B yesterday; C is there. What is there stays, and so do tombstones."""
    engine = Engine(state.writer(str(tmp_path)), str(tmp_path / "data"), Settings(trash_keep_days=30))
    now_ms = time.time_ns() // 1_000_000
    for conversation in (A, B, C):
        keep_copy(engine, tmp_path, conversation)
    for conversation, ago in ((A, 40), (B, 1)):
        engine.removals.graves.bury("abcde", conversation, {}, at_ms=now_ms - ago * DAY_MS, why="by command")
        engine.vault.shelter.removed("abcde", conversation, now_ms - ago * DAY_MS)
    engine.settings = replace(engine.settings, trash_keep_days=days)
    daily = Retention()
    daily.run(engine)
    assert engine.vault.shelter.conversations("abcde") == {A, B, C}  # not at once
    daily._next = time.monotonic()
    daily.run(engine)

    assert engine.vault.shelter.conversations("abcde") == left
    assert all(engine.removals.graves.stands("abcde", c) for c in (A, B))
    engine.state.close()


def test_trouble_with_one_stops_not_the_other(tmp_path):
    """Where the history cannot be read, kept copies go all the same, and nothing is raised."""
    engine = Engine(state.writer(str(tmp_path)), str(tmp_path / "data"), Settings())
    keep_copy(engine, tmp_path, A)
    engine.vault.shelter.removed("abcde", A, 1)
    (tmp_path / "data/history").symlink_to("history")  # a loop: root reads it no better than anybody
    daily = Retention()
    daily._next = time.monotonic()
    daily.run(engine)

    assert engine.vault.shelter.conversations("abcde") == set()
    engine.state.close()
