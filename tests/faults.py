"""A world that can be set back, and faults at every system call: the n-th one fails, or the process dies there."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import time
from contextlib import contextmanager
from pathlib import Path

from convsync_agent import kernel, layout, state
from convsync_agent.dirs import ensure_private
from convsync_agent.engine import Engine
from convsync_agent.history import History
from convsync_agent.recover import recover
from convsync_agent.registry import register
from convsync_agent.settings import Settings
from convsync_agent.settling import settle
from convsync_agent.snapshots import take
from machine import WS, Machine

_CALLS = [
    "open",
    "close",
    "stat",
    "lstat",
    "fstat",
    "read",
    "write",
    "pwrite",
    "ftruncate",
    "rename",
    "link",
    "symlink",
    "unlink",
    "mkdir",
    "rmdir",
    "utime",
    "chmod",
    "fchmod",
    "listdir",
    "scandir",
    "fsync",
]
_NEEDS_SPACE = frozenset(["write", "pwrite", "link", "symlink", "mkdir", "fsync", "syncfs"])
_CHANGES = _NEEDS_SPACE | frozenset(["ftruncate", "rename", "renameat2", "unlink", "rmdir", "utime", "chmod", "fchmod"])

AHEAD_NS = 30 * 10**9


def empty(directory):
    """Remove what is in it, not itself."""
    for child in list(directory.iterdir()):
        if child.is_dir() and not child.is_symlink():
            shutil.rmtree(child)
        else:
            child.unlink()


class Died(BaseException):
    """The process is gone: whatever it calls from here on does nothing."""


class Faults:
    """Counts system calls while armed. At number `at` one thing happens:

    an errno: that call fails with it, once. `full`: no call from there on that needs space succeeds.
    `die`: nothing happens any more, not even the cleaning up in a `finally`. The last two count only
    calls that change something, for between two of those the disk is the same.
    """

    def __init__(self, monkeypatch, kind, at):
        self.kind, self.at = kind, at
        self.count, self.armed, self.hit = 0, False, ""
        self._close, self._lstat, self._fds = os.close, os.lstat, set()
        for name in _CALLS:
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))
        monkeypatch.setattr(fcntl, "flock", self._wrapped("flock", fcntl.flock))
        for name in ("renameat2", "syncfs"):
            inside = "_rename" if name == "renameat2" else "_syncfs"
            real = getattr(kernel, inside)
            if real is not None:
                monkeypatch.setattr(kernel, inside, self._wrapped(name, real))

    def _wrapped(self, name, real):
        def call(*args, **kwargs):
            if self.armed:
                self._count(name, args, kwargs)
            found = real(*args, **kwargs)
            if name == "open" and self.armed:
                self._fds.add(found)
            elif name == "close":
                self._fds.discard(args[0])
            return found

        return call

    def _count(self, name, args, kwargs):
        if name == "close":
            return
        if self.hit and self.kind == "die":
            raise Died
        creates = name == "open" and len(args) > 1 and bool(args[1] & os.O_CREAT)
        if isinstance(self.kind, str) and not (creates or name in _CHANGES):
            return
        self.count += 1
        if self.count == self.at:
            self.hit = f"{name} {next((a for a in args if isinstance(a, str)), '')}"
            if self.kind == "die":
                raise Died
            if self.kind != "full":
                raise OSError(self.kind, os.strerror(self.kind))
        if self.hit and self.kind == "full" and (creates or name in _NEEDS_SPACE):
            if name == "mkdir" and self._is_there(args[0], kwargs.get("dir_fd")):
                return  # "exists" comes before "no space"
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _is_there(self, path, dir_fd):
        try:
            self._lstat(path, dir_fd=dir_fd)
        except FileNotFoundError:
            return False
        return True

    @contextmanager
    def watching(self):
        """Armed; a death ends here, and with it every open file and every lock."""
        self.armed = True
        try:
            yield
        except Died:
            pass
        finally:
            self.armed = False
            if self.kind == "die":
                for fd in self._fds:
                    self._close(fd)


@contextmanager
def opened_engine(machine, **settings):
    """An engine on the state of a machine that was used before."""
    opened = state.writer(str(machine.base / "state/convsync"))
    try:
        yield Engine(opened, str(machine.base / "data/convsync"), Settings(**settings))
    finally:
        opened.close()


class World(Machine):
    """A machine whose engine runs in this process, and that can be set back to a picture of it.

    Our clock is ahead of the file system's, so that all that was written has long been quiet: nothing waits.
    """

    def __init__(self, base, monkeypatch):
        super().__init__(Path(base) / "world")
        for name, value in self.env.items():
            monkeypatch.setenv(name, value)
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() + AHEAD_NS)
        signal.signal(signal.SIGIO, signal.SIG_IGN)  # as every process of ours does: leases are probed
        self.data, self.state_dir = self.base / "data/convsync", self.base / "state/convsync"
        self.picture = self.base.with_name("picture")

    def remember(self):
        shutil.rmtree(self.picture, ignore_errors=True)
        shutil.copytree(self.base, self.picture, symlinks=True)

    def set_back(self):
        """As it was remembered; every worktree is the very directory that it was (its inode), not one made anew."""
        aside = self.base.with_name("aside")
        self.base.rename(aside)
        shutil.copytree(self.picture, self.base, symlinks=True)
        for copied in self.base.glob("*/.jp"):
            same = aside / copied.relative_to(self.base)
            if same.is_dir():
                empty(same)
                for child in list(copied.iterdir()):
                    child.rename(same / child.name)
                shutil.copystat(copied, same)
                copied.rmdir()
                same.rename(copied)
        shutil.rmtree(aside)

    @contextmanager
    def engine(self, **settings):
        """An engine as a process of its own has it."""
        ensure_private(str(self.state_dir))
        ensure_private(str(self.data))
        with opened_engine(self, **settings) as engine:
            yield engine

    def enroll(self, name, workspace=WS):
        path = self.base / name
        (path / ".jp").mkdir(parents=True, exist_ok=True)
        (path / ".jp/.id").write_text(f"{workspace}\n")
        return path

    def register(self, *names, **settings):
        with self.engine(**settings) as engine:
            return [register(engine, str(self.base / n), str(self.data)) for n in names]

    def sync(self):
        """What `sync` does, in an engine of its own."""
        with self.engine() as engine:
            recover(engine)
            site = engine.sites[WS]
            return settle(engine, site, engine.rescan(site))

    @staticmethod
    def plan(engine, site=None):
        site = site or engine.sites[WS]
        dirty = engine.rescan(site)
        snapshots, _ = take(site, engine.eye, engine.knower, dirty)
        return engine._decide(site, snapshots, dirty)

    # -- what must never go ---------------------------------------------------------

    def roots(self):
        return [p for p in (self.silo(), *sorted(self.base.glob("*/.jp"))) if p.is_dir()]

    def everywhere(self) -> set[bytes]:
        """Every content of a file in a root, in staging or in the history."""
        return {p.read_bytes() for r in self.roots() for p in r.rglob("*") if p.is_file()} | self.kept()

    def kept(self) -> set[bytes]:
        history = History(str(self.data))
        found = set()
        for conversation in history.conversations(WS):
            for version in history.versions(WS, conversation):
                found |= {raw for _, raw, _ in history.read(WS, conversation, version.version)}
        return found

    def contents(self) -> set[bytes]:
        """The same for what a conversation's directory holds now."""
        found = set()
        for root in self.roots():
            found |= {p.read_bytes() for p in (root / "conversations").rglob("*") if p.is_file()}
        return found

    def staged(self) -> list[str]:
        return [str(p) for r in self.roots() for p in sorted((r / "conversations").glob(f"{layout.STAGING}/*"))]

    def lock_files(self) -> list[str]:
        return sorted(p.name for r in self.roots() for p in r.glob("locks/*"))
