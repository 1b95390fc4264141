"""`doctor` on a whole machine, one real fault at a time: it is named, with what to type, and nothing is changed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from convsync_agent import __version__, locks, publish
from convsync_agent.finding import Code
from convsync_agent.history import History
from editors import A, B
from machine import OF_THE_HOST, WS

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(autouse=True)
def no_manager(monkeypatch):
    """These are about the machine, not about whether this one has a service manager."""
    monkeypatch.setattr("convsync_agent.supervisor.find", lambda: None)


def doctor(machine, *argv):
    ran = machine.run("doctor", "--json", *argv)
    assert ran.err == ""
    assert ran.code == (0 if ran.json["ok"] else 1)
    assert all((c["fix"] is None) == (c["level"] == "ok") for c in ran.json["checks"])
    return ran.json


def troubles(machine, *argv):
    """(level, code) of what is not ok, but that no agent runs, and what the host has brought."""
    checks = [c for c in doctor(machine, *argv)["checks"] if c["code"] not in OF_THE_HOST]
    found = [(c["level"], c["code"]) for c in checks if c["level"] != "ok"]
    assert ("warn", "agent") in found
    found.remove(("warn", "agent"))
    return found


def check(machine, code):
    """The one finding of a code that is not ok."""
    (found,) = [c for c in doctor(machine)["checks"] if c["code"] == code and c["level"] != "ok"]
    return found


def typed(machine, fix):
    """Do what it says."""
    argv = [w for w in shlex.split(fix, comments=True) if w]
    if argv[0] == "convsync":
        return machine.ok(*argv[1:])
    return subprocess.run(argv, check=True)


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


# -- JP's places ------------------------------------------------------------------------


def test_user_data_of_jp_elsewhere(pair, monkeypatch):
    """JP, run from here, would look in another place than the workspaces were registered with."""
    monkeypatch.setenv("JP_USER_DATA_DIR", str(pair.base / "other"))

    assert troubles(pair) == [("warn", "jp-data")]
    assert str(pair.base / "data/jp") in check(pair, "jp-data")["fix"]


def test_user_data_of_jp_that_others_may_write(pair):
    """A warning; what is typed mends it."""
    (pair.base / "data/jp").chmod(0o777)

    assert troubles(pair) == [("warn", "permissions")]
    typed(pair, check(pair, "permissions")["fix"])
    assert troubles(pair) == []


def test_several_silos(pair):
    """JP would merge them its own way; `migrate` does it ours."""
    (pair.silo().parent / f"old-{WS}" / "conversations").mkdir(parents=True)

    assert troubles(pair) == [("warn", "silo")]
    typed(pair, check(pair, "silo")["fix"])
    assert troubles(pair) == []


def test_a_silo_that_is_gone_or_emptied(pair):
    """Both are errors; the projections are what is left."""
    shutil.rmtree(pair.silo() / "conversations")
    assert ("error", "silo") in troubles(pair)
    shutil.rmtree(pair.silo())
    assert [("error", "silo")] == troubles(pair)


@pytest.mark.parametrize(
    ("target", "level"), [(None, None), ("/nowhere", "warn"), (".", "warn"), ("file", "error")], ids=str
)
def test_the_storage_link(pair, target, level):
    """JP makes an absent one and mends a wrong one, and does not run where it is no link."""
    link = pair.silo() / "storage"
    link.unlink()
    if target == "file":
        link.write_text("")
    elif target:
        link.symlink_to(target)

    assert troubles(pair) == ([(level, "storage-link")] if level else [])


def test_lock_files_that_nobody_holds(pair):
    """In the silo the next JP removes them; beside a worktree they lead JP astray. One that is held is none."""
    with pair.holding(A):
        assert troubles(pair) == []
    for root in (pair.silo(), pair.base / "a/.jp"):
        (root / "locks").mkdir(exist_ok=True)
        (root / "locks" / f"jp-c{B}.lock").write_text("{}")

    found = [c for c in doctor(pair)["checks"] if c["code"] == "locks"]
    assert [c["level"] for c in found] == ["warn", "warn"]
    assert [str(pair.base) in c["where"] for c in found] == [True, True]
    assert found[1]["fix"].startswith(f"rm {pair.base}/a/.jp/locks/")


def test_conversations_twice_or_as_a_file(pair):
    """What JP would delete or cannot load is told by its id, never by its name."""
    source = pair.directory(pair.silo(), A)
    shutil.copytree(source, source.with_name(f"{A}-canary-copy"))
    (source.parent / f"{B + 1}").write_text("")

    ran = pair.run("doctor", "--json")
    assert troubles(pair) == [("warn", "silo"), ("warn", "silo")]
    assert f"jp-c{A}" in ran.out
    assert "canary" not in ran.out


def test_a_conversation_that_may_not_be_written(pair):
    """An error that names it, and what is typed mends it."""
    path = pair.directory(pair.silo(), A)
    (path / "events.json").chmod(0o400)
    if os.access(path / "events.json", os.W_OK):
        pytest.skip("root may write anything")

    assert troubles(pair) == [("error", "permissions")]
    typed(pair, check(pair, "permissions")["fix"])
    assert troubles(pair) == []


@pytest.mark.privileged
def test_a_conversation_of_another_user(pair):
    """A `sudo jp` leaves such ones."""
    if os.geteuid():
        pytest.skip("only root can give files away")
    os.chown(pair.directory(pair.silo(), A) / "events.json", 12345, -1)

    assert troubles(pair) == [("warn", "permissions")]


def test_conversations_ahead_of_the_clock(pair):
    """A file dated 2099 wins against every edit: it is named."""
    os.utime(pair.directory(pair.silo(), A) / "events.json", ns=(4_070_908_800 * 10**9,) * 2)

    assert troubles(pair) == [("warn", "clock")]
    assert f"jp-c{A}" in check(pair, "clock")["what"]


# -- worktrees --------------------------------------------------------------------------


def test_worktrees_gone_foreign_and_without_an_id(pair):
    """Each in its own words, with what to type."""
    pair.worktree("c")
    (pair.base / "a").rename(pair.base / "elsewhere")
    (pair.base / "b/.jp/.id").write_text("zzzzz\n")
    (pair.base / "c/.jp/.id").write_text("no id, but a conflict\n")

    (pair.silo() / "storage").unlink()
    assert troubles(pair) == [("warn", "worktree"), ("warn", "worktree"), ("error", "worktree")]


def test_conversations_that_are_a_symlink(pair):
    """`register` refuses them; whoever makes one later hears it here."""
    path = pair.base / "a/.jp/conversations"
    path.rename(pair.base / "moved")
    path.symlink_to(pair.base / "moved")

    assert troubles(pair) == [("error", "worktree")]


def test_what_git_does_with_projections(pair):
    """Ignored or committed: it is said of each worktree, and is no trouble."""
    if shutil.which("git") is None:
        pytest.skip("git is not here")
    for name in "ab":
        subprocess.run(["git", "init", "-q", pair.base / name], check=True)
    (pair.base / "a/.gitignore").write_text(".jp/conversations/\n")
    said = [c["what"] for c in doctor(pair)["checks"] if c["code"] == "worktree"]

    assert ["ignores" in said[0], "commits" in said[1]] == [True, True]


def test_a_worktree_in_a_sync_folder(machine):
    """By what the program left there, and by the name of a directory."""
    for name in ("Dropbox/a", "carried/b"):
        machine.worktree(name)
    (machine.base / "carried/.stfolder").mkdir()

    found = [c for c in doctor(machine)["checks"] if c["code"] == "sync-folder"]
    assert [c["level"] for c in found] == ["warn", "warn"]
    assert ["Dropbox" in found[0]["what"], "Syncthing" in found[1]["what"]] == [True, True]


# -- the agent --------------------------------------------------------------------------

OTHER_AGENT = """
import os, sys, time
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
            publish.write(state_dir, publish.document(said, [], [], seen))
            for name in seen: os.unlink(os.path.join(signals, name))
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
    monkeypatch.setattr("convsync_agent.scene.AGENT_SECONDS", 0.3)
    with another_agent(pair, "") as process:
        found = check(pair, "agent")

    assert (found["level"], str(process.pid) in found["what"]) == ("error", True)
    assert not locks.agent_running(str(pair.base / "state/convsync/agent.lock"))
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
