"""The part of `state.db` that remembers what a person was told, so that a restart tells nothing twice.

A part of `state.State`, which owns the database. Keys of entries and times; nothing else of them is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3

    from convsync_agent.tidings import Key, Told

TABLES = """
    CREATE TABLE told (
        kind TEXT NOT NULL, workspace TEXT NOT NULL, conversation INTEGER NOT NULL, root TEXT NOT NULL,
        PRIMARY KEY (kind, workspace, conversation, root)) STRICT, WITHOUT ROWID;
    CREATE TABLE told_kind (kind TEXT PRIMARY KEY, at_ms INTEGER NOT NULL) STRICT;
    """


class ToldTables:
    """Reading and writing these tables. What writes belongs inside a transaction."""

    _db: sqlite3.Connection

    def told(self) -> Told:
        """What was told, and when each kind was told last."""
        from convsync_agent.tidings import Told  # noqa: PLC0415  # only the agent tells

        keys: frozenset[Key] = frozenset(
            (kind, workspace, conversation, root)
            for kind, workspace, conversation, root in self._db.execute(
                "SELECT kind, workspace, conversation, root FROM told"
            )
        )
        return Told(keys, dict(self._db.execute("SELECT kind, at_ms FROM told_kind")))

    def put_told(self, before: Told, now: Told) -> None:
        """Only what differs is written."""
        self._db.executemany("INSERT OR REPLACE INTO told VALUES (?, ?, ?, ?)", now.keys - before.keys)
        self._db.executemany(
            "DELETE FROM told WHERE kind = ? AND workspace = ? AND conversation = ? AND root = ?",
            before.keys - now.keys,
        )
        fresh = [(kind, at) for kind, at in now.at_ms.items() if before.at_ms.get(kind) != at]
        self._db.executemany("INSERT OR REPLACE INTO told_kind VALUES (?, ?)", fresh)
