"""JP's conversation lock, obeyed to the letter (contract 7), and the lock of the single agent.

JP is never in our way and we are never in JP's (R7): always non-blocking, held for milliseconds,
released by unlinking the file while it is still held.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from convsync_agent.errors import Refused
from convsync_agent.flocks import LOCKS, flocked_inodes
from convsync_agent.fs import close_soon, opened_dir
from convsync_agent.names import lock_name, parse_id

SESSION = "convsync"
MANY_LOCKS, OTHER_FILES = 1024, 32
_OPEN = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW


_released: dict[str, float] = {}  # lock files this process let go, and when
_mine: dict[tuple[int, str], int] = {}  # (thread, lock file) -> fd, while it is held: a flock knows no re-entry


class BusyError(Exception):
    """Another process holds the lock, or took it away from under us. Never waited for: deferred."""


@dataclass(frozen=True, slots=True)
class Holder:
    """What a lock file says of its holder (diagnostic only, contract 7.1)."""

    pid: int | None
    session: str | None
    acquired_at: str | None


class HeldLock:
    """One conversation's lock while we hold it."""

    def __init__(self, paths: list[tuple[str, int]]) -> None:
        self._paths = paths

    def still_ours(self) -> bool:
        """The name still leads to the inode we hold: ask before each destructive step (contract 7.7, 4)."""
        return all(_same_inode(path, fd) for path, fd in self._paths)

    def require(self) -> None:
        if not self.still_ours():
            raise BusyError


@contextmanager
def conversation_lock(
    silo: str, conversation: int, stores: Iterable[str] = (), session: str = SESSION
) -> Iterator[HeldLock]:
    """Hold JP's lock on one conversation. Raises BusyError at once, OSError where locks cannot work.

    `stores` are the `.jp` directories of the worktrees concerned: a stray lock file there is what the
    JP of that checkout uses while the silo's is absent (contract 7.1), so it is taken too, not created.
    `session` is written into the file for whoever has to wait.
    Whoever holds it may ask again, in the same thread: only the outermost releases.
    """
    name = lock_name(conversation)
    _ensure_locks(silo)
    covered: list[tuple[str, int]] = []
    taken: list[tuple[str, int]] = []
    try:
        path = os.path.join(silo, LOCKS, name)
        if _hold(path, covered, taken, create=True):
            _describe(taken[0][1], session)
        for store in stores:
            stray = os.path.join(store, LOCKS, name)
            if os.path.lexists(stray):
                _hold(stray, covered, taken, create=False)
        yield HeldLock([*covered, *taken])
    finally:
        for path, _ in taken:
            del _mine[threading.get_ident(), path]
        _release(taken, os.path.join(silo, LOCKS))


def _hold(path: str, covered: list[tuple[str, int]], taken: list[tuple[str, int]], *, create: bool) -> bool:
    """Take one lock file, unless this thread has it: then whoever took it releases it. True: taken."""
    key = (threading.get_ident(), path)
    if key in _mine:
        covered.append((path, _mine[key]))
        return False
    taken.append((path, _take(path, create=create)))
    _mine[key] = taken[-1][1]
    return True


def most_at_once() -> int:
    """How many conversations may be locked in one go: each takes a descriptor, and the work under it some more."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(4, (soft - OTHER_FILES) // 2) if soft != resource.RLIM_INFINITY else MANY_LOCKS


def _ensure_locks(silo: str) -> None:
    """`locks/` is made on demand, as JP does, but never a silo that is gone."""
    with opened_dir(silo) as fd, contextlib.suppress(FileExistsError):
        os.mkdir(LOCKS, dir_fd=fd)


def _take(path: str, *, create: bool) -> int:
    fd = os.open(path, _OPEN | (os.O_CREAT if create else 0), 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _same_inode(path, fd):
            raise BusyError
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
            raise BusyError from None
        raise
    except BaseException:
        os.close(fd)
        raise
    return fd


def _same_inode(path: str, fd: int) -> bool:
    try:
        there = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    ours = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _describe(fd: int, session: str) -> None:
    """Write who holds it, in JP's form: shown in JP's contention message (contract 7.1)."""
    now = datetime.now(UTC).isoformat()
    text = json.dumps({"pid": os.getpid(), "session": session, "acquired_at": now}, separators=(",", ":"))
    with contextlib.suppress(OSError):  # diagnostic only: a full disk must not cost us the lock
        os.ftruncate(fd, 0)
        os.pwrite(fd, text.encode(), 0)


def _release(held: list[tuple[str, int]], locks: str) -> None:
    """Unlink the silo's file while holding it, then close.

    RACE: a JP that opened the name before the unlink and locks after the close holds a nameless file.
    Microseconds; JP's own release has the same window (contract 7.7, 9). Stray worktree files stay:
    they are not ours to remove.
    """
    for path, fd in held:
        with contextlib.suppress(OSError):  # an fd that stays open keeps the lock for as long as we live
            if os.path.dirname(path) == locks and _same_inode(path, fd):
                _note_release(path)
                os.unlink(path)
                fcntl.flock(fd, fcntl.LOCK_UN)
                close_soon(fd)
                continue
        os.close(fd)


def _note_release(path: str) -> None:
    if len(_released) > 4096:  # of a burst; what is older than a second is of no use
        _released.clear()
    _released[path] = time.monotonic()


def released_by_us(path: str) -> bool:
    """The lock file that just went was ours: within the last second this process removed one of that name."""
    return time.monotonic() - _released.get(path, float("-inf")) < 1


def releases() -> list[str]:
    """What this process let go lately, for one for which it works; forgotten here."""
    paths = list(_released)
    _released.clear()
    return paths


def released_for_us(paths: Iterable[str]) -> None:
    """Another process of ours let these go just now."""
    now = time.monotonic()
    _released.update(dict.fromkeys(paths, now))


def holder_of(path: str) -> Holder | None:
    """Who a lock file names. None where there is no file; broken JSON gives a Holder of Nones."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)  # a FIFO must not stop us
        with open(fd, "rb") as file:
            raw = file.read(4096) or b""
    except OSError:
        return None
    try:
        said = json.loads(raw)
    except ValueError:
        return Holder(None, None, None)
    if not isinstance(said, dict):
        return Holder(None, None, None)
    pid, session, at = said.get("pid"), said.get("session"), said.get("acquired_at")
    return Holder(pid if isinstance(pid, int) else None, str(session) if session else None, str(at) if at else None)


def busy_conversations(silo: str, conversations: Iterable[int]) -> frozenset[int]:
    """Which of these JP (or anybody but us) holds now. Where it cannot be seen without probing: none."""
    wanted = {lock_name(c): c for c in conversations}
    there = {}
    with contextlib.suppress(OSError), os.scandir(os.path.join(silo, LOCKS)) as entries:
        there = {e.inode(): wanted[e.name] for e in entries if e.name in wanted}
    if not there:
        return frozenset()
    inodes = (flocked_inodes() or frozenset()) - {os.fstat(fd).st_ino for fd in _mine.values()}
    return frozenset(c for inode, c in there.items() if inode in inodes)


def remove_own_leftovers(silo: str) -> int:
    """Remove lock files that a crash of ours left: free, and with our session name in them."""
    removed = 0
    try:
        names = [n for n in os.listdir(os.path.join(silo, LOCKS)) if is_lock(n)]
    except OSError:
        return 0
    for name in names:
        path = os.path.join(silo, LOCKS, name)
        said = holder_of(path)
        if said is None or said.session != SESSION:
            continue
        with contextlib.suppress(BusyError, OSError):
            fd = _take(path, create=False)
            _release([(path, fd)], os.path.dirname(path))
            removed += 1
    return removed


def is_lock(name: str) -> bool:
    """`jp-c<digits>.lock`; others in that directory are not of a conversation (contract 12.4)."""
    conversation = parse_id(name.removesuffix(".lock"))
    return conversation is not None and name == lock_name(conversation)


@contextmanager
def single_agent(path: str) -> Iterator[None]:
    """One agent per user. Raises Refused naming the pid of the other one."""
    import portalocker  # noqa: PLC0415  # 58 ms, and only the agent needs it

    lock = portalocker.Lock(
        path, mode="a+", timeout=0, flags=portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING
    )
    try:
        file = lock.acquire()
    except portalocker.exceptions.LockException:
        said = holder_of(path)
        who = f"pid {said.pid}" if said and said.pid else "another process"
        raise Refused(f"an agent is already running ({who})", hint="convsync status", code="already-running") from None
    try:
        os.fchmod(file.fileno(), 0o600)
        file.seek(0)
        file.truncate()
        file.write(json.dumps({"pid": os.getpid(), "session": SESSION, "acquired_at": datetime.now(UTC).isoformat()}))
        file.flush()
        yield
    finally:
        with contextlib.suppress(OSError):
            file.truncate(0)
        lock.release()
