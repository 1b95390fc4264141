"""A kept version beside what is current: read, not written, and compared by `eventdiff`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

from convsync_agent import fs
from convsync_agent.chosen import being_written
from convsync_agent.errors import StorageProblem, kind_of, reason_of
from convsync_agent.eventdiff import Difference, Files, difference
from convsync_agent.extras import parents
from convsync_agent.history import History, Manifest
from convsync_agent.index import load_index
from convsync_agent.model import UNIT_FILES
from convsync_agent.names import id_text
from convsync_agent.shelf import Spot
from convsync_agent.site import Site

TRIES = 5


class Compared(NamedTuple):
    """`place` is the root whose copy is current, None when no copy is left. `identical`: equal bytes."""

    place: str | None
    old: Files
    new: Files
    found: Difference

    @property
    def identical(self) -> bool:
        return self.old == self.new


def compare(history: History, site: Site, manifest: Manifest) -> Compared:
    """Raises NotFound and StorageProblem for a version that cannot be read, and what `current` raises."""
    files = history.read(manifest.workspace, manifest.conversation, manifest.version)
    old = {name: raw for name, raw, _ in files}
    spot = _current(site, manifest.conversation)
    names = UNIT_FILES.get(manifest.unit, tuple(old))
    new = _read(spot, names, manifest.conversation) if spot else {}
    return Compared(spot.root.path if spot else None, old, new, difference(manifest.unit, old, new))


def _current(site: Site, conversation: int) -> Spot | None:
    """The durable copy; where there is none, a worktree's, the first by path."""
    entry = next((e for e in load_index(site) if e.id == conversation), None)
    return min(entry.spots, key=lambda s: s.root.order) if entry else None


def _read(spot: Spot, names: Sequence[str], conversation: int) -> dict[str, bytes]:
    """These files of one copy, without those that do not exist. A write in between is waited out by reading again."""
    where = spot.root.path
    for _ in range(TRIES):
        try:
            with fs.opened_partition(where, archived=spot.place.archived) as part, ExitStack() as stack:
                fd = stack.enter_context(fs.opened_dir(spot.place.name, dir_fd=part))
                return {n: raw for n in names if (raw := _file(n, fd)) is not None}
        except fs.ChangedError:
            continue
        except OSError as error:
            raise StorageProblem(
                f"cannot read what is current of {id_text(conversation)}: {reason_of(error)}",
                where=where,
                hint="convsync status",
                code=kind_of(error),
            ) from None
    raise being_written(conversation)


def _file(name: str, fd: int) -> bytes | None:
    with ExitStack() as stack:
        try:
            at, last = parents(name, fd, stack, make=False)
            return fs.read_file(last, at)[0]
        except (FileNotFoundError, NotADirectoryError, fs.OddFileError):
            return None
