"""The private copy of a conversation that a person edits: never the files in a root, which JP reads at any time.

    <data_dir>/editing-<pid>-<workspace>-<conversation>-<random>/<jp-cID>/events.json ...

Private to its owner. A lock on the directory is inherited by the editor, so that nobody clears up under one that
outlives us. What a crash leaves is never deleted unread (`abandoned`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from convsync_agent import fs, kernel
from convsync_agent.model import MANAGED
from convsync_agent.names import id_text

PREFIX = "editing-"
TRIES = 5
GENEROUS, TIMES = 64 << 20, 8  # what an edit may grow to: whichever is more
_NAME = re.compile(r"editing-(?P<pid>[0-9]+)-(?P<workspace>[0-9a-z]+)-(?P<conversation>-?[0-9]+)-.+")


class Unusable(Exception):
    """A file is not one that can be read as an edit. Says why, without its text."""


class Left(NamedTuple):
    """A file of a private copy: its path below it, its content and its time."""

    path: str
    raw: bytes
    mtime_ns: int


class Scratch:
    """`stays`: what is in it could not be put anywhere else, so it is not removed."""

    def __init__(self, top: str, fd: int, conversation: int) -> None:
        self.top, self.fd = top, fd
        self.folder = folder_in(top, conversation)
        self.stays = False

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def read(self, name: str, before: int) -> bytes | None:
        """What the editor left; None when the file is gone. `before`: its size then. Raises Unusable."""
        for _ in range(TRIES):
            try:
                with fs.opened_dir(self.folder) as fd:
                    stamp = fs.stat_file(name, fd)
                    if stamp is None:
                        return None
                    if stamp.size > max(GENEROUS, TIMES * before):
                        raise Unusable(f"{name}: {stamp.size} bytes, too large for an edit")
                    return fs.read_file(name, fd)[0]
            except fs.ChangedError:
                time.sleep(0.1)
            except fs.OddFileError as odd:
                raise Unusable(f"{name}: {odd} instead of a file") from None
            except FileNotFoundError:
                return None
        raise Unusable(f"{name}: it is still being written")


@contextmanager
def opened(data_dir: str, workspace: str, conversation: int, files: Sequence[tuple[str, bytes]]) -> Iterator[Scratch]:
    """A private copy of these files. Removed on the way out, whatever the way, unless it `stays`. Raises OSError."""
    top = tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-{workspace}-{conversation}-", dir=data_dir)
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    made = Scratch(top, fd, conversation)
    try:
        with contextlib.suppress(OSError):  # where locks cannot work our pid alone says that somebody is at it
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.mkdir(made.folder, 0o700)
        with fs.opened_dir(made.folder) as folder:
            for name, raw in files:
                fs.write_new(name, raw, folder, mtime_ns=time.time_ns(), sync=False, mode=0o600)
        yield made
    finally:
        if not made.stays:
            shutil.rmtree(top, ignore_errors=True)
        os.close(fd)


class Abandoned(NamedTuple):
    """One that a crash left."""

    top: str
    workspace: str
    conversation: int

    @property
    def folder(self) -> str:
        return folder_in(self.top, self.conversation)


def folder_in(top: str, conversation: int) -> str:
    return os.path.join(top, id_text(conversation))


@contextmanager
def abandoned(data_dir: str) -> Iterator[list[Abandoned]]:
    """The private copies whose process and whose editor are gone, held so that nobody else takes them."""
    held: list[int] = []
    try:
        yield [found for name in sorted(os.listdir(data_dir)) if (found := _seize(data_dir, name, held))]
    finally:
        for fd in held:
            os.close(fd)


def _seize(data_dir: str, name: str, held: list[int]) -> Abandoned | None:
    said = _NAME.fullmatch(name)
    if said is None or kernel.alive(int(said["pid"])):
        return None
    top = os.path.join(data_dir, name)
    try:
        fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    held.append(fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return None  # its editor is still open
    return Abandoned(top, said["workspace"], int(said["conversation"]))


def everything(folder: str) -> list[Left]:
    """Every regular file below a directory, by path; links and devices are no content. Raises OSError, ChangedError."""
    found = []
    for top, _, names in os.walk(folder):
        with fs.opened_dir(top) as fd:
            for name in sorted(names):
                if stat.S_ISREG(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode):
                    raw, stamp = fs.read_file(name, fd)
                    found.append(Left(os.path.relpath(os.path.join(top, name), folder), raw, stamp.mtime_ns))
    return sorted(found)


def is_beside(path: str) -> bool:
    """Neither a file that is edited nor one that an editor keeps for itself."""
    own = any(part.startswith(".") for part in path.split("/")) or path.endswith((".tmp", "~"))
    return not own and path not in MANAGED
