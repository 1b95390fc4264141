"""The benchmark runs and says what it found. No figure is judged here: a time is not a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the benchmark reads /proc and uses inotify"),
]
ROWS = {
    "import": ["import"],
    "restart": ["restart"],
    "idle": ["idle-cpu", "idle-wakeups", "idle-rss", "idle-writes"],
    "commands": ["status-agent", "status-alone", "ls", "verify"],
    "burst": ["burst-append", "burst-rewrite"],
    "latency": ["append", "append-projected", "turn", "turn-projected", "edit", "edit-projected"],
}


def bench(tmp_path, *argv, code=0):
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "benchmarks", *argv]
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=600)
    assert ran.returncode == code, ran.stderr
    return ran


@pytest.mark.parametrize("only", ["import,restart,commands", "idle", "burst", "latency"])
def test_it_measures(tmp_path, only):
    """Every scenario gives its rows: a table of 80 columns, a document, and nothing left behind."""
    file = tmp_path / "out.json"
    ran = bench(tmp_path, "--quick", "--conversations", "30", "--only", only, "--json", str(file))
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]
    table = ran.stdout.splitlines()[-1 - sum(len(ROWS[n]) for n in only.split(",")) :]
    assert table[0].split() == ["p50", "p99", "floor", "ratio", "budget"]
    assert max(map(len, ran.stdout.splitlines())) <= 80
    said = json.loads(file.read_text())
    assert said["schema"] == 1
    assert {"machine", "versions", "options", "results"} <= said.keys()
    assert {"cpu", "cores", "system", "file_system", "load"} <= said["machine"].keys()
    assert [r["name"] for r in said["results"]] == [n for name in only.split(",") for n in ROWS[name]]
    for line, row in zip(table[1:], said["results"], strict=True):
        assert line.startswith(row["what"])
        assert row["verdict"] in ("", "ok", "over")
        assert len(row["samples"]) == row["n"] > 0
        assert 0 <= row["p50"] <= row["p95"] <= row["p99"] <= row["max"]
        assert (row["floor"] is None) is (row["name"].startswith("idle"))
        assert row["floor"] is None or row["floor"]["what"]


def test_a_mistake_is_told(tmp_path):
    """A scenario that does not exist is named with those that do."""
    assert "latency" in bench(tmp_path, "--only", "nothing", code=2).stderr
