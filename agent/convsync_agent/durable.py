"""What was written and is not durable yet, until one barrier for all of it; and what is known to be durable.

A few files are synced one by one, their writing begun for all before it is waited for; many by one `syncfs`. The
directories that got names come last.
"""

from __future__ import annotations

import os

from convsync_agent import kernel, objects
from convsync_agent.objects import Stamp

MANY = 8  # files: from here one syncfs is cheaper than single fsyncs (design 5)
_KNOWN = 4096  # paths remembered as durable; forgetting them costs a sync, nothing else
_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Batch:
    """What is made durable together: files by descriptor, directories by path."""

    def __init__(self) -> None:
        self.made: dict[str, Stamp] = {}
        self._files: list[int] = []
        self._dirs: dict[str, bool] = {}
        self._systems: dict[int, int] = {}
        self._many = False

    def watch(self, path: str) -> None:
        """Before anything is written there: an fd is told only of errors that come after it was opened."""
        if not kernel.has_syncfs():
            return
        device = os.stat(path).st_dev
        if device not in self._systems:
            self._systems[device] = os.open(path, _DIR)

    def wrote(self, fd: int) -> None:
        """The content of this file is complete."""
        if self._many:
            return
        kernel.start_writing(fd)
        self._files.append(os.dup(fd))
        if len(self._files) < MANY:
            return
        if self._systems:
            self._many = True
        else:
            self._sync_files()
        self._close_files()

    def named(self, directory: str, *, ours: bool = True) -> None:
        """A directory that has a new name in it. One that is not `ours` may be one that we cannot open."""
        self._dirs[directory] = ours or self._dirs.get(directory, False)

    def sync(self) -> None:
        """All of it is durable when this returns. Raises OSError."""
        if self._many:
            for fd in self._systems.values():
                kernel.sync_file_system(fd)
            return
        self._sync_files()
        for path, ours in self._dirs.items():
            try:
                objects.sync_dir(path)
            except PermissionError:
                if ours:
                    raise

    def _sync_files(self) -> None:
        for fd in self._files:
            kernel.fsync(fd)

    def _close_files(self) -> None:
        for fd in self._files:
            os.close(fd)
        self._files.clear()

    def close(self) -> None:
        self._close_files()
        for fd in self._systems.values():
            os.close(fd)
        self._systems.clear()


class Durable:
    """Which paths were synced as they are now, here. Of a directory that is its name, with inode and no time."""

    def __init__(self) -> None:
        self.doubted: set[str] = set()  # a sync of these failed, and the next one would say nothing of it
        self._known: dict[str, Stamp] = {}

    def knows(self, path: str, stamp: Stamp, batch: Batch | None) -> bool:
        """It was synced, or will be at the end of this batch."""
        return self._known.get(path) == stamp or (batch is not None and batch.made.get(path) == stamp)

    def knows_dir(self, path: str, batch: Batch | None) -> bool:
        try:
            return self.knows(path, (os.stat(path).st_ino, 0), batch)
        except (FileNotFoundError, NotADirectoryError):
            return False

    def note(self, stamps: dict[str, Stamp], batch: Batch | None) -> None:
        """These are synced, or will count as that when the batch is."""
        if batch is not None:
            batch.made.update(stamps)
            return
        if len(self._known) > _KNOWN:
            self._known.clear()
        self._known.update(stamps)

    def finish(self, batch: Batch) -> None:
        try:
            batch.sync()
        except OSError:
            self.doubted.update(batch.made)
            raise
        self.note(batch.made, None)
