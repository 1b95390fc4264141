"""Phase 6: `archive` and `unarchive` in every root, judged by what JP itself would have done. Real files and locks."""

from __future__ import annotations

import json
import shutil

import pytest

from agents import FILES, in_step, status, until
from convsync_agent.history import History
from jp import JP
from machine import LONG_AGO, SECOND, WS, as_jp, event, put

ID, OTHER = 17000000001, 17000000002
LOCAL, PROJECTED, BOTH, EXTERNAL = "local", "projected", "both", "external"
PLACES = {LOCAL: ["silo"], PROJECTED: ["silo", "a"], BOTH: ["silo", "a", "b"], EXTERNAL: ["a"]}


def roots(machine):
    return {"silo": machine.silo(), "a": machine.base / "a", "b": machine.base / "b"}


def laid_out(machine, presence=BOTH, **flags):
    """Worktrees a and b; the conversation in the roots of `presence`, with a note in each copy."""
    for name in "ab":
        machine.worktree(name, register=False)
    for name in "ab":
        machine.ok("register", machine.base / name, *flags.get(name, ()))
    for name in PLACES[presence]:
        path = machine.write(roots(machine)[name], ID, "one", "two", slug="talk", title="talk")
        put(path / "NOTE.md", b"note", LONG_AGO)
    machine.quiet()
    if presence != EXTERNAL:
        machine.ok("sync")
    return machine


def where(machine, conversation=ID):
    """Its partition by root, `live+archived` for both; a root that has none is left out."""
    found = {}
    for name, root in roots(machine).items():
        here = [
            w for w, x in (("live", False), ("archived", True)) if machine.directory(root, conversation, archived=x)
        ]
        if here:
            found[name] = "+".join(here)
    return found


def metadata(machine, root, *, archived):
    return json.loads((machine.directory(root, ID, archived=archived) / "metadata.json").read_bytes())


def everything(machine):
    """The bytes of every file of the conversation in any root."""
    tops = [machine.store(r) / "conversations" for r in roots(machine).values()]
    return {p.read_bytes() for t in tops for p in t.rglob(f"*{ID}*/*") if p.is_file()}


@pytest.mark.parametrize("presence", PLACES)
def test_archive_unarchive_across_roots(machine, presence):
    """Archived in every root that has it, and back in exactly those; an external one is imported."""
    laid_out(machine, presence)
    ends_in = {*PLACES[presence], "silo"}

    done = machine.ok("archive", str(ID), "--json").json

    assert done == {"schema": 1, "archived": [f"jp-c{ID}"], "skipped": []}
    assert where(machine) == dict.fromkeys(ends_in, "archived")
    assert all("archived_at" in metadata(machine, roots(machine)[n], archived=True) for n in ends_in)
    assert [c["id"] for c in machine.ok("ls", "--archived", "--json").json["conversations"]] == [f"jp-c{ID}"]
    machine.ok("verify")
    assert machine.ok("sync", "--json").json["actions"] == []

    done = machine.ok("unarchive", f"jp-c{ID}", "--json").json

    assert done == {"schema": 1, "unarchived": [f"jp-c{ID}"], "skipped": []}
    assert where(machine) == dict.fromkeys(ends_in, "live")
    assert not any("archived_at" in metadata(machine, roots(machine)[n], archived=False) for n in ends_in)
    assert all((machine.directory(roots(machine)[n], ID) / "NOTE.md").read_bytes() == b"note" for n in ends_in)
    assert in_step(machine, ID, *(roots(machine)[n] for n in sorted(ends_in)))
    assert status(machine)["attention"] == []
    assert machine.ok("sync", "--json").json["actions"] == []


@pytest.mark.parametrize("presence", [LOCAL, PROJECTED])
@pytest.mark.parametrize("verb", ["archive", "unarchive"])
def test_phase6_as_jp_does_it(machine, presence, verb):
    """Names, places and every file are those that JP's own command leaves, but for the time in `archived_at`."""
    laid_out(machine, presence)
    if verb == "unarchive":
        machine.ok("archive", str(ID))
    aside = machine.base / "twin"
    aside.mkdir()
    shutil.copytree(machine.silo(), aside / "silo", symlinks=True)
    shutil.copytree(machine.base / "a/.jp", aside / "tree", symlinks=True)

    machine.ok(verb, str(ID))
    jp = JP(aside / "silo", aside / "tree")
    getattr(jp, verb)(ID)

    for ours, theirs in ((machine.silo(), aside / "silo"), (machine.base / "a/.jp", aside / "tree")):
        seen = [{p.relative_to(r).as_posix() for p in (r / "conversations").rglob("*")} for r in (ours, theirs)]
        seen = [{p for p in s if ".convsync" not in p and not p.endswith(".archive")} for s in seen]
        assert seen[0] == seen[1]
        for name in sorted(p for p in seen[0] if p.endswith(".json")):
            one, two = (json.loads((r / name).read_bytes()) for r in (ours, theirs))
            if name.endswith("metadata.json"):
                assert ("archived_at" in one) is ("archived_at" in two) is (verb == "archive")
                one, two = ({k: v for k, v in m.items() if k != "archived_at"} for m in (one, two))
            assert one == two, name
    tree = machine.base / "a/.jp"
    loaded = JP(machine.silo(), tree).loaded
    assert (ID in loaded) is (verb == "unarchive")
    assert JP(machine.silo(), tree).sanitize() == []


def test_phase6_the_form_of_the_field(machine):
    """JP's timestamp, at JP's place among the fields; every other byte of the file stays."""
    laid_out(machine)
    before = (machine.directory(machine.silo(), ID) / "metadata.json").read_bytes()

    machine.ok("archive", str(ID))
    now = (machine.directory(machine.silo(), ID, archived=True) / "metadata.json").read_bytes()
    machine.ok("unarchive", str(ID))

    lines = [line for line in now.splitlines() if b"archived_at" not in line]
    assert [line.rstrip(b",") for line in lines] == [line.rstrip(b",") for line in before.splitlines()]
    assert (machine.directory(machine.silo(), ID) / "metadata.json").read_bytes() == before


def test_phase6_what_is_so_already_is_skipped(machine):
    """A warning, exit 0, nothing written; the others are done."""
    laid_out(machine)
    machine.write(machine.silo(), OTHER, "three")
    machine.ok("archive", str(ID))
    before = machine.inventory(machine.silo() / "conversations")

    done = machine.ok("archive", str(ID), "--json").json
    plain = machine.ok("unarchive", str(OTHER))

    assert (done["archived"], [s["conversation"] for s in done["skipped"]]) == ([], [f"jp-c{ID}"])
    assert "skipped" in plain.err
    assert machine.inventory(machine.silo() / "conversations") == before
    done = machine.ok("archive", str(OTHER), str(ID), "--json").json
    assert (done["archived"], len(done["skipped"])) == ([f"jp-c{OTHER}"], 1)


def test_phase6_the_keyword_means_the_last_archived(machine):
    """Contract 11, 116: the latest `archived_at`; where none is archived, exit 3."""
    laid_out(machine)
    machine.write(machine.silo(), OTHER, "three")
    assert machine.run("unarchive", "archived").code == 3
    machine.ok("archive", str(OTHER))
    machine.ok("archive", str(ID))

    assert machine.ok("unarchive", "archived", "--json").json["unarchived"] == [f"jp-c{ID}"]
    assert machine.ok("unarchive", "archived", "--json").json["unarchived"] == [f"jp-c{OTHER}"]


def test_phase6_no_refresh_and_behind_copies_are_moved_too(machine):
    """A person asked: every root's directory is renamed; a no-refresh copy keeps its bytes."""
    laid_out(machine, b=("--no-refresh",))
    inode, raw = ((f := machine.directory(machine.base / "b", ID)).stat().st_ino, (f / "metadata.json").read_bytes())

    machine.ok("archive", str(ID))

    assert where(machine) == dict.fromkeys(("silo", "a", "b"), "archived")
    moved = machine.directory(machine.base / "b", ID, archived=True)
    assert (moved.stat().st_ino, (moved / "metadata.json").read_bytes()) == (inode, raw)
    machine.ok("unarchive", str(ID))
    assert where(machine) == dict.fromkeys(("silo", "a", "b"), "live")


def test_phase6_an_edit_that_nobody_saw_is_archived_with_it(machine):
    """No agent runs, and a worktree is newer: the durable copy has the edit."""
    laid_out(machine)
    put(machine.directory(machine.base / "b", ID) / "events.json", as_jp([event("one"), event("late")]))
    machine.quiet()

    machine.ok("archive", str(ID))

    assert machine.questions(machine.silo(), ID, archived=True) == ["one", "late"]
    assert where(machine) == dict.fromkeys(("silo", "a", "b"), "archived")


def split(machine, *archived):
    """As git leaves it: new directories in the archives of these roots."""
    for name in archived:
        path = machine.directory(roots(machine)[name], ID)
        shutil.copytree(path, path.parent / ".archive" / path.name)
        shutil.rmtree(path)


@pytest.mark.parametrize("archived", [("b",), ("a", "b"), ("silo",), ("silo", "a")], ids="+".join)
@pytest.mark.parametrize(("verb", "end"), [("archive", "archived"), ("unarchive", "live")])
def test_phase6_a_split_ends_where_a_person_says(machine, archived, verb, end):
    """Both commands resolve it, whoever is where; no byte goes, and nothing is left to tell."""
    laid_out(machine)
    split(machine, *archived)
    before = {raw for raw in everything(machine) if b"last_activated_at" not in raw}

    machine.ok(verb, str(ID))

    assert where(machine) == dict.fromkeys(("silo", "a", "b"), end)
    assert before <= everything(machine)
    assert [e for e in status(machine)["attention"] if e["kind"] == "split"] == []


def test_phase6_an_older_copy_in_the_archive_goes_into_the_history(machine):
    """JP would delete it (contract 6.5): the same name, or the name of an older title."""
    laid_out(machine)
    for name, slug in (("silo", "talk"), ("a", "older-title")):
        top = machine.store(roots(machine)[name]) / "conversations/.archive" / f"{ID}-{slug}"
        shutil.copytree(machine.directory(roots(machine)[name], ID), top)
        put(top / "events.json", as_jp([event(f"old in {name}")]), LONG_AGO - SECOND)
        put(top / "only.md", b"only here")

    refused = machine.run("unarchive", str(ID))
    machine.ok("archive", str(ID))

    assert refused.code == 4
    assert f"convsync archive jp-c{ID}" in refused.err
    assert where(machine) == dict.fromkeys(("silo", "a", "b"), "archived")
    assert machine.questions(machine.silo(), ID, archived=True) == ["one", "two"]
    history = History(str(machine.base / "data/convsync"))
    kept = [raw for m in history.versions(WS, ID) for _, raw, _ in history.read(WS, ID, m.version)]
    assert {b"only here", as_jp([event("old in a")]), as_jp([event("old in silo")])} <= {*kept}


@pytest.mark.parametrize("verb", ["archive", "unarchive"])
def test_phase6_a_taken_name_changes_nothing(machine, verb):
    """Something that is no conversation has the name: exit 4, before anything is moved or written."""
    laid_out(machine)
    if verb == "unarchive":
        machine.ok("archive", str(ID))
    live = machine.base / "b/.jp/conversations"
    at = live / ".archive" if verb == "archive" else live
    at.mkdir(exist_ok=True)
    (at / f"{ID}-talk").write_text("a file")
    before = machine.inventory(*(machine.store(r) / "conversations" for r in roots(machine).values()))

    ran = machine.run(verb, str(ID))

    assert ran.code == 4
    assert "talk" not in ran.err
    assert before == machine.inventory(*(machine.store(r) / "conversations" for r in roots(machine).values()))


@pytest.mark.parametrize("verb", ["archive", "unarchive"])
@pytest.mark.parametrize("presence", [PROJECTED, EXTERNAL])
def test_phase6_a_held_lock(machine, verb, presence, monkeypatch):
    """Exit 5 that names the holder; nothing changed. Ours is held, which JP's unarchive does not do."""
    monkeypatch.setenv("JP_LOCK_DURATION", "200ms")
    laid_out(machine, presence)
    if verb == "unarchive" and presence == PROJECTED:
        machine.ok("archive", str(ID))
    before = machine.inventory(*(machine.store(r) / "conversations" for r in roots(machine).values()))

    with machine.holding(ID):
        ran = machine.run(verb, str(ID))

    assert ran.code == 5
    assert "getsid-1" in ran.err
    assert before == machine.inventory(*(machine.store(r) / "conversations" for r in roots(machine).values()))


def test_phase6_some_of_several_fail(machine, monkeypatch):
    """The rest is done, the exit code is that of the first failure, and the document says which."""
    monkeypatch.setenv("JP_LOCK_DURATION", "0")
    laid_out(machine)
    machine.write(machine.silo(), OTHER, "three")

    with machine.holding(ID):
        ran = machine.run("archive", str(ID), str(OTHER), "--json")

    assert ran.code == 5
    assert ran.json["archived"] == [f"jp-c{OTHER}"]
    assert [(f["conversation"], f["code"]) for f in ran.json["failed"]] == [(f"jp-c{ID}", "locked")]


@pytest.mark.parametrize(
    ("argv", "code"), [((), 2), (("jp-c19",), 3), (("1700000000",), 2), (("17-secret",), 3), ((str(ID), "jp-c19"), 3)]
)
@pytest.mark.parametrize("verb", ["archive", "unarchive"])
def test_phase6_bad_targets_change_nothing(machine, verb, argv, code):
    """Unknown, ambiguous, none: said before anything is done to those that are right."""
    laid_out(machine)
    machine.write(machine.silo(), OTHER, "three")
    before = machine.inventory(machine.silo())

    ran = machine.run(verb, *argv)

    assert ran.code == code
    assert "secret" not in ran.err
    assert machine.inventory(machine.silo()) == before


def test_phase6_a_worktree_that_was_away_follows(machine, agent):
    """It is missing while the others are archived: said at once, and it follows when it is back."""
    laid_out(machine)
    away = machine.base / "elsewhere"
    (machine.base / "b").rename(away)

    told = machine.ok("archive", str(ID)).out
    away.rename(machine.base / "b")
    assert where(machine) == {"silo": "archived", "a": "archived", "b": "live"}
    agent()

    assert str(machine.base / "b") in told
    until(lambda: where(machine) == dict.fromkeys(("silo", "a", "b"), "archived"), "it follows", patience=60)
    until(lambda: status(machine)["verdict"] == "in-sync", "in sync")


def test_phase6_beside_a_running_agent(machine, agent):
    """It neither fights nor tells anything, there and back; sessions never see it absent from all four places."""
    laid_out(machine)
    agent()
    for verb, end in (("archive", "archived"), ("unarchive", "live"), ("archive", "archived")):
        machine.ok(verb, str(ID))
        assert where(machine) == dict.fromkeys(("silo", "a", "b"), end)
        until(lambda: status(machine)["verdict"] == "in-sync", "in sync")
        assert status(machine)["attention"] == []
    assert where(machine) == dict.fromkeys(("silo", "a", "b"), "archived")
    names = {p.name for p in machine.directory(machine.silo(), ID, archived=True).iterdir()}
    assert names == {*FILES, "NOTE.md"}
