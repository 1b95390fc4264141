"""Take a directory over to the other partition of its root: archive or unarchive, as JP does it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack

from convsync_agent import fs, kernel
from convsync_agent.locks import conversation_lock
from convsync_agent.model import Partition, Root
from convsync_agent.plan import Move, Problem
from convsync_agent.results import Done, Failed, Result


def move(action: Move, silo: Root, stores: Sequence[str]) -> list[Result]:
    """One rename under JP's lock, replacing nothing; `.archive/` is made when it is missing (contract 6.5).

    The name and everything in the directory stay. Raises OSError, BusyError, fs.ChangedError.

    RACE: JP unarchives without a lock, and git knows none: a directory that takes the name between the look and
    the rename (microseconds) is moved instead. It lies whole in the other partition, and the next look finds it.
    """
    copy, archives = action.target, action.partition is Partition.ARCHIVED
    with ExitStack() as stack:
        lock = stack.enter_context(conversation_lock(silo.path, copy.conversation, stores))
        live = stack.enter_context(fs.opened_partition(copy.root.path, archived=False))
        if archives:
            fs.make_dir(fs.ARCHIVE, live)
        archive = stack.enter_context(fs.opened_dir(fs.ARCHIVE, dir_fd=live))
        here, there = (live, archive) if archives else (archive, live)
        if os.stat(copy.name, dir_fd=here, follow_symlinks=False).st_ino != copy.inode:
            raise fs.ChangedError
        lock.require()
        try:
            kernel.rename_new(here, copy.name, there, copy.name)
        except FileExistsError:
            detail = f"cannot follow into {action.partition}: its name is taken there"
            return [Failed(action, Problem("held", copy.conversation, copy.root, detail))]
        if copy.root.is_silo:  # first the new name, or a power failure may leave it nowhere
            kernel.fsync(there)
            kernel.fsync(here)
    return [Done(action)]
