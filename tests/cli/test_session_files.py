"""`session ls` and `session prune`: the files of the sessions there are, and of those that are over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest

from convsync_agent.session import ENV, GETSID, Session
from convsync_agent.sessions import Mappings
from machine import as_jp, put
from terminals import EXTERNAL, STORED, TITLE, A, B, C, four_conversations, metadata, place


@pytest.fixture
def four(machine, monkeypatch):
    return four_conversations(machine, monkeypatch)


@pytest.fixture
def gone():
    """The number of a process that is dead for certain."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.fixture
def living():
    """A process that lives as long as the test."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.stdin.close()


def visit(machine, session, *conversations):
    for conversation in reversed(conversations):
        Mappings(str(machine.silo())).activate(session, conversation, time.time_ns())


def test_prune(four, gone, living):
    """What is dead goes, what lives stays, a variable's goes when nothing of it exists; the archive exists."""
    visit(four, Session(GETSID, str(gone)), A)
    visit(four, Session(GETSID, str(living)), 99)
    for name, conversations in {"empty": (98, 99), "archived": (STORED,), "some": (A, 99, B)}.items():
        visit(four, Session(ENV, name, "JP_SESSION"), *conversations)
    before = four.inventory(four.silo(), four.base / "a")
    wanted = {
        "removed": [{"source": "env:JP_SESSION", "id": "empty"}, {"source": "getsid", "id": str(gone)}],
        "shortened": [
            {"source": "env:JP_SESSION", "id": "some", "entries": 1},
            {"source": "getsid", "id": str(living), "entries": 1},
        ],
        "renamed": [],
        "left": [],
    }

    def said(body):
        return {k: sorted(body[k], key=lambda r: (r["source"], r["id"])) for k in wanted}

    assert said(four.ok("session", "prune", "--dry-run", "--json").json) == said(wanted)
    assert four.inventory(four.silo(), four.base / "a") == before

    assert said(four.ok("session", "prune", "--json").json) == said(wanted)
    assert not place(four, "empty").exists()
    assert not place(four, gone, "getsid").exists()
    assert json.loads(place(four, living, "getsid").read_bytes())["history"] == []
    assert [e["id"] for e in json.loads(place(four, "some").read_bytes())["history"]] == [A, B]
    assert [e["id"] for e in json.loads(place(four, "archived").read_bytes())["history"]] == [STORED]
    assert "nothing to remove" in four.ok("session", "prune").out


def test_prune_keeps_what_is_being_made(four):
    """Contract 11.4, 160: a readable lock file says that the conversation is about to be."""
    visit(four, Session(ENV, "new", "JP_SESSION"), 99)
    with four.holding(99):
        assert four.ok("session", "prune", "--json").json["removed"] == []
    assert four.ok("session", "prune", "--json").json["removed"] == [{"source": "env:JP_SESSION", "id": "new"}]


def test_prune_takes_nothing_for_gone_that_cannot_be_seen(four, monkeypatch):
    """R1: what only a worktree had that went away is not known to be gone; a silo that is not there proves nothing."""
    monkeypatch.setenv("CONVSYNC_IMPORT__POLICY", "manual")
    four.write(four.base / "a", EXTERNAL, "external")
    four.quiet(four.base / "a")
    four.ok("sync")
    visit(four, Session(ENV, "away", "JP_SESSION"), EXTERNAL)
    (four.base / "a").rename(four.base / "moved")
    assert four.ok("session", "prune", "--json").json["removed"] == []

    (four.silo() / "conversations").rename(four.base / "conversations")
    assert four.run("session", "prune").code == 6
    assert place(four, "away").exists()


def test_prune_gives_old_files_their_new_name(four):
    """Contract 8.2: rewritten under the new key; dropped where that is there."""
    places = four.silo() / "sessions"
    visit(four, Session(ENV, "both", "JP_SESSION"), B)
    source = {"type": "env", "key": "JP_SESSION"}
    old = {"history": [{"id": A, "activated_at": "2025-01-01T00:00:00Z"}], "source": source}
    (places / "alone.json").write_bytes(as_jp(old))
    (places / "both.json").write_bytes(as_jp(old))

    done = four.ok("session", "prune", "--json").json

    assert (done["renamed"], done["removed"]) == (
        [{"source": "env:JP_SESSION", "id": "alone"}],
        [{"source": "env:JP_SESSION", "id": "both"}],
    )
    assert json.loads(place(four, "alone").read_bytes()) == {"history": old["history"], "id": "alone", "source": source}
    assert sorted(os.listdir(places)) == sorted(place(four, n).name for n in ("alone", "both"))


def test_prune_leaves_what_is_no_session_file(four, gone):
    """Said with its path and left; what a writer of ours left that died goes."""
    places = four.silo() / "sessions"
    places.mkdir()
    for name, content in {"broken.json": b"{", "other.json": b"{}", "notes.txt": b"x"}.items():
        (places / name).write_bytes(content)
    (places / f".convsync-{gone}-1").write_bytes(b"half")
    (places / "dir.json").mkdir()
    bytes_only = os.fsencode(places) + b"/caf\xe9.json"
    with open(bytes_only, "wb") as file:
        file.write(b'{"history": [], "source": {"type": "getsid"}}')

    left = four.ok("session", "prune", "--json").json["left"]

    names = ["broken.json", "caf\\xe9.json", "dir.json", "other.json"]
    assert sorted(os.path.basename(r["path"]) for r in left) == names
    assert len(os.listdir(places)) == len(names) + 1
    assert "caf" in four.ok("session", "ls").err


def test_ls(four, gone, monkeypatch):
    """Every session, the last used first, and which of them is this one."""
    visit(four, Session(GETSID, str(gone)), A, B)
    four.ok("use", C)
    (four.silo() / "sessions" / "broken.json").write_bytes(b"{")

    ran = four.ok("session", "ls", "--json")

    rows = [(r["source"], r["id"], r["active"], r["previous"], r["alive"], r["current"]) for r in ran.json["sessions"]]
    assert rows == [
        ("env:JP_SESSION", "one", f"jp-c{C}", None, None, True),
        ("getsid", str(gone), f"jp-c{A}", f"jp-c{B}", False, False),
    ]
    assert "broken.json" in ran.err
    assert f"jp-c{C}" in four.ok("session", "ls").out
    monkeypatch.setenv("JP_SESSION", "nobody")
    assert "env" not in four.ok("session", "show").out.splitlines()[1]


def test_use_keeps_no_version(four):
    """Nothing is lost by a later activation: the history is for what would be, and `undo` takes back an edit."""
    path = four.directory(four.base / "a", A) / "metadata.json"
    put(path, as_jp(json.loads(path.read_bytes()) | {"title": "renamed"}), time.time_ns())
    four.quiet(four.base / "a")
    four.ok("sync")
    before = four.ok("history", A, "--json").json["versions"]
    for _ in range(3):
        four.ok("use", A)
        four.ok("use", B)

    assert four.ok("history", A, "--json").json["versions"] == before
    four.ok("undo", A)
    assert metadata(four, four.silo(), A)["title"] == TITLE
