"""Metrics of a real agent: the file for a collector, and `metrics` of `status --json`."""

from __future__ import annotations

import re
import stat
import time
from pathlib import Path

import pytest

from agents import status, until
from exposition import parse
from machine import put

A, B = 17_457_886_043, 17_457_990_001
TOP = Path(__file__).parents[2]
SECRET = "canary-slug-and-text"


@pytest.fixture
def one(machine):
    """A worktree with one conversation, and where the metrics go."""
    path = machine.worktree("a")
    machine.write(path, A, SECRET, slug=SECRET, title=SECRET)
    machine.quiet()
    machine.ok("sync")
    machine.prom = machine.base / "collector" / "convsync.prom"
    machine.prom.parent.mkdir()
    return machine


def test_the_file(one, agent):
    """A strict reader understands it, everybody may read it, it holds no text; it goes when the agent goes."""
    running = agent("--set", f"metrics.textfile={one.prom}")
    until(one.prom.exists)
    text = one.prom.read_text()
    types, samples = parse(text)

    assert samples["convsync_verdict", (("verdict", "in-sync"),)] == 1
    assert samples["convsync_attention", (("workspace", "abcde"), ("kind", "held"))] == 0
    assert samples["convsync_worktrees", (("workspace", "abcde"), ("state", "watching"))] == 1
    assert samples["convsync_conversations", (("workspace", "abcde"), ("partition", "live"))] == 1
    assert samples["convsync_rescans_total", (("reason", "start"),)] == 1
    assert abs(samples["convsync_agent_last_loop_timestamp_seconds", ()] - time.time()) < 120
    assert samples["convsync_watches", ()] > 0
    assert types["convsync_propagation_seconds"] == "histogram"
    assert SECRET not in text
    assert str(one.base) not in text
    assert stat.S_IMODE(one.prom.stat().st_mode) == 0o644

    assert running.stop() == 0
    assert not one.prom.exists()


def test_an_agent_of_before_is_taken_over(one, agent):
    """A file that a killed agent left is ours to replace."""
    first = agent("--set", f"metrics.textfile={one.prom}")
    until(one.prom.exists)
    first.kill()
    left = one.prom.stat().st_ino
    agent("--set", f"metrics.textfile={one.prom}")
    until(lambda: one.prom.stat().st_ino != left)


def test_a_file_of_somebody_else_stays(one, agent):
    """One warning, and the agent goes on."""
    one.prom.write_text("mine")
    running = agent("--set", f"metrics.textfile={one.prom}")
    until(lambda: [x for x in running.lines() if x["event"] == "cannot write metrics"])
    one.write(one.base / "a", B, "goes on")
    until(lambda: one.directory(one.silo(), B))
    running.stop()

    assert one.prom.read_text() == "mine"


def test_what_status_says(one, agent):
    """Counts and latencies of what was done since the start; on a terminal with -v."""
    agent()
    before = until(lambda: status(one)["metrics"])
    assert before["latency_ms"]["count"] == 0
    one.write(one.base / "a", B, "new")
    until(lambda: one.directory(one.silo(), B))
    found = until(lambda: (m := status(one)["metrics"])["latency_ms"]["count"] and m)

    assert found["actions"]["import"] == 1
    assert found["files_written"] >= 3
    assert found["bytes_written"] > 0
    assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p95"]
    assert (found["overflows"], found["replacements"]) == (0, 0)
    assert "0 overflows" in one.ok("status", "-v").out
    assert "overflow" not in one.ok("status").out


def test_without_an_agent_nothing_is_counted(one):
    """The key is there all the same."""
    assert one.ok("status", "--json").json["metrics"] is None


def test_what_failed_is_counted(one, agent):
    """By code."""
    running = agent()
    (one.base / "config" / "convsync").mkdir()
    put(one.base / "config" / "convsync" / "config.toml", b"x = 1\n")
    running.process.send_signal(1)
    until(lambda: (status(one)["metrics"] or {}).get("errors") == {"config": 1})


@pytest.mark.skipif(not (TOP / "docs" / "metrics.md").exists(), reason="the documents are not beside the tests")
def test_the_documented_names_are_the_names():
    """docs/metrics.md lists every metric with its type and labels, and no other."""
    rows = re.findall(r"^\| `(convsync_\w+)` \| (\w+) \|", (TOP / "docs" / "metrics.md").read_text(), re.MULTILINE)
    code = (TOP / "agent" / "convsync_agent" / "gauges.py").read_text()
    named = set(re.findall(r'"(convsync_\w+)"', code))

    assert sorted(name for name, _ in rows) == sorted(named)
    for name, kind in rows:
        assert (kind == "counter") == name.endswith("_total")
