"""One directory as the ground of something: may it be used, on which file system is it, what is left there.

Ours are tried with a real file; in JP's nothing is ever written.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator

from convsync_agent import mounts
from convsync_agent.diagnosis import OTHERS, Holding, Place
from convsync_agent.errors import reason_of
from convsync_agent.grounds import MARKERS, Ground, kept_step, sync_folder

PROBE = ".convsync-doctor-"
ODD_TIME = 1_700_000_000_123_456_789  # ns; no step of a file system divides it
MOST_FILES = 50_000
_EFFECTIVE = os.access in os.supports_effective_ids


def may(path: str, mode: int, *, dir_fd: int | None = None) -> bool:
    """Whether this process may do that with `path`, symlinks followed."""
    return os.access(path, mode, dir_fd=dir_fd, effective_ids=_EFFECTIVE)


def look_at(role: str, path: str) -> Place:
    """One directory of ours, tried as it is used."""
    try:
        seen = os.stat(path)
    except FileNotFoundError:
        return Place(role, path, fault="" if may(_existing(path), os.W_OK | os.X_OK) else "not allowed there")
    except OSError as error:
        return Place(role, path, fault=reason_of(error))
    if not stat.S_ISDIR(seen.st_mode):
        return Place(role, path, there=True, fault="not a directory")
    fault, step = "", 0
    try:
        step = _tried(path)
    except OSError as error:
        fault = reason_of(error)
    return Place(
        role,
        path,
        there=True,
        mode=stat.S_IMODE(seen.st_mode),
        foreign=seen.st_uid != os.geteuid(),
        fault=fault,
        loose=_loose(path),
        step_ns=step,
    )


def _tried(path: str) -> int:
    """Make a file, make it durable, give it a time, take it away. The step, ns, in which times are kept."""
    fd, name = tempfile.mkstemp(prefix=PROBE, dir=path)
    try:
        os.write(fd, b"doctor\n")
        os.utime(name, ns=(ODD_TIME, ODD_TIME))
        os.fsync(fd)
        return kept_step(ODD_TIME, os.fstat(fd).st_mtime_ns)
    finally:
        os.close(fd)
        os.unlink(name)


def _existing(path: str) -> str:
    """The nearest directory above that is there."""
    while not os.path.lexists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


def _loose(top: str) -> int:
    """How many files below others can come to and are open to them. Of very many only the first are looked at."""
    number = seen = 0
    for at, directories, files in os.walk(top):
        if not os.stat(at).st_mode & OTHERS:  # nobody gets past it
            directories.clear()
            continue
        for name in files:
            with contextlib.suppress(OSError):
                number += bool(os.lstat(os.path.join(at, name)).st_mode & OTHERS)
        seen += len(files)
        if seen > MOST_FILES:
            break
    return number


def look_at_jp(path: str, registered: set[str]) -> Holding:
    """JP's user data directory, by stats and access alone. `registered`: those that workspaces were registered with."""
    elsewhere = tuple(sorted(d for d in registered if os.path.realpath(d) != os.path.realpath(path)))
    try:
        seen = os.stat(path)
    except OSError:
        return Holding(path, elsewhere=elsewhere)
    silos = os.path.join(path, "workspace")
    want = os.R_OK | os.W_OK | os.X_OK
    return Holding(
        path,
        there=True,
        directory=stat.S_ISDIR(seen.st_mode),
        foreign=seen.st_uid != os.geteuid(),
        closed=not (may(path, want) and (not os.path.exists(silos) or may(silos, want))),
        open_to_others=bool(seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH)),
        elsewhere=elsewhere,
    )


def ground_of(role: str, path: str) -> Ground:
    """What `path`, or what is there above it, lies on. Raises OSError."""
    at = _existing(path)
    seen, left = os.stat(at), os.statvfs(at)
    table = mounts.mount_table()
    kind = mounts.file_system_of(os.path.realpath(at), table) if table is not None else None
    return Ground(
        role,
        path,
        seen.st_dev,
        kind,
        mounts.is_silent(kind),
        sync_folder(os.path.realpath(at), _markers(os.path.realpath(at))),
        left.f_bavail * left.f_frsize,
        left.f_favail if left.f_files else None,
    )


def _markers(path: str) -> Iterator[str]:
    """What the programs that carry files leave, here or above."""
    while True:
        yield from (name for name in MARKERS if os.path.lexists(os.path.join(path, name)))
        if path == os.path.dirname(path):
            return
        path = os.path.dirname(path)
