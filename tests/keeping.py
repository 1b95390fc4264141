"""A history to keep versions in, what is in it, and processes that write to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import convsync_agent
from convsync_agent import kernel
from convsync_agent import objects as objects_module
from convsync_agent.digest import content_digest
from convsync_agent.kept import README
from convsync_agent.model import Unit
from deaths import dying

WS, ID, ROOT = "otvo8", 17457886043, "/home/me/project/.jp"
STREAM = [("base_config.json", b"{}", 1_700_000_000_123_456_789), ("events.json", b'[{"type":"x"}]', 17)]
LOOSE = {"keep_days": 90, "keep_versions": 50, "max_bytes": 2 << 30}
STEPS = ("open", "mkdir", "chmod", "fchmod", "fsync", "rename", "utime")


def keep(history, files=STREAM, *, unit=Unit.STREAM, at_ms=1000, conversation=ID, workspace=WS):
    if isinstance(files, bytes):
        files = [("base_config.json", b"{}", 5), ("events.json", files, 6)]
    facts = {"root": ROOT, "why": "replaced", "valid": True, "events": 1}
    return history.keep(workspace, conversation, unit, files, at_ms=at_ms, **facts)


def place(history, workspace=WS, conversation=ID):
    return Path(history.base, workspace, f"jp-c{conversation}")


def objects(history, conversation=ID):
    return {p.name.removesuffix(".gz") for p in place(history, conversation=conversation).glob("objects/*.gz")}


def hexes(*raw):
    return [content_digest(r).hex() for r in raw]


def contents(history):
    """The events of every version, newest first; reading checks every digest."""
    return [dict(f[:2] for f in history.read(WS, ID, m.version))["events.json"] for m in history.versions(WS, ID)]


def dot_names(history):
    return [p for p in Path(history.base).rglob("*") if p.name.startswith(".")]


def child(script, *args, **options):
    code = f"import sys; sys.path.insert(0, {os.path.dirname(convsync_agent.__path__[0])!r})\n{script}"
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], **options)


KEEP = """
files = [("base_config.json", b"{}", 5), ("events.json", b"new", 6)]
History(sys.argv[1]).keep("otvo8", 17457886043, Unit.STREAM, files, root="/r", at_ms=2, why="w", valid=True, events=1)
"""


def killed(act, history, number, *more):
    """The exit code of a process that does this to a history and is killed before that step of it."""
    imports = "from convsync_agent.history import History\nfrom convsync_agent.model import Unit"
    return child(dying(imports, [*STEPS, *more], act), history.data_dir, number).wait(120)


def key(path):
    """A directory entry, as `Disk` knows it."""
    return os.stat(os.path.dirname(path)).st_ino, os.path.basename(path)


class Disk:
    """What a power failure could still take back, names and content, from the real calls as they happen."""

    def __init__(self, monkeypatch):
        self.loose = {}  # (directory inode, name) -> inode of what was made or renamed there
        self.dirty = {}  # inode -> name of a file whose content was not synced
        self.synced = set()
        self.early = []  # renames of something whose own content was not synced
        self.fsyncs = 0
        self.barriers = []  # inodes
        real = {n: getattr(os, n) for n in ("open", "fsync", "rename", "mkdir", "unlink")}
        sync_file_system = kernel.sync_file_system

        def open_(path, flags, *args, **kwargs):
            fd = real["open"](path, flags, *args, **kwargs)
            if flags & os.O_CREAT:
                self.loose[key(path)] = inode = os.fstat(fd).st_ino
                self.dirty[inode] = os.path.basename(path)
                self.synced.discard(inode)
            return fd

        def fsync(fd):
            real["fsync"](fd)
            self.fsyncs += 1
            inode = os.fstat(fd).st_ino
            self.synced.add(inode)
            self.dirty.pop(inode, None)
            self.loose = {k: v for k, v in self.loose.items() if k[0] != inode}

        def barrier(fd):
            sync_file_system(fd)
            self.barriers.append(os.fstat(fd).st_ino)
            self.forget()

        def rename(old, new):
            inode = os.stat(old).st_ino
            inner = [k for k in self.loose if k[0] == inode]
            if inode not in self.synced or inner:
                self.early.append(new)
            if objects_module.OBJECTS not in new and any(k[1].endswith(".gz") for k in self.loose):
                self.early.append(new)
            if os.path.exists(new):
                self.dirty.pop(os.stat(new).st_ino, None)
            real["rename"](old, new)
            self.loose.pop(key(old), None)
            self.loose[key(new)] = inode
            if inode in self.dirty:
                self.dirty[inode] = os.path.basename(new)

        def mkdir(path, mode=0o777):
            real["mkdir"](path, mode)
            self.loose[key(path)] = os.stat(path).st_ino

        def unlink(path, *, dir_fd=None):
            inode = os.stat(path, dir_fd=dir_fd).st_ino
            real["unlink"](path, dir_fd=dir_fd)
            self.dirty.pop(inode, None)
            if dir_fd is None:
                self.loose.pop(key(path), None)

        for fake in (open_, fsync, rename, mkdir, unlink):
            monkeypatch.setattr(os, fake.__name__.rstrip("_"), fake)
        monkeypatch.setattr(kernel, "sync_file_system", barrier)

    def forget(self):
        self.loose.clear()
        self.dirty.clear()

    def exposed(self):
        return [name for name in [*(n for _, n in self.loose), *self.dirty.values()] if name != README]
