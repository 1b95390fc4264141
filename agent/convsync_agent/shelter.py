"""Kept copies: the last durable content of every conversation, restorable after whatever removed or replaced it.

    <data_dir>/trash/<workspace>/<jp-cID>/manifest.json    what is kept: the record
    <data_dir>/trash/<workspace>/<jp-cID>/<digest>.raw     a reflink
    <data_dir>/trash/<workspace>/<jp-cID>/<digest>.gz      compressed

Durable when `keep` returns. The manifest is renamed into place, so a crash leaves the old copy whole or the new
one, and files that no manifest names, which the next change of that place clears. Trouble comes out as the OSError
it is; nothing of a conversation hangs on it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from hashlib import blake2b
from types import MappingProxyType
from typing import NamedTuple

from convsync_agent import fs, grip, keepsake, kernel, objects
from convsync_agent import plot as places
from convsync_agent.bulk import Content
from convsync_agent.keepsake import MANIFEST, HeldFile, Keepsake
from convsync_agent.model import Copy
from convsync_agent.plan import Problem
from convsync_agent.plot import Plot
from convsync_agent.rules import DAY_MS


class Removed(NamedTuple):
    """One kept copy whose durable copy is gone. `until_ms`: restorable that long; `bytes`: of its content."""

    workspace: str
    conversation: int
    removed_ms: int
    until_ms: int
    bytes: int
    events: int | None
    whole: bool


Alive = Mapping[str, Container[int]]
NOBODY: Alive = MappingProxyType({})


class Emptied(NamedTuple):
    copies: int
    bytes: int


class Shelter:
    def __init__(self, data_dir: str, *, keep_days: int = 30) -> None:
        """`keep_days` 0: none is made any more."""
        self.data_dir = data_dir
        self.keep_days = keep_days
        self._syncs = True
        self._known: dict[str, dict[int, int]] = {}  # workspace, conversation: one number for what is kept

    # -- keeping ----------------------------------------------------------

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Inside, `keep` waits for no disk; leaving it makes all of it durable at once, or raises OSError.

        Until then a power failure may leave a manifest whose content is not there: that counts as no kept copy. For
        many at once, while their durable copies are there.
        """
        self._syncs = not kernel.has_syncfs()
        try:
            yield
        finally:
            self._syncs = True
        if kernel.has_syncfs():
            with fs.opened_dir(self.data_dir) as fd:
                kernel.sync_file_system(fd)

    def current(self, workspace: str, copy: Copy) -> bool:
        """What is kept is this content, in this partition: one stat, where it was asked before."""
        place, wanted = self._place(workspace, copy.conversation), keepsake.fingerprint_of(copy)
        stamp = keepsake.stamp_at(place)
        return stamp is not None and (
            self._remembers(place, wanted, stamp) or self._is(place, _load(place), wanted, stamp)
        )

    def keep(self, workspace: str, copy: Copy, *, at_ms: int, events: int | None = None) -> bool:
        """Keep the content of a durable copy instead of what was kept of it, in one step. False: it was kept.

        Only a whole, valid, quiet copy is taken (R3). What is given up here and is not in `copy` is the
        caller's to save first (`read`). Raises fs.ChangedError if the disk has something else; OSError.
        """
        place, wanted = self._place(workspace, copy.conversation), keepsake.fingerprint_of(copy)
        if self.keep_days == 0 or not keepsake.keepable(copy):
            return False
        if (stamp := keepsake.stamp_at(place)) and self._remembers(place, wanted, stamp):
            return False
        with places.locked(place, make=True):
            old, stamp = _load(place), keepsake.stamp_at(place)
            if stamp and self._is(place, old, wanted, stamp):
                return False
            files = self._hold(place, copy, old)
            if self._syncs:
                objects.sync_dir(place.path)  # their names before the manifest that names them
            new = Keepsake(workspace, copy.conversation, copy.partition, at_ms, files, None, events)
            self._note(place, wanted, keepsake.publish(place, new, sync=self._syncs))
            _sweep(place, new)
        return True

    def _hold(self, place: Plot, copy: Copy, old: Keepsake | None) -> tuple[HeldFile, ...]:
        """Every file of the copy as held; what the old kept copy holds already stays."""
        before = {f.name: f for f in old.files} if old else {}
        found = []
        with fs.opened_copy(copy) as fd:
            for want in grip.wanted(copy):
                have = before.get(want.name)
                if have is not None and _same(have, want) and os.path.lexists(place.file(have.held)):
                    found.append(replace(have, mtime_ns=want.stamp.mtime_ns))
                else:
                    found.append(grip.hold(want, fd, place.path, sync=self._syncs))
        return tuple(found)

    def removed(self, workspace: str, conversation: int, at_ms: int) -> bool:
        """The durable copy is gone since then: retention counts from there. False: nothing is kept, or it was known."""
        return self._mark_removed(workspace, conversation, at_ms)

    def returned(self, workspace: str, conversation: int) -> bool:
        """The durable copy is there again. `keep` knows that too."""
        return self._mark_removed(workspace, conversation, None)

    def _mark_removed(self, workspace: str, conversation: int, at_ms: int | None) -> bool:
        place = self._place(workspace, conversation)
        try:
            with places.locked(place):
                have = _load(place)
                if have is None or (have.removed_ms is None) == (at_ms is None):
                    return False
                keepsake.publish(place, replace(have, removed_ms=at_ms))
                self._known.get(workspace, {}).pop(conversation, None)
                return True
        except FileNotFoundError:
            return False

    # -- asking -----------------------------------------------------------

    def conversations(self, workspace: str) -> set[int]:
        """Those of which something is kept: one stat for each."""
        return {p.conversation for p in places.plots(self.data_dir, workspace) if keepsake.stamp_at(p)}

    def held(self, workspace: str, conversation: int) -> Keepsake | None:
        """What is kept; None where nothing is, or where it is not understood (`ls` tells). Raises OSError."""
        return _load(self._place(workspace, conversation))

    def read(
        self, workspace: str, conversation: int, names: Container[str] | None = None, *, now: bool = True
    ) -> list[tuple[str, Content, int]]:
        """(name, content, mtime ns) of every file kept, or of those of these names.

        Raises FileNotFoundError where nothing is kept, fs.ChangedError where content is not what was kept; not `now`,
        of what is large only when it is read.
        """
        place, have = self._kept(workspace, conversation)
        chosen = [f for f in have.files if names is None or f.name in names]
        return [(f.name, grip.read(f, place.path, now=now), f.mtime_ns) for f in chosen]

    def restore_into(self, workspace: str, conversation: int, dir_fd: int, *, sync: bool) -> Keepsake:
        """Build every kept file, with its true mtime, in a directory that nobody reads yet. Nothing is overwritten.

        Errors as for `read`; what was made until then is left to whoever made the directory.
        """
        place, have = self._kept(workspace, conversation)
        for file in have.files:
            raw = grip.read(file, place.path, now=False)
            with contextlib.ExitStack() as stack:
                *above, leaf = file.name.split("/")
                fd = dir_fd
                for name in above:
                    fs.make_dir(name, fd)
                    fd = stack.enter_context(fs.opened_dir(name, dir_fd=fd))
                fs.write_new(leaf, raw, fd, mtime_ns=file.mtime_ns, sync=sync)
        return have

    def ls(self, workspace: str | None = None, *, but: Alive = NOBODY) -> tuple[list[Removed], list[Problem]]:
        """Kept copies of conversations that are gone, the last removed first, and what cannot be understood.

        `but`: what is known to be there, by workspace; it is not looked at.
        """
        found, troubles = list[Removed](), list[Problem]()
        for place in places.plots(self.data_dir, workspace):
            if place.conversation in but.get(place.workspace, ()):
                continue
            try:
                have = keepsake.load(place)
            except ValueError as error:
                troubles.append(Problem("io", place.conversation, None, f"its kept copy is {error}"))
                continue
            if have is not None and have.removed_ms is not None:
                until = have.removed_ms + self.keep_days * DAY_MS
                facts = (have.removed_ms, until, have.size, have.events, have.whole)
                found.append(Removed(place.workspace, place.conversation, *facts))
        return sorted(found, key=lambda r: (-r.removed_ms, r.workspace, r.conversation)), troubles

    # -- letting go -------------------------------------------------------

    def empty(self, workspace: str | None = None, conversation: int | None = None) -> Emptied:
        """Drop kept copies of conversations that are gone: all, of a workspace, or one. Never a tombstone."""
        chosen = (r for r in self.ls(workspace)[0] if conversation in {None, r.conversation})
        return self._drop([(r, r.removed_ms) for r in chosen])

    def prune(self, now_ms: int, keep_days: int | None = None, *, but: Alive = NOBODY) -> Emptied:
        """Drop those whose durable copy has been gone for longer than the days.

        `but`: conversations whose durable copy is there, by workspace. They are not looked at, and they are nearly all.
        """
        days = self.keep_days if keep_days is None else keep_days
        old = [(r, r.removed_ms) for r in self.ls(but=but)[0] if now_ms - r.removed_ms > days * DAY_MS]
        return self._drop(old, but)

    def _drop(self, chosen: list[tuple[Removed, int]], but: Alive = NOBODY) -> Emptied:
        copies = size = 0
        for one, removed_ms in chosen:
            place = self._place(one.workspace, one.conversation)
            with contextlib.suppress(FileNotFoundError), places.locked(place):
                have = _load(place)
                if have is None or have.removed_ms != removed_ms:
                    continue  # it came back meanwhile
                objects.unlink(place.file(MANIFEST))
                _sweep(place, None)
                copies, size = copies + 1, size + have.size
        for place in places.plots(self.data_dir):  # what a crash in the middle of this left
            if place.conversation not in but.get(place.workspace, ()) and keepsake.stamp_at(place) is None:
                with contextlib.suppress(FileNotFoundError), places.locked(place):
                    if keepsake.stamp_at(place) is None:
                        _sweep(place, None)
        return Emptied(copies, size)

    def _kept(self, workspace: str, conversation: int) -> tuple[Plot, Keepsake]:
        place = self._place(workspace, conversation)
        have = keepsake.load(place)
        if have is None:
            raise FileNotFoundError
        return place, have

    def _place(self, workspace: str, conversation: int) -> Plot:
        return places.plot(self.data_dir, workspace, conversation)

    def _remembers(self, place: Plot, wanted: bytes, stamp: objects.Stamp) -> bool:
        return self._known.get(place.workspace, {}).get(place.conversation) == _number(wanted, stamp)

    def _is(self, place: Plot, have: Keepsake | None, wanted: bytes, stamp: objects.Stamp) -> bool:
        """What was read is the wanted content of a conversation that is there; then it is remembered."""
        if have is None or have.removed_ms is not None or have.fingerprint != wanted:
            return False
        self._note(place, wanted, stamp)
        return True

    def _note(self, place: Plot, fingerprint: bytes, stamp: objects.Stamp) -> None:
        self._known.setdefault(place.workspace, {})[place.conversation] = _number(fingerprint, stamp)


def _number(fingerprint: bytes, stamp: objects.Stamp) -> int:
    """What is kept and the manifest that says so, as one number: tens of thousands of them stay in memory."""
    text = b"%b %d %d" % (fingerprint, *stamp)
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


def _load(place: Plot) -> Keepsake | None:
    """The kept copy; one that is not understood counts as none: it can neither be restored nor trusted."""
    try:
        return keepsake.load(place)
    except ValueError:
        return None


def _same(have: HeldFile, want: grip.Wanted) -> bool:
    if want.digest is not None:
        return have.digest == want.digest
    return (have.size, have.mtime_ns) == (want.stamp.size, want.stamp.mtime_ns)


def _sweep(place: Plot, have: Keepsake | None) -> None:
    """Clear what no manifest names, under the lock of the place; the place, too, when nothing is left in it."""
    needed = {f.held for f in have.files} if have else set[str]()
    for name in objects.names_in(place.path):
        if name not in needed and (name.startswith(objects.TEMP) or name.endswith((".gz", ".raw"))):
            objects.unlink(place.file(name))
    places.leave(place)
