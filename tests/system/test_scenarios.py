"""The survival scenarios that no other test plays: a real agent, real git, and once more with 1,000 conversations."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from agents import in_step, status, until
from convsync_cli.context import Context
from machine import WS, as_jp, event, put
from repository import LONG_SINCE, git

A = 17_000_000_001
MANY = range(17_000_000_001, 17_000_001_001)
MANY_PATIENCE = 300.0


def look_at_everything():
    """One whole scan and one cycle of every workspace, as the agent's net does it."""
    with Context().engine() as engine:
        for site in engine.sites.values():
            engine.cycle(site, engine.rescan(site))


def files_of(root) -> dict[str, bytes]:
    top = Path(root) / "conversations"
    return {
        str(p.relative_to(top)): p.read_bytes()
        for pattern in ("[!.]*/*.json", ".archive/[!.]*/*.json")
        for p in top.glob(pattern)
    }


def kinds(machine) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in status(machine)["attention"]:
        found[entry["kind"]] = found.get(entry["kind"], 0) + 1
    return found


def test_s2_a_scan_at_every_step_of_a_removal(machine):
    """Whatever a scan finds of a worktree that is being removed: the durable copies stay, and nothing is put back."""
    tree = machine.worktree("a", register=False)
    for conversation in MANY[:3]:
        machine.write(tree, conversation, "one", "two", slug="some-title", title="some title")
    machine.ok("register", tree)
    durable = files_of(machine.silo())
    assert len(durable) == 9
    for top, dirs, names in os.walk(tree, topdown=False):
        for name in (*names, *dirs):
            path = Path(top) / name
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
            left = files_of(tree / ".jp")
            look_at_everything()
            assert files_of(machine.silo()) == durable
            assert files_of(tree / ".jp") == left
    tree.rmdir()
    look_at_everything()

    assert files_of(machine.silo()) == durable
    machine.ok("verify")


DAMAGE = {
    "zero bytes": lambda _: b"",
    "NUL bytes": lambda raw: b"\0" * len(raw),
    "truncated": lambda raw: raw[: len(raw) // 2],
    "merge markers": lambda raw: b"<<<<<<< HEAD\n" + raw + b"=======\n" + raw + b">>>>>>> other\n",
}


def test_s5_damage_of_every_kind_goes_nowhere_and_is_mended_by_an_edit(machine, agent):
    """The newest file is broken: durable copy and other worktrees stay, its bytes are kept, a good file ends it."""
    a, b = (machine.worktree(n, register=False) for n in "ab")
    hurt = dict(zip(MANY, DAMAGE.values(), strict=False))
    for conversation in hurt:
        for root in (a, b):
            machine.write(root, conversation, "one", "two")
    machine.ok("register", a)
    machine.ok("register", b)
    agent()
    raw = as_jp([event("one"), event("two")])
    for conversation, damage in hurt.items():
        put(machine.directory(a, conversation) / "events.json", damage(raw))
    until(lambda: kinds(machine) == {"held": len(hurt)}, "all of them held")
    for conversation in hurt:
        assert machine.questions(machine.silo(), conversation) == machine.questions(b, conversation) == ["one", "two"]
        kept = machine.ok("--json", "history", conversation).json["versions"]
        assert [v["valid"] for v in kept if v["unit"] == "stream"] == [False]
    for conversation in hurt:
        put(machine.directory(a, conversation) / "events.json", as_jp([event("one"), event("two"), event("three")]))
    until(lambda: all(in_step(machine, c, a, b, machine.silo()) for c in hurt), "mended")
    until(lambda: kinds(machine) == {}, "nothing is held any more")
    assert all(len(machine.questions(machine.silo(), c)) == 3 for c in hurt)


def test_s9_a_queue_that_overflows_loses_no_change(machine, agent):
    """An agent that is stopped while more happens than the kernel remembers looks at everything afterwards."""
    a, b = (machine.worktree(n, register=False) for n in "ab")
    for root in (a, b):
        for conversation in MANY[:20]:
            machine.write(root, conversation, "one")
        machine.ok("register", root)
    one = agent()
    one.process.send_signal(signal.SIGSTOP)
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    noise = machine.directory(a, A) / "noise"
    noise.write_text("")
    for _ in range(limit // 2 + 1):  # four events each, twice what the queue holds
        noise.rename(noise.with_name("other"))
        noise.with_name("other").rename(noise)
    for number, conversation in enumerate(MANY[:20]):
        put(machine.directory((a, b)[number % 2], conversation) / "events.json", as_jp([event("one"), event("late")]))
    one.process.send_signal(signal.SIGCONT)

    until(lambda: all(in_step(machine, c, a, b, machine.silo()) for c in MANY[:20]), "in step")
    assert all(machine.questions(machine.silo(), c) == ["one", "late"] for c in MANY[:20])


@pytest.mark.slow
def test_s1_s3_s7_with_a_thousand_conversations(machine, agent):
    """A checkout of an older commit, a worktree that git removes, one that goes to the trash: all 1,000 survive."""
    main, b, c = machine.worktree("main", register=False), machine.base / "b", machine.base / "c"
    for conversation in MANY:
        machine.write(main, conversation, "one")
    git(main, "init", "-q", "-b", "main")
    (main / ".gitignore").write_text(".convsync\n")
    git(main, "add", "-A")
    git(main, "commit", "-qm", "old", **LONG_SINCE)
    git(main, "branch", "old")
    for conversation in MANY:
        machine.write(main, conversation, "one", "two")
    git(main, "commit", "-qam", "new", **LONG_SINCE)
    for path in (b, c):
        git(main, "worktree", "add", "-q", "-b", path.name, str(path))
    for path in (main, b, c):
        machine.ok("register", path)
    agent()
    durable = files_of(machine.silo())
    assert len(durable) == 3 * len(MANY)

    git(main, "checkout", "-q", "old")  # S3
    until(lambda: kinds(machine) == {"behind": len(MANY)}, "all of them behind", MANY_PATIENCE)
    assert files_of(machine.silo()) == files_of(b / ".jp") == durable
    git(main, "checkout", "-q", "main")
    until(lambda: kinds(machine) == {}, "none is behind any more", MANY_PATIENCE)

    for path, first in ((b, 0), (c, 20)):
        for conversation in MANY[first : first + 20]:
            put(machine.directory(path, conversation) / "events.json", as_jp([event("one"), event(path.name)]))
    everywhere = [machine.silo(), main / ".jp", b / ".jp", c / ".jp"]
    until(lambda: all(files_of(r) == files_of(b / ".jp") for r in everywhere), "the last turns are everywhere")
    until(lambda: status(machine)["verdict"] == "in-sync", "nothing is left in staging, which git would stumble over")
    durable = files_of(machine.silo())
    assert [machine.questions(machine.silo(), n)[1] for n in (MANY[0], MANY[20], MANY[40])] == ["b", "c", "two"]
    git(main, "worktree", "remove", "--force", str(b))  # S1
    until(lambda: kinds(machine).get("missing") == 1, "the first is missing")
    c.rename(machine.base / "trash")  # S7
    shutil.rmtree(machine.base / "trash")
    until(lambda: kinds(machine) == {"missing": 2}, "both are missing")

    assert files_of(machine.silo()) == files_of(main / ".jp") == durable
    assert not (machine.base / f"data/convsync/trash/{WS}" / f"jp-c{A}" / "tombstone.json").exists()
    until(lambda: status(machine)["verdict"] == "in-sync", "in sync all the same")
