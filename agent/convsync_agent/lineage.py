"""The part of `state.db` that remembers what the durable copies once were, and which copies git wrote.

A part of `state.State`, which owns the database. Digests, ids and paths of roots; nothing of a content is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

TABLES = """
    CREATE TABLE lineage (
        workspace TEXT NOT NULL, conversation INTEGER NOT NULL, unit TEXT NOT NULL, digest BLOB NOT NULL,
        PRIMARY KEY (workspace, conversation, unit, digest)) STRICT, WITHOUT ROWID;
    CREATE TABLE behind (
        workspace TEXT NOT NULL, root TEXT NOT NULL, conversation INTEGER NOT NULL, unit TEXT NOT NULL,
        digest BLOB NOT NULL, PRIMARY KEY (workspace, root, conversation, unit)) STRICT, WITHOUT ROWID;
    """


class LineageTables:
    """Reading and writing these tables. What writes belongs inside a transaction."""

    _db: sqlite3.Connection

    def put_lineage(self, rows: Iterable[tuple[str, int, str, bytes]]) -> None:
        """Rows are (workspace, conversation, unit, packed digest) of a durable copy."""
        self._db.executemany("INSERT OR IGNORE INTO lineage VALUES (?, ?, ?, ?)", rows)

    def lineage(self, workspace: str, conversation: int, packed: bytes | None = None) -> set[tuple[str, bytes]]:
        """Every (unit, packed digest) that the durable copy of one conversation ever had, or all with this digest."""
        sql = "SELECT unit, digest FROM lineage WHERE workspace = ? AND conversation = ?"
        if packed is None:
            return set(self._db.execute(sql, (workspace, conversation)))
        sql += " AND unit IN ('stream', 'metadata') AND digest = ?"
        return set(self._db.execute(sql, (workspace, conversation, packed)))

    def behind(self, workspace: str) -> list[tuple[int, str, str, bytes]]:
        """(conversation, root, unit, packed digest) of every unit that git brought back."""
        sql = "SELECT conversation, root, unit, digest FROM behind WHERE workspace = ?"
        return self._db.execute(sql, (workspace,)).fetchall()

    def put_behind(self, workspace: str, rows: Iterable[tuple[int, str, str, bytes]]) -> None:
        values = [(workspace, root, conversation, unit, digest) for conversation, root, unit, digest in rows]
        self._db.executemany("INSERT OR REPLACE INTO behind VALUES (?, ?, ?, ?, ?)", values)

    def drop_behind(self, workspace: str, rows: Iterable[tuple[int, str, str]]) -> None:
        values = [(workspace, root, conversation, unit) for conversation, root, unit in rows]
        sql = "DELETE FROM behind WHERE workspace = ? AND root = ? AND conversation = ? AND unit = ?"
        self._db.executemany(sql, values)
