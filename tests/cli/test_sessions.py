"""`use` and `session`: the active conversation of a terminal, shared with jp. Real files, locks and processes."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import time

import pytest

from machine import WS, as_jp, put
from terminal import everything
from terminals import EXTERNAL, STORED, TITLE, A, B, C, activated_ns, four_conversations, metadata, place, session_of


@pytest.fixture
def four(machine, monkeypatch):
    return four_conversations(machine, monkeypatch)


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
