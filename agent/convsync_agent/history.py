"""The history: content that would else be lost, compressed, once per conversation, self-describing.

    <data_dir>/history/<workspace>/<jp-cID>/objects/<digest>.gz      the content of one file
    <data_dir>/history/<workspace>/<jp-cID>/<version>/manifest.json  what was kept, when, from where, why

Laws: when `keep` returns, or the `batch` around it, the content is durable. A crash leaves a complete
version or garbage: dot names and objects without a manifest, which nothing reads and `sweep` clears; a power
failure inside a batch may also leave a version without its objects, which is told as a problem. What is seen
need not be durable, since others write in batches: who says that it is there syncs it, or has done so before.
Versions of a unit are in the order of keeping, also when the clock went back. Paths hold ids only (R9). An
`OSError` comes out as it is.

No lock is needed: who removes an object puts it aside first and looks at the manifests again; who publishes
a manifest looks at its objects again. One of the two sees the other.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from convsync_agent import kernel, objects, pruning
from convsync_agent.digest import content_digest
from convsync_agent.errors import NotFound, StorageProblem, UsageProblem, storage_problem
from convsync_agent.kept import VERSION, Kept, KeptFile, Listing, Manifest, Pruned, as_json, parsed, sound_names
from convsync_agent.model import Unit
from convsync_agent.names import id_text, parse_id
from convsync_agent.objects import OBJECTS, Stamp, object_path
from convsync_agent.plan import Problem

__all__ = ["History", "Kept", "KeptFile", "Listing", "Manifest", "Pruned"]

MANIFEST, README = "manifest.json", "README"
_WORKSPACE = re.compile(r"[0-9a-z]{1,64}")
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY})
_KNOWN = 20_000  # paths remembered as durable; forgetting them costs a sync, nothing else
_README_TEXT = b"""\
convsync keeps here what an overwrite would have lost. Look with `convsync history`, bring back with
`convsync restore`. Without convsync: <workspace>/<conversation>/<version>/manifest.json lists the files of a
version; the content of each is <workspace>/<conversation>/objects/<digest>.gz (gzip).
"""


class _Batch:
    """What a burst made, and the file systems it made it on: one, unless somebody mounted another below."""

    def __init__(self) -> None:
        self.made: dict[str, Stamp] = {}
        self._systems: dict[int, int] = {}

    def watch(self, path: str) -> None:
        """Before anything is written there: an fd is told only of errors that came after it was opened."""
        device = os.stat(path).st_dev
        if device not in self._systems:
            self._systems[device] = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def sync(self) -> None:
        for fd in self._systems.values():
            kernel.sync_file_system(fd)

    def close(self) -> None:
        for fd in self._systems.values():
            os.close(fd)


class History:
    def __init__(self, data_dir: str) -> None:
        self.data_dir = os.path.abspath(data_dir)
        self.base = os.path.join(self.data_dir, "history")
        self._durable: dict[str, Stamp] = {}
        self._doubted: set[str] = set()  # a sync of these failed; the next one would say nothing of it
        self._batch: _Batch | None = None

    # -- keeping ----------------------------------------------------------

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Inside, `keep` waits for no disk; leaving it makes all of it durable at once, or raises OSError.

        Nothing may be replaced before that. Left by an exception, nothing counts as durable. Where one call
        cannot sync a file system each `keep` syncs for itself. In a batch within a batch the inner end syncs too.
        """
        if not kernel.has_syncfs():
            yield
            return
        outer, self._batch = self._batch, _Batch()
        batch = self._batch
        try:
            yield
            try:
                batch.sync()
            except OSError:
                self._doubted.update(batch.made)
                raise
            self._remember(None, batch.made)
        finally:
            self._batch = outer
            batch.close()

    def keep(
        self,
        workspace: str,
        conversation: int,
        unit: Unit,
        files: Sequence[tuple[str, bytes, int]],
        *,
        root: str,
        at_ms: int,
        why: str,
        valid: bool,
        events: int | None,
    ) -> Kept:
        """Make (name, content, mtime) of one unit durable. Content equal to the newest version makes no new one.

        The age of an equal newest version starts anew, so retention counts from the last time it was kept.
        """
        contents = sorted(files, key=lambda f: f[0])
        listed = tuple(KeptFile(n, content_digest(raw).hex(), len(raw), mtime) for n, raw, mtime in contents)
        if unit is Unit.ALL or not listed or not sound_names([f.name for f in listed]):
            raise ValueError("a version is one unit with at least one file, by relative names")
        rows = [(entry, raw) for entry, (_, raw, _) in zip(listed, contents, strict=True)]
        place = self._place(workspace, conversation)
        self._settle(place)
        self._store(place, rows)
        newest, last_ms = self._newest(workspace, conversation, unit)
        if newest and [f[:3] for f in newest.files] == [f[:3] for f in listed]:
            folder = os.path.join(place, newest.version)
            with contextlib.suppress(FileNotFoundError):  # pruned at this moment: then it is kept anew
                if folder not in self._doubted:
                    self._seal(self._batch, folder, age_ms=max(at_ms, newest.seen_ms))
                    return Kept(newest.version, new=False)
        manifest = Manifest(
            workspace, conversation, unit, "", root, max(at_ms, last_ms + 1), why, valid, events, listed
        )
        version, stamp = _publish(place, manifest, sync=self._batch is None)
        self._remember(self._batch, {os.path.join(place, version): stamp})
        self._store(place, [row for row in rows if not objects.intact(place, row[0])])  # nobody asked for it till now
        return Kept(version, new=True)

    def _settle(self, place: str) -> None:
        """Make the directories down to `objects`, private and durable.

        One that is there is synced once as well: who made it may have died before doing so.
        """
        batch = self._batch
        paths = [self.data_dir, self.base, os.path.dirname(place), place, os.path.join(place, OBJECTS)]
        if not self._is_known(batch, paths[-1]):
            while not os.path.isdir(parent := os.path.dirname(paths[0])):
                paths.insert(0, parent)
            for path in paths:
                self._make(batch, path)
        if batch is not None:
            for path in (self.data_dir, paths[-1]):
                batch.watch(path)

    def _make(self, batch: _Batch | None, path: str) -> None:
        if self._is_known(batch, path):
            return
        ours = path.startswith(self.base)
        made = objects.make_dir(path, ours=ours)
        if batch is None:
            try:
                objects.sync_dir(os.path.dirname(path))
            except PermissionError:  # above the data directory, and not made by us
                if made or ours:
                    raise
        if path == self.base and not os.path.exists(os.path.join(path, README)):
            objects.write(os.path.join(path, README), [_README_TEXT], sync=batch is None)
        self._remember(batch, {path: (os.stat(path).st_ino, 0)})

    def _store(self, place: str, rows: Sequence[tuple[KeptFile, bytes]]) -> None:
        """An object that is there counts only if it gives back these very bytes; else it is written anew."""
        batch, loose = self._batch, dict[str, Stamp]()
        for entry, raw in rows:
            path, stamp = object_path(place, entry.digest), None
            if path not in self._doubted:
                with contextlib.suppress(OSError):  # unreadable, or its sync fails: written anew
                    check = objects.same_bytes(raw)
                    stamp = objects.look_at(path, check, unsynced=partial(self._is_loose, batch, path))
            if stamp is None:
                # What it replaces may be whole and only unreadable at the moment, and older versions need it.
                sync = batch is None or os.path.lexists(path)
                stamp = objects.write(path, objects.compressed(raw), sync=sync)
                self._doubted.discard(path)
                loose[path] = stamp
            elif not self._knows(batch, path, stamp):
                loose[path] = stamp
        if loose and batch is None:
            objects.sync_dir(os.path.join(place, OBJECTS))
        self._remember(batch, loose)

    def _newest(self, workspace: str, conversation: int, unit: Unit) -> tuple[Manifest | None, int]:
        """The newest readable version of a unit, and the last time that any version of it has."""
        found = (VERSION.fullmatch(n) for n in objects.names_in(self._place(workspace, conversation)) if unit in n)
        of_unit = sorted(((int(m[1]), m[0]) for m in found if m and m[2] == unit), reverse=True)
        for _, name in of_unit:
            with contextlib.suppress(OSError, ValueError):
                newest = self._manifest(workspace, conversation, name)
                return newest, max(of_unit[0][0], newest.seen_ms)
        return None, of_unit[0][0] if of_unit else -1

    def _seal(self, batch: _Batch | None, folder: str, *, age_ms: int | None = None) -> None:
        """Make a version that is there durable, with a new age or as it is."""
        with objects.opened(os.path.join(folder, MANIFEST)) as fd:
            known = self._knows(batch, folder, objects.stamp_of(os.fstat(fd)))
            if age_ms is not None:
                objects.set_age(fd, age_ms)
            stamp = objects.stamp_of(os.fstat(fd))
            try:
                if batch is None and not (known and age_ms is None):
                    kernel.fsync(fd)
            except OSError:
                self._doubted.add(folder)
                raise
        if batch is None and not known:
            objects.sync_dir(folder)
            objects.sync_dir(os.path.dirname(folder))
        self._remember(batch, {folder: stamp})

    # -- what is known to be durable ------------------------------------------

    def _knows(self, batch: _Batch | None, path: str, stamp: Stamp) -> bool:
        """It was synced as it is now, or will be at the end of this batch."""
        return self._durable.get(path) == stamp or (batch is not None and batch.made.get(path) == stamp)

    def _is_known(self, batch: _Batch | None, directory: str) -> bool:
        try:
            return self._knows(batch, directory, (os.stat(directory).st_ino, 0))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _is_loose(self, batch: _Batch | None, path: str, stamp: Stamp) -> bool:
        return batch is None and not self._knows(None, path, stamp)

    def _remember(self, batch: _Batch | None, stamps: dict[str, Stamp]) -> None:
        if batch is not None:
            batch.made.update(stamps)
            return
        if len(self._durable) > _KNOWN:
            self._durable.clear()
        self._durable.update(stamps)

    # -- asking -----------------------------------------------------------

    def versions(self, workspace: str, conversation: int) -> list[Manifest]:
        """Every version that is whole as far as a cheap look tells, newest first."""
        return self.look(workspace, conversation).versions

    def problems(self, workspace: str, conversation: int) -> list[Problem]:
        """What lies among the versions and cannot be read. It is never touched."""
        return self.look(workspace, conversation).problems

    def look(self, workspace: str, conversation: int) -> Listing:
        place = self._place(workspace, conversation)
        manifests, troubles = self._readable(workspace, conversation)
        refs = None if troubles else frozenset(f.digest for m in manifests for f in m.files)
        sound = {f for m in manifests for f in m.files if objects.intact(place, f)}
        versions = [m for m in manifests if sound.issuperset(m.files)]
        troubles += [f"version {m.version} has lost content" for m in manifests if not sound.issuperset(m.files)]
        problems = [Problem("io", conversation, None, f"history: {t}, left as it is") for t in sorted(troubles)]
        return Listing(versions, problems, refs)

    def _readable(self, workspace: str, conversation: int) -> tuple[list[Manifest], list[str]]:
        """Every manifest, newest first, and what is said of the others."""
        place = self._place(workspace, conversation)
        found, troubles = list[Manifest](), list[str]()
        for name in objects.names_in(place):
            if name.startswith(".") or name == OBJECTS:
                continue
            try:
                found.append(self._manifest(workspace, conversation, name))
            except (OSError, ValueError) as error:
                if isinstance(error, FileNotFoundError) and not os.path.lexists(os.path.join(place, name)):
                    continue  # pruned at this moment
                what = f"version {name}" if VERSION.fullmatch(name) else "an entry of another name"
                troubles.append(f"{what} is {'unreadable' if isinstance(error, OSError) else error}")
        return sorted(found, key=lambda m: (m.at_ms, m.version), reverse=True), troubles

    def read(self, workspace: str, conversation: int, version: str) -> list[tuple[str, bytes, int]]:
        """(name, content, mtime) of every file of a version, checked. Raises NotFound, StorageProblem."""
        place = self._place(workspace, conversation)
        where = id_text(conversation)
        path = os.path.join(place, version)
        if not VERSION.fullmatch(version) or not os.path.lexists(path):
            raise NotFound("no such version", where=where, hint=f"convsync history {where}")
        try:
            return [
                (f.name, objects.read_object(object_path(place, f.digest), f.digest), f.mtime_ns)
                for f in self._manifest(workspace, conversation, version).files
            ]
        except OSError as error:
            raise storage_problem(error, path, "read a kept version") from error
        except (ValueError, zlib.error) as error:
            reason = str(error) if isinstance(error, ValueError) else "damaged"
            raise StorageProblem(
                f"this kept version is {reason}", where=path, hint=f"convsync history {where}", code="io"
            ) from error

    def holds(self, workspace: str, conversation: int, unit: Unit, digests: Sequence[str | bytes]) -> bool:
        """The content is there and durable: one version of this unit has these files and no others. Read through."""
        wanted = sorted(_hex(d) for d in digests)
        return self._has(
            workspace,
            conversation,
            lambda m: m.files if m.unit is unit and sorted(f.digest for f in m.files) == wanted else (),
        )

    def has_content(self, workspace: str, conversation: int, raw_digest_hex: str | bytes) -> bool:
        """A file of this content belongs to some version, and is durable."""
        wanted = _hex(raw_digest_hex)
        if not os.path.exists(object_path(self._place(workspace, conversation), wanted)):
            return False
        return self._has(workspace, conversation, lambda m: [f for f in m.files if f.digest == wanted])

    def _has(self, workspace: str, conversation: int, wanted: Callable[[Manifest], Sequence[KeptFile]]) -> bool:
        place = self._place(workspace, conversation)
        for manifest in self._readable(workspace, conversation)[0]:
            folder, files = os.path.join(place, manifest.version), wanted(manifest)
            if files and folder not in self._doubted and self._sound(place, files):
                with contextlib.suppress(FileNotFoundError):  # pruned at this moment
                    self._seal(None, folder)
                    return True
        return False

    def _sound(self, place: str, files: Sequence[KeptFile]) -> bool:
        """These objects give back what they should and are durable, whoever wrote them and died before they were."""
        loose = dict[str, Stamp]()
        for entry in files:
            path, stamp = object_path(place, entry.digest), None
            try:
                if path not in self._doubted:
                    check = objects.same_digest(entry.digest)
                    stamp = objects.look_at(path, check, unsynced=partial(self._is_loose, None, path))
            except OSError:
                self._doubted.add(path)
            if stamp is None:
                return False
            if not self._knows(None, path, stamp):
                loose[path] = stamp
        if loose:
            objects.sync_dir(os.path.join(place, OBJECTS))
        self._remember(None, loose)
        return True

    def conversations(self, workspace: str) -> list[int]:
        """Every conversation of a workspace that there is a place for."""
        return [conversation for _, conversation in self._conversations(workspace)]

    def size(self) -> int:
        """Bytes of everything in the history, as stored."""
        return sum(objects.size_of(os.path.join(top, n)) for top, _, names in os.walk(self.base) for n in names)
