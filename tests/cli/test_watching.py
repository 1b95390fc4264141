"""`status --watch`: on a terminal a screen that is always whole, elsewhere a document at each change."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import termios
import threading

import pytest

from agents import until

ID = 17_000_000_001
HOME, ENTER, LEAVE = b"\x1b[H", b"\x1b[?1049h\x1b[?25l", b"\x1b[?25h\x1b[?1049l"


class Watching:
    """`status --watch` on a terminal of its own; all that it wrote so far is in `seen`."""

    def __init__(self, machine, rows=24, columns=80):
        self.ours, theirs = pty.openpty()
        self.resize(rows, columns)
        env = {"TERM": "xterm"}
        self.process = machine.spawn(
            "status", "--watch", stdin=theirs, stdout=theirs, stderr=theirs, text=False, env=env
        )
        os.close(theirs)
        self.seen = b""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            try:
                piece = os.read(self.ours, 65536)
            except OSError:
                return
            if not piece:
                return
            self.seen += piece

    def resize(self, rows, columns):
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def screens(self):
        """Every whole picture, as lines without colours."""
        found = [s.partition(b"\x1b[J")[0] for s in self.seen.split(HOME)[1:] if b"\x1b[J" in s]
        return [re.sub(r"\x1b\[[0-9;]*[mK]", "", s.decode()).replace("\r\n", "\n").split("\n") for s in found]

    def shown(self, text):
        """The newest picture, once it has this text."""
        return until(lambda: next((s for s in self.screens()[-1:] if text in "\n".join(s)), None), f"shown: {text}")

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        code = self.process.wait(30)
        until(lambda: self.seen.endswith(LEAVE), "the terminal as it was")
        os.close(self.ours)
        return code


@pytest.fixture
def one(machine):
    a = machine.worktree("a", register=False)
    machine.write(a, ID, "one", slug="private-title", title="Private title")
    machine.ok("register", a)
    return machine


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_it_shows_changes_and_leaves_the_terminal_as_it_was(one, number, code):
    """What changes is seen in the next picture; Ctrl-C is how it ends, and the cursor is back."""
    watching = Watching(one)
    watching.shown("1 durable")
    one.worktree("b")
    watching.shown(str(one.base / "b")[-8:])
    assert watching.seen.startswith(ENTER)
    assert watching.end(number) == code
    assert b"Traceback" not in watching.seen


def test_it_fits_whatever_size_the_terminal_gets(one):
    """After a resize the picture has the new height and width; what is left out is said."""
    for name in "bcdefgh":
        one.worktree(name)
    watching = Watching(one)
    watching.shown("Ctrl-C ends")
    watching.resize(8, 40)
    os.kill(watching.process.pid, signal.SIGWINCH)
    screen = watching.shown("more lines")
    assert len(screen) == 8
    assert max(map(len, screen)) <= 40
    assert watching.end() == 0


def test_each_picture_is_one_write_over_the_last(one):
    """No clearing in between, so nothing flickers: home, each line to its end, what is below."""
    watching = Watching(one)
    until(lambda: len(watching.screens()) >= 2, "two pictures")
    assert watching.end() == 0
    assert b"\x1b[2J" not in watching.seen


def test_elsewhere_it_prints_each_change_once(one):
    """In a pipe: a document, and another one when something changed."""
    out = one.base / "out"
    with out.open("w") as file:
        process = one.spawn("status", "--watch", stdout=file, stderr=file)
    until(lambda: "not running" in out.read_text(), "the first document")
    one.worktree("b")
    until(lambda: str(one.base / "b") in out.read_text(), "the second")
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    shown = out.read_text()
    assert shown.count("convsync 0") == 2
    assert "\x1b" not in shown


@pytest.mark.parametrize("flag", ["--json", "--check"])
def test_what_has_no_end_is_no_document_and_no_check(one, flag):
    """Bad usage that says so."""
    assert one.run("status", "--watch", flag).code == 2
