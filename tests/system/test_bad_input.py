"""Bad input costs no data: a clear message, the right exit code, everything as it was, the rest still syncs."""

from __future__ import annotations

import json
import os
import sqlite3
import time

import pytest

from agents import in_step, status, until
from machine import LONG_AGO, as_jp, event, put

A, B = 17_000_000_001, 17_000_000_002
OLD_NS = time.time_ns() - 60_000_000_000


def as_root() -> bool:
    return os.geteuid() == 0


# -- odd entries ------------------------------------------------------------------


def odd(machine, make):
    """Make something odd in the worktree, edit the good conversation, sync; the good one must follow."""
    tree = machine.base / "a"
    make(tree / ".jp/conversations")
    put(machine.directory(tree, A) / "events.json", as_jp([event("later")]), OLD_NS)
    ran = machine.ok("sync", "--json").json
    assert in_step(machine, A, tree, machine.silo())
    assert ["later"] == machine.questions(machine.silo(), A)
    return ran


def symlinked_conversation(top):
    (top.parent / "real").mkdir()
    (top / f"{B}-x").symlink_to(top.parent / "real")


def with_events(make):
    def build(top):
        directory = top / str(B)
        directory.mkdir()
        put(directory / "metadata.json", as_jp({"last_activated_at": "2025-01-01 00:00:00.0"}), LONG_AGO)
        put(directory / "base_config.json", as_jp({}), LONG_AGO)
        make(directory / "events.json")

    return build


def target_of_link(path):
    path.with_name("real.json").write_bytes(as_jp([event("x")]))
    path.symlink_to("real.json")


NAMED = {
    "a symlinked conversation": symlinked_conversation,
    "a plain file named like an id": lambda top: (top / str(B)).write_text("x"),
    "leading zeros": lambda top: (top / f"000{B}-x").mkdir(),
    "a symlinked file": with_events(target_of_link),
    "a FIFO": with_events(os.mkfifo),
    "a directory named events.json": with_events(lambda p: p.mkdir()),
    "zero bytes": with_events(lambda p: put(p, b"", OLD_NS)),
    "NUL bytes": with_events(lambda p: put(p, b"\0" * 4096, OLD_NS)),
    "truncated": with_events(lambda p: put(p, as_jp([event("x")])[:-9], OLD_NS)),
    "merge markers": with_events(lambda p: put(p, b"<<<<<<< HEAD\n[]\n=======\n[]\n>>>>>>> x\n", OLD_NS)),
    "a duplicate key": with_events(lambda p: put(p, b'[{"timestamp":"t","type":"x","type":"y"}]', OLD_NS)),
    "200 levels deep": with_events(lambda p: put(p, b"[" * 200 + b"]" * 200, OLD_NS)),
    "NaN": with_events(lambda p: put(p, b'[{"timestamp":"t","type":"x","n":NaN}]', OLD_NS)),
    "a byte order mark": with_events(lambda p: put(p, b"\xef\xbb\xbf[]", OLD_NS)),
    "trailing data": with_events(lambda p: put(p, b"[] []", OLD_NS)),
    "no events at all": with_events(lambda _: None),
}


@pytest.mark.parametrize("make", NAMED.values(), ids=NAMED)
def test_what_cannot_be_used_is_named_and_the_rest_syncs(single, make):
    """A held entry for that conversation, nothing of it in the silo, everything else in step, exit 0."""
    ran = odd(single, make)

    assert [f"jp-c{B}"] == sorted({h["conversation"] for h in ran["held"]})
    assert {"held"} == {h["kind"] for h in ran["held"]}
    assert single.directory(single.silo(), B) is None
    assert 1 == single.run("status", "--check", "-q").code


IGNORED = {
    "a name that is no id": lambda top: (top / "notes").mkdir(),
    "a stray file": lambda top: (top / "stray.json").write_text("{}"),
    "a name that is not UTF-8": lambda top: os.mkdir(os.fsencode(top) + b"/\xff\xfe"),
    "JP's trash": lambda top: (top / ".trash" / f"{B}-x").mkdir(parents=True),
    "old staging of JP": lambda top: (top / f".staging-{B}").mkdir(),
    "an orphan temp file": lambda top: (top / str(A) / "events.json.tmp").write_text("[\n  {"),
    "an old pointer file": lambda top: (top / "metadata.json").write_text('{"active_conversation_id":"x"}'),
}


@pytest.mark.parametrize("make", IGNORED.values(), ids=IGNORED)
def test_what_jp_would_not_list_is_left_alone(single, make):
    """Neither imported nor held nor touched."""
    ran = odd(single, make)

    assert [] == ran["held"]
    assert [str(A)] == [p.name for p in (single.silo() / "conversations").iterdir()]


def test_deep_but_legal_json_is_fine(single):
    """100 levels are JSON that JP reads: they sync."""
    deep = b'[{"timestamp":"2025-01-01 00:00:00.0","type":"x","n":' + b"[" * 100 + b"]" * 100 + b"}]"
    odd(single, with_events(lambda p: put(p, deep, OLD_NS)))

    assert in_step(single, B, single.base / "a", single.silo())


@pytest.mark.slow
def test_a_huge_file_syncs(single):
    """200 MB of valid events: durable, equal, verified."""
    one = json.dumps(event("x" * 1_000_000))
    raw = ("[\n" + ",\n".join([one] * 200) + "\n]\n").encode()
    odd(single, with_events(lambda p: put(p, raw, OLD_NS)))

    assert in_step(single, B, single.base / "a", single.silo())


@pytest.mark.skipif(as_root(), reason="root reads everything: an unreadable directory needs a plain user")
def test_an_unreadable_directory_is_denied_not_absent(single):
    """EACCES is a problem of that conversation, never an absence; nothing is removed or imported over it."""
    directory = single.directory(single.base / "a", A)
    directory.chmod(0)
    try:
        ran = single.ok("sync", "--json").json
    finally:
        directory.chmod(0o755)

    assert ["denied"] == sorted({h["kind"] for h in ran["held"]})
    assert ["one"] == single.questions(single.silo(), A)


# -- our own files ------------------------------------------------------------------


def test_three_mistakes_in_a_config_file_are_three_lines(machine):
    """All of them at once, each with its key; exit 2."""
    config = machine.base / "config/convsync/config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text('policy = "sometimes"\nnonsense = 1\n[trash]\nkeep_days = "many"\n')
    machine.worktree("a", register=False)
    ran = machine.run("register", machine.base / "a")

    lines = [line for line in ran.err.splitlines() if str(config) in line]
    assert ran.code == 2
    assert len(lines) == 3
    assert all(any(k in line for line in lines) for k in ("policy =", "nonsense =", "trash.keep_days ="))


def test_a_state_of_a_newer_version_is_refused(single):
    """Exit 2, what to do, and the file as it was."""
    path = single.base / "state/convsync/state.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    ran = single.run("sync")

    assert (2, True) == (ran.code, "newer convsync" in ran.err)
    assert 2 == single.run("status").code


def test_a_damaged_state_says_so_and_loses_nothing(single):
    """Not a database: exit 6 and the way out; the conversations are as they were."""
    path = single.base / "state/convsync/state.db"
    for name in ("state.db-wal", "state.db-shm"):
        (path.parent / name).unlink(missing_ok=True)
    path.write_bytes(b"this is no database" * 100)
    before = single.inventory(single.base / "a", single.silo())
    ran = single.run("sync")

    assert (6, True) == (ran.code, "register" in ran.err)
    assert before == single.inventory(single.base / "a", single.silo())


def test_without_state_everything_starts_anew(single):
    """Delete the state, register again: no conversation file changes (R8)."""
    before = single.inventory(single.base / "a", single.silo())
    for path in (single.base / "state/convsync").glob("state.db*"):
        path.unlink()
    single.ok("register", single.base / "a")

    assert before == single.inventory(single.base / "a", single.silo())
    assert "in-sync" == single.ok("status", "--json").json["verdict"]


def test_the_agent_survives_all_of_it_at_once(machine, agent):
    """Every odd entry together under a running agent: it goes on, the good conversation follows every edit."""
    tree = machine.worktree("a", register=False)
    machine.write(tree, A, "one")
    top = tree / ".jp/conversations"
    for number, make in enumerate(NAMED.values()):
        holder = machine.base / f"made-{number}"
        holder.mkdir()
        make(holder)
        for path in holder.iterdir():
            new = path.name.replace(str(B), str(B + 10 * number + 10))
            path.rename(top / new)
    for make in IGNORED.values():
        make(top)
    machine.ok("register", tree)
    one = agent()
    for number in range(5):
        put(machine.directory(tree, A) / "events.json", as_jp([event(f"edit {number}")]))
        until(lambda: in_step(machine, A, tree, machine.silo()))

    assert one.process.poll() is None
    until(
        lambda: len(NAMED) - 1 <= len({e["conversation"] for e in status(machine)["attention"] if e["kind"] == "held"})
    )
