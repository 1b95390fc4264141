"""System calls that Python does not wrap: atomic exchange, rename without replacing, syncfs, leases.

Each is chosen by trying it, never by the platform's name; a file system that lacks one is remembered
by device, and the caller takes its documented other way.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
from typing import Any

_UNSUPPORTED = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOTTY})
_NO_REPLACE, _EXCHANGE = 1, 2  # Linux RENAME_NOREPLACE, RENAME_EXCHANGE
_DARWIN_SWAP, _DARWIN_EXCL = 2, 4  # macOS RENAME_SWAP, RENAME_EXCL
_libc = ctypes.CDLL(None, use_errno=True)
_lacking: set[tuple[str, int]] = set()


def _find(*names: str) -> Any:
    for name in names:
        with contextlib.suppress(AttributeError):
            return getattr(_libc, name)
    return None


_rename = _find("renameat2", "renameatx_np")
_flags = (_NO_REPLACE, _EXCHANGE) if _find("renameat2") else (_DARWIN_EXCL, _DARWIN_SWAP)
_syncfs = _find("syncfs")
_sync_range = _find("sync_file_range")
_WRITE = 2  # SYNC_FILE_RANGE_WRITE


def _call_rename(old: tuple[int, str], new: tuple[int, str], flag: int, what: str) -> bool:
    """True: done. False: this file system cannot. Raises OSError for everything else."""
    (old_fd, old_name), (new_fd, new_name) = old, new
    device = os.fstat(new_fd).st_dev
    if _rename is None or (what, device) in _lacking:
        return False
    if _rename(old_fd, os.fsencode(old_name), new_fd, os.fsencode(new_name), ctypes.c_uint(flag)) == 0:
        return True
    error = ctypes.get_errno()
    if error in _UNSUPPORTED:
        _lacking.add((what, device))
        return False
    raise OSError(error, os.strerror(error))


def exchange(one_fd: int, one: str, two_fd: int, two: str) -> bool:
    """Swap two names in one step. False where the file system cannot."""
    return _call_rename((one_fd, one), (two_fd, two), _flags[1], "exchange")


def rename_new(old_fd: int, old: str, new_fd: int, new: str) -> None:
    """Rename without replacing anything; FileExistsError when the new name is taken.

    RACE: where the OS cannot refuse, the name is looked at and then renamed onto: a file created in
    between (microseconds) would be replaced. A directory in between survives unless it is empty.
    """
    if _call_rename((old_fd, old), (new_fd, new), _flags[0], "no-replace"):
        return
    try:
        os.stat(new, dir_fd=new_fd, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(old, new, src_dir_fd=old_fd, dst_dir_fd=new_fd)
    else:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def start_writing(fd: int) -> None:
    """Have the OS begin to write a file, where it can be told; nothing is waited for, nothing is promised.

    Of several files that are synced one after the other, all are on their way then while the first is waited for.
    """
    if _sync_range is not None:
        _sync_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), ctypes.c_uint(_WRITE))


def has_syncfs() -> bool:
    """Whether one call can make a whole file system durable. Else every file is fsynced by itself."""
    return _syncfs is not None


def sync_file_system(fd: int) -> None:
    """Make everything written to the file system of `fd` durable; it reports errors since Linux 5.8.

    Never `sync()`: it waits for every disk, a hung one too.
    """
    if _syncfs is None or _syncfs(fd) != 0:
        error = ctypes.get_errno() if _syncfs is not None else errno.ENOSYS
        raise OSError(error, os.strerror(error))


def fsync(fd: int) -> None:
    """As durable as the OS offers: F_FULLFSYNC where there is one (macOS), else fsync."""
    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        with contextlib.suppress(OSError):
            fcntl.fcntl(fd, full)
            return
    os.fsync(fd)


def unwritable(fd: int) -> bool:
    """True when it is certain that nobody has this file open for writing, or mapped so.

    A read lease is granted only then, and given back at once. False means: not certain, wait instead.
    RACE: a writer that opens the file while we hold the lease waits for the microseconds until it is
    given back, and we are sent SIGIO, which every process of ours ignores (`signals`, `main`).
    """
    set_lease = getattr(fcntl, "F_SETLEASE", None)
    if set_lease is None:
        return False
    try:
        fcntl.fcntl(fd, set_lease, fcntl.F_RDLCK)
        fcntl.fcntl(fd, set_lease, fcntl.F_UNLCK)
    except OSError:
        return False
    return True


def being_written(fd: int) -> bool:
    """True when it is certain that somebody has this file open for writing. False: not so, or not known here."""
    set_lease = getattr(fcntl, "F_SETLEASE", None)
    if set_lease is None:
        return False
    try:
        fcntl.fcntl(fd, set_lease, fcntl.F_RDLCK)
        fcntl.fcntl(fd, set_lease, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False


def alive(pid: int) -> bool:
    """There is such a process, also one that is not ours. Only what is gone for certain is not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
