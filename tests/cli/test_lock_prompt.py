"""Phase 3: what a person is asked on a terminal when a lock stays held (contract 7.5), and what comes of it."""

from __future__ import annotations

import json
import os
import pty
import re
import time

import pytest

from agents import until
from machine import as_jp, event, put
from terminal import everything

ID = 17000000001
TURNS = [event(kind="turn_start"), event("q0"), event(kind="turn_start"), event("q1")]
BAR = re.compile(r"\x1b\]2;([^\x07]*)\x07")


@pytest.fixture
def one(machine):
    """Worktree a has ID, and b nothing of it."""
    a = machine.worktree("a", register=False)
    machine.write(a, ID, *TURNS, slug="private-title", title="Private title")
    machine.ok("register", a)
    machine.worktree("b")
    return machine


def ask(machine, *answers, wait="200ms", command=("sh", "-c", "echo got $CONVSYNC_CONVERSATION"), cwd=None, flags=()):
    """`lock` on a terminal of its own; what was seen, and the exit code."""
    ours, theirs = pty.openpty()
    env = {"JP_SESSION": "mine", "TERM": "xterm"}
    argv = [*flags, "lock", ID, "--wait", wait, "--", *command]
    process = machine.spawn(*argv, stdin=theirs, stdout=theirs, stderr=theirs, text=False, env=env, cwd=cwd)
    os.close(theirs)
    seen = everything(ours, [*answers])
    return process.wait(120), seen


def others(machine, root):
    """The conversations of a root beside ID."""
    top = machine.store(root) / "conversations"
    return sorted(int(p.name.partition("-")[0]) for p in top.glob("[0-9]*") if not p.name.startswith(str(ID)))


def test_phase3_continue_waits_afresh_and_cancel_changes_nothing(one):
    """Each time as long again; exit 5 in the end, and the command does not run."""
    before = one.inventory(one.silo() / "conversations", one.base / "a", one.base / "b")
    with one.holding(ID):
        began = time.monotonic()
        code, seen = ask(one, b"1", b"1", b"4", wait="400ms")
        took = time.monotonic() - began
    assert code == 5
    assert seen.count("in use by") >= 3
    assert took > 1.2
    for line in ("1  continue waiting", "2  start a new conversation", "3  fork this conversation", "4  cancel"):
        assert seen.count(line) == 3
    assert "got jp" not in seen
    assert one.inventory(one.silo() / "conversations", one.base / "a", one.base / "b") == before


def test_phase3_what_is_no_answer_is_asked_again_and_none_is_a_no(one):
    """Nothing but a number that is offered counts; the end of the input cancels."""
    with one.holding(ID):
        code, seen = ask(one, b"5", b"new", b"0", b"\x04", wait="0")
    assert code == 5
    assert seen.count("a number from 1 to 4") == 3
    assert "got jp" not in seen


def test_phase3_continue_gets_it_when_it_comes_free(one):
    """The answer begins a new limit; the lock goes meanwhile."""
    ours, theirs = pty.openpty()
    with one.holding(ID):
        process = one.spawn(
            "lock", ID, "--wait", "1s", "--", "echo", "mine", stdin=theirs, stdout=theirs, stderr=theirs, text=False
        )
        os.close(theirs)
        seen = b""
        while b"?" not in seen:
            seen += os.read(ours, 4096)
    os.write(ours, b"1\n")
    assert "mine" in everything(ours)
    assert process.wait(120) == 0


@pytest.mark.parametrize("where", ["a", "b", "home"])
def test_phase3_a_new_one_is_where_one_stands(one, where):
    """Empty, valid, the session's; projected into the worktree of the current directory, and there alone."""
    with one.holding(ID):
        code, seen = ask(one, b"2", cwd=one.base / where)
    assert code == 0, seen
    [number] = others(one, one.silo())
    assert f"got jp-c{number}" in seen
    assert one.events(one.silo(), number) == []
    assert [n for n in "ab" if others(one, one.base / n)] == ([where] if where in "ab" else [])
    metadata = json.loads((one.directory(one.silo(), number) / "metadata.json").read_bytes())
    assert list(metadata) == ["last_activated_at"]
    [session] = (one.silo() / "sessions").glob("*.json")
    assert json.loads(session.read_bytes())["history"][0]["id"] == number
    assert [p.name for p in (one.silo() / "locks").iterdir()] == []


def test_phase3_a_fork_goes_on_with_equal_events(one):
    """Of what is held, which is not written; its lock is held while the command runs."""
    source = one.inventory(one.directory(one.silo(), ID), one.directory(one.base / "a", ID))
    script = 'echo got $CONVSYNC_CONVERSATION; cat "$0/$CONVSYNC_CONVERSATION.lock"'
    with one.holding(ID):
        code, seen = ask(one, b"3", command=("sh", "-c", script, str(one.silo() / "locks")))
    assert code == 0, seen
    [number] = others(one, one.silo())
    assert f"got jp-c{number}" in seen
    assert '"session":"mine"' in seen
    assert one.events(one.silo(), number) == one.events(one.base / "a", number) == TURNS
    assert others(one, one.base / "b") == []
    assert one.inventory(one.directory(one.silo(), ID), one.directory(one.base / "a", ID)) == source
    assert BAR.findall(seen) == [f"jp-c{number}: Private title"]


# -- the title of the terminal ---------------------------------------------------------------


def test_phase3_the_title_is_said_again_when_it_changes(one):
    """A title that JP's generator gave meanwhile, with the name of the directory that goes with it."""
    go = one.base / "go"
    ours, theirs = pty.openpty()
    argv = ["lock", ID, "--", "sh", "-c", f"while [ ! -e {go} ]; do sleep 0.05; done"]
    env = {"TERM": "xterm"}
    process = one.spawn(*argv, stdin=theirs, stdout=theirs, stderr=theirs, text=False, env=env)
    os.close(theirs)
    seen = os.read(ours, 4096)
    while b"\x07" not in seen:
        seen += os.read(ours, 4096)
    for root in (one.silo(), one.base / "a"):
        at = one.directory(root, ID)
        at = at.rename(at.with_name(f"{ID}-new-\N{LATIN SMALL LETTER E WITH ACUTE}"))
        put(at / "metadata.json", as_jp({"title": "New \x1b]0;é", "last_activated_at": "2023-11-14 22:13:20.0"}))
    while seen.count(b"\x07") < 2:
        seen += os.read(ours, 4096)
    for root in (one.silo(), one.base / "a"):  # activated again: that is no other title
        file = one.directory(root, ID) / "metadata.json"
        put(file, as_jp(json.loads(file.read_bytes()) | {"last_activated_at": "2023-11-14 22:13:21.0"}))
    go.touch()
    seen = seen.decode() + everything(ours)
    assert process.wait(120) == 0
    first, second = BAR.findall(seen)
    assert first == f"jp-c{ID}: Private title"
    assert second.startswith(f"jp-c{ID}: New ")
    assert "\x1b" not in second
    until(lambda: not list((one.silo() / "locks").iterdir()))


def test_phase3_no_title_in_a_pipe(one):
    """Nothing but what the command prints."""
    process = one.spawn("lock", ID, "--", "echo", "x")
    assert process.communicate(timeout=120) == ("x\n", "")
