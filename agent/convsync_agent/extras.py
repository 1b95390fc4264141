"""Carry unmanaged files to the silo: read and staged before the lock is taken, put in their places under it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from convsync_agent import fs, kernel, piecewise, staging
from convsync_agent.bulk import Content, digest_of
from convsync_agent.locks import HeldLock
from convsync_agent.model import MANAGED, Copy, Extra, Stamp, Unit
from convsync_agent.plan import AddExtras

DRAFT = "QUERY_MESSAGE.md"
MAX_DEPTH = 8


class ClashError(OSError):
    """Something that is no plain file has the place that an unmanaged file would take."""


@dataclass(slots=True)
class Carry:
    """The unmanaged files of one action, staged. `staged` holds those that are not in their places yet."""

    action: AddExtras
    staged: list[tuple[Extra, str]] = field(default_factory=list)

    def drop(self, stage_fd: int) -> None:
        """Take away what was not placed: our copies."""
        for _, name in self.staged:
            fs.unlink_if_there(name, stage_fd)


def read_extra(copy: Copy, extra: Extra) -> tuple[Content, Stamp]:
    """What it is now, whatever it was seen as; a large one is read when it is needed."""
    *above, last = extra.path.split("/")
    return piecewise.look(last, lambda: _opened(copy, above))


@contextmanager
def _opened(copy: Copy, above: Sequence[str]) -> Iterator[int]:
    with ExitStack() as stack:
        yield parents("/".join([*above, ""]), stack.enter_context(fs.opened_copy(copy)), stack, make=False)[0]


def digest_of_extra(copy: Copy, extra: Extra) -> bytes:
    return digest_of(read_extra(copy, extra)[0])


def parents(path: str, fd: int, stack: ExitStack, *, make: bool) -> tuple[int, str]:
    """The directory fd that holds the last part of `path`, each step opened without following links."""
    *above, last = path.split("/")
    for part in above:
        if make:
            fs.make_dir(part, fd)
        fd = stack.enter_context(fs.opened_dir(part, dir_fd=fd))
    return fd, last


def stage_extras(carry: Carry, keep: Callable[..., None], stage_fd: int) -> None:
    """Keep what newer files would overwrite (R4), then copy them into staging, durable."""
    action = carry.action
    losing = []
    for extra in action.files:
        old = _planned(action, extra)
        if old is not None:
            raw, stamp = read_extra(action.target, old)
            losing.append((extra.path, raw, stamp.mtime_ns))
    if losing:
        keep(action.target, Unit.EXTRAS, losing, "replaced")
    for extra in action.files:
        raw, stamp = read_extra(action.source, extra)
        if stamp != extra.stamp:
            raise fs.ChangedError
        name = staging.fresh_name(action.conversation, extra.path)
        carry.staged.append((extra, name))
        fs.write_new(name, raw, stage_fd, mtime_ns=stamp.mtime_ns, sync=True)


def place_extras(carry: Carry, lock: HeldLock, target_fd: int, stage_fd: int) -> list[staging.Retired]:
    """Rename the staged files into place. Returns what has to wait in staging before it may go.

    Raises ClashError where a directory, a link or a FIFO has the name; BusyError, ChangedError, OSError.
    """
    left: list[staging.Retired] = []
    while carry.staged:
        lock.require()
        extra, name = carry.staged[0]
        try:
            retired = _place(carry, extra, name, target_fd, stage_fd)
        except (NotADirectoryError, IsADirectoryError, FileExistsError, fs.OddFileError) as error:
            raise ClashError(getattr(error, "errno", None), "another kind of file has this name") from None
        left.extend([retired] if retired else [])
    return left


def _place(carry: Carry, extra: Extra, name: str, target_fd: int, stage_fd: int) -> staging.Retired | None:
    action = carry.action
    old = _planned(action, extra)
    left = None
    with ExitStack() as stack:
        at, last = parents(extra.path, target_fd, stack, make=True)
        if old is None:
            kernel.rename_new(stage_fd, name, at, last)
        elif fs.stat_file(last, at) != old.stamp:
            raise fs.ChangedError
        elif kernel.exchange(stage_fd, name, at, last):
            del carry.staged[0]  # what has the staged name now is not ours to drop
            names, planned = (name, extra.path), (old.stamp, old.digest)
            left = staging.retire(action.target.root, action.conversation, names, planned, stage_fd)
        else:
            os.rename(name, last, src_dir_fd=stage_fd, dst_dir_fd=at)
        if carry.staged and carry.staged[0][1] == name:
            del carry.staged[0]
        kernel.fsync(at)
    return left


def _planned(action: AddExtras, extra: Extra) -> Extra | None:
    """The silo's own file of that name, as it was when the plan was made."""
    return next((e for e in action.target.extras if e.path == extra.path), None)


def list_extras(fd: int, prefix: str = "", depth: int = 0) -> list[Extra]:
    """Every unmanaged regular file below one conversation's directory that may travel to the silo.

    Never the draft, dot names, `*.tmp`, a nested `conversations/`, or anything behind a symlink (design 3).
    """
    found: list[Extra] = []
    with os.scandir(fd) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name.endswith(".tmp") or name == DRAFT:
                continue
            if not prefix and name in MANAGED:
                continue
            at = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(at.st_mode):
                found.append(Extra(prefix + name, fs.stamp_of(at)))
            elif stat.S_ISDIR(at.st_mode) and name != fs.CONVERSATIONS and depth < MAX_DEPTH:
                with fs.opened_dir(name, dir_fd=fd) as sub:
                    found.extend(list_extras(sub, f"{prefix}{name}/", depth + 1))
    return found
