"""Which file systems tell of changes, and how many watches the kernel allows."""

from __future__ import annotations

import contextlib
import glob
import os
import re

from convsync_agent.diagnosis import Watching

_SILENT = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "drvfs", "fhgfs", "fuse", "gfs2", "glusterfs", "gpfs",
    "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "prl_fs", "smb3", "smbfs", "v9fs", "vboxsf", "virtiofs",
    "vmhgfs",
})  # fmt: skip
_OCTAL = re.compile(rb"\\([0-7]{3})")


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


def inotify_use() -> Watching:
    """What this user has of inotify, and may have. It reads every `/proc/*/fdinfo` of ours: not for the hot path."""
    watches, sysctl_watches = _least("max_user_watches", "max_inotify_watches")
    instances, sysctl_instances = _least("max_user_instances", "max_inotify_instances")
    if not watches:
        return Watching(0, 0, 0, 0)
    used = [n for process in glob.glob("/proc/[0-9]*") for n in _instances_of(process)]
    return Watching(len(used), instances, sum(used), watches, sysctl_instances, sysctl_watches)


def _least(of_kernel: str, of_namespace: str) -> tuple[int, str]:
    """The smaller of the two limits that hold here, and its name; 0 where there is none."""
    found = []
    for directory, name in (("fs/inotify", of_kernel), ("user", of_namespace)):
        with contextlib.suppress(OSError, ValueError), open(f"/proc/sys/{directory}/{name}", "rb") as file:
            found.append((int(file.read()), f"{directory.replace('/', '.')}.{name}"))
    return min(found, key=lambda limit: limit[0], default=(0, ""))


def _instances_of(process: str) -> list[int]:
    """The inotify instances of one process, each with its number of watches."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # it ended, or is not ours
        if os.stat(process).st_uid != os.geteuid():
            return []
        for fd in os.listdir(f"{process}/fd"):
            if os.readlink(f"{process}/fd/{fd}") in ("anon_inode:inotify", "anon_inode:[inotify]"):
                with open(f"{process}/fdinfo/{fd}", "rb") as file:
                    found.append(sum(line.startswith(b"inotify wd:") for line in file))
    return found
