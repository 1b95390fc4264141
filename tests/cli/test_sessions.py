"""`use` and `session`: the active conversation of a terminal, shared with jp. Real files, locks and processes."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
import time

import pytest

from convsync_agent.session import ENV, GETSID, Session
from convsync_agent.sessions import Mappings
from convsync_agent.summary import parse_timestamp
from machine import WS, as_jp, put
from terminal import everything

A, B, C, STORED, EXTERNAL = 17000000001, 17000000002, 17000000003, 16900000000, 17000000009
TITLE = "A private\x1b]2;evil\x07 title"


@pytest.fixture
def four(machine, monkeypatch):
    """Three live conversations and an archived one in worktree `a`; this terminal is the session `one`."""
    monkeypatch.setenv("JP_SESSION", "one")
    a = machine.worktree("a", register=False)
    for conversation in (A, B, C):
        machine.write(a, conversation, "hello", title=TITLE)
    machine.write(a, STORED, "old", archived=True, archived_at="2024-01-01 00:00:00.0")
    machine.ok("register", a)
    return machine


def session_of(machine):
    return machine.ok("session", "show", "--json").json


def place(machine, name, kind="env-JP_SESSION"):
    key = Session(ENV, name, "JP_SESSION").key if kind.startswith("env") else f"{kind}-{name}"
    return machine.silo() / "sessions" / f"{key}.json"


def metadata(machine, root, conversation):
    return json.loads((machine.directory(root, conversation) / "metadata.json").read_bytes())


def activated_ns(machine, root, conversation):
    return parse_timestamp(metadata(machine, root, conversation)["last_activated_at"])


# -- use ------------------------------------------------------------------------------


def test_each_session_has_its_own(four, monkeypatch):
    """Two terminals, two conversations; what one does the other does not see."""
    four.ok("use", A)
    monkeypatch.setenv("JP_SESSION", "two")
    four.ok("use", B)

    assert session_of(four)["active"] == f"jp-c{B}"
    monkeypatch.setenv("JP_SESSION", "one")
    assert session_of(four) | {"workspaceId": WS} == {
        "schema": 1,
        "source": "env:JP_SESSION",
        "id": "one",
        "active": f"jp-c{A}",
        "previous": None,
        "workspaceId": WS,
    }


def test_use_is_written_where_jp_reads_it(four):
    """Contract 8.2 and 8.3: the session's file, and `last_activated_at` in every copy, in JP's own forms."""
    before = time.time_ns()
    ran = four.ok("use", f"jp-c{A}", "--json")

    history = json.loads(place(four, "one").read_bytes())["history"]
    assert [e["id"] for e in history] == [A]
    for root in (four.silo(), four.base / "a"):
        assert before <= activated_ns(four, root, A) <= time.time_ns()
        raw = (four.directory(root, A) / "metadata.json").read_bytes()
        assert raw == as_jp(json.loads(raw))
        assert metadata(four, root, A)["title"] == TITLE
    assert ran.json == {
        "schema": 1,
        "id": f"jp-c{A}",
        "workspaceId": WS,
        "source": "env:JP_SESSION",
        "session": "one",
        "previous": None,
        "imported": False,
        "locked": False,
    }


def test_use_without_target_goes_back(four):
    """The one before, as `cd -`; with none before, and no terminal to ask on, exit 2."""
    ran = four.run("use")
    assert ran.code == 2
    assert all(word in ran.err for word in ("<id>", "last", "$JP_SESSION"))

    four.ok("use", A)
    four.ok("use", B)
    four.ok("use")
    assert (session_of(four)["active"], session_of(four)["previous"]) == (f"jp-c{A}", f"jp-c{B}")
    four.ok("use")
    assert session_of(four)["active"] == f"jp-c{B}"


def test_held_by_somebody(four):
    """Contract 8.3: never waited for; the session is written, the conversation is not."""
    before = four.inventory(four.silo() / "conversations", four.base / "a")
    with four.holding(A):
        started = time.monotonic()
        ran = four.ok("use", A, "--json")
        assert time.monotonic() - started < 10

    assert ran.json["locked"] is True
    assert session_of(four)["active"] == f"jp-c{A}"
    assert four.inventory(four.silo() / "conversations", four.base / "a") == before


def test_use_imports(four, monkeypatch):
    """What a worktree only has becomes durable, as JP's persist does, whatever the policy says."""
    monkeypatch.setenv("CONVSYNC_IMPORT__POLICY", "manual")
    four.write(four.base / "a", EXTERNAL, "external")
    four.quiet(four.base / "a")

    ran = four.ok("use", EXTERNAL, "--json")

    assert ran.json["imported"] is True
    assert four.questions(four.silo(), EXTERNAL) == ["external"]
    assert activated_ns(four, four.silo(), EXTERNAL) == activated_ns(four, four.base / "a", EXTERNAL)
    assert session_of(four)["active"] == f"jp-c{EXTERNAL}"


def test_a_worktrees_newer_metadata_is_not_written_over(four):
    """What was changed by hand a moment ago and nobody has seen yet is in what `use` writes."""
    path = four.directory(four.base / "a", A) / "metadata.json"
    put(path, as_jp(json.loads(path.read_bytes()) | {"title": "renamed", "unknown": 1.50}), time.time_ns())

    four.ok("use", A)

    found = metadata(four, four.silo(), A)
    assert (found["title"], found["unknown"]) == ("renamed", 1.5)
    assert found == metadata(four, four.base / "a", A)


@pytest.mark.parametrize(
    ("target", "code", "word"),
    [(STORED, 4, "unarchive"), ("nosuch", 3, "ls"), ("1700", 2, "several"), ("jp-c99", 3, "jp-c99"), ("+live", 2, "3")],
)
def test_what_cannot_be_used(four, target, code, word):
    """Exit codes as everywhere, and nothing has changed."""
    four.ok("use", A)
    before = four.inventory(four.silo(), four.base / "a")
    ran = four.run("use", target)

    assert ran.code == code
    assert word in ran.err
    assert four.inventory(four.silo(), four.base / "a") == before


@pytest.mark.parametrize("content", [b"{ broken", b'{"mine": true}\n'])
def test_a_file_of_somebody_else_under_our_name(four, content):
    """Said with its path, exit 4, and neither it nor the conversation is touched."""
    place(four, "one").parent.mkdir(exist_ok=True)
    place(four, "one").write_bytes(content)
    before = four.inventory(four.silo(), four.base / "a")

    ran = four.run("use", A)

    assert ran.code == 4
    assert str(place(four, "one")) in ran.err
    assert four.inventory(four.silo(), four.base / "a") == before
    assert four.run("session", "show").code == 4
    assert four.run("show", "prev").code == 4
    assert four.run("show", "+session").code == 4
    assert "warning" in four.run("show").err


def test_broken_metadata_is_not_used(four):
    """Exit 4 before anything is written: the session stays where it was."""
    four.ok("use", B)
    for root in (four.silo(), four.base / "a"):
        put(four.directory(root, A) / "metadata.json", b"{}")
    four.quiet(four.silo(), four.base / "a")

    ran = four.run("use", A)

    assert ran.code == 4
    assert session_of(four)["active"] == f"jp-c{B}"


# -- the rules of active and previous ---------------------------------------------------


def test_archived_and_removed(four):
    """Contract 8.3: an archived one ends the walk, one that is nowhere is skipped."""
    for conversation in (C, B, A):
        four.ok("use", conversation)
    for root in (four.silo(), four.base / "a"):
        shutil.rmtree(four.directory(root, A))
    assert (session_of(four)["active"], session_of(four)["previous"]) == (f"jp-c{B}", f"jp-c{C}")

    for root in (four.silo(), four.base / "a"):
        path = four.directory(root, B)
        path.rename(path.parent / ".archive" / path.name)
    assert (session_of(four)["active"], session_of(four)["previous"]) == (None, None)


def test_which_workspace(four, monkeypatch):
    """That of the current directory, else the only one, else a person says; each has its own sessions."""
    other = four.worktree("b", "zzzz9", register=False)
    four.write(other, EXTERNAL, "elsewhere")
    four.ok("register", other)
    four.ok("use", A)
    four.ok("use", EXTERNAL)

    ran = four.run("session", "show")
    assert ran.code == 2
    assert all(word in ran.err for word in (WS, "zzzz9", "--worktree"))
    assert four.ok("session", "show", "--json", "--worktree", other).json["active"] == f"jp-c{EXTERNAL}"
    assert four.run("session", "show", "--worktree", four.home).code == 3
    monkeypatch.chdir(four.base / "a")
    assert session_of(four)["active"] == f"jp-c{A}"


def test_a_session_outlives_its_worktree_and_is_never_projected(four):
    """It lies in the silo only."""
    four.ok("use", A)
    assert list((four.base / "a").rglob("*sessions*")) == []

    shutil.rmtree(four.base / "a")

    assert session_of(four)["active"] == f"jp-c{A}"


def test_there_is_no_global_pointer(four):
    """What an old JP left is no conversation and stays as it is, and nothing of the kind is made."""
    old = four.silo() / "conversations" / "metadata.json"
    old.write_bytes(as_jp({"active_conversation_id": f"jp-c{B}"}))
    before = four.inventory(old.parent)[str(old)]

    four.ok("use", A)
    four.ok("sync")

    assert four.inventory(old.parent)[str(old)] == before
    assert len(four.ok("ls", "--json").json["conversations"]) == 3
    ours = [p for top in ("state", "data/convsync") for p in (four.base / top).rglob("*") if p.is_file()]
    assert not [p for p in ours if b"active_conversation" in p.read_bytes()]


def test_the_way_out_works(four):
    """The hint about a broken session file, typed as it stands, lets `use` go on; nothing is thrown away."""
    place(four, "one").parent.mkdir(exist_ok=True)
    place(four, "one").write_bytes(b"{ broken")
    hint = four.run("use", A).err.partition("to begin anew: ")[2].strip()

    subprocess.run(hint, shell=True, check=True)
    four.ok("use", A)

    assert place(four, "one").with_suffix(".json.old").read_bytes() == b"{ broken"
    assert session_of(four)["active"] == f"jp-c{A}"


def test_nothing_registered(machine):
    """Exit 3, and what to type."""
    for command in (("session", "show"), ("session", "ls"), ("session", "prune"), ("use", "last"), ("use",)):
        ran = machine.run(*command)
        assert (ran.code, "register" in ran.err) == (3, True)


# -- the terminal -----------------------------------------------------------------------


def on_terminal(machine, *argv, answer=None, **env):
    """A command on a terminal of its own, which is a session of its own: (exit code, what it printed, its pid)."""
    ours, theirs = pty.openpty()
    running = machine.spawn(
        *argv, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, env=env, text=False
    )
    os.close(theirs)
    seen = everything(ours, answer, b"which one")
    return running.wait(120), seen, running.pid


def test_the_title_of_the_terminal(four):
    """Id and title, without a character that a terminal obeys; in a pipe nothing."""
    code, seen, _ = on_terminal(four, "use", A, JP_SESSION="one")

    assert code == 0, seen
    [title] = [part.partition("\x07")[0] for part in seen.split("\x1b]2;")[1:]]
    assert title.startswith(f"jp-c{A}: A private")
    assert title.isprintable()
    assert "\x1b]2" not in four.ok("use", B).err


def test_without_an_override_the_terminal_is_the_session(four):
    """The session leader, here the command itself."""
    code, seen, pid = on_terminal(four, "use", A)

    assert code == 0, seen
    found = json.loads(place(four, pid, "getsid").read_bytes())
    assert (found["id"], found["source"]) == (str(pid), {"type": "getsid"})


def test_picking(four):
    """Numbered, the session's own first; the title is shown with nothing in it that a terminal obeys."""
    four.ok("use", A)
    code, seen, _ = on_terminal(four, "path", "?", answer=b"1", JP_SESSION="one")

    assert code == 0, seen
    assert f"/{A}" in seen
    assert "\x1b]2;" not in seen


# -- ls and prune -------------------------------------------------------------------------


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
