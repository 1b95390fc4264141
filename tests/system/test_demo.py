"""The demo as a person runs it: every check holds, and nothing is left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agents import PATIENCE
from convsync_agent import sample
from convsync_agent.names import dirname

STEPS = [
    "worktrees",
    "register",
    "agent",
    "new conversation",
    "hand edit",
    "base config",
    "retitle",
    "external",
    "broken file",
    "locked",
    "killed",
    "removed",
    "made again",
    "in step",
    "stopped",
]


class Stage:
    """A fresh machine for one demo: a home and a temporary directory that must stay as they are."""

    def __init__(self, base):
        self.home, self.temp = base / "home", base / "tmp"
        for place in (self.home, self.temp):
            place.mkdir()
        self.env = {"HOME": str(self.home), "TMPDIR": str(self.temp), "PATH": os.environ["PATH"]}

    def start(self, *argv, **env):
        return subprocess.Popen(
            [sys.executable, "-m", "convsync_cli", "demo", *argv],
            env=self.env | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        )

    def play(self, *argv, **env):
        """One demo to its end; nothing of it runs afterwards."""
        demo = self.start(*argv, **env)
        out, err = demo.communicate(timeout=200)
        assert not alive(demo.pid)
        assert list(self.home.iterdir()) == []
        return demo.returncode, out, err

    @property
    def left(self):
        return list(self.temp.iterdir())


def alive(group):
    """Whether any process of the demo's own group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def conversations(at):
    """Two conversation directories below `at`, as a person might have them."""
    for cid, title in ((17_100_000_000, "One"), (17_100_000_001, None)):
        files = sample.conversation(7, cid=cid, title=title, turns=4)
        sample.write_as_jp(str(at / "somewhere" / dirname(cid, title)), files)
    return at


@pytest.mark.slow
def test_every_check_holds_and_nothing_is_left(stage):
    """Exit 0 and `ok` mean that each step held; no directory, no process and no file in HOME stays."""
    code, out, err = stage.play("--json")
    document = json.loads(out)
    assert code == 0, document
    assert err == ""
    assert document["schema"] == 1
    assert document["ok"] is True
    assert document["directory"] is None
    assert [s["step"] for s in document["steps"]] == STEPS
    for step in document["steps"]:
        assert step["ok"] is True
        assert step["detail"]
        assert step["ms"] >= 0
    assert stage.left == []


@pytest.mark.slow
def test_own_conversations_without_git(stage, tmp_path):
    """It plays with a person's conversations, without git too, says so, keeps to 80 columns, and can be kept."""
    source = conversations(tmp_path / "mine")
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in source.rglob("*.json")}
    (tmp_path / "bin").mkdir()
    code, out, err = stage.play("--keep", CONVSYNC_DEMO_DATA=str(source), PATH=str(tmp_path / "bin"))
    assert code == 0, out + err
    assert "no git" in out
    assert "2 conversations of yours" in out
    assert out.count("✓") == len(STEPS)
    assert max(len(line) for line in out.splitlines()[:-1]) <= 80
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in source.rglob("*.json")} == before
    (kept,) = stage.left
    assert out.splitlines()[-1].endswith(str(kept))
    assert (kept / "agent.log").is_file()


def test_a_check_that_fails_is_named(stage, tmp_path):
    """Exit 1, the step and the place of the log; the directory stays for whoever looks into it."""
    git = tmp_path / "bin" / "git"
    git.parent.mkdir()
    git.write_text("#!/bin/sh\nexit 9\n")
    git.chmod(0o755)
    path = f"{git.parent}{os.pathsep}{os.environ['PATH']}"
    code, out, err = stage.play(PATH=path)
    (kept,) = stage.left
    assert code == 1
    assert "✗ worktrees: git init ended with 9" in out
    assert "failed: worktrees" in err
    assert str(kept / "agent.log") in err
    shutil.rmtree(kept)
    code, out, _ = stage.play("--json", PATH=path)
    document = json.loads(out)
    assert code == 1
    assert document["ok"] is False
    assert document["steps"][-1]["ok"] is False
    assert [Path(document["directory"])] == stage.left


def test_a_directory_without_conversations_is_refused(stage, tmp_path):
    """Bad input is exit 2 before anything is made."""
    code, _, err = stage.play("--conversations", str(tmp_path / "nothing"))
    assert code == 2
    assert "no conversation" in err
    assert stage.left == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_it_cleans_up(stage, number):
    """A signal in the middle ends the agent too and removes everything."""
    demo = stage.start()
    for line in demo.stdout:
        if "the agent runs" in line:
            break
    os.kill(demo.pid, number)
    out, err = demo.communicate(timeout=PATIENCE)
    assert demo.returncode == 128 + number, out + err
    assert not alive(demo.pid)
    assert stage.left == []
