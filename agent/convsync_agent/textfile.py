"""The file of `metrics.textfile`: replaced whole, readable for the collector, and never somebody else's."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

MARK = b"# HELP convsync_"
MODE = 0o644  # the collector is another user, and the agent's umask may be 077; the directory decides who gets there


def write(path: str, text: str) -> None:
    """Replace it in one step. Raises OSError; FileExistsError where a file is that is not ours: that stays."""
    if not _ours(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    fresh = f"{path}.{os.getpid()}.new"  # does not end as the collector's files do
    with contextlib.suppress(FileNotFoundError):
        os.unlink(fresh)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(fd, MODE)
        os.replace(fresh, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(fresh)
        raise


def remove(path: str) -> None:
    """Take it away: what nobody writes any more must not look as if it were true."""
    with contextlib.suppress(OSError):
        if _ours(path):
            os.unlink(path)


def _ours(path: str) -> bool:
    """Nothing is there, or something that we wrote: a setting that names the wrong file must not cost that file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return not os.path.lexists(path)
    try:
        head = os.read(fd, len(MARK)) if stat.S_ISREG(os.fstat(fd).st_mode) else b"?"
    finally:
        os.close(fd)
    return not head or head == MARK
