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


# -- worktrees ------------------------------------------------------------------

IDS = {
    "missing": None,
    "empty": b"",
    "merge markers": b"<<<<<<< HEAD\nabcde\n=======\nfghij\n>>>>>>> x\n",
    "trailing blank line": b"abcde\n\n",
    "too long": b"abcdef\n",
    "upper case": b"ABCDE\n",
    "not UTF-8": b"\xff\xfe\xfa\xfb\xfc\n",
}


@pytest.mark.parametrize("raw", IDS.values(), ids=IDS)
def test_a_bad_workspace_id_is_refused(machine, raw):
    """Exit 2, the file named, nothing changed anywhere."""
    tree = machine.worktree("a", register=False)
    (tree / ".jp/.id").unlink()
    if raw is not None:
        (tree / ".jp/.id").write_bytes(raw)
    machine.write(tree, A, "one")
    before = machine.inventory(tree)
    ran = machine.run("register", tree)

    assert (2, True) == (ran.code, "/.id" in ran.err)
    assert before == machine.inventory(tree)
    assert not (machine.base / "data/jp").exists()


@pytest.mark.parametrize("raw", [b"abcde", b"abcde\r\n", b"# any text\nabcde\n"])
def test_a_good_workspace_id_in_any_clothes_is_taken(machine, raw):
    """CRLF, no line end and comment lines above are fine, as for JP (contract 1.2)."""
    tree = machine.worktree("a", register=False)
    (tree / ".jp/.id").write_bytes(raw)

    assert "abcde" == machine.ok("register", tree, "--json").json["workspace"]


def test_what_is_no_worktree(machine):
    """No .jp at or above: exit 3. A .jp that is a file is none."""
    plain = machine.base / "plain"
    plain.mkdir()
    assert machine.run("register", plain).code == 3
    (plain / ".jp").write_text("no directory")
    assert machine.run("register", plain).code == 3
    assert machine.run("register", machine.base / "nowhere").code == 3
    assert machine.run("unregister", plain).code == 3
    assert machine.run("sync").code == 3


def test_a_symlinked_conversations_is_refused(machine):
    """Exit 4 and how to undo it; nothing is followed."""
    tree = machine.worktree("a", register=False)
    (machine.base / "elsewhere").mkdir()
    (tree / ".jp/conversations").symlink_to(machine.base / "elsewhere")
    ran = machine.run("register", tree)

    assert (4, True) == (ran.code, "rm " in ran.err)


def test_a_file_where_conversations_should_be(machine):
    """Exit 2, and the file stays."""
    tree = machine.worktree("a", register=False)
    (tree / ".jp/conversations").write_text("x")

    assert machine.run("register", tree).code == 2
    assert "x" == (tree / ".jp/conversations").read_text()


def test_a_storage_that_is_no_symlink_does_not_stop_us(machine):
    """JP cannot run with it (contract 2.5); convsync does not need it and leaves it alone."""
    silo = machine.silo()
    (silo / "storage").mkdir(parents=True)
    tree = machine.worktree("a", register=False)
    machine.write(tree, A, "one")
    machine.ok("register", tree)

    assert in_step(machine, A, tree, silo)
    assert (silo / "storage").is_dir()


# -- odd entries ------------------------------------------------------------------


@pytest.fixture
def pair(machine):
    """One worktree with a good conversation, in step."""
    machine.worktree("a", register=False)
    machine.write(machine.base / "a", A, "one")
    machine.ok("register", machine.base / "a")
    return machine


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
def test_what_cannot_be_used_is_named_and_the_rest_syncs(pair, make):
    """A held entry for that conversation, nothing of it in the silo, everything else in step, exit 0."""
    ran = odd(pair, make)

    assert [f"jp-c{B}"] == sorted({h["conversation"] for h in ran["held"]})
    assert {"held"} == {h["kind"] for h in ran["held"]}
    assert pair.directory(pair.silo(), B) is None
    assert 1 == pair.run("status", "--check", "-q").code


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
def test_what_jp_would_not_list_is_left_alone(pair, make):
    """Neither imported nor held nor touched."""
    ran = odd(pair, make)

    assert [] == ran["held"]
    assert [str(A)] == [p.name for p in (pair.silo() / "conversations").iterdir()]


def test_deep_but_legal_json_is_fine(pair):
    """100 levels are JSON that JP reads: they sync."""
    deep = b'[{"timestamp":"2025-01-01 00:00:00.0","type":"x","n":' + b"[" * 100 + b"]" * 100 + b"}]"
    odd(pair, with_events(lambda p: put(p, deep, OLD_NS)))

    assert in_step(pair, B, pair.base / "a", pair.silo())


@pytest.mark.slow
def test_a_huge_file_syncs(pair):
    """200 MB of valid events: durable, equal, verified."""
    one = json.dumps(event("x" * 1_000_000))
    raw = ("[\n" + ",\n".join([one] * 200) + "\n]\n").encode()
    odd(pair, with_events(lambda p: put(p, raw, OLD_NS)))

    assert in_step(pair, B, pair.base / "a", pair.silo())


@pytest.mark.skipif(as_root(), reason="root reads everything: an unreadable directory needs a plain user")
def test_an_unreadable_directory_is_denied_not_absent(pair):
    """EACCES is a problem of that conversation, never an absence; nothing is removed or imported over it."""
    directory = pair.directory(pair.base / "a", A)
    directory.chmod(0)
    try:
        ran = pair.ok("sync", "--json").json
    finally:
        directory.chmod(0o755)

    assert ["denied"] == sorted({h["kind"] for h in ran["held"]})
    assert ["one"] == pair.questions(pair.silo(), A)


@pytest.mark.skipif(as_root(), reason="root writes everywhere: a read-only home needs a plain user")
def test_a_read_only_home_is_a_storage_problem(machine):
    """Exit 6, the place named, the worktree unchanged."""
    tree = machine.worktree("a", register=False)
    machine.write(tree, A, "one")
    before = machine.inventory(tree)
    os.chmod(machine.base / "data", 0o500)
    try:
        ran = machine.run("register", tree)
    finally:
        os.chmod(machine.base / "data", 0o700)

    assert ran.code == 6
    assert before == machine.inventory(tree)


# -- times ------------------------------------------------------------------------


def test_1970_loses_and_2099_wins(pair):
    """Mtimes are taken as they are: an edit dated 1970 loses and is kept, one dated 2099 wins and is said."""
    tree = pair.base / "a"
    put(pair.directory(tree, A) / "events.json", as_jp([event("old")]), 0)
    os.utime(pair.directory(tree, A) / "base_config.json", ns=(0, 0))
    pair.ok("sync")
    assert ["one"] == pair.questions(tree, A)
    assert any(v["unit"] == "stream" for v in pair.ok("history", A, "--json").json["versions"])
    put(pair.directory(tree, A) / "events.json", as_jp([event("future")]), 4_070_908_800_000_000_000)
    told = pair.ok("sync", "--json").json

    assert ["future"] == pair.questions(pair.silo(), A)
    assert "future" in {h["kind"] for h in told["held"]}


def test_a_clock_set_back_only_delays(pair):
    """Files that seem to come from the future are taken once they hold still (quiet is measured by watching)."""
    tree = pair.base / "a"
    ahead = time.time_ns() + 3_600_000_000_000
    put(pair.directory(tree, A) / "events.json", as_jp([event("one"), event("two")]), ahead)
    pair.ok("sync")

    assert in_step(pair, A, tree, pair.silo())


def test_a_change_of_nothing_but_the_age_moves_nothing(pair):
    """Equal bytes with different mtimes cause no write."""
    tree = pair.directory(pair.base / "a", A)
    silo = pair.directory(pair.silo(), A)
    os.utime(tree / "events.json", ns=(OLD_NS, OLD_NS))
    before = [(p.name, p.stat().st_ino, p.stat().st_mtime_ns, p.stat().st_ctime_ns) for p in silo.iterdir()]

    assert 0 == pair.ok("sync", "--json").json["written"]
    assert before == [(p.name, p.stat().st_ino, p.stat().st_mtime_ns, p.stat().st_ctime_ns) for p in silo.iterdir()]


def test_a_second_sync_writes_nothing(pair):
    """Inode, mtime and ctime of every file below both roots stay."""
    put(pair.directory(pair.base / "a", A) / "base_config.json", as_jp({"x": 1}), OLD_NS)
    pair.ok("sync")
    files = [p for r in (pair.base / "a", pair.silo()) for p in sorted(r.rglob("*"))]
    before = [(str(p), p.lstat().st_ino, p.lstat().st_mtime_ns, p.lstat().st_ctime_ns) for p in files if p.is_file()]
    told = pair.ok("sync", "--json").json
    files = [p for r in (pair.base / "a", pair.silo()) for p in sorted(r.rglob("*"))]

    assert (0, []) == (told["written"], told["actions"])
    assert before == [
        (str(p), p.lstat().st_ino, p.lstat().st_mtime_ns, p.lstat().st_ctime_ns) for p in files if p.is_file()
    ]


# -- our own files ------------------------------------------------------------------


def test_three_mistakes_in_a_config_file_are_three_lines(machine):
    """All of them at once, each with its key; exit 2."""
    config = machine.base / "config/convsync/config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text('policy = "sometimes"\nnonsense = 1\n[trash]\nkeep_days = "many"\n')
    machine.worktree("a", register=False)
    ran = machine.run("register", machine.base / "a")

    assert ran.code == 2
    assert [k for k in ("policy", "nonsense", "trash.keep_days") if k in ran.err] == [
        "policy",
        "nonsense",
        "trash.keep_days",
    ]


def test_a_state_of_a_newer_version_is_refused(pair):
    """Exit 2, what to do, and the file as it was."""
    path = pair.base / "state/convsync/state.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    ran = pair.run("sync")

    assert (2, True) == (ran.code, "newer convsync" in ran.err)
    assert 2 == pair.run("status").code


def test_a_damaged_state_says_so_and_loses_nothing(pair):
    """Not a database: exit 6 and the way out; the conversations are as they were."""
    path = pair.base / "state/convsync/state.db"
    for name in ("state.db-wal", "state.db-shm"):
        (path.parent / name).unlink(missing_ok=True)
    path.write_bytes(b"this is no database" * 100)
    before = pair.inventory(pair.base / "a", pair.silo())
    ran = pair.run("sync")

    assert (6, True) == (ran.code, "register" in ran.err)
    assert before == pair.inventory(pair.base / "a", pair.silo())


def test_without_state_everything_starts_anew(pair):
    """Delete the state, register again: no conversation file changes (R8)."""
    before = pair.inventory(pair.base / "a", pair.silo())
    for path in (pair.base / "state/convsync").glob("state.db*"):
        path.unlink()
    pair.ok("register", pair.base / "a")

    assert before == pair.inventory(pair.base / "a", pair.silo())
    assert "in-sync" == pair.ok("status", "--json").json["verdict"]


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
