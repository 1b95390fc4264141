"""Phase 6: `edit`: what is current, edited privately, then in every root at once. Nothing written is lost."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from agents import in_step
from editors import EXT, NEW, A, B, contents, kept, picture, private, roots, saving
from jp import JP, fault
from machine import LONG_AGO, as_jp, event, put

# -- good edits ---------------------------------------------------------------------------


def test_phase6_edit_is_at_once_in_every_root(pair, editor):
    """Byte for byte, also where JP writes no such bytes; what it replaced is in the history."""
    before = contents(pair)[0]
    editor("printf '[]' > \"$1\"")
    done = pair.ok("edit", A, "-e", "--json").json
    assert (done["conversation"], done["changed"], done["units"]) == (f"jp-c{A}", True, ["stream"])
    assert sorted(done["written"]) == sorted([str(pair.silo()), str(pair.base / "a"), str(pair.base / "b")])
    assert contents(pair) == [b"[]"] * 3
    assert in_step(pair, A, *roots(pair))
    assert before in kept(pair)
    assert private(pair) == []
    before = picture(pair)
    pair.ok("sync")
    assert picture(pair) == before


def test_phase6_edit_is_what_jp_loads(pair, editor):
    """JP's own rule finds the edited text in every worktree, and goes on with it."""
    editor(saving(pair, NEW))
    pair.ok("edit", A, "-e")
    for name in "ab":
        jp = JP(pair.silo(), pair.base / name / ".jp")
        assert jp.loaded[A]["events.json"] == NEW
        assert fault(pair.directory(pair.base / name, A)) == ""
    JP(pair.silo(), pair.base / "a/.jp").query(A, "more")
    pair.ok("sync")
    assert pair.questions(pair.base / "b", A) == ["one", "edited", "more"]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["-e"], ["events.json"]),
        (["-m"], ["metadata.json"]),
        (["-b"], ["base_config.json"]),
        (["-e", "-m", "-b"], ["events.json", "metadata.json", "base_config.json"]),
    ],
)
def test_phase6_edit_opens_what_was_asked_for(pair, editor, flags, names):
    """Files with their real names, private to their owner, never the ones in a root."""
    seen = pair.base / "seen"
    editor(f'for p in "$@"; do echo "$p"; stat -c %a "$p" "$(dirname "$p")"; done > "{seen}"')
    assert "unchanged" in pair.ok("edit", A, *flags).out
    rows = seen.read_text().split()
    assert [os.path.basename(p) for p in rows[::3]] == names
    assert rows[1::3] == ["600"] * len(names)
    assert rows[2::3] == ["700"] * len(names)
    assert all(p.startswith(str(pair.base / "data/convsync/editing-")) for p in rows[::3])


def test_phase6_edit_without_an_option_is_a_directory(pair, editor):
    """The three files; what is changed of them is written, whole units; a file beside them is kept."""
    meta = as_jp({"title": "new", "last_activated_at": "2023-11-14 22:13:20.0"})
    editor(
        f'ls "$1" > "{pair.base}/seen"; cat "{pair.base}/new" > "$1/events.json"; '
        f'cat "{pair.base}/meta" > "$1/metadata.json"; echo mine > "$1/NOTE.md"; touch "$1/.events.json.swp"'
    )
    (pair.base / "new").write_bytes(NEW)
    (pair.base / "meta").write_bytes(meta)
    assert pair.ok("edit", A, "--json").json["units"] == ["stream", "metadata"]
    assert (pair.base / "seen").read_text().split() == ["base_config.json", "events.json", "metadata.json"]
    assert contents(pair) == [NEW] * 3
    assert contents(pair, file="metadata.json") == [meta] * 3
    assert b"mine\n" in kept(pair)
    assert private(pair) == []


def test_phase6_edit_of_a_local_one_and_of_an_external_one(pair, editor):
    """A local one stays local; an external one is imported first, as JP does."""
    editor(saving(pair, NEW))
    pair.ok("edit", B, "-e")
    assert (pair.questions(pair.silo(), B), pair.directory(pair.base / "a", B)) == (["one", "edited"], None)
    pair.write(pair.base / "a", EXT, "ext")
    pair.ok("--set", "import.policy=manual", "edit", EXT, "-e")
    assert in_step(pair, EXT, pair.silo(), pair.base / "a")
    assert pair.questions(pair.silo(), EXT) == ["one", "edited"]


def test_phase6_edit_of_a_legacy_pair(pair, editor):
    """The config is in the events: it stays so, and there is no base config to edit."""
    packed = event(kind="config_delta", delta={})
    for root in roots(pair):
        top = pair.directory(root, A)
        put(top / "events.json", as_jp([packed, event("old")]), LONG_AGO + 5)
        (top / "base_config.json").unlink()
    pair.ok("sync")
    assert pair.run("edit", A, "-b").code == 2  # no editor yet
    editor(saving(pair, as_jp([packed, event("new")])))
    assert pair.run("edit", A, "-b").code == 4
    pair.ok("edit", A, "-e")
    assert pair.questions(pair.silo(), A) == [None, "new"]
    assert [(pair.directory(r, A) / "base_config.json").exists() for r in roots(pair)] == [False] * 3
    editor(saving(pair, as_jp([event("new")])))
    assert pair.run("edit", A, "-e").code == 2
    assert pair.questions(pair.silo(), A) == [None, "new"]


def test_phase6_edit_gives_what_is_current(pair, editor):
    """Where copies differ it is the winner by JP's rule, whichever root has it."""
    put(pair.directory(pair.base / "b", A) / "events.json", as_jp([event("one"), event("late")]))
    editor('cat "$1" > "$HOME/seen"')
    pair.ok("edit", A, "-e")
    assert [e["content"] for e in json.loads((pair.home / "seen").read_bytes())] == ["one", "late"]


def test_phase6_edit_mends_what_is_broken(pair, editor):
    """Where no copy can be loaded the newest is opened as it is."""
    for root in roots(pair):
        put(pair.directory(root, A) / "events.json", b"[")
    pair.quiet()
    editor(f'cat "$1" > "$HOME/seen"; {saving(pair, NEW)}')
    pair.ok("edit", A, "-e")
    assert ((pair.home / "seen").read_bytes(), contents(pair)) == (b"[", [NEW] * 3)


# -- what happens meanwhile ----------------------------------------------------------------------


def jp_appends(machine):
    JP(machine.silo(), machine.base / "a/.jp").query(A, "meanwhile")


def test_phase6_edit_of_what_changed_meanwhile_overwrites_nothing(pair, editor):
    """JP appended while the editor was open: exit 4, the edited text is a version, and the hint brings it."""
    turn = as_jp([event("one"), event("meanwhile")])
    (pair.base / "turn").write_bytes(turn)
    top = pair.directory(pair.silo(), A)
    editor(f'{saving(pair, NEW)}; cp "{pair.base}/turn" "{top}/t.tmp"; mv "{top}/t.tmp" "{top}/events.json"')
    ran = pair.run("edit", A, "-e")
    assert (ran.code, "changed while the editor was open" in ran.err) == (4, True), ran
    pair.ok("sync")
    assert contents(pair) == [turn] * 3
    assert NEW in kept(pair)
    hint = next(r for r in ran.err.splitlines() if r.startswith("hint: convsync restore"))
    pair.ok(*hint.removeprefix("hint: convsync ").split())
    assert contents(pair) == [NEW] * 3
    assert turn in kept(pair)
    assert private(pair) == []


def test_phase6_edit_beside_a_change_of_the_other_unit(pair, editor):
    """Only what is written has to be as it was given: JP's activation meanwhile is no contradiction."""
    meta = as_jp({"title": "talk", "last_activated_at": "2024-01-01 00:00:00.0"})
    (pair.base / "meta").write_bytes(meta)
    top = pair.directory(pair.silo(), A)
    editor(
        f'cat "{pair.base}/new" > "$1/events.json"; '
        f'cp "{pair.base}/meta" "{top}/m.tmp"; mv "{top}/m.tmp" "{top}/metadata.json"'
    )
    (pair.base / "new").write_bytes(NEW)
    pair.ok("edit", A)
    pair.ok("sync")
    assert contents(pair) == [NEW] * 3
    assert contents(pair, file="metadata.json") == [meta] * 3


def test_phase6_edit_of_what_went_away_meanwhile(pair, editor):
    """Exit 3, and the text is kept."""
    gone = " ".join(f'"{pair.directory(r, A)}"' for r in roots(pair))
    editor(f"{saving(pair, NEW)}; rm -r {gone}")
    ran = pair.run("edit", A, "-e")
    assert (ran.code, "your text is kept" in ran.err) == (3, True), ran
    assert NEW in kept(pair)


def test_phase6_edit_waits_before_the_editor_opens(pair, editor, monkeypatch):
    """A held lock is exit 5, and the editor was never there."""
    monkeypatch.setenv("JP_LOCK_DURATION", "0")
    editor('touch "$HOME/opened"')
    with pair.holding(A):
        ran = pair.run("edit", A, "-e")
    assert (ran.code, "getsid-1" in ran.err) == (5, True)
    assert not (pair.home / "opened").exists()


def test_phase6_edit_with_a_lock_that_never_frees(pair, editor, monkeypatch):
    """Exit 5, nothing is overwritten, and the text is kept."""
    monkeypatch.setenv("JP_LOCK_DURATION", "0")
    before = picture(pair)
    lock = pair.silo() / "locks" / f"jp-c{A}.lock"
    editor(f'{saving(pair, NEW)}; (flock -x 9; touch "$HOME/held"; while ! test -e "$HOME/done"; do sleep 0.05; done) '
           f'9> "{lock}" & while ! test -e "$HOME/held"; do sleep 0.02; done')  # fmt: skip
    ran = pair.run("edit", A, "-e")
    (pair.home / "done").touch()
    assert (ran.code, "your text is kept" in ran.err) == (5, True), ran
    assert picture(pair) == before
    assert NEW in kept(pair)
    assert private(pair) == []


def test_phase6_edit_that_can_be_kept_nowhere_stays_where_it_is(pair, editor):
    """Not even the history takes it: exit 6 names the private copy, and that is not removed."""
    history = pair.base / "data/convsync/history"
    shutil.rmtree(history, ignore_errors=True)
    gone = " ".join(f'"{pair.directory(r, A)}"' for r in roots(pair))
    editor(f'{saving(pair, NEW)}; rm -r {gone}; echo > "{history}"')
    ran = pair.run("edit", A, "-e")
    (folder,) = private(pair)
    assert (ran.code, str(folder) in ran.err) == (6, True), ran
    assert (folder / f"jp-c{A}/events.json").read_bytes() == NEW


REFUSED = {
    "unknown": (["18", "-e"], None, 3),
    "no target": (["-e"], None, 2),
    "archived": ([A, "-e"], lambda m: JP(m.silo(), m.base / "a/.jp").archive(A), 4),
    "two directories": (
        [B, "-e"],
        lambda m: shutil.copytree(m.directory(m.silo(), B), m.silo() / f"conversations/{B}-x"),
        4,
    ),
    "local and files": ([A, "-e", "--local"], None, 2),
    "local what": ([A, "--local=maybe"], None, 2),
}


@pytest.mark.parametrize("what", REFUSED)
def test_phase6_edit_refused(pair, editor, what):
    """Before any editor opens; nothing changes."""
    argv, change, code = REFUSED[what]
    editor('touch "$HOME/opened"')
    if change:
        change(pair)
    before = picture(pair)
    ran = pair.run("edit", *argv)
    assert (ran.code, "hint: " in ran.err) == (code, True), ran
    assert picture(pair) == before
    assert not (pair.home / "opened").exists()


# -- --local ---------------------------------------------------------------------------------------


def test_phase5_edit_local_toggles(pair, monkeypatch):
    """Bare it turns the projection round, with a value it sets it; the durable copy stays."""
    monkeypatch.chdir(pair.base / "a")
    silo = pair.inventory(pair.directory(pair.silo(), A))
    for argv, there in (
        ([A, "--local"], False),
        (["--local", A], True),
        ([A, "--local=true"], False),
        ([A, "--local=true"], False),
        ([A, "--local=false"], True),
        ([A, "--local=false"], True),
    ):
        pair.ok("edit", *argv)
        assert (pair.directory(pair.base / "a", A) is not None) is there, argv
        assert pair.inventory(pair.directory(pair.silo(), A)) == silo
    assert in_step(pair, A, *roots(pair))
    monkeypatch.chdir(pair.home)
    ran = pair.run("edit", A, "--local")
    assert (ran.code, "--worktree" in ran.err) == (2, True)
