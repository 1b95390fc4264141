"""A real agent on real directories: every kind of edit, in every root, and what a reader may see meanwhile."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time

import pytest

from agents import PATIENCE, Sampler, in_step, runtime, status, until
from convsync_agent.health import SHORTEST
from machine import as_jp, event, put

A, B = 17_000_000_001, 17_000_000_002


def by_rename(path, raw):
    """As JP writes: a temp file renamed over."""
    put(path, raw)


def in_place_slowly(path, raw):
    """In place, in five chunks, as a careless script does."""
    size = len(raw) // 5 + 1
    with open(path, "wb", buffering=0) as file:
        for at in range(0, len(raw), size):
            file.write(raw[at : at + size])
            time.sleep(0.03)  # the slowness is what is tested


def as_an_editor(path, raw):
    """The rename dance: the old file moved to a backup, a new one written under the name, the backup removed."""
    backup = path.with_name("." + path.name + "~")
    path.rename(backup)
    path.write_bytes(raw)
    backup.unlink()


WAYS = {"rename": by_rename, "slow": in_place_slowly, "editor": as_an_editor}
CHANGES = {
    "events.json": as_jp([event("one"), event("two"), event("three " * 400)]),
    "base_config.json": as_jp({"assistant": {"name": "edited " * 40}}),
    "metadata.json": as_jp({"title": "edited", "last_activated_at": "2025-01-01 00:00:00.0"}),
}


@pytest.fixture
def trio(machine, agent):
    """Worktrees a and b hold the conversation, c does not; an agent runs."""
    for name in "abc":
        machine.worktree(name, register=False)
    for name in "ab":
        machine.write(machine.base / name, A, "one", "two")
    for name in "abc":
        machine.ok("register", machine.base / name)
    machine.agent = agent()
    return machine


@pytest.mark.parametrize("file", CHANGES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("where", ["silo", "a", "b"])
def test_an_edit_anywhere_reaches_every_copy(trio, where, way, file):
    """One edit, any way, any root: equal bytes and mtimes everywhere, no new copy, never a mixed unit for a reader."""
    root = trio.silo() if where == "silo" else trio.base / where
    edited = trio.directory(root, A)
    other = trio.directory(trio.base / ("b" if where == "a" else "a"), A)
    silo = trio.directory(trio.silo(), A)
    old = {f: (other / f).read_bytes() for f in CHANGES}
    torn_at_the_source = where == "silo" and way != "rename"
    with Sampler(silo, other) as sampler:
        WAYS[way](edited / file, CHANGES[file])
        until(lambda: (other / file).read_bytes() == CHANGES[file], "the edit arrived")
        until(lambda: in_step(trio, A, trio.base / "a", trio.base / "b", trio.silo()), "in step")
    new = old | {file: CHANGES[file]}

    assert trio.directory(trio.base / "c", A) is None
    if not torn_at_the_source:
        streams = {tuple(v[f] for f in ("base_config.json", "events.json")) for v in (old, new)}
        assert sampler.streams <= streams
        assert sampler.metadata <= {old["metadata.json"], new["metadata.json"]}


def test_an_edit_of_base_config_alone_brings_the_older_events_along(trio):
    """The stream is one unit: the events of the root whose base config is newest come with it."""
    silo, tree = trio.directory(trio.silo(), A), trio.directory(trio.base / "a", A)
    put(silo / "events.json", as_jp([event("from the silo")]), (silo / "events.json").stat().st_mtime_ns + 10)
    until(lambda: in_step(trio, A, trio.base / "a", trio.base / "b", trio.silo()))
    put(tree / "base_config.json", CHANGES["base_config.json"])
    until(lambda: (silo / "base_config.json").read_bytes() == CHANGES["base_config.json"])
    until(lambda: in_step(trio, A, trio.base / "a", trio.base / "b", trio.silo()))

    assert ["from the silo"] == trio.questions(trio.base / "b", A)


def test_a_new_conversation_becomes_durable_and_goes_nowhere_else(trio):
    """Imported into the silo, not copied into the other worktrees."""
    trio.write(trio.base / "c", B, "new", slug="some-title")
    until(lambda: in_step(trio, B, trio.base / "c", trio.silo()))

    assert [None, None] == [trio.directory(trio.base / n, B) for n in "ab"]


def test_a_title_rename_follows(trio):
    """JP renames the directory, then writes the metadata: the other roots get the new name by a rename."""
    old = trio.directory(trio.base / "a", A)
    note = trio.directory(trio.silo(), A) / "QUERY_MESSAGE.md"
    note.write_text("draft")
    inode = trio.directory(trio.silo(), A).stat().st_ino
    new = old.with_name(f"{A}-new-title")
    old.rename(new)
    put(new / "metadata.json", as_jp({"title": "new title", "last_activated_at": "2026-01-01 00:00:00.0"}))
    until(lambda: in_step(trio, A, trio.base / "a", trio.base / "b", trio.silo()))

    assert f"{A}-new-title" == trio.directory(trio.silo(), A).name
    assert inode == trio.directory(trio.silo(), A).stat().st_ino
    assert "draft" == (trio.directory(trio.silo(), A) / "QUERY_MESSAGE.md").read_text()
    assert not (trio.directory(trio.base / "b", A) / "QUERY_MESSAGE.md").exists()


def test_a_locked_conversation_is_deferred_and_others_go_on(trio):
    """Somebody holds JP's lock: that one waits, the rest sync, and it follows by itself when the lock goes."""
    trio.write(trio.base / "a", B, "other")
    until(lambda: in_step(trio, B, trio.base / "a", trio.silo()))
    changed = as_jp([event("locked out")])
    with trio.holding(A):
        put(trio.directory(trio.base / "a", A) / "events.json", changed)
        put(trio.directory(trio.base / "a", B) / "events.json", changed)
        until(lambda: in_step(trio, B, trio.base / "a", trio.silo()))
        until(lambda: status(trio)["verdict"] == "pending")
        assert (trio.directory(trio.silo(), A) / "events.json").read_bytes() != changed
    until(lambda: in_step(trio, A, trio.base / "a", trio.base / "b", trio.silo()), "it follows", SHORTEST / 2)


def test_a_broken_file_is_held_named_and_mended(trio):
    """Half a file: the durable copy stays, status names it, its bytes are kept; mended it is in step again."""
    path = trio.directory(trio.base / "a", A) / "events.json"
    good = path.read_bytes()
    put(path, good[: len(good) // 2])
    until(lambda: [e for e in status(trio)["attention"] if e["kind"] == "held"], "held")
    assert (trio.directory(trio.silo(), A) / "events.json").read_bytes() == good
    put(path, as_jp([event("mended")]))
    until(lambda: in_step(trio, A, trio.base / "a", trio.base / "b", trio.silo()))
    until(lambda: status(trio)["verdict"] == "in-sync")


def test_both_sides_edited_while_nobody_looked(machine, agent):
    """Newest wins, the loser is in the history, the conflict is said and can be acknowledged."""
    machine.worktree("a")
    machine.write(machine.base / "a", A, "one")
    machine.ok("sync")
    now = time.time_ns()
    put(machine.directory(machine.base / "a", A) / "events.json", as_jp([event("mine")]), now - 5_000_000_000)
    put(machine.directory(machine.silo(), A) / "events.json", as_jp([event("theirs")]), now - 1_000_000_000)
    agent()
    until(lambda: in_step(machine, A, machine.base / "a", machine.silo()))

    assert ["theirs"] == machine.questions(machine.base / "a", A)
    until(lambda: ["conflict"] == [e["kind"] for e in status(machine)["attention"]], "told")
    kept = machine.ok("history", A, "--json").json["versions"]
    assert any(v["events"] == 1 and v["unit"] == "stream" for v in kept)


def test_kill_in_a_burst_and_restart_brings_everything_in_step(machine, agent):
    """Kill -9 at some moment of a burst: after a restart all is in step, nothing is left in staging, ages are true."""
    tree = machine.worktree("a")
    ids = [A + n for n in range(40)]
    for number in ids:
        machine.write(tree, number, "one")
    machine.ok("sync")
    for round_number in range(4):
        one = agent()
        for number in ids:
            path = machine.directory(tree, number)
            put(path / "base_config.json", as_jp({"round": round_number}))
            put(path / "events.json", as_jp([event("one"), event(f"round {round_number}")]))
            if number == ids[10 * round_number // 2 + 5]:
                one.kill()
    agent()
    until(lambda: all(in_step(machine, n, tree, machine.silo()) for n in ids), "in step")
    until(lambda: not list(machine.base.rglob(".convsync/c*")), "staging is empty")

    # What the dead agent had placed but not yet recorded looks like an edit of that side: kept and said, not lost.
    until(lambda: {e["kind"] for e in status(machine)["attention"]} <= {"conflict"})
    assert 0 == machine.run("verify").code


def test_sigterm_drains_what_is_dirty(machine, agent):
    """Asked to stop right after an edit, the agent finishes it first and exits 0."""
    tree = machine.worktree("a")
    machine.write(tree, A, "one")
    machine.ok("sync")
    one = agent()
    put(machine.directory(tree, A) / "events.json", as_jp([event("last words")]))

    assert one.stop() == 0
    machine.ok("sync")
    assert in_step(machine, A, tree, machine.silo())


def test_only_one_agent_runs(machine, agent):
    """A second agent is refused with exit 4 and names the pid of the first."""
    machine.worktree("a")
    first = agent()
    second = machine.spawn("agent")
    _, err = second.communicate(timeout=PATIENCE)

    assert second.returncode == 4
    assert f"pid {first.process.pid}" in err


def test_register_and_unregister_are_seen_by_a_running_agent(machine, agent):
    """The registry changes under a running agent: it follows by itself, and does not wait for the net."""
    machine.worktree("a")
    agent()
    tree = machine.worktree("b")
    until(
        lambda: "b" in [os.path.basename(t["path"]) for w in runtime(machine)["workspaces"] for t in w["worktrees"]],
        "registered",
        SHORTEST / 2,
    )
    machine.write(tree, B, "new")
    until(lambda: in_step(machine, B, tree, machine.silo()))
    machine.ok("unregister", tree)
    until(lambda: 1 == sum(len(w["worktrees"]) for w in runtime(machine)["workspaces"]), "let go", SHORTEST / 2)


def test_a_killed_agent_is_stale_and_a_stopped_one_stopped(machine, agent):
    """`status` tells a crash from a stop, and answers from the disk in both cases."""
    machine.worktree("a")
    agent().kill()
    assert "stale" == status(machine)["agent"]["state"]
    agent().stop(signal.SIGINT)

    assert "stopped" == status(machine)["agent"]["state"]


def test_a_worktree_that_goes_and_comes_back_is_watched_again(trio):
    """Deleted: `missing`, its conversations durable. Made anew at the same path: watched again at once."""
    import shutil

    tree = trio.base / "b"
    trio.write(tree, B, "only here")
    until(lambda: in_step(trio, B, tree, trio.silo()))
    shutil.rmtree(tree)
    until(lambda: "missing" in [t["state"] for w in status(trio)["workspaces"] for t in w["worktrees"]], "missing")
    assert ["only here"] == trio.questions(trio.silo(), B)
    (tree / ".jp" / "conversations").mkdir(parents=True)
    (tree / ".jp" / ".id").write_text("abcde\n")
    trio.write(tree, B + 1, "second life")
    until(lambda: in_step(trio, B + 1, tree, trio.silo()), "imported from the new worktree")


def test_a_lock_of_ours_is_gone_after_use(trio):
    """After a sync no lock file is left behind, and a free one with our name is removed at the next start."""
    put(trio.directory(trio.base / "a", A) / "events.json", as_jp([event("x")]))
    until(lambda: in_step(trio, A, trio.base / "a", trio.silo()))

    until(lambda: not list((trio.silo() / "locks").iterdir()), "no lock is left")


def test_the_lock_is_really_jps(trio):
    """While we write, a flock on JP's file is refused: shown by holding it first and watching us defer."""
    lock = trio.silo() / "locks" / f"jp-c{A}.lock"
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        put(trio.directory(trio.base / "a", A) / "events.json", as_jp([event("x")]))
        until(lambda: runtime(trio) and status(trio)["workspaces"][0]["worktrees"][0]["counts"]["deferred"] == 1)
    lock.unlink(missing_ok=True)  # the agent may have had it by now, and removed it
    until(lambda: in_step(trio, A, trio.base / "a", trio.silo()))


def test_idle_writes_nothing(trio):
    """An agent with nothing to do changes no file of its state."""
    until(lambda: status(trio)["verdict"] == "in-sync")
    files = sorted((trio.base / "state" / "convsync").iterdir())
    before = [(f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in files]
    time.sleep(1.0)  # an interval of doing nothing is what is observed

    assert before == [(f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in files]


def test_logs_hold_ids_and_no_text(trio):
    """One line a cycle, JSON off a terminal; no title, no slug, no content (R9)."""
    secret = "canary-slug-and-text"
    trio.write(trio.base / "a", B, secret, slug=secret, title=secret)
    until(lambda: in_step(trio, B, trio.base / "a", trio.silo()))
    put(trio.directory(trio.base / "a", B) / "events.json", b"[" + secret.encode())
    until(lambda: [e for e in status(trio)["attention"] if e["kind"] == "held"])
    told = json.dumps(status(trio))
    trio.agent.kill()  # nothing comes or goes while it is read; told to stop it would take runtime.json away
    texts = [p.read_bytes() for p in trio.base.glob("agent-*.log")]
    texts += [p.read_bytes() for p in (trio.base / "state").rglob("*") if p.is_file()]

    assert secret not in told
    assert not [t for t in texts if secret.encode() in t]
