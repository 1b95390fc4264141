"""Phase 4: a conversation that only a worktree has becomes durable by policy or by command, and never by reading."""

from __future__ import annotations

import shutil

import pytest

from agents import in_step
from editors import kept
from jp import JP
from machine import LONG_AGO, as_jp, event, put

EXT, OTHER = 17_000_000_009, 17_000_000_010
NOTE = "a note"


def external(machine, number=EXT, tree="a"):
    """A conversation that JP without user storage, or git, has put there; with an unmanaged file."""
    place = machine.write(machine.base / tree, number, "ext", slug="talk", title="talk")
    put(place / "notes.txt", NOTE.encode(), LONG_AGO)
    return place


def configured(machine, policy):
    path = machine.base / "config/convsync/config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'[import]\npolicy = "{policy}"\n')


@pytest.fixture
def manual(machine):
    """Policy `manual`, worktree `a` with one external conversation."""
    configured(machine, "manual")
    machine.worktree("a")
    external(machine)
    machine.ok("sync")
    return machine


def letters(machine):
    lines = machine.ok("ls", "--all").out.splitlines()[1:]
    return {line.split("\t")[0]: line.split("\t")[1] for line in lines}


def external_count(machine):
    trees = [t for w in machine.ok("status", "--json").json["workspaces"] for t in w["worktrees"]]
    return sum(t["counts"]["external"] for t in trees)


def carried(machine, number=EXT):
    """Every file with its time, in both roots alike."""
    here, there = (machine.directory(r, number) for r in (machine.base / "a", machine.silo()))
    pictures = [
        {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in at.iterdir() if p.is_file()} for at in (here, there)
    ]
    return pictures[0] == pictures[1] and "notes.txt" in pictures[1]


# -- policies -----------------------------------------------------------------------------


def test_phase4_import_auto(machine):
    """One `sync` makes it durable, the whole directory, times kept."""
    machine.worktree("a")
    external(machine)
    assert (letters(machine), external_count(machine)) == ({f"jp-c{EXT}": "ext"}, 1)
    machine.ok("sync")
    assert letters(machine) == {f"jp-c{EXT}": "N"}
    assert carried(machine)
    assert external_count(machine) == 0


def test_phase4_import_on_write(machine):
    """First sight imports nothing, the first change of its files does; unmanaged files come along."""
    configured(machine, "on-write")
    machine.worktree("a")
    place = external(machine)
    for _ in range(2):
        machine.ok("sync")
        assert (letters(machine), external_count(machine)) == ({f"jp-c{EXT}": "ext"}, 1)
    with open(place / "events.json", "a") as file:
        file.write(" ")
    machine.ok("sync")
    assert letters(machine) == {f"jp-c{EXT}": "N"}
    assert in_step(machine, EXT, machine.silo(), machine.base / "a")
    assert (machine.directory(machine.silo(), EXT) / "notes.txt").read_text() == NOTE


def test_phase4_import_on_write_by_jp(machine):
    """JP imports on its own first write: what it left is in step, and nothing of it is imported twice."""
    configured(machine, "on-write")
    machine.worktree("a")
    external(machine)
    machine.ok("sync")
    JP(machine.silo(), machine.base / "a/.jp").query(EXT, "more")
    machine.ok("sync")
    assert machine.questions(machine.silo(), EXT) == machine.questions(machine.base / "a", EXT) == ["ext", "more"]
    assert (machine.directory(machine.silo(), EXT) / "notes.txt").read_text() == NOTE


def test_phase4_import_manual(manual):
    """It stays external whatever happens to its files; `ls` and `status` show it so."""
    put(manual.directory(manual.base / "a", EXT) / "events.json", as_jp([event("ext"), event("more")]))
    manual.ok("sync")
    assert (letters(manual), external_count(manual)) == ({f"jp-c{EXT}": "ext"}, 1)


# -- reading never imports -------------------------------------------------------------------


READING = [
    ["ls"],
    ["ls", "--json", "--all"],
    ["status"],
    ["status", "--json"],
    ["path", str(EXT)],
    ["path", str(EXT), "--events"],
    ["history", str(EXT)],
    ["show", str(EXT), "--json"],
    ["verify"],
    ["trash", "ls"],
    ["diff", str(EXT)],
    ["sync", "--dry-run"],
]


@pytest.mark.parametrize("policy", ["auto", "on-write", "manual"])
@pytest.mark.parametrize("argv", READING, ids=" ".join)
def test_phase4_reading_imports_nothing(machine, policy, argv):
    """Nothing below any root is written, not even the time of a directory."""
    configured(machine, policy)
    machine.worktree("a")
    external(machine)
    if policy != "auto":
        machine.ok("sync")
        put(machine.directory(machine.base / "a", EXT) / "events.json", as_jp([event("changed")]))
    machine.quiet()
    before = machine.inventory(machine.silo(), machine.base / "a")
    ran = machine.run(*argv)
    assert ran.code in (0, 1, 3), ran  # `verify` says no: it is not durable; `diff` has no version to compare with
    assert machine.inventory(machine.silo(), machine.base / "a") == before


def test_phase4_the_path_of_each_kind(manual):
    """Projected and external lie in the worktree, a local one in the silo."""
    manual.write(manual.silo(), OTHER, "local")
    assert manual.ok("path", EXT).out.strip() == str(manual.directory(manual.base / "a", EXT))
    assert manual.ok("path", OTHER).out.strip() == str(manual.directory(manual.silo(), OTHER))
    manual.ok("import", EXT)
    assert manual.ok("path", EXT, "--events").out.strip() == str(
        manual.directory(manual.base / "a", EXT) / "events.json"
    )


@pytest.mark.parametrize("policy", ["on-write", "manual"])
def test_phase4_import_by_the_first_write_of_a_command(machine, monkeypatch, policy):
    """Contract 11.1, 33: a command that writes it makes all of it durable first, unmanaged files too."""
    configured(machine, policy)
    machine.worktree("a")
    external(machine)
    machine.ok("sync")
    script = machine.base / "ed"
    script.write_text('#!/bin/sh\nprintf "[]" > "$1"\n')
    script.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(script))
    machine.ok("edit", EXT, "-e")
    assert letters(machine) == {f"jp-c{EXT}": "N"}
    assert carried(machine)
    assert machine.questions(machine.silo(), EXT) == []


# -- by command --------------------------------------------------------------------------------


def test_phase4_import_by_command(manual):
    """Whatever the policy says; a second one says so and writes nothing."""
    done = manual.ok("import", EXT, "--json").json
    assert done == {"schema": 1, "imported": [f"jp-c{EXT}"], "already": [], "deferred": [], "held": []}
    assert carried(manual)
    assert letters(manual) == {f"jp-c{EXT}": "N"}
    before = manual.inventory(manual.silo(), manual.base / "a")
    assert manual.ok("import", EXT, "--json").json["already"] == [f"jp-c{EXT}"]
    assert "durable already" in manual.ok("import", EXT).out
    assert manual.inventory(manual.silo(), manual.base / "a") == before


def test_phase4_import_all(manual):
    """Every external one of every workspace; what cannot be used is listed, what is locked is deferred; exit 0."""
    external(manual, OTHER)
    bad = external(manual, OTHER + 1)
    put(bad / "events.json", b"x", LONG_AGO)
    external(manual, OTHER + 2)
    with manual.holding(OTHER + 2):
        done = manual.ok("import", "--all", "--json").json
    assert done["imported"] == [f"jp-c{EXT}", f"jp-c{OTHER}"]
    assert [h["conversation"] for h in done["held"]] == [f"jp-c{OTHER + 1}"]
    assert done["deferred"] == [{"conversation": f"jp-c{OTHER + 2}", "reason": "locked"}]
    assert manual.ok("import", "--all", "--json").json["already"] == [f"jp-c{EXT}", f"jp-c{OTHER}"]
    assert manual.directory(manual.silo(), OTHER + 1) is None
    assert "held: " in manual.ok("import", "--all").out


def test_phase4_import_of_one_worktree(manual):
    """`--worktree` narrows it."""
    manual.worktree("b")
    external(manual, OTHER, "b")
    assert manual.run("import", EXT, "--worktree", manual.base / "b").code == 3
    assert manual.ok("import", "--all", "--worktree", manual.base / "b", "--json").json["imported"] == [f"jp-c{OTHER}"]
    assert manual.directory(manual.silo(), EXT) is None
    assert manual.run("import", "--all", "--worktree", manual.home).code == 3


def test_phase4_an_archived_one_is_imported_into_the_archive(manual):
    """Its partition is kept."""
    manual.write(manual.base / "a", OTHER, "old", archived=True)
    manual.ok("import", OTHER)
    assert manual.directory(manual.silo(), OTHER, archived=True) is not None
    assert manual.directory(manual.silo(), OTHER) is None


def test_phase4_what_differs_in_two_worktrees(manual):
    """Each unit from its own winner; the other content is in the history, and the copies are in step."""
    manual.worktree("b")
    shutil.copytree(manual.directory(manual.base / "a", EXT), manual.store(manual.base / "b") / f"conversations/{EXT}")
    put(manual.directory(manual.base / "b", EXT) / "events.json", as_jp([event("other")]), LONG_AGO + 10**9)
    manual.ok("import", EXT)
    for root in (manual.silo(), manual.base / "a", manual.base / "b"):
        assert manual.questions(root, EXT) == ["other"]
    assert as_jp([event("ext")]) in kept(manual, EXT)


def bad_events(machine):
    put(machine.directory(machine.base / "a", EXT) / "events.json", b"x", LONG_AGO)


REFUSED = {
    "neither": ([], None, 2),
    "both": (["--all", str(EXT)], None, 2),
    "unknown": (["18"], None, 3),
    "not valid": ([str(EXT)], bad_events, 4),
}


@pytest.mark.parametrize("what", REFUSED)
def test_phase4_import_refused(manual, what):
    """The error says why and what to type; nothing below a root changes."""
    argv, change, code = REFUSED[what]
    if change:
        change(manual)
        manual.quiet()
    before = manual.inventory(manual.silo() / "conversations", manual.base / "a")
    ran = manual.run("import", *argv)
    assert (ran.code, "hint: " in ran.err) == (code, True), ran
    assert manual.inventory(manual.silo() / "conversations", manual.base / "a") == before


def test_phase4_import_waits_for_the_lock(manual, monkeypatch):
    """Exit 5 names the holder."""
    monkeypatch.setenv("JP_LOCK_DURATION", "0")
    with manual.holding(EXT):
        ran = manual.run("import", EXT)
    assert (ran.code, "getsid-1" in ran.err) == (5, True)
    assert manual.directory(manual.silo(), EXT) is None


def test_phase4_what_was_removed_is_not_imported_by_accident(manual):
    """A left-over of a removed conversation stays what it is, and the error says how to bring it back."""
    manual.ok("import", EXT)
    manual.worktree("b")
    shutil.copytree(manual.directory(manual.base / "a", EXT), manual.store(manual.base / "b") / f"conversations/{EXT}")
    manual.ok("sync")
    JP(manual.silo(), manual.base / "a/.jp").remove(EXT)
    manual.ok("sync")
    ran = manual.run("import", EXT)
    assert (ran.code, "convsync trash restore" in ran.err) == (4, True), ran
    assert manual.directory(manual.silo(), EXT) is None


def test_phase4_import_that_cannot_be_written(manual):
    """Exit 6, and the external copy is as it was."""
    external(manual, OTHER)
    in_the_way = manual.silo() / "conversations/.convsync"
    in_the_way.write_text("not a directory")
    manual.quiet()
    before = manual.inventory(manual.base / "a")
    assert manual.run("import", EXT).code == 6
    assert manual.run("import", "--all", "--json").code == 6
    assert manual.inventory(manual.base / "a") == before
    in_the_way.unlink()
    assert len(manual.ok("import", "--all", "--json").json["imported"]) == 2
