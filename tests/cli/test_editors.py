"""Phase 6: editors that fail, vanish, are killed or leave what jp could not load. Nobody else sees any of it."""

from __future__ import annotations

import os
import pty

import pytest

from editors import NEW, A, contents, kept, picture, private, saving
from terminal import everything

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
def test_phase6_edit_that_jp_could_not_load_is_discarded(pair, editor, what):
    """Off a terminal exit 2, the old bytes and times everywhere, and it says what was wrong, not the text."""
    before = picture(pair)
    editor(BAD[what])
    ran = pair.run("edit", A, "-e")
    assert (ran.code, ran.out) == (2, "")
    assert "discarded, nothing was changed" in ran.err
    assert "events.json" in ran.err
    assert picture(pair) == before
    assert private(pair) == []
    assert kept(pair) == set()


FAILED = {
    "exit 1": ("exit 1", 4),
    "not found": (None, 2),
    "killed": ("kill -9 $$", 4),
    "interrupted": ("kill -INT $$", 130),
    "deleted all": ('rm -r "$1"', 2),
}


@pytest.mark.parametrize("what", FAILED)
def test_phase6_edit_with_an_editor_that_fails(pair, editor, monkeypatch, what):
    """Nothing is changed, nothing is left behind."""
    body, code = FAILED[what]
    before = picture(pair)
    if body is None:
        monkeypatch.setenv("EDITOR", "/no/such/editor")
    else:
        editor(body)
    ran = pair.run("edit", A)
    assert ran.code == code, ran
    assert picture(pair) == before
    assert private(pair) == []


def test_phase6_edit_by_an_editor_that_is_killed_after_saving(pair, editor):
    """Nothing is written, and what it had saved is in the history, with the command that brings it."""
    before = picture(pair)
    editor(f'{saving(pair, NEW)}; echo unsaved > "$(dirname "$1")/.events.json.swp"; kill -9 $$')
    ran = pair.run("edit", A, "-e")
    assert (ran.code, picture(pair) == before) == (4, True)
    assert {NEW, b"unsaved\n"} <= kept(pair)
    hint = next(r for r in ran.err.splitlines() if r.startswith("hint: convsync restore"))
    pair.ok(*hint.removeprefix("hint: convsync ").split(" && ")[0].split())
    assert contents(pair) == [NEW] * 3


@pytest.mark.parametrize("variable", ["JP_EDITOR", "VISUAL", "EDITOR"])
def test_phase6_edit_takes_the_editor_from_the_environment(pair, editor, monkeypatch, variable):
    """The first that is set; shell words and all; none set is exit 2 before anything else."""
    assert pair.run("edit", A, "-e").code == 2
    for lower in ("JP_EDITOR", "VISUAL", "EDITOR")[("JP_EDITOR", "VISUAL", "EDITOR").index(variable) + 1 :]:
        monkeypatch.setenv(lower, "false")
    script = editor('test "$1" = "a b" && cat "$HOME/new" > "$2"', variable)
    (pair.home / "new").write_bytes(NEW)
    monkeypatch.setenv(variable, f"{script} 'a b'")
    pair.ok("edit", A, "-e")
    assert contents(pair) == [NEW] * 3
    monkeypatch.setenv(variable, "f() { echo '[]' > \"$1\"; }; f")
    pair.ok("edit", A, "-e")
    assert contents(pair) == [b"[]\n"] * 3


def test_phase6_edit_on_a_terminal_may_go_on(pair):
    """A bad edit is asked about: edit again, and the text is as it was left."""
    script = pair.base / "ed"
    script.write_text(f'#!/bin/sh\nif grep -q x "$1"; then cat "{pair.base}/new" > "$1"; else echo x > "$1"; fi\n')
    script.chmod(0o755)
    (pair.base / "new").write_bytes(NEW)
    ours, theirs = pty.openpty()
    process = pair.spawn("edit", A, "-e", stdin=theirs, stdout=theirs, stderr=theirs, env={"EDITOR": str(script)})
    os.close(theirs)
    os.write(ours, b"1\n")
    said = everything(ours)
    assert process.wait(120) == 0, said
    assert "edit again" in said
    assert contents(pair) == [NEW] * 3
