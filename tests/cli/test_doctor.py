"""`doctor` on a whole machine, one real fault at a time: it is named, with what to type, and nothing is changed."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from convsync_agent import __version__, publish
from convsync_agent.finding import Code
from convsync_agent.history import History
from doctoring import check, doctor, troubles, typed
from editors import A
from machine import OF_THE_HOST, WS
from terminal import everything

DOCS = Path(__file__).parents[2] / "docs"


pytestmark = pytest.mark.usefixtures("no_bus")  # about the machine, not about whether it has a service manager


# -- nothing wrong ----------------------------------------------------------------------


def test_a_machine_where_nothing_was_ever_done(machine):
    """No directory, no silo, no worktree: no error, no warning, and nothing is made by looking."""
    before = machine.inventory()
    found = doctor(machine)

    assert (found["schema"], found["errors"]) == (1, 0)
    assert [c for c in found["checks"] if c["level"] != "ok" and c["code"] not in OF_THE_HOST] == []
    assert machine.inventory() == before


def test_a_machine_where_all_is_well(pair):
    """The one warning is that no agent runs; conversations are not touched, and our directories are left clean."""
    before = pair.inventory(pair.base / "a", pair.base / "b", pair.silo())
    names = sorted(p for p in (pair.base / "state").rglob("*") if "-wal" not in p.name and "-shm" not in p.name)

    assert troubles(pair) == []
    assert pair.inventory(pair.base / "a", pair.base / "b", pair.silo()) == before
    after = sorted(p for p in (pair.base / "state").rglob("*") if "-wal" not in p.name and "-shm" not in p.name)
    assert names == after


def test_on_a_terminal_every_fix_has_its_line(pair):
    """A line for each check, below what is wrong the way out, at the end the count; -q leaves out what is fine."""
    (pair.base / "b").rename(pair.base / "gone")
    ran, short = pair.ok("doctor"), pair.ok("doctor", "-q")

    assert "warn  a registered worktree is gone" in ran.out
    assert f"      fix: convsync unregister {pair.base / 'b'}" in ran.out
    assert ran.out.splitlines()[-1] == short.out.splitlines()[-1]
    assert re.fullmatch(r"0 errors, \d warnings", ran.out.splitlines()[-1])
    assert "ok " in ran.out
    assert "ok " not in short.out


def test_it_fits_a_terminal_of_80_columns(pair):
    """Only a path is longer, and none is broken: what is to be typed can be copied."""
    shutil.rmtree(pair.base / "b")
    (pair.silo() / "storage").unlink()
    (pair.silo() / "storage").write_text("")
    ours, theirs = pty.openpty()
    env = {"HOME": str(pair.base), "COLUMNS": "80", "TERM": "xterm"}
    process = pair.spawn("doctor", env=env, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = re.sub(r"\x1b\[\d+m", "", everything(ours))

    assert process.wait(120) == 1
    assert [line for line in seen.splitlines() if len(line) > 80 and "/" not in line] == []
    assert "      fix: convsync unregister ~/b" in seen
    assert "error `storage` in the silo" in seen


@pytest.mark.skipif(not (DOCS / "doctor.md").is_file(), reason="the documents are not beside the tests")
def test_every_check_has_its_chapter():
    """docs/doctor.md says of each code what it means and what to do."""
    text = (DOCS / "doctor.md").read_text()

    assert [c for c in Code if f"\n### {c}\n" not in text] == []


# -- our own places ---------------------------------------------------------------------


def test_directories_and_files_that_others_may_read(pair):
    """Both are named; closing the directory closes all, for behind it nobody comes to the files."""
    state = pair.base / "state/convsync"
    state.chmod(0o755)
    (state / "state.db").chmod(0o644)

    assert troubles(pair) == [("warn", "permissions")] * 2
    fixes = [c["fix"] for c in doctor(pair)["checks"] if c["code"] == "permissions"]
    typed(pair, fixes[0])
    assert troubles(pair) == []
    state.chmod(0o755)
    typed(pair, fixes[1])
    assert troubles(pair) == []
    assert (state / "state.db").stat().st_mode & 0o077 == 0


def test_a_file_where_a_directory_belongs(machine):
    """It is an error of that directory, and the other checks go on."""
    (machine.base / "state/convsync").write_text("")

    found = doctor(machine)
    assert ("error", "places") in {(c["level"], c["code"]) for c in found["checks"]}
    assert {"config", "jp-data", "clock", "history"} <= {c["code"] for c in found["checks"]}


def test_settings_with_mistakes(pair):
    """All of them, each a finding, and everything else is still looked at."""
    config = pair.base / "config/convsync/config.toml"
    config.parent.mkdir()
    config.write_text('polcy = "x"\n[trash]\nkeep_days = "many"\n')

    assert troubles(pair) == [("error", "config")] * 2
    config.write_text('policy = "mtime"\n')
    config.chmod(0o666)
    assert troubles(pair) == [("warn", "config")]
    typed(pair, check(pair, "config")["fix"])
    assert troubles(pair) == []
    assert troubles(pair, "--set", "nonsense") == [("error", "config")]


def test_a_state_file_that_is_damaged_or_newer(pair):
    """An error that names the way out; the workspaces in it cannot be looked at, all else is."""
    path = pair.base / "state/convsync/state.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    found = check(pair, "state")
    assert ("error", True) == (found["level"], "newer" in found["what"])

    for extra in path.parent.glob("state.db-*"):
        extra.unlink()
    path.write_bytes(b"no database at all" * 1000)
    found = check(pair, "state")
    assert ("error", True) == (found["level"], "damaged" in found["what"])
    assert not doctor(pair)["ok"]


def test_a_page_of_the_state_file_that_is_overwritten(pair):
    """The file opens and reads; only SQLite's own check finds it."""
    path = pair.base / "state/convsync/state.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    page = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'seen'").fetchone()[0]
    size = db.execute("PRAGMA page_size").fetchone()[0]
    db.close()
    with open(path, "r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)

    assert ("error", "state") == tuple(check(pair, "state")[k] for k in ("level", "code"))


def test_a_kept_version_that_is_damaged(pair):
    """It is named by its conversation."""
    pair.write(pair.base / "a", A, "another", mtime_ns=time.time_ns())
    pair.ok("sync")
    history = History(str(pair.base / "data/convsync"))
    assert history.versions(WS, A)
    objects = [p for p in Path(history.base).rglob("*") if p.is_file() and p.name != "manifest.json"]
    for path in objects:
        path.write_bytes(b"")

    assert troubles(pair) == [("warn", "history")]
    assert f"jp-c{A}" in check(pair, "history")["fix"]


# -- the agent --------------------------------------------------------------------------

OTHER_AGENT = """
import contextlib, os, sys, time
from convsync_agent import dirs, locks, publish
state_dir, runtime_dir, version = sys.argv[1:]
signals = os.path.join(runtime_dir, publish.SIGNALS)
for path in (runtime_dir, signals): dirs.ensure_private(path)
with locks.single_agent(os.path.join(state_dir, 'agent.lock')):
    print('up', flush=True)
    while True:
        seen = set(os.listdir(signals))
        if version and seen:
            said = publish.header(0, 5, 0, None) | {'version': version}
            publish.write(state_dir, {'schema': 1, 'agent': said, 'workspaces': [], 'deaf': [], 'seen': sorted(seen)})
            for name in seen:
                with contextlib.suppress(FileNotFoundError): os.unlink(os.path.join(signals, name))
        time.sleep(0.005)
"""


@contextmanager
def another_agent(machine, version):
    """A process that holds the agent's lock and answers as another version; without a version it never answers."""
    state_dir, runtime_dir = (machine.base / p / "convsync" for p in ("state", "run"))
    argv = [sys.executable, "-c", OTHER_AGENT, str(state_dir), str(runtime_dir), version]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        assert process.stdout.readline() == b"up\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_an_agent_of_another_version(pair):
    """After an upgrade the old one goes on until it is started anew: said, with both versions."""
    with another_agent(pair, "0.0.1") as process:
        found = [c for c in doctor(pair)["checks"] if c["level"] != "ok" and c["code"] not in OF_THE_HOST]

    assert [c["code"] for c in found] == ["versions"]
    assert ["0.0.1" in found[0]["what"], __version__ in found[0]["what"]] == [True, True]
    assert found[0]["fix"] == f"kill {process.pid}; convsync agent"


def test_an_agent_that_does_not_answer(pair, monkeypatch):
    """An error that names its pid."""
    monkeypatch.setattr("convsync_agent.scene.AGENT_SECONDS", 0.3)  # it never answers, however long it is asked
    with another_agent(pair, "") as process:
        found = check(pair, "agent")
        assert process.poll() is None

    assert (found["level"], str(process.pid) in found["what"]) == ("error", True)
    assert publish.read(str(pair.base / "state/convsync")) is None


def test_what_status_calls_attention(pair):
    """A held conversation is a warning that leads to `status`."""
    path = pair.directory(pair.base / "a", A) / "events.json"
    path.write_bytes(path.read_bytes()[:-9])
    os.utime(path, ns=(time.time_ns() - 5 * 10**9,) * 2)
    pair.quiet()
    pair.ok("sync")

    assert ("warn", "attention") in troubles(pair)


# -- bad usage --------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [["."], ["--scan", "--bundle", "x"], ["--bundle"]])
def test_bad_usage(machine, argv):
    """A PATH without --scan, both at once, a FILE that is missing: 2, and nothing is written."""
    before = machine.inventory()

    assert machine.run("doctor", *argv).code == 2
    assert machine.inventory() == before


def test_help(machine):
    """With an example."""
    assert "Example:" in machine.ok("doctor", "--help").out


def test_it_is_one_document(pair):
    """`--json` before and after, and nothing else on stdout."""
    assert json.loads(pair.run("--json", "doctor").out)["schema"] == 1
