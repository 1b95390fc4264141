"""`state.db`: registry, base, attention, pending work, a bounded log. The only module that knows SQLite.

A convenience (R8): delete it at any moment and no conversation changes. It holds ids, digests, stamps
and paths of roots, never a title, a slug or text (R9). WAL and synchronous=FULL: what was committed
survives a power failure (docs/adr/0002-state-store.md).
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from convsync_agent import told
from convsync_agent.errors import ConvsyncError, StorageProblem, UsageProblem
from convsync_agent.lineage import TABLES as LINEAGE
from convsync_agent.lineage import LineageTables
from convsync_agent.selfcheck import SelfCheck
from convsync_agent.told import ToldTables
from convsync_agent.whereabouts import TABLES, WhereaboutsTables

VERSION = 4
NAME = "state.db"
LOG_ROWS = 10_000
MIGRATIONS = (
    """
    CREATE TABLE workspace (id TEXT PRIMARY KEY, silo TEXT NOT NULL, user_data TEXT NOT NULL) STRICT;
    CREATE TABLE worktree (
        path TEXT PRIMARY KEY, workspace TEXT NOT NULL, refresh INTEGER NOT NULL, paused INTEGER NOT NULL,
        registered_ms INTEGER NOT NULL, device INTEGER, inode INTEGER) STRICT;
    CREATE TABLE seen (
        workspace TEXT NOT NULL, root TEXT NOT NULL, conversation INTEGER NOT NULL, record BLOB NOT NULL,
        PRIMARY KEY (workspace, root, conversation)) STRICT, WITHOUT ROWID;
    CREATE TABLE attention (
        kind TEXT NOT NULL, workspace TEXT NOT NULL, conversation INTEGER NOT NULL, root TEXT NOT NULL,
        since_ms INTEGER NOT NULL, detail TEXT NOT NULL, lasting INTEGER NOT NULL,
        PRIMARY KEY (kind, workspace, conversation, root)) STRICT, WITHOUT ROWID;
    CREATE TABLE pending (
        workspace TEXT NOT NULL, conversation INTEGER NOT NULL, target TEXT NOT NULL, work TEXT NOT NULL,
        PRIMARY KEY (workspace, conversation, target)) STRICT, WITHOUT ROWID;
    CREATE TABLE log (
        at_ms INTEGER NOT NULL, action TEXT NOT NULL, workspace TEXT NOT NULL, conversation INTEGER NOT NULL,
        unit TEXT NOT NULL, source TEXT NOT NULL, target TEXT NOT NULL, bytes INTEGER NOT NULL) STRICT;
    CREATE INDEX log_by_time ON log (at_ms);
    """,
    LINEAGE,
    TABLES,
    """
    ALTER TABLE worktree ADD COLUMN paused_ms INTEGER;
    ALTER TABLE worktree ADD COLUMN until_ms INTEGER;
    """
    + told.TABLES,
)


class Worktree(NamedTuple):
    """One that is registered. `paused_ms`: since when it is paused; `until_ms`: when that ends by itself."""

    path: str
    workspace: str
    refresh: bool
    paused: bool
    registered_ms: int
    device: int | None
    inode: int | None
    paused_ms: int | None = None
    until_ms: int | None = None


class Workspace(NamedTuple):
    id: str
    silo: str
    user_data: str


class Attention(NamedTuple):
    """One entry that a person may have to look at. `conversation` 0 and `root` '' mean none."""

    kind: str
    workspace: str
    conversation: int
    root: str
    since_ms: int
    detail: str
    lasting: bool


class State(SelfCheck, WhereaboutsTables, LineageTables, ToldTables):
    """The open database. Use `writer` or `reader`; one writer transaction at a time."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One commit for everything inside: the unit of durability (0.3 ms, so one per batch). Raises OSError."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:  # a full disk has ended it already
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                name = getattr(error, "sqlite_errorname", "") or ""
                code = errno.ENOSPC if "FULL" in name else errno.EROFS if "READONLY" in name else errno.EIO
                raise OSError(code, f"the state file: {error}") from None
            raise

    def _rows(self, sql: str, *values: Any) -> list[Any]:
        return self._db.execute(sql, values).fetchall()

    # -- registry -------------------------------------------------------------

    def workspaces(self) -> list[Workspace]:
        return [Workspace(*r) for r in self._rows("SELECT id, silo, user_data FROM workspace ORDER BY id")]

    def put_workspace(self, workspace: Workspace) -> None:
        self._db.execute("INSERT OR REPLACE INTO workspace VALUES (?, ?, ?)", workspace)

    def worktrees(self) -> list[Worktree]:
        rows = self._rows(f"SELECT {', '.join(Worktree._fields)} FROM worktree ORDER BY path")  # noqa: S608
        return [Worktree(p, w, bool(r), bool(s), *rest) for p, w, r, s, *rest in rows]

    def put_worktree(self, worktree: Worktree) -> None:
        columns, marks = ", ".join(Worktree._fields), ", ".join("?" * len(worktree))
        self._db.execute(f"INSERT OR REPLACE INTO worktree ({columns}) VALUES ({marks})", worktree)  # noqa: S608

    def remove_worktree(self, path: str, store: str) -> None:
        """Forget a worktree and what was seen in it; a workspace without worktrees goes too."""
        self._db.execute("DELETE FROM worktree WHERE path = ?", (path,))
        self._db.execute("DELETE FROM seen WHERE root = ?", (store,))
        self._db.execute("DELETE FROM attention WHERE root = ?", (store,))
        self._db.execute("DELETE FROM behind WHERE root = ?", (store,))
        self.forget_whereabouts(store)
        for table in ("seen", "attention", "pending", "lineage", "behind"):
            self._db.execute(
                f"DELETE FROM {table} WHERE workspace NOT IN (SELECT workspace FROM worktree)"  # noqa: S608
            )
        self._db.execute("DELETE FROM workspace WHERE id NOT IN (SELECT workspace FROM worktree)")

    # -- base -----------------------------------------------------------------

    def records(self, workspace: str, root: str) -> dict[int, bytes]:
        return dict(
            self._db.execute(
                "SELECT conversation, record FROM seen WHERE workspace = ? AND root = ?", (workspace, root)
            )
        )

    def put_records(self, rows: Iterable[tuple[str, str, int, bytes]]) -> None:
        """Rows are (workspace, root path, conversation, packed record)."""
        self._db.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)", rows)

    def drop_records(self, rows: Iterable[tuple[str, str, int]]) -> None:
        self._db.executemany("DELETE FROM seen WHERE workspace = ? AND root = ? AND conversation = ?", rows)

    def rename_root(self, old: str, new: str) -> None:
        """The same directory under another path: a silo built under a temporary name, a worktree that moved."""
        self.move_whereabouts(old, new)
        for column, table in (("root", "seen"), ("root", "attention"), ("root", "behind"), ("target", "pending")):
            self._db.execute(f"UPDATE OR REPLACE {table} SET {column} = ? WHERE {column} = ?", (new, old))  # noqa: S608

    def forget_root(self, root: str) -> None:
        self._db.execute("DELETE FROM seen WHERE root = ?", (root,))
        self._db.execute("DELETE FROM attention WHERE root = ?", (root,))

    # -- attention ------------------------------------------------------------

    def attention(self) -> list[Attention]:
        rows = self._rows(
            "SELECT kind, workspace, conversation, root, since_ms, detail, lasting FROM attention "
            "ORDER BY workspace, conversation, kind, root"
        )
        return [Attention(k, w, c, r, s, d, bool(last)) for k, w, c, r, s, d, last in rows]

    def put_attention(self, entry: Attention) -> None:
        """Insert, keeping the time of an entry that is there already."""
        self._db.execute(
            "INSERT INTO attention VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET detail = excluded.detail",
            entry,
        )

    def drop_attention(self, kind: str, workspace: str, conversation: int, root: str) -> None:
        self._db.execute(
            "DELETE FROM attention WHERE kind = ? AND workspace = ? AND conversation = ? AND root = ?",
            (kind, workspace, conversation, root),
        )

    # -- pending work and the log ---------------------------------------------

    def pending(self) -> list[tuple[str, int, str, str]]:
        return self._rows("SELECT workspace, conversation, target, work FROM pending")

    def put_pending(self, workspace: str, conversation: int, target: str, work: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO pending VALUES (?, ?, ?, ?)", (workspace, conversation, target, work))

    def drop_pending(self, workspace: str, conversation: int, target: str) -> None:
        self._db.execute(
            "DELETE FROM pending WHERE workspace = ? AND conversation = ? AND target = ?",
            (workspace, conversation, target),
        )

    def log(self, rows: Iterable[tuple[int, str, str, int, str, str, str, int]]) -> None:
        self._db.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def trim_log(self) -> None:
        self._db.execute("DELETE FROM log WHERE rowid <= (SELECT max(rowid) FROM log) - ?", (LOG_ROWS,))

    def checkpoint(self) -> None:
        """Copy the log into the file. Raises OSError."""
        try:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error as error:
            raise OSError(errno.EIO, f"the state file: {error}") from None


def writer(directory: str) -> State:
    """Open for writing, creating and migrating as needed. Raises StorageProblem, UsageProblem (newer file)."""
    path = os.path.join(directory, NAME)
    try:
        with contextlib.suppress(OSError):  # private from its first byte on, and with it what SQLite makes beside it
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        db = sqlite3.connect(path, isolation_level=None, timeout=5, check_same_thread=False)
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "trusted_schema=OFF",
            "temp_store=MEMORY",
            "fullfsync=1",
            "checkpoint_fullfsync=1",
        ):
            db.execute(f"PRAGMA {pragma}")
        _migrate(db, path)
        os.chmod(path, 0o600)
    except sqlite3.Error as error:
        raise _broken(error, path) from None
    return State(db)


def reader(directory: str) -> State | None:
    """Open read-only, None when there is no state yet.

    SQLite needs its `-shm` file beside a WAL database to read it; where that cannot be made (a read-only
    disk) nobody else can be writing either, and the file is read as it is.
    """
    path = os.path.join(directory, NAME)
    if not os.path.exists(path):
        return None
    try:
        frozen = "" if os.access(directory, os.W_OK) else "&immutable=1"
        db = sqlite3.connect(f"file:{_quoted(path)}?mode=ro{frozen}", uri=True, isolation_level=None, timeout=2)
        db.execute("PRAGMA query_only=1")
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found > VERSION:
            db.close()
            raise _newer(found, path)
        if 0 < found < VERSION:  # of an earlier convsync: whoever asks first brings it up to date
            db.close()
            writer(directory).close()
            return reader(directory)
    except sqlite3.Error as error:
        raise _broken(error, path) from None
    return State(db) if found else None


def scratch() -> State:
    """An empty one in memory, for who only looks where nothing was ever registered."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    _migrate(db, ":memory:")
    return State(db)


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _migrate(db: sqlite3.Connection, path: str) -> None:
    found = db.execute("PRAGMA user_version").fetchone()[0]
    if found > VERSION:
        db.close()
        raise _newer(found, path)
    for number in range(found, VERSION):
        db.execute("BEGIN IMMEDIATE")
        try:
            if db.execute("PRAGMA user_version").fetchone()[0] == number:  # another process may have been first
                for statement in filter(str.strip, MIGRATIONS[number].split(";")):
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {number + 1}")
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")


def _newer(found: int, path: str) -> ConvsyncError:
    return UsageProblem(
        f"the state file is of a newer convsync (schema {found}, this one knows {VERSION})",
        where=path,
        hint="upgrade convsync, or move the file away and register the worktrees again (no conversation changes)",
        code="newer-state",
    )


def _broken(error: sqlite3.Error, path: str) -> ConvsyncError:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        hint = "move the file away and register the worktrees again: no conversation changes"
        return StorageProblem("the state file is damaged", where=path, hint=hint, code="state-damaged")
    code = (
        "no-space" if name.startswith("SQLITE_FULL") else "denied" if "READONLY" in name or "CANTOPEN" in name else "io"
    )
    return StorageProblem(f"cannot use the state file: {error}", where=path, hint="convsync doctor", code=code)
