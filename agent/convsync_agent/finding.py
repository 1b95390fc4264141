"""What a check of `doctor` found: how bad it is, what it is, where, and what to type."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

_PLAIN = re.compile(r"[\w@%+=:,./-]+", re.ASCII)
_STEPS = ((1, "ns"), (1_000, "us"), (1_000_000, "ms"), (1_000_000_000, "s"))
_SIZES = ("B", "kB", "MB", "GB", "TB")


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    ERROR = "error"


class Code(StrEnum):
    """The names of the checks, stable and meant for programs; docs/doctor.md has a chapter for each."""

    VERSIONS = "versions"
    CONFIG = "config"
    PLACES = "places"
    JP_DATA = "jp-data"
    FILE_SYSTEM = "file-system"
    SYNC_FOLDER = "sync-folder"
    MTIME = "mtime"
    SPACE = "space"
    INODES = "inodes"
    INOTIFY = "inotify"
    CLOCK = "clock"
    STATE = "state"
    HISTORY = "history"
    SERVICE = "service"
    AGENT = "agent"
    WATCHING = "watching"
    ATTENTION = "attention"
    SILO = "silo"
    STORAGE_LINK = "storage-link"
    LOCKS = "locks"
    WORKTREE = "worktree"
    PERMISSIONS = "permissions"
    SILENT = "silent"
    SECRET = "secret"  # noqa: S105  # the name of a check


class Finding(NamedTuple):
    """One line of `doctor`. Whatever is not ok has a `fix`: what to type, or what to do where typing does not help."""

    level: Level
    code: Code
    what: str
    where: str | None = None
    fix: str | None = None

    def as_json(self) -> dict[str, str | None]:
        return {
            "code": str(self.code),
            "level": str(self.level),
            "what": self.what,
            "where": self.where,
            "fix": self.fix,
        }


def ok(code: Code, what: str, where: str | None = None) -> Finding:
    return Finding(Level.OK, code, what, where)


def warn(code: Code, what: str, *, fix: str, where: str | None = None) -> Finding:
    return Finding(Level.WARN, code, what, where, fix)


def error(code: Code, what: str, *, fix: str, where: str | None = None) -> Finding:
    return Finding(Level.ERROR, code, what, where, fix)


def tally(findings: Iterable[Finding]) -> tuple[int, int]:
    """How many errors, how many warnings."""
    levels = [f.level for f in findings]
    return levels.count(Level.ERROR), levels.count(Level.WARN)


def quoted(path: str) -> str:
    """`path` as one word of a shell."""
    return path if _PLAIN.fullmatch(path) else "'" + path.replace("'", "'\"'\"'") + "'"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def amount(size: int) -> str:
    """Bytes for a person."""
    value, unit = float(size), 0
    while value >= 1000 and unit < len(_SIZES) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_SIZES[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {_SIZES[unit]}"


def duration(ns: int) -> str:
    """A short time for a person."""
    size, unit = max(step for step in _STEPS if step[0] <= max(1, ns))
    return f"{ns // size} {unit}"
