"""Which file systems tell of changes, and how many watches the kernel allows."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from typing import NamedTuple

_SILENT = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "fhgfs", "fuse", "gfs2", "glusterfs", "gpfs",
    "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "smb3", "smbfs", "v9fs", "vboxsf", "virtiofs",
    "vmhgfs",
})  # fmt: skip
_OCTAL = re.compile(rb"\\([0-7]{3})")
SYSCTL = "fs.inotify.max_user_watches"


class WatchLimits(NamedTuple):
    """`used_hint`: watches of our own user that we can see. `maximum` 0: there is no such limit here."""

    used_hint: int
    maximum: int
    sysctl: str


def file_system_of(path: str, mountinfo: bytes) -> str | None:
    """The type of the file system that holds the absolute `path`, by a text like `/proc/self/mountinfo`."""
    wanted, best, kind = os.fsencode(path), -1, None
    for line in mountinfo.splitlines():
        left, dash, right = line.partition(b" - ")
        fields = left.split(b" ")
        if not dash or len(fields) < 5:
            continue
        point = _OCTAL.sub(lambda m: bytes([int(m[1], 8)]), fields[4])
        inside = wanted == point or wanted.startswith(point.rstrip(b"/") + b"/")
        if inside and len(point) >= best:  # the last of two mounts on one directory is the one on top
            best, kind = len(point), right.split(b" ")[0].decode("ascii", "replace")
    return kind


def is_silent(kind: str | None) -> bool:
    """Others may change such a file system without this kernel hearing of it; `fuseblk` is a local disk."""
    return kind is not None and (kind in _SILENT or kind.startswith("fuse."))


def mount_table() -> bytes | None:
    """What is mounted where, as the kernel tells it; None where it does not."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            return file.read()
    except OSError:
        return None


def needs_polling(path: str) -> bool:
    """Changes below `path` may come with no event. False when unknown."""
    table = mount_table()
    return table is not None and is_silent(file_system_of(os.path.realpath(path), table))


def watch_limits() -> WatchLimits:
    """For a message to a person: it reads every `/proc/*/fdinfo` of ours, so not for the hot path."""
    try:
        with open("/proc/sys/fs/inotify/max_user_watches", "rb") as file:
            maximum = int(file.read())
    except (OSError, ValueError):
        return WatchLimits(0, 0, "")
    return WatchLimits(sum(map(_watches_of, glob.glob("/proc/[0-9]*"))), maximum, SYSCTL)


def _watches_of(process: str) -> int:
    count = 0
    with contextlib.suppress(OSError):  # it ended, or is not ours
        if os.stat(process).st_uid != os.geteuid():
            return 0
        for fd in os.listdir(f"{process}/fd"):
            if os.readlink(f"{process}/fd/{fd}") == "anon_inode:inotify":
                with open(f"{process}/fdinfo/{fd}", "rb") as file:
                    count += sum(line.startswith(b"inotify wd:") for line in file)
    return count
