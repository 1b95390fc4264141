"""The part of `state.db` that remembers worktrees: where each was, what it was on, and what it held when it went.

A part of `state.State`, which owns the database. HEAD is kept as git writes it; nothing else of a repository is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import sqlite3

    from convsync_agent.homecoming import Sight

TABLES = """
    CREATE TABLE whereabouts (
        root TEXT PRIMARY KEY, workspace TEXT NOT NULL, device INTEGER NOT NULL, inode INTEGER NOT NULL,
        id_mtime INTEGER NOT NULL, head TEXT, git_dir TEXT NOT NULL, common_dir TEXT NOT NULL, below TEXT NOT NULL,
        went_ms INTEGER NOT NULL) STRICT;
    CREATE TABLE held (
        root TEXT NOT NULL, conversation INTEGER NOT NULL, head TEXT,
        PRIMARY KEY (root, conversation)) STRICT, WITHOUT ROWID;
    CREATE TABLE unprojected (
        root TEXT NOT NULL, conversation INTEGER NOT NULL, at_ms INTEGER NOT NULL,
        PRIMARY KEY (root, conversation)) STRICT, WITHOUT ROWID;
    """
_TABLES = ("whereabouts", "held", "unprojected")


class Whereabouts(NamedTuple):
    """One worktree as it was last seen there.

    `root` is its `.jp`; `head` the text of HEAD, '' without git, None when it cannot be read; `git_dir` and
    `common_dir` are '' without git; `below` is the worktree relative to what git calls one. `went_ms`: since when
    it is gone, 0 while it is there.
    """

    root: str
    workspace: str
    device: int
    inode: int
    id_mtime: int
    head: str | None
    git_dir: str
    common_dir: str
    below: str
    went_ms: int = 0

    @property
    def sight(self) -> Sight:
        from convsync_agent.homecoming import Sight  # noqa: PLC0415  # most who open the state never ask

        return Sight(self.inode, self.id_mtime)


class WhereaboutsTables:
    """Reading and writing these tables. What writes belongs inside a transaction."""

    _db: sqlite3.Connection

    def whereabouts(self) -> dict[str, Whereabouts]:
        """By root."""
        columns = ", ".join(Whereabouts._fields)
        return {r[0]: Whereabouts(*r) for r in self._db.execute(f"SELECT {columns} FROM whereabouts")}  # noqa: S608

    def put_whereabouts(self, seen: Whereabouts) -> None:
        columns = ", ".join(Whereabouts._fields)
        marks = ", ".join("?" * len(seen))
        self._db.execute(f"INSERT OR REPLACE INTO whereabouts ({columns}) VALUES ({marks})", seen)  # noqa: S608

    def held(self, root: str) -> dict[int, str | None]:
        """What a worktree held when it went and has not got back yet: HEAD at that time, by conversation."""
        return dict(self._db.execute("SELECT conversation, head FROM held WHERE root = ?", (root,)))

    def put_held(self, root: str, conversations: Iterable[int], head: str | None) -> None:
        rows = [(root, c, head) for c in conversations]
        self._db.executemany("INSERT OR REPLACE INTO held VALUES (?, ?, ?)", rows)

    def drop_held(self, root: str, conversations: Iterable[int]) -> None:
        self._db.executemany("DELETE FROM held WHERE root = ? AND conversation = ?", [(root, c) for c in conversations])

    def unprojected(self, root: str) -> dict[int, int]:
        """When a command took a projection away, ms, by conversation."""
        return dict(self._db.execute("SELECT conversation, at_ms FROM unprojected WHERE root = ?", (root,)))

    def put_unprojected(self, root: str, conversation: int, at_ms: int) -> None:
        """A command is about to take this projection away: when the worktree goes next, it did not hold it."""
        self._db.execute("INSERT OR REPLACE INTO unprojected VALUES (?, ?, ?)", (root, conversation, at_ms))
        self.drop_held(root, [conversation])

    def drop_unprojected(self, root: str, conversations: Iterable[int]) -> None:
        sql = "DELETE FROM unprojected WHERE root = ? AND conversation = ?"
        self._db.executemany(sql, [(root, c) for c in conversations])

    def forget_seen(self, root: str) -> None:
        """Another directory has the path of this root: what was recorded of the old one vouches for nothing."""
        self._db.execute("DELETE FROM seen WHERE root = ?", (root,))

    def forget_whereabouts(self, root: str) -> None:
        for table in _TABLES:
            self._db.execute(f"DELETE FROM {table} WHERE root = ?", (root,))  # noqa: S608

    def move_whereabouts(self, old: str, new: str) -> None:
        for table in _TABLES:
            self._db.execute(f"UPDATE OR REPLACE {table} SET root = ? WHERE root = ?", (new, old))  # noqa: S608
