"""Phase 6: `edit` with real editors. Nobody sees half an edit, nothing that was written is lost."""

from __future__ import annotations

import json
import os
import pty
import shutil

import pytest

from agents import in_step
from convsync_agent.history import History
from jp import JP, fault
from machine import LONG_AGO, WS, as_jp, event, put
from terminal import everything

A, B, EXT = 17_000_000_001, 17_000_000_002, 17_000_000_009
NEW = as_jp([event("one"), event("edited")])


@pytest.fixture
def one(machine):
    """Worktrees `a` and `b`: A is projected in both; B is local."""
    for name in "ab":
        machine.write(machine.worktree(name, register=False), A, "one", slug="talk", title="talk")
    machine.ok("register", machine.base / "a")
    machine.ok("register", machine.base / "b")
    machine.write(machine.silo(), B, "local")
    machine.ok("sync")
    machine.quiet()
    return machine


@pytest.fixture
def editor(machine, monkeypatch):
    """Sets $EDITOR to a script: `$1` is the first path."""

    def use(body, variable="EDITOR"):
        path = machine.base / "ed"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        monkeypatch.setenv(variable, str(path))
        return path

    return use


def saving(machine, raw, name="new"):
    """A line of a script that saves these bytes over `$1`."""
    path = machine.base / name
    path.write_bytes(raw)
    return f'cat "{path}" > "$1"'


def roots(machine):
    return [machine.silo(), machine.base / "a", machine.base / "b"]


def contents(machine, conversation=A, file="events.json"):
    return [(machine.directory(r, conversation) / file).read_bytes() for r in roots(machine)]


def picture(machine):
    return machine.inventory(machine.silo() / "conversations", machine.base / "a", machine.base / "b")


def kept(machine, conversation=A):
    known = History(str(machine.base / "data/convsync"))
    versions = known.versions(WS, conversation)
    return {raw for m in versions for _, raw, _ in known.read(WS, conversation, m.version)}


def private(machine):
    return list((machine.base / "data/convsync").glob("editing-*"))


# -- good edits ---------------------------------------------------------------------------


def test_phase6_edit_is_at_once_in_every_root(one, editor):
    """S0-24: byte for byte, also where JP writes no such bytes; what it replaced is in the history."""
    before = contents(one)[0]
    editor("printf '[]' > \"$1\"")
    done = one.ok("edit", A, "-e", "--json").json
    assert (done["conversation"], done["changed"], done["units"]) == (f"jp-c{A}", True, ["stream"])
    assert sorted(done["written"]) == sorted([str(one.silo()), str(one.base / "a"), str(one.base / "b")])
    assert contents(one) == [b"[]"] * 3
    assert in_step(one, A, *roots(one))
    assert before in kept(one)
    assert private(one) == []
    before = picture(one)
    one.ok("sync")
    assert picture(one) == before


def test_phase6_edit_is_what_jp_loads(one, editor):
    """JP's own rule finds the edited text in every worktree, and goes on with it."""
    editor(saving(one, NEW))
    one.ok("edit", A, "-e")
    for name in "ab":
        jp = JP(one.silo(), one.base / name / ".jp")
        assert jp.loaded[A]["events.json"] == NEW
        assert fault(one.directory(one.base / name, A)) == ""
    JP(one.silo(), one.base / "a/.jp").query(A, "more")
    one.ok("sync")
    assert one.questions(one.base / "b", A) == ["one", "edited", "more"]


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["-e"], ["events.json"]),
        (["-m"], ["metadata.json"]),
        (["-b"], ["base_config.json"]),
        (["-e", "-m", "-b"], ["events.json", "metadata.json", "base_config.json"]),
    ],
)
def test_phase6_edit_opens_what_was_asked_for(one, editor, flags, names):
    """Files with their real names, private to their owner, never the ones in a root."""
    seen = one.base / "seen"
    editor(f'for p in "$@"; do echo "$p"; stat -c %a "$p" "$(dirname "$p")"; done > "{seen}"')
    assert "unchanged" in one.ok("edit", A, *flags).out
    rows = seen.read_text().split()
    assert [os.path.basename(p) for p in rows[::3]] == names
    assert rows[1::3] == ["600"] * len(names)
    assert rows[2::3] == ["700"] * len(names)
    assert all(p.startswith(str(one.base / "data/convsync/editing-")) for p in rows[::3])


def test_phase6_edit_without_an_option_is_a_directory(one, editor):
    """The three files; what is changed of them is written, whole units; a file beside them is kept."""
    meta = as_jp({"title": "new", "last_activated_at": "2023-11-14 22:13:20.0"})
    editor(
        f'ls "$1" > "{one.base}/seen"; cat "{one.base}/new" > "$1/events.json"; '
        f'cat "{one.base}/meta" > "$1/metadata.json"; echo mine > "$1/NOTE.md"; touch "$1/.events.json.swp"'
    )
    (one.base / "new").write_bytes(NEW)
    (one.base / "meta").write_bytes(meta)
    assert one.ok("edit", A, "--json").json["units"] == ["stream", "metadata"]
    assert (one.base / "seen").read_text().split() == ["base_config.json", "events.json", "metadata.json"]
    assert contents(one) == [NEW] * 3
    assert contents(one, file="metadata.json") == [meta] * 3
    assert b"mine\n" in kept(one)
    assert private(one) == []


def test_phase6_edit_of_a_local_one_and_of_an_external_one(one, editor):
    """A local one stays local; an external one is imported first, as JP does."""
    editor(saving(one, NEW))
    one.ok("edit", B, "-e")
    assert (one.questions(one.silo(), B), one.directory(one.base / "a", B)) == (["one", "edited"], None)
    one.write(one.base / "a", EXT, "ext")
    one.ok("--set", "import.policy=manual", "edit", EXT, "-e")
    assert in_step(one, EXT, one.silo(), one.base / "a")
    assert one.questions(one.silo(), EXT) == ["one", "edited"]


def test_phase6_edit_of_a_legacy_pair(one, editor):
    """The config is in the events: it stays so, and there is no base config to edit."""
    packed = event(kind="config_delta", delta={})
    for root in roots(one):
        top = one.directory(root, A)
        put(top / "events.json", as_jp([packed, event("old")]), LONG_AGO + 5)
        (top / "base_config.json").unlink()
    one.ok("sync")
    assert one.run("edit", A, "-b").code == 2  # no editor yet
    editor(saving(one, as_jp([packed, event("new")])))
    assert one.run("edit", A, "-b").code == 4
    one.ok("edit", A, "-e")
    assert one.questions(one.silo(), A) == [None, "new"]
    assert [(one.directory(r, A) / "base_config.json").exists() for r in roots(one)] == [False] * 3
    editor(saving(one, as_jp([event("new")])))
    assert one.run("edit", A, "-e").code == 2
    assert one.questions(one.silo(), A) == [None, "new"]


def test_phase6_edit_gives_what_is_current(one, editor):
    """Where copies differ it is the winner by JP's rule, whichever root has it."""
    put(one.directory(one.base / "b", A) / "events.json", as_jp([event("one"), event("late")]))
    editor('cat "$1" > "$HOME/seen"')
    one.ok("edit", A, "-e")
    assert [e["content"] for e in json.loads((one.home / "seen").read_bytes())] == ["one", "late"]


def test_phase6_edit_mends_what_is_broken(one, editor):
    """Where no copy can be loaded the newest is opened as it is."""
    for root in roots(one):
        put(one.directory(root, A) / "events.json", b"[")
    one.quiet()
    editor(f'cat "$1" > "$HOME/seen"; {saving(one, NEW)}')
    one.ok("edit", A, "-e")
    assert ((one.home / "seen").read_bytes(), contents(one)) == (b"[", [NEW] * 3)


# -- edits that are discarded -----------------------------------------------------------------

BAD = {
    "garbage": 'echo x > "$1"',
    "empty": ': > "$1"',
    "nul": 'head -c 100 /dev/zero > "$1"',
    "huge": 'truncate -s 1G "$1"',
    "no array": "echo '{}' > \"$1\"",
    "no type": "echo '[{\"timestamp\": \"2023-11-14 22:13:20.0\"}]' > \"$1\"",
    "deleted": 'rm "$1"',
    "a directory": 'rm "$1"; mkdir "$1"',
    "a link": 'rm "$1"; ln -s /etc/passwd "$1"',
    "a fifo": 'rm "$1"; mkfifo "$1"',
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_phase6_edit_that_jp_could_not_load_is_discarded(one, editor, what):
    """S0-24: off a terminal exit 2, the old bytes and times everywhere, and it says what was wrong, not the text."""
    before = picture(one)
    editor(BAD[what])
    ran = one.run("edit", A, "-e")
    assert (ran.code, ran.out) == (2, "")
    assert "discarded, nothing was changed" in ran.err
    assert "events.json" in ran.err
    assert picture(one) == before
    assert private(one) == []
    assert kept(one) == set()


FAILED = {
    "exit 1": ("exit 1", 4),
    "not found": (None, 2),
    "killed": ("kill -9 $$", 4),
    "interrupted": ("kill -INT $$", 130),
    "deleted all": ('rm -r "$1"', 2),
}


@pytest.mark.parametrize("what", FAILED)
def test_phase6_edit_with_an_editor_that_fails(one, editor, monkeypatch, what):
    """Nothing is changed, nothing is left behind."""
    body, code = FAILED[what]
    before = picture(one)
    if body is None:
        monkeypatch.setenv("EDITOR", "/no/such/editor")
    else:
        editor(body)
    ran = one.run("edit", A)
    assert ran.code == code, ran
    assert picture(one) == before
    assert private(one) == []


def test_phase6_edit_by_an_editor_that_is_killed_after_saving(one, editor):
    """Nothing is written, and what it had saved is in the history, with the command that brings it."""
    before = picture(one)
    editor(f'{saving(one, NEW)}; echo unsaved > "$(dirname "$1")/.events.json.swp"; kill -9 $$')
    ran = one.run("edit", A, "-e")
    assert (ran.code, picture(one) == before) == (4, True)
    assert {NEW, b"unsaved\n"} <= kept(one)
    hint = next(r for r in ran.err.splitlines() if r.startswith("hint: convsync restore"))
    one.ok(*hint.removeprefix("hint: convsync ").split(" && ")[0].split())
    assert contents(one) == [NEW] * 3


@pytest.mark.parametrize("variable", ["JP_EDITOR", "VISUAL", "EDITOR"])
def test_phase6_edit_takes_the_editor_from_the_environment(one, editor, monkeypatch, variable):
    """The first that is set; shell words and all; none set is exit 2 before anything else."""
    assert one.run("edit", A, "-e").code == 2
    for lower in ("JP_EDITOR", "VISUAL", "EDITOR")[("JP_EDITOR", "VISUAL", "EDITOR").index(variable) + 1 :]:
        monkeypatch.setenv(lower, "false")
    script = editor('test "$1" = "a b" && cat "$HOME/new" > "$2"', variable)
    (one.home / "new").write_bytes(NEW)
    monkeypatch.setenv(variable, f"{script} 'a b'")
    one.ok("edit", A, "-e")
    assert contents(one) == [NEW] * 3
    monkeypatch.setenv(variable, "f() { echo '[]' > \"$1\"; }; f")
    one.ok("edit", A, "-e")
    assert contents(one) == [b"[]\n"] * 3


def test_phase6_edit_on_a_terminal_may_go_on(one):
    """A bad edit is asked about: edit again, and the text is as it was left."""
    script = one.base / "ed"
    script.write_text(f'#!/bin/sh\nif grep -q x "$1"; then cat "{one.base}/new" > "$1"; else echo x > "$1"; fi\n')
    script.chmod(0o755)
    (one.base / "new").write_bytes(NEW)
    ours, theirs = pty.openpty()
    process = one.spawn("edit", A, "-e", stdin=theirs, stdout=theirs, stderr=theirs, env={"EDITOR": str(script)})
    os.close(theirs)
    os.write(ours, b"1\n")
    said = everything(ours)
    assert process.wait(30) == 0, said
    assert "edit again" in said
    assert contents(one) == [NEW] * 3


# -- what happens meanwhile ----------------------------------------------------------------------


def jp_appends(machine):
    JP(machine.silo(), machine.base / "a/.jp").query(A, "meanwhile")


def test_phase6_edit_of_what_changed_meanwhile_overwrites_nothing(one, editor):
    """JP appended while the editor was open: exit 4, the edited text is a version, and the hint brings it."""
    turn = as_jp([event("one"), event("meanwhile")])
    (one.base / "turn").write_bytes(turn)
    top = one.directory(one.silo(), A)
    editor(f'{saving(one, NEW)}; cp "{one.base}/turn" "{top}/t.tmp"; mv "{top}/t.tmp" "{top}/events.json"')
    ran = one.run("edit", A, "-e")
    assert (ran.code, "changed while the editor was open" in ran.err) == (4, True), ran
    one.ok("sync")
    assert contents(one) == [turn] * 3
    assert NEW in kept(one)
    hint = next(r for r in ran.err.splitlines() if r.startswith("hint: convsync restore"))
    one.ok(*hint.removeprefix("hint: convsync ").split())
    assert contents(one) == [NEW] * 3
    assert turn in kept(one)
    assert private(one) == []


def test_phase6_edit_beside_a_change_of_the_other_unit(one, editor):
    """Only what is written has to be as it was given: JP's activation meanwhile is no contradiction."""
    meta = as_jp({"title": "talk", "last_activated_at": "2024-01-01 00:00:00.0"})
    (one.base / "meta").write_bytes(meta)
    top = one.directory(one.silo(), A)
    editor(
        f'cat "{one.base}/new" > "$1/events.json"; '
        f'cp "{one.base}/meta" "{top}/m.tmp"; mv "{top}/m.tmp" "{top}/metadata.json"'
    )
    (one.base / "new").write_bytes(NEW)
    one.ok("edit", A)
    one.ok("sync")
    assert contents(one) == [NEW] * 3
    assert contents(one, file="metadata.json") == [meta] * 3


def test_phase6_edit_of_what_went_away_meanwhile(one, editor):
    """Exit 3, and the text is kept."""
    gone = " ".join(f'"{one.directory(r, A)}"' for r in roots(one))
    editor(f"{saving(one, NEW)}; rm -r {gone}")
    ran = one.run("edit", A, "-e")
    assert (ran.code, "your text is kept" in ran.err) == (3, True), ran
    assert NEW in kept(one)


def test_phase6_edit_waits_before_the_editor_opens(one, editor, monkeypatch):
    """A held lock is exit 5, and the editor was never there."""
    monkeypatch.setenv("JP_LOCK_DURATION", "0")
    editor('touch "$HOME/opened"')
    with one.holding(A):
        ran = one.run("edit", A, "-e")
    assert (ran.code, "getsid-1" in ran.err) == (5, True)
    assert not (one.home / "opened").exists()


def test_phase6_edit_with_a_lock_that_never_frees(one, editor, monkeypatch):
    """Exit 5, nothing is overwritten, and the text is kept."""
    monkeypatch.setenv("JP_LOCK_DURATION", "0")
    before = picture(one)
    lock = one.silo() / "locks" / f"jp-c{A}.lock"
    editor(f'{saving(one, NEW)}; (flock -x 9; touch "$HOME/held"; while ! test -e "$HOME/done"; do sleep 0.05; done) '
           f'9> "{lock}" & while ! test -e "$HOME/held"; do sleep 0.02; done')  # fmt: skip
    ran = one.run("edit", A, "-e")
    (one.home / "done").touch()
    assert (ran.code, "your text is kept" in ran.err) == (5, True), ran
    assert picture(one) == before
    assert NEW in kept(one)
    assert private(one) == []


def test_phase6_edit_that_can_be_kept_nowhere_stays_where_it_is(one, editor):
    """Not even the history takes it: exit 6 names the private copy, and that is not removed."""
    history = one.base / "data/convsync/history"
    shutil.rmtree(history, ignore_errors=True)
    gone = " ".join(f'"{one.directory(r, A)}"' for r in roots(one))
    editor(f'{saving(one, NEW)}; rm -r {gone}; echo > "{history}"')
    ran = one.run("edit", A, "-e")
    (folder,) = private(one)
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
def test_phase6_edit_refused(one, editor, what):
    """Before any editor opens; nothing changes."""
    argv, change, code = REFUSED[what]
    editor('touch "$HOME/opened"')
    if change:
        change(one)
    before = picture(one)
    ran = one.run("edit", *argv)
    assert (ran.code, "hint: " in ran.err) == (code, True), ran
    assert picture(one) == before
    assert not (one.home / "opened").exists()


# -- --local ---------------------------------------------------------------------------------------


def test_phase5_edit_local_toggles(one, monkeypatch):
    """S0-18: bare it turns the projection round, with a value it sets it; the durable copy stays."""
    monkeypatch.chdir(one.base / "a")
    silo = one.inventory(one.directory(one.silo(), A))
    for argv, there in (
        ([A, "--local"], False),
        (["--local", A], True),
        ([A, "--local=true"], False),
        ([A, "--local=true"], False),
        ([A, "--local=false"], True),
        ([A, "--local=false"], True),
    ):
        one.ok("edit", *argv)
        assert (one.directory(one.base / "a", A) is not None) is there, argv
        assert one.inventory(one.directory(one.silo(), A)) == silo
    assert in_step(one, A, *roots(one))
    monkeypatch.chdir(one.home)
    ran = one.run("edit", A, "--local")
    assert (ran.code, "--worktree" in ran.err) == (2, True)
