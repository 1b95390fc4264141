"""The part of `state.db` that answers for itself: is the file sound, and what was done last.

A part of `state.State`, which owns the database.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

SQLITE = sqlite3.sqlite_version


class Deed(NamedTuple):
    """One row of the log: what was done, when, to which conversation, from where to where."""

    at_ms: int
    action: str
    workspace: str
    conversation: int
    unit: str
    source: str
    target: str
    bytes: int


class SelfCheck:
    """What `doctor` asks."""

    _db: sqlite3.Connection

    def problems(self) -> list[str]:
        """What SQLite finds wrong in its own file; it reads all of it."""
        try:
            return [r[0] for r in self._db.execute("PRAGMA quick_check(3)") if r[0] != "ok"]
        except sqlite3.Error as error:
            return [str(error)]

    def newest_deeds(self, number: int) -> list[Deed]:
        """The end of the log, oldest first."""
        columns = ", ".join(Deed._fields)
        rows = self._db.execute(f"SELECT {columns} FROM log ORDER BY rowid DESC LIMIT ?", (number,))  # noqa: S608
        return [Deed(*r) for r in rows][::-1]

    def row_counts(self) -> dict[str, int]:
        """How many rows each table has."""
        names = [r[0] for r in self._db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
        return {n: self._db.execute(f"SELECT count(*) FROM {n}").fetchone()[0] for n in names}  # noqa: S608
