"""The place of one conversation in our trash: where it is, and who may change it.

    <data_dir>/trash/<workspace>/<jp-cID>/tombstone.json   it was removed on purpose (`graves`)
    <data_dir>/trash/<workspace>/<jp-cID>/manifest.json    its kept copy (`keepsake`), and the files that hold it

Paths hold ids only (R9). Who changes a place holds its lock, so a temporary name found under the lock is
of somebody who died. Every error is an OSError as it comes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from convsync_agent import objects
from convsync_agent.names import id_text, parse_id

TRASH = "trash"
_WORKSPACE = re.compile(r"[0-9a-z]{1,64}")
_NAME = re.compile(r"jp-c[0-9]+")


class Plot(NamedTuple):
    """`base` is `<data_dir>/trash`."""

    base: str
    workspace: str
    conversation: int

    @property
    def path(self) -> str:
        return os.path.join(self.base, self.workspace, id_text(self.conversation))

    def file(self, name: str) -> str:
        return os.path.join(self.path, name)


def plot(data_dir: str, workspace: str, conversation: int) -> Plot:
    if not _WORKSPACE.fullmatch(workspace):
        raise ValueError("not the id of a workspace")
    return Plot(os.path.join(os.path.abspath(data_dir), TRASH), workspace, conversation)


def plots(data_dir: str, workspace: str | None = None) -> Iterator[Plot]:
    """Every place, by workspace and conversation."""
    base = os.path.join(os.path.abspath(data_dir), TRASH)
    for name in [workspace] if workspace is not None else objects.names_in(base):
        if _WORKSPACE.fullmatch(name):
            yield from (Plot(base, name, c) for c in conversations(os.path.join(base, name)))


def conversations(directory: str) -> list[int]:
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = (parse_id(n) for n in names if _NAME.fullmatch(n))
    return sorted(c for c in found if c is not None)


@contextlib.contextmanager
def locked(place: Plot, *, make: bool = False) -> Iterator[None]:
    """Alone in this place, among all processes of ours. Raises FileNotFoundError where it is not and is not made.

    The lock is on the directory itself, and ends with the process. A place may be taken away while it is
    waited for: then the next one of that name is locked.
    """
    fd = _acquired(place, make=make)
    try:
        yield
    finally:
        os.close(fd)


def _acquired(place: Plot, *, make: bool) -> int:
    while True:
        if make:
            _make(place)
        fd = -1
        try:
            fd = os.open(place.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(fd), os.stat(place.path)):
                return fd
            os.close(fd)
        except BaseException as error:
            if fd >= 0:
                os.close(fd)
            if not make or not isinstance(error, FileNotFoundError):
                raise


def _make(place: Plot) -> None:
    if os.path.isdir(place.path):
        return
    paths = [os.path.dirname(place.base), place.base, os.path.dirname(place.path), place.path]
    while not os.path.isdir(parent := os.path.dirname(paths[0])):
        paths.insert(0, parent)
    for path in paths:
        made = objects.make_dir(path, ours=path.startswith(place.base))
        if made and path != place.path:  # once in the life of a workspace
            objects.sync_dir(os.path.dirname(path))


def sync(place: Plot) -> None:
    """The names in this place are durable, and so is its own; those above are since they were made."""
    objects.sync_dir(place.path)
    objects.sync_dir(os.path.dirname(place.path))


def leave(place: Plot) -> None:
    """Take the directory away if nothing is in it."""
    with contextlib.suppress(OSError):
        os.rmdir(place.path)
