"""Look for secrets in the projections of a worktree that git would commit: what it tracks, and what it would add."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import NamedTuple

from convsync_agent import layout, outsiders
from convsync_agent.errors import reason_of
from convsync_agent.finding import Code, Finding, error, quoted, warn
from convsync_agent.fs import CONVERSATIONS
from convsync_agent.leaks import Leak, find_leaks
from convsync_agent.model import BASE_CONFIG, EVENTS, MANAGED, METADATA
from convsync_agent.names import id_text, parse_dirname

OTHER = "other file"  # its name may be chat text
EDIT = {EVENTS: "-e", METADATA: "-m", BASE_CONFIG: "-b"}
LARGEST = 256 << 20
Progress = Callable[[int, int, int], None]  # files done, files in all, bytes done


class Found(NamedTuple):
    """One secret. `file`: the name of a managed file, else `other file`."""

    worktree: str
    conversation: int | None
    file: str
    leak: Leak

    def as_json(self) -> dict[str, str | int | None]:
        number = None if self.conversation is None else id_text(self.conversation)
        kind, unit, at = self.leak
        return {"conversation": number, "worktree": self.worktree, "file": self.file, "kind": kind, unit: at}

    def finding(self) -> Finding:
        who = "a file of no conversation" if self.conversation is None else id_text(self.conversation)
        what = f"{self.leak.kind} in {who}, {self.file}, {self.leak.unit} {self.leak.number}"
        flag = EDIT.get(self.file)
        way_out = (
            f"convsync edit {who} {flag}" if flag and self.conversation is not None else "take it out of that file"
        )
        fix = f"{way_out}  # or let git ignore {layout.STORE}/{CONVERSATIONS}/"
        return error(Code.SECRET, what, where=self.worktree, fix=fix)


class Scan(NamedTuple):
    """All of one scan. `skipped`: files that could not be read; `asked`: worktrees whose git was asked."""

    found: list[Found]
    files: int
    bytes: int
    skipped: list[Finding]
    asked: int


def scan(worktrees: list[str], progress: Progress = lambda _done, _total, _bytes: None) -> Scan:
    """Read every file that git would commit; all of them where there is no git to ask."""
    chosen: list[tuple[str, str]] = []
    asked = 0
    below = f"{layout.STORE}/{CONVERSATIONS}"
    for worktree in worktrees:
        names = outsiders.committed(worktree, below)
        asked += names is not None
        listed = _all(worktree, below) if names is None else _with_odd_names(worktree, names)
        chosen += [(worktree, name) for name in listed]
    found: list[Found] = []
    skipped: list[Finding] = []
    files = size = 0
    for number, (worktree, name) in enumerate(chosen):
        progress(number, len(chosen), size)
        try:
            raw = _content(os.path.join(worktree, name))
        except FileNotFoundError:  # git tracks what a person deleted
            continue
        except OSError as trouble:
            skipped.append(_unread(worktree, name, reason_of(trouble)))
            continue
        files, size = files + 1, size + len(raw)
        conversation, file = _who(name)
        found += [Found(worktree, conversation, file, leak) for leak in find_leaks(file, raw)]
    return Scan(found, files, size, skipped, asked)


def _all(worktree: str, below: str) -> list[str]:
    top = os.path.join(worktree, below)
    return sorted(os.path.relpath(os.path.join(at, name), worktree) for at, _, names in os.walk(top) for name in names)


def _with_odd_names(worktree: str, names: list[str]) -> list[str]:
    """A name that is no UTF-8 came back mangled: then everything beside it is read, too."""
    odd = {os.path.dirname(n) for n in names if "\N{REPLACEMENT CHARACTER}" in n}
    beside = {n for d in odd for n in _all(worktree, d.partition("\N{REPLACEMENT CHARACTER}")[0])}
    return sorted({n for n in names if "\N{REPLACEMENT CHARACTER}" not in n} | beside)


def _content(path: str) -> bytes:
    """A regular file, up to a size that no conversation has. A symlink is committed as one: its target is not."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise FileNotFoundError
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(fd, "rb") as file:
        return file.read(LARGEST)


def _who(name: str) -> tuple[int | None, str]:
    """The conversation of a path below a worktree, and what a person may be told of the file."""
    parts = name.split("/")[2:]
    inside = [n for n in (parse_dirname(p) for p in parts[:-1]) if n is not None]
    managed = len(parts) > 1 and parse_dirname(parts[-2]) is not None and parts[-1] in MANAGED
    return (inside[0] if inside else None), (parts[-1] if managed else OTHER)


def _unread(worktree: str, name: str, reason: str) -> Finding:
    conversation, file = _who(name)
    who = "no conversation" if conversation is None else id_text(conversation)
    fix = f"chmod -R u+rX {quoted(f'{worktree}/{layout.STORE}/{CONVERSATIONS}')}"
    return warn(Code.PERMISSIONS, f"{file} of {who} cannot be read ({reason})", where=worktree, fix=fix)
