"""The benchmark runs and says what it found. No figure is judged here: a time is not a test."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from benchmarks.peers.peer import Peer
from benchmarks.proc import Use, family, name_of, use
from benchmarks.report import WIDE

ROOT = Path(__file__).parent.parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the benchmark reads /proc and uses inotify"),
]
KINDS = ("append", "turn", "edit", "life", "append-busy", "life-busy")
ROWS = {
    "import": ["import", "import-floor"],
    "restart": ["restart"],
    "restart-changed": ["restart-changed"],
    "idle": ["idle-cpu", "idle-wakeups", "idle-writes", "idle-rss", "idle-watches"],
    "commands": ["status-agent", "status-alone", "ls", "verify"],
    "burst": ["burst-append", "burst-rewrite"],
    "latency": [kind + where for kind in KINDS for where in ("", "-projected")],
    "peers": [f"peer-{who}{what}" for what in ("", "-burst", "-idle", "-rss") for who in ("convsync", "floor")],
    "stream": ["stream"],
    "titles": ["titles", "titles-projected"],
    "wide": [f"wide{what}" for what in ("-register", "", "-projected", "-restart", "-rss", "-watches")] * 2,
    "removal": ["removal"],
}


def bench(tmp_path, *argv, code=0):
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "benchmarks", *argv]
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=600)
    assert ran.returncode == code, ran.stderr
    return ran


TOGETHER = (
    "import,restart,restart-changed,commands",
    "idle,stream",
    "burst",
    "latency",
    "peers",
    "titles,removal",
    "wide",
)


@pytest.mark.parametrize("only", TOGETHER)
def test_it_measures(tmp_path, only):
    """Every scenario gives its rows: a table, a document, and nothing left behind."""
    file = tmp_path / "out.json"
    few = ("--conversations", "12", "--worktrees", "1,3", "--peers", "none")
    ran = bench(tmp_path, "--quick", *few, "--only", only, "--json", str(file))
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]
    wanted = [n for name in only.split(",") for n in ROWS[name]]
    lines = ran.stdout.splitlines()
    assert max(map(len, lines)) <= WIDE
    table = lines[lines.index("12 conversations") + 1 :]
    said = json.loads(file.read_text())
    assert {"machine", "versions", "options", "workload", "remarks", "results"} <= said.keys()
    assert {"cpu", "cores", "system", "file_system", "load"} <= said["machine"].keys()
    assert [r["name"] for r in said["results"]] == wanted
    for line, row in zip(table, said["results"], strict=False):
        assert line.startswith(row["what"])
        assert row["conversations"] == 12
        assert row["verdict"] in ("", "ok", "over")
        assert len(row["samples"]) == row["n"] > 0
        assert 0 <= row["p50"] <= row["p95"] <= row["p99"] <= row["max"]
        assert row["beside"] is None or row["beside"]["what"]


def test_several_sizes_in_one_table(tmp_path):
    """Each size has its part, and what is deleted goes after everything else of every size."""
    ran = bench(tmp_path, "--quick", "--conversations", "4,8", "--only", "removal,import", "--generated")

    parts = [line for line in ran.stdout.splitlines() if line.endswith(" conversations")]
    assert parts == ["4 conversations", "8 conversations"]
    steps = [x for x in ran.stderr.splitlines() if "import" in x or "removed" in x]
    assert steps == ["-- 4: first import", "-- 8: first import", "-- 4: worktree removed", "-- 8: worktree removed"]


@pytest.mark.parametrize("signals", [(signal.SIGTERM,), (signal.SIGTERM, signal.SIGTERM), (signal.SIGINT,)])
def test_what_was_measured_until_a_signal_is_not_lost(tmp_path, signals):
    """It stops, ends the agent, prints the table and writes the JSON; a second signal does not stop that."""
    file = tmp_path / "out.json"
    few = ("--quick", "--conversations", "4", "--only", "import,idle", "--peers", "none", "--json", str(file))
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "benchmarks", *few]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ran:
        while "idle for" not in ran.stderr.readline():
            assert ran.poll() is None
        started = [pid for pid in family([ran.pid]) if pid != ran.pid]
        for each in signals:
            ran.send_signal(each)
        said, told = ran.communicate(timeout=120)

    assert ran.returncode == (143 if signal.SIGTERM in signals else 1), told
    assert started
    assert [name for pid in started if (name := name_of(pid))] == []
    assert "first import of 4" in said
    assert "idle:" not in said
    assert told.splitlines()[-1] == f"error: {'terminated' if signal.SIGTERM in signals else 'interrupted'}"
    wrote = json.loads(file.read_text())
    assert [row["name"] for row in wrote["results"]] == ["import", "import-floor"]
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.skipif(shutil.which("unison-fsmonitor") is not None, reason="it is installed here")
def test_a_program_that_is_absent_is_skipped_with_a_note(tmp_path):
    """The others are measured all the same."""
    few = ("--quick", "--conversations", "4", "--only", "peers", "--peers", "unison-watch")
    ran = bench(tmp_path, *few)

    assert "Unison -repeat watch: skipped, not installed: " in ran.stdout
    assert "edit -> other side: convsync agent" in ran.stdout


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--only", "nothing"], "latency"),
        (["--peers", "nothing"], "syncthing"),
        (["--conversations", "0"], "--conversations takes numbers"),
        (["--worktrees", "1,x"], "--worktrees takes numbers"),
    ],
)
def test_a_mistake_is_told(tmp_path, argv, said):
    """What does not exist is named with what does."""
    assert said in bench(tmp_path, *argv, code=2).stderr


SPINNING = """
import sys, threading, time
def spin():
    while time.thread_time() < 0.05:
        pass
spinner = threading.Thread(target=spin)
spinner.start()
spinner.join()
print(time.process_time(), flush=True)
sys.stdin.read()
"""


def test_the_cost_of_a_thread_that_ended_is_counted():
    """What a process used is at least what it says itself, and nothing once it is gone."""
    with subprocess.Popen([sys.executable, "-c", SPINNING], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        used = float(child.stdout.readline())
        assert use(child.pid).cpu >= used > 0.05
        child.stdin.close()
    assert use(child.pid) == Use(0.0, 0, 0, 0, 0)


class Nested(Peer):
    """A shell with two children, each in a process group of its own, as those of a trigger are."""

    def commands(self):
        return [["bash", "-c", "set -m; sleep 1000 & sleep 1000 & wait"]]

    def ready(self):
        return len(family(self.pids())) == 3


def test_a_program_is_ended_with_all_that_it_started(tmp_path):
    """Whatever group it went into, and nothing that somebody else started."""
    other = subprocess.Popen(["sleep", "1000"])
    try:
        nested = Nested("", "", str(tmp_path / "state"))
        with nested.running(60):
            started = family(nested.pids())
        assert len(started) == 3
        assert [name for pid in started if (name := name_of(pid))] == []
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_help_names_every_scenario_and_program(tmp_path):
    """Nobody has to read the code to choose."""
    said = "".join(bench(tmp_path, "--help").stdout.split())

    assert [name for name in (*ROWS, "watchman", "syncthing", "--quick", "--json") if name not in said] == []


def test_what_a_process_used_is_known_while_its_threads_come_and_go():
    """One that ends just while it is looked at takes no figure of the whole process with it."""
    over = threading.Event()

    def come_and_go():
        while not over.is_set():
            short = threading.Thread(target=int)
            short.start()
            short.join()

    busy = threading.Thread(target=come_and_go)
    busy.start()
    try:
        assert all(use(os.getpid()).cpu > 0 for _ in range(1000))
    finally:
        over.set()
        busy.join()
