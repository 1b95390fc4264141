"""JP's session files: `<silo>/sessions/<key>.json`, which terminal works on which conversation (contract 8.2).

Shared with JP, so what is there and is no session file is said and never written over. They are never projected:
a worktree has none.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from convsync_agent import fs, kernel
from convsync_agent.errors import Refused, StorageProblem, storage_problem
from convsync_agent.model import Partition, Stamp
from convsync_agent.session import BrokenTrail, Session, Trail, activated, as_json, read_trail, resolve, walk

SESSIONS = "sessions"
SUFFIX, TEMP = ".json", ".convsync-"
TRIES, PAUSE_SECONDS = 100, 0.01
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_DIRECTORY = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EMLINK})
_NO_NAME = frozenset({errno.ENOENT, errno.ENAMETOOLONG, errno.EINVAL})


class Found(NamedTuple):
    """One session file. `trail` None: it is no session file, and `fault` says why not."""

    key: str
    trail: Trail | None
    stamp: Stamp | None
    fault: str = ""


def identify(env: Mapping[str, str]) -> Session | None:
    """The session this process belongs to, as JP would say (contract 8.1)."""
    try:
        leader = os.getsid(0)
    except OSError:
        leader = None
    return resolve(env, leader)


def alive(pid: int | None) -> bool | None:
    """Is there such a process? None: there is none to ask about. Only what is gone for certain is False."""
    if pid is None:
        return None
    if pid <= 0:  # of a namespace that is not ours, or a group: nobody can be asked
        return True
    return kernel.alive(pid)


def _steady(name: str, fd: int) -> tuple[bytes, Stamp]:
    """The bytes of a file that may be replaced just now. Raises OddFileError, OSError."""
    for _ in range(TRIES):
        try:
            return fs.read_file(name, fd)
        except fs.ChangedError:
            time.sleep(PAUSE_SECONDS)
    raise fs.OddFileError("a file that changes all the time")


def _pid_in(name: str) -> int | None:
    digits = name.removeprefix(TEMP).partition("-")[0]
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 10 else None


class Mappings:
    """The sessions of one workspace. Everything raises StorageProblem; what cannot be a session file, Refused."""

    def __init__(self, silo: str) -> None:
        self.silo = silo

    def trail(self, session: Session) -> Trail | None:
        """What this session worked on, None when it is new here."""
        found = self._find(session)
        return found.trail if found else None

    def active(self, session: Session, known: Mapping[int, Partition]) -> int | None:
        """The conversation this session works on; `known` are those that exist, in any root."""
        return next(iter(self.walk(session, known)), None)

    def previous(self, session: Session, known: Mapping[int, Partition]) -> int | None:
        """The one before that."""
        return next(iter(self.walk(session, known)[1:]), None)

    def walk(self, session: Session, known: Mapping[int, Partition]) -> list[int]:
        trail = self.trail(session)
        return walk(trail, known) if trail else []

    def activate(self, session: Session, conversation: int, now_ns: int) -> None:
        """From now on this session works on that conversation. Durable when it returns."""
        with self._alone():
            for _ in range(TRIES):
                found = self._find(session)
                trail = found.trail if found and found.trail else Trail(session)
                key, stamp = (found.key, found.stamp) if found else (session.key, None)
                if self._write(key, stamp, activated(trail, conversation, now_ns)):
                    return
                time.sleep(PAUSE_SECONDS)
        raise Refused("its session file changes all the time", where=self.path(session.key), code="session-file")

    def all(self) -> list[Found]:
        """Every session file by name, also what only looks like one (then `trail` is None)."""
        with self._opened("list the sessions") as fd:
            names = sorted(fs.list_names(fd)) if fd is not None else []
        keys = [n.removesuffix(SUFFIX) for n in names if n.endswith(SUFFIX) and not n.startswith(".")]
        return [found for key in keys if (found := self._seen(key)) is not None]

    def _seen(self, key: str) -> Found | None:
        try:
            return self.read(key)
        except StorageProblem as problem:  # one that is not ours to read says nothing about the others
            return Found(key, None, None, problem.message)

    def path(self, key: str) -> str:
        """Where it lies, for people."""
        return os.fsencode(os.path.join(self.silo, SESSIONS, key + SUFFIX)).decode(errors="backslashreplace")

    def rewrite(self, found: Found, trail: Trail) -> bool:
        """Replace a file by what is left of it. False: it is not as it was found."""
        with self._alone():
            return self._write(found.key, found.stamp, trail)

    def rename(self, found: Found, trail: Trail) -> bool:
        """Give it the name that JP gives it now. False: it is not as it was found, or the name is taken."""
        with self._alone():
            return self._write(trail.session.key, None, trail) and self._remove(found)

    def remove(self, found: Found) -> bool:
        """Take a file away. False: it is not as it was found."""
        with self._alone():
            return self._remove(found)

    def sweep(self) -> int:
        """Remove what a writer of ours left that died. Returns how many."""
        with self._opened("tidy up the sessions") as fd:
            if fd is None:
                return 0
            mine = [n for n in fs.list_names(fd) if n.startswith(TEMP) and alive(_pid_in(n)) is False]
            for name in mine:
                fs.unlink_if_there(name, fd)
            return len(mine)

    # -- files ----------------------------------------------------------------------

    def _find(self, session: Session) -> Found | None:
        """Its file: by its name, else by the one that an older JP gave it. The content says whose it is.

        Raises Refused where something else stands under its name.
        """
        found = self.read(session.key)
        if found is not None:
            if found.trail is None:
                raise self._refused(found.key, f"it is no session file of JP's: {found.fault}")
            if found.trail.session != session:
                raise self._refused(found.key, "it holds another session")
            return found
        legacy = self.read(session.legacy_key) if session.legacy_key else None
        return legacy if legacy is not None and legacy.trail and legacy.trail.session == session else None

    def read(self, key: str) -> Found | None:
        """What lies under that name, None where nothing does."""
        with self._opened("read a session") as fd:
            if fd is None:
                return None
            try:
                raw, stamp = _steady(key + SUFFIX, fd)
            except fs.OddFileError as error:
                return Found(key, None, None, str(error))
            except OSError as error:
                if error.errno in _NO_NAME:
                    return None
                raise
        try:
            return Found(key, read_trail(raw, key), stamp)
        except BrokenTrail as error:
            return Found(key, None, stamp, str(error))

    def _write(self, key: str, before: Stamp | None, trail: Trail) -> bool:
        """Replace a session file, or make it where none was. False: somebody else did meanwhile, look again.

        RACE: a JP of the same session writes between comparison and rename. Microseconds; one entry of the history
        is not in it. JP's own write has the same window, only longer.
        """
        with self._made() as fd:
            name, temp = key + SUFFIX, f"{TEMP}{os.getpid()}-{secrets.token_hex(4)}"
            fs.write_new(temp, as_json(trail), fd, mtime_ns=time.time_ns(), sync=True)
            try:
                if before is None:
                    kernel.rename_new(fd, temp, fd, name)
                elif fs.stat_file(name, fd) == before:
                    fs.replace(fd, temp, fd, name)
                else:
                    return False
            except (FileExistsError, fs.OddFileError):
                return False
            finally:
                fs.unlink_if_there(temp, fd)
            kernel.fsync(fd)
            return True

    def _remove(self, found: Found) -> bool:
        with self._opened("remove a session") as fd:
            name = found.key + SUFFIX
            if fd is None or found.stamp is None or fs.stat_file(name, fd) != found.stamp:
                return False
            fs.unlink_if_there(name, fd)
            return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer of ours at a time. Who is stopped while it writes keeps nobody waiting for good."""
        with self._made() as fd:
            for _ in range(TRIES):
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(PAUSE_SECONDS)
                except OSError:  # no locks on this file system
                    break
                else:
                    break
            yield

    @contextmanager
    def _made(self) -> Iterator[int]:
        """`sessions/` as an fd, made where there is none; never a silo that is gone."""
        with self._opened("write a session", make=True) as fd:
            assert fd is not None  # noqa: S101  # where it could not be made, that was raised
            yield fd

    @contextmanager
    def _opened(self, doing: str, *, make: bool = False) -> Iterator[int | None]:
        """The same where it may be missing: None. Never through a symlink."""
        try:
            fd = self._open(make=make)
            try:
                yield fd
            finally:
                if fd is not None:
                    os.close(fd)
        except OSError as error:
            raise storage_problem(error, self.silo, doing) from None

    def _open(self, *, make: bool) -> int | None:
        try:
            with fs.opened_dir(self.silo) as silo:
                if make:
                    fs.make_dir(SESSIONS, silo, 0o777)
                return os.open(SESSIONS, _DIRECTORY, dir_fd=silo)
        except FileNotFoundError:
            if make:
                raise
            return None
        except OSError as error:
            if error.errno not in _NO_DIRECTORY:
                raise
            raise Refused(
                f"{SESSIONS} is not a directory",
                where=os.path.join(self.silo, SESSIONS),
                hint="move it away: JP cannot use it either",
                code="session-file",
            ) from None

    def _refused(self, key: str, what: str) -> Refused:
        return Refused(
            what,
            where=self.path(key),
            hint=f'look at it; to begin anew: mv "{self.path(key)}" "{self.path(key)}.old"',
            code="session-file",
        )
