"""`verify` reads every byte: each way in which something can be unsafe is found, and named."""

from __future__ import annotations

import os
import shutil
import time

import pytest

from convsync_agent import verifying
from convsync_agent.history import History
from convsync_agent.model import Unit
from machine import LONG_AGO, SECOND, WS, as_jp, event, put

ID, STORED = 17000000001, 17000000002
RECEIPT = ["schema", "ok", "conversations", "files", "bytes", "digest", "at", "problems"]


@pytest.fixture
def two(machine):
    """Worktrees a and b: one conversation in step in both, one archived, everything durable and long quiet."""
    a = machine.worktree("a", register=False)
    machine.write(a, ID, "one", "two")
    machine.write(a, STORED, "stored", archived=True)
    machine.ok("register", a)
    b = machine.worktree("b", register=False)
    shutil.copytree(machine.directory(a, ID), b / ".jp" / "conversations" / str(ID))
    machine.ok("register", b)
    return machine


def problems(machine, *argv):
    """(kind, conversation, worktree) of everything found; a problem makes the exit code 1."""
    ran = machine.run("verify", "--json", *argv)
    found = ran.json
    assert ran.code == (0 if found["ok"] else 1)
    assert found["ok"] is (not found["problems"])
    return [(p["kind"], p["conversation"], p["worktree"]) for p in found["problems"]]


def stream(machine, root, conversation=ID):
    return machine.directory(root, conversation) / "events.json"


def test_receipt(two):
    """Everything durable, valid and equal: exit 0 and a receipt with exactly the keys of the contract."""
    document = two.ok("verify", "--json").json

    assert list(document) == RECEIPT
    assert (document["ok"], document["problems"]) == (True, [])
    assert (document["conversations"], document["files"]) == (2, 5 * 3)
    files = [p for r in ("a", "b", "data/jp") for p in (two.base / r).rglob("*.json")]
    assert document["bytes"] == sum(p.stat().st_size for p in files)
    assert len(document["digest"]) == 32
    assert "durable, valid and equal" in two.ok("verify").out


def test_digest_stands_for_content(two):
    """The digest depends on content alone: not on how many copies there are, and on every byte."""
    before = two.ok("verify", "--json").json["digest"]
    two.ok("unregister", two.base / "b")
    assert two.ok("verify", "--json").json["digest"] == before

    put(stream(two, two.base / "a"), as_jp([event("One"), event("two")]))
    two.ok("sync")

    assert two.ok("verify", "--json").json["digest"] != before


def test_scope(two):
    """With a path only what that worktree holds is read."""
    assert two.ok("verify", two.base / "b", "--json").json["conversations"] == 1
    assert two.ok("verify", two.base / "a" / ".jp", "--json").json["files"] == 12


def test_vanished_worktree(two):
    """A worktree that is gone takes nothing with it: what it held is durable."""
    shutil.rmtree(two.base / "a")

    assert problems(two) == []


@pytest.mark.parametrize(("argv", "code"), [(["nowhere"], 3), (["/"], 3)])
def test_unknown_paths(two, argv, code):
    """A path that is no registered worktree is exit 3."""
    assert two.run("verify", *argv).code == code


def test_nothing_registered(machine):
    """Nothing registered is no clean bill: exit 3."""
    assert machine.run("verify").code == 3


# -- what is wrong ----------------------------------------------------------------


def test_external_is_not_durable(two):
    """A conversation that only a worktree has is not durable."""
    two.write(two.base / "b", 17000000009, "new")

    assert problems(two) == [("not-durable", "jp-c17000000009", str(two.base / "b"))] * 2


def test_what_the_history_holds_is_durable(two):
    """Bytes that the history gives back count as durable; a damaged object in it does not."""
    place = two.write(two.base / "b", 17000000009, "new")
    history = History(str(two.base / "data" / "convsync"))
    for unit, names in ((Unit.STREAM, ("base_config.json", "events.json")), (Unit.METADATA, ("metadata.json",))):
        files = [(n, (place / n).read_bytes(), LONG_AGO) for n in names]
        facts = {"root": "/x", "at_ms": 1, "why": "not taken over", "valid": True, "events": None}
        history.keep(WS, 17000000009, unit, files, **facts)
    assert problems(two) == []

    for path in (two.base / "data" / "convsync").rglob("*.gz"):
        path.write_bytes(b"rotten")

    assert len(problems(two)) == 2


def test_differing_projection(two):
    """A live projection with older content is durable, but not equal."""
    put(stream(two, two.silo()), as_jp([event("one"), event("two"), event("three")]), LONG_AGO + SECOND)

    assert problems(two) == [("differs", f"jp-c{ID}", str(two.base / t)) for t in ("a", "b")]


def test_no_refresh_need_not_be_equal(two):
    """A worktree registered with --no-refresh has to be durable, not equal."""
    two.ok("register", two.base / "b", "--no-refresh")
    put(stream(two, two.silo()), as_jp([event("one"), event("two"), event("three")]), LONG_AGO + SECOND)
    assert problems(two, two.base / "b") == []

    put(stream(two, two.base / "b"), as_jp([event("unsaved")]), LONG_AGO - SECOND)

    assert problems(two, two.base / "b") == [("not-durable", f"jp-c{ID}", str(two.base / "b"))]


def test_behind_need_not_be_equal(two):
    """A copy that is shown `behind` has to be durable, not equal."""
    from convsync_agent.state import Attention, writer

    put(stream(two, two.silo()), as_jp([event("one"), event("two"), event("three")]), LONG_AGO + SECOND)
    state = writer(str(two.base / "state" / "convsync"))
    with state.transaction():
        for tree in "ab":
            root = str(two.base / tree / ".jp")
            state.put_attention(Attention("behind", WS, ID, root, 1, "as git wrote it", lasting=False))
    state.close()

    assert problems(two) == []


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0" * 40, b"[1]", b"<<<<<<< ours\n", as_jp([event("x")])[:-3]],
    ids=["empty", "NUL", "bad", "git", "cut"],
)
@pytest.mark.parametrize("where", ["silo", "b"])
def test_held_copies(two, where, raw):
    """A copy that JP could not load makes it not ok, wherever it lies; a bad durable copy, too."""
    root = two.silo() if where == "silo" else two.base / where
    put(stream(two, root), raw, LONG_AGO - SECOND)

    found = problems(two)

    assert ("held", f"jp-c{ID}", str(root)) in found


@pytest.mark.parametrize("odd", ["symlink", "directory", "missing", "fifo"])
def test_odd_files(two, odd):
    """A symlink, a directory, a FIFO or nothing where a file belongs is found, and nothing hangs on it."""
    path = stream(two, two.silo(), ID)
    raw = path.read_bytes()
    path.unlink()
    if odd == "symlink":
        (two.base / "elsewhere").write_bytes(raw)
        path.symlink_to(two.base / "elsewhere")
    elif odd == "directory":
        path.mkdir()
    elif odd == "fifo":
        os.mkfifo(path)

    assert "held" in {kind for kind, _, where in problems(two) if where == str(two.silo())}


def test_two_directories(two):
    """Two directories for one id are found in the root that has them."""
    shutil.copytree(two.directory(two.base / "b", ID), two.base / "b" / ".jp" / "conversations" / f"{ID}-again")

    assert ("held", f"jp-c{ID}", str(two.base / "b")) in problems(two)


def test_split(two):
    """Live in one root and archived in another is found."""
    live = two.directory(two.base / "b", ID)
    (live.parent / ".archive").mkdir()
    live.rename(live.parent / ".archive" / live.name)

    assert problems(two) == [("split", f"jp-c{ID}", str(two.base / "b"))]


def test_archived_bytes_are_read(two):
    """The archive is read like everything else."""
    put(two.directory(two.silo(), STORED, archived=True) / "metadata.json", b"{}", LONG_AGO)

    assert ("held", f"jp-c{STORED}", str(two.silo())) in problems(two)


def test_extras(two):
    """An unmanaged file that only a worktree has is not durable."""
    put(two.directory(two.base / "a", ID) / "notes.md", b"mine")
    assert problems(two) == [("not-durable", f"jp-c{ID}", str(two.base / "a"))]

    two.ok("sync")

    assert two.ok("verify", "--json").json["files"] == 17


def test_missing_silo(two):
    """Without the silo nothing is durable, and that is said once for the workspace."""
    shutil.rmtree(two.silo())

    found = problems(two)

    assert ("missing", None, str(two.silo())) in found
    assert ("not-durable", f"jp-c{ID}", str(two.base / "a")) in found


# -- what is being written ----------------------------------------------------------


def test_a_write_in_progress_is_waited_for(two, monkeypatch):
    """What was written a moment ago and differs is looked at again, until it is equal.

    The others follow when it waits for the first time: no earlier, and no later, however busy the machine is.
    """
    grown = as_jp([event("one"), event("two"), event("three")])
    put(stream(two, two.base / "a"), grown)
    pauses = []

    def follow(seconds):
        pauses.append(seconds)
        for root in (two.silo(), two.base / "b"):
            put(stream(two, root), grown)

    monkeypatch.setattr(verifying.time, "sleep", follow)

    assert problems(two) == []
    assert pauses == [verifying.LOOK_AGAIN_SECONDS]


def test_a_write_that_nobody_follows(two):
    """After two seconds it is a problem."""
    started = time.monotonic()
    put(stream(two, two.base / "a"), as_jp([event("one"), event("two"), event("three")]))

    assert problems(two) == [
        ("differs", f"jp-c{ID}", str(two.base / "a")),
        ("not-durable", f"jp-c{ID}", str(two.base / "a")),
    ]
    assert 1.9 < time.monotonic() - started < 60


def test_verify_writes_nothing(two):
    """Neither roots nor our own data change, whatever is found."""
    put(stream(two, two.base / "a"), b"broken", LONG_AGO)
    before = two.inventory(two.base / "a", two.base / "b", two.base / "data")

    problems(two)

    assert two.inventory(two.base / "a", two.base / "b", two.base / "data") == before


def test_no_text_of_a_conversation(two):
    """A problem names ids, roots and faults only."""
    put(stream(two, two.base / "a"), b'[{"CANARY": "SECRET"', LONG_AGO)

    ran = two.run("verify")

    assert ran.code == 1
    assert "CANARY" not in ran.out + ran.err
    assert "SECRET" not in ran.out + ran.err
