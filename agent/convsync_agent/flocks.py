"""Who holds which lock file now, as the kernel tells it: from /proc/locks, which disturbs nobody.

Apart from `locks`, which takes them: `status` only asks, and a person waits for it. The kernel reads that file
after an RCU grace period (5 to 15 ms measured), so it is read only where something may be held.
"""

from __future__ import annotations

import fcntl
import os

LOCKS = "locks"  # below a silo
_PROC_LOCKS = "/proc/locks"


def flocked_inodes() -> frozenset[int] | None:
    """Inodes under an exclusive flock, from /proc/locks, which disturbs nobody. None where there is none."""
    held = _flocks()
    return None if held is None else frozenset(held)


def flocked_by(path: str) -> int | None:
    """The process that holds a lock file, as the kernel knows it; None where that cannot be told."""
    try:
        pid = (_flocks() or {}).get(os.stat(path, follow_symlinks=False).st_ino, 0)
    except OSError:
        return None
    return pid if pid > 0 else None


def _flocks() -> dict[int, int] | None:
    """Who holds an exclusive flock on which inode."""
    try:
        with open(_PROC_LOCKS, encoding="ascii", errors="replace") as file:
            rows = [line.split() for line in file]
    except OSError:
        return None
    return {int(r[5].rsplit(":", 1)[1]): int(r[4]) for r in rows if len(r) > 5 and r[1] == "FLOCK" and r[3] == "WRITE"}


def all_busy(silo: str) -> frozenset[str]:
    """Names of the lock files of a silo that somebody holds."""
    try:
        with os.scandir(os.path.join(silo, LOCKS)) as entries:
            there = {e.name: e.inode() for e in entries}
    except OSError:
        return frozenset()
    inodes = (flocked_inodes() if there else None) or frozenset()
    return frozenset(name for name, inode in there.items() if inode in inodes)


def agent_running(path: str) -> bool:
    """Whether some process holds the agent's lock, asked without disturbing a starting one for long.

    Who holds it has written into it and empties it at its end. RACE: it is asked between the two steps of a start,
    which takes microseconds; then nobody runs yet, and a `status` looks at the disk itself.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        found = os.fstat(fd)
        if not found.st_size:
            return False
        inodes = flocked_inodes()
        if inodes is not None:
            return found.st_ino in inodes
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        return False
    finally:
        os.close(fd)
