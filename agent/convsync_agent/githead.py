"""The git directory of a worktree: which it is, its HEAD, whether it rests, what it says of files. Only reads.

No git process is run and nothing below a git directory is written. Nothing here raises for what a git
directory may look like: what cannot be read says nothing. Branch names and paths of conversations pass
through and are not kept.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from convsync_agent import fs
from convsync_agent.gitevidence import (
    AFTER_LOCK_NS,
    LOCK_OLD_NS,
    LOOK_AGAIN_NS,
    OLD_LOCK,
    HeadLog,
    Seen,
    judge,
    parse_log,
)
from convsync_agent.gitindex import Index, NotReadableError, parse
from convsync_agent.layout import STORE
from convsync_agent.model import Evidence, Stamp, Verdict

GIT, CACHED = ".git", 8
_SMALL, _LARGEST_INDEX, _LOG_TAIL = 1 << 16, 1 << 28, 1 << 22  # bytes; 4 MiB of log are 20,000 moves of HEAD
_NO_BRANCH = "ref: refs/heads/.invalid"  # what a repository with reftables has in HEAD, whatever the branch
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC

_K = TypeVar("_K")
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Git:
    """Where git keeps what it knows of one worktree.

    `git_dir` is this worktree's own, `common_dir` the repository's (the same but in linked worktrees),
    `top` the directory that holds `.git`, `below` the prefix of all paths in the index that may be asked about.
    All absolute, symlinks resolved. A `.git` that leads nowhere has itself as its `git_dir`: HEAD is
    None then, it never rests and proves nothing, and it is still not "no git".
    """

    git_dir: str
    common_dir: str
    top: str
    below: str

    @property
    def lock_path(self) -> str:
        return os.path.join(self.git_dir, "index.lock")

    def relative(self, path: str) -> str:
        """A resolved path as git would call it. One that is not below `top` keeps its name, which git has not."""
        return path[len(self.top.rstrip("/")) + 1 :] if path.startswith(self.top.rstrip("/") + "/") else path


def find_git(directory: str) -> Git | None:
    """The nearest `.git` at or above a directory that holds `.jp`: a directory, or a file `gitdir: PATH`.

    None when there is none, or no such directory. As git does, a `.git` directory without a HEAD is passed
    by; a file that is no `gitdir:` is not, because git would not go on either. `core.worktree` is not read.
    """
    if not os.path.isdir(directory):
        return None
    at = start = os.path.realpath(directory)
    while True:
        git_dir = _git_dir_at(at)
        if git_dir is not None:
            below = start[len(at.rstrip("/")) + 1 :]
            return Git(git_dir, _common_dir(git_dir), at, os.path.join(below, STORE, ""))
        parent = os.path.dirname(at)
        if parent == at:
            return None
        at = parent


def head_text(git: Git) -> str | None:
    """HEAD as it stands there: `ref: refs/heads/NAME`, or the commit when detached. None: not known.

    With reftables (git 2.45) HEAD is elsewhere, and not known here.
    """
    path = os.path.join(git.git_dir, "HEAD")
    with contextlib.suppress(OSError):
        target = os.readlink(path)
        return f"ref: {target}" if target.startswith("refs/") else None  # core.preferSymlinkRefs
    text = (_text(path) or "").rstrip()
    return text if text not in {"", _NO_BRANCH} else None


def worktree_paths(common_dir: str) -> dict[str, str]:
    """Where the linked worktrees are now, by their git directories, as git's admin directory has it.

    For a worktree that moved: remember its `git_dir`, look here. What is there may be gone or somebody
    else's by now; `find_git(path).git_dir` is the same again when it is the one.
    """
    found = {}
    admin = os.path.join(common_dir, "worktrees")
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(admin)):
            git_dir = os.path.join(admin, name)
            pointer = _text(os.path.join(git_dir, "gitdir"))
            if pointer:  # relative with worktree.useRelativePaths (git 2.48), then to its own directory
                found[git_dir] = os.path.dirname(os.path.normpath(os.path.join(git_dir, pointer)))
    return found


def rests(git: Git, quiet_ns: int, now_ns: int) -> bool:
    """There is an index, no `index.lock`, and git has not touched either for this long.

    A time ahead of the clock is no reason to wait: the clock was set.
    """
    if _lock(git) is not None:
        return False
    index = _stamp(os.path.join(git.git_dir, "index"))
    return index is not None and not 0 <= now_ns - index.ctime_ns < quiet_ns


class _Index(NamedTuple):
    """What was read, and of which file. `content` None: not readable. No file at all: an empty index."""

    stamp: Stamp | None
    content: Index | None


class _Log(NamedTuple):
    stamp: Stamp | None
    log: HeadLog


class GitEye:
    """Remembers what was read of a few git directories, by the stamps of the files. One thread at a time.

    `objects`: also look at the age of the loose object of a content (`gitevidence.born_after`).
    """

    def __init__(self, *, objects: bool = False) -> None:
        self._objects = objects
        self._indexes: OrderedDict[Git, _Index] = OrderedDict()
        self._logs: OrderedDict[str, _Log] = OrderedDict()
        self._first_seen: OrderedDict[tuple[str, Stamp], int] = OrderedDict()
        self._locked: OrderedDict[str, int] = OrderedDict()

    def forget(self) -> None:
        """Free the memory of what was read. When git's locks were seen is kept."""
        self._indexes.clear()
        self._logs.clear()

    def evidence(self, git: Git, files: Iterable[tuple[str, int, int, int]], now_ns: int) -> Evidence:
        """Did git write these files of one unit: (path relative to `top`, mtime in ns, size, inode)?

        `files` are those that exist here and differ from the durable copy, stamped before this call, below the
        `.jp` that `find_git` was asked about; others are in no index. `now_ns` is of the wall clock.

        By the HEAD log alone some things look like others. Between `git add` and `git commit` the index has the
        stat of a hand edit: WROTE, and EDIT as soon as the commit is in the log. Without a log
        (`core.logAllRefUpdates=false`, reftables), or when HEAD moved between edit and commit (`git switch -c`),
        a committed edit stays WROTE. What git writes within 2 s after a commit is EDIT. An eye that looks at
        objects judges all of these rightly while the object is not packed.
        """
        # The lock first: git holds it from before the first file until the index has them all, so with no lock now,
        # the index that is read next has whatever git had written when the files were stamped.
        lock = _lock(git)
        if lock is not None:
            _keep(self._locked, git.git_dir, now_ns)
            age = now_ns - min(lock.mtime_ns, self._since(git.lock_path, lock, now_ns))
            return OLD_LOCK if age > LOCK_OLD_NS else Evidence(Verdict.WAIT, LOOK_AGAIN_NS)
        read = self._index(git)
        if read.content is None:
            left = self._lock_went(git, read.stamp, now_ns) + AFTER_LOCK_NS - now_ns
            if left > 0:
                return Evidence(Verdict.WAIT, left)
        seen = [Seen(os.fsencode(path), *rest) for path, *rest in files]
        born = _born(git, read.content, seen) if self._objects and read.content is not None else None
        return judge(read.content, self._log(git), seen, born)

    def _since(self, path: str, stamp: Stamp, now_ns: int) -> int:
        """When this very file was first seen: a clock that was set must not make anybody wait for ever."""
        first = min(now_ns, self._first_seen.get((path, stamp), now_ns))
        _keep(self._first_seen, (path, stamp), first)
        return first

    def _lock_went(self, git: Git, index: Stamp | None, now_ns: int) -> int:
        """The latest time at which git may have held the lock: seen held, or the index renamed (its ctime)."""
        renamed = min(index.ctime_ns, self._since(git.git_dir, index, now_ns)) if index else 0
        return max(renamed, min(now_ns, self._locked.get(git.git_dir, 0)))

    def _index(self, git: Git) -> _Index:
        path = os.path.join(git.git_dir, "index")
        known = self._indexes.get(git)
        if known is None or known.stamp is None or known.stamp != _stamp(path):
            known = _read_index(path, git.below)
        return _keep(self._indexes, git, known)

    def _log(self, git: Git) -> HeadLog:
        known = self._logs.get(git.git_dir)
        if known is None or known.stamp is None or known.stamp != _stamp(_log_path(git)):
            known = _read_log(git)
        return _keep(self._logs, git.git_dir, known).log


# -- reading ------------------------------------------------------------------


def _git_dir_at(directory: str) -> str | None:
    """What `.git` in this directory means, None if it means nothing."""
    path = os.path.join(directory, GIT)
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            os.lstat(os.path.join(path, "HEAD"))
            return os.path.realpath(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return path
    if not stat.S_ISREG(mode):
        return None
    key, _, target = (_text(path) or "").partition("gitdir: ")
    return os.path.realpath(os.path.join(directory, target)) if target and not key and "\0" not in target else path


def _common_dir(git_dir: str) -> str:
    pointer = _text(os.path.join(git_dir, "commondir"))
    return os.path.realpath(os.path.join(git_dir, pointer)) if pointer and "\0" not in pointer else git_dir


def _lock(git: Git) -> Stamp | None:
    return _stamp(git.lock_path)


def _stamp(path: str) -> Stamp | None:
    try:
        return fs.stamp_of(os.stat(path))
    except OSError:
        return None


def _text(path: str) -> str | None:
    """A small file of one line, without its end. None if there is none, or nothing in it."""
    with contextlib.suppress(OSError):
        return os.fsdecode(_read(path, _SMALL)[0].rstrip(b"\r\n")) or None
    return None


def _read(path: str, largest: int) -> tuple[bytes, Stamp]:
    """At most the last `largest` bytes of a regular file, and its stamp before. Raises OSError."""
    fd = os.open(path, _READ)
    with open(fd, "rb", buffering=0) as file:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if found.st_size > largest:
            file.seek(-largest, os.SEEK_END)
        return file.readall(), fs.stamp_of(found)


def _read_index(path: str, below: str) -> _Index:
    try:
        raw, stamp = _read(path, _LARGEST_INDEX)
    except (FileNotFoundError, NotADirectoryError):
        return _Index(None, Index({}))
    except OSError:
        return _Index(_stamp(path), None)
    try:
        return _Index(stamp, parse(raw, os.fsencode(below)))
    except NotReadableError:
        return _Index(stamp, None)


def _log_path(git: Git) -> str:
    return os.path.join(git.git_dir, "logs", "HEAD")


def _read_log(git: Git) -> _Log:
    try:
        raw, stamp = _read(_log_path(git), _LOG_TAIL)
    except OSError:
        return _Log(None, HeadLog())
    return _Log(stamp, parse_log(raw))


def _born(git: Git, index: Index, files: Iterable[Seen]) -> dict[bytes, int]:
    """When the loose objects of these files got their last time, ns. Packed and missing ones are left out."""
    found = {}
    for file in files:
        entry = index.entry(file.path)
        if entry is not None:
            name = entry.blob.hex()
            stamp = _stamp(os.path.join(git.common_dir, "objects", name[:2], name[2:]))
            if stamp is not None:
                found[file.path] = stamp.mtime_ns
    return found


def _keep(table: OrderedDict[_K, _V], key: _K, value: _V) -> _V:
    """Remember, and forget the one that was not asked for the longest."""
    table[key] = value
    table.move_to_end(key)
    if len(table) > CACHED:
        table.popitem(last=False)
    return value
