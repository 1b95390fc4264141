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
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from convsync_agent import kept, kernel, objects, pruning
from convsync_agent.bulk import Content, digest_of
from convsync_agent.durable import Batch, Durable
from convsync_agent.errors import NotFound, StorageProblem, UsageProblem, storage_problem
from convsync_agent.kept import MANIFEST, VERSION, Kept, KeptFile, Listing, Manifest, Pruned
from convsync_agent.model import Unit
from convsync_agent.names import id_text
from convsync_agent.objects import OBJECTS, Stamp, object_path
from convsync_agent.plan import Problem
from convsync_agent.pressing import Pressing

__all__ = ["History", "Kept", "KeptFile", "Listing", "Manifest", "Pruned"]

_T = TypeVar("_T")


class History:
    def __init__(self, data_dir: str) -> None:
        self.data_dir = os.path.abspath(data_dir)
        self.base = os.path.join(self.data_dir, "history")
        self.pressing = Pressing()
        self._durable = Durable()
        self._batch: Batch | None = None

    # -- keeping ----------------------------------------------------------

    @contextlib.contextmanager
    def batch(self) -> Iterator[Batch]:
        """Inside, `keep` waits for no disk; leaving it makes all of it durable at once, or raises OSError.

        Nothing may be replaced before that. Left by an exception, nothing counts as durable. In a batch within a
        batch the inner end syncs too.
        """
        outer, batch = self._batch, Batch()
        self._batch = batch
        try:
            yield batch
            self._durable.finish(batch)
        finally:
            self._batch = outer
            batch.close()

    def keep(
        self,
        workspace: str,
        conversation: int,
        unit: Unit,
        files: Sequence[tuple[str, Content, int]],
        *,
        root: str,
        at_ms: int,
        why: str,
        valid: bool,
        events: int | None,
        digests: Mapping[str, bytes] | None = None,
    ) -> Kept:
        """Make (name, content, mtime) of one unit durable. Content equal to the newest version makes no new one.

        The age of an equal newest version starts anew, so retention counts from the last time it was kept. `digests`
        are those of these very bytes, where the caller has taken them.
        """
        contents, known = sorted(files, key=lambda f: f[0]), digests or {}
        listed = tuple(
            KeptFile(n, (known.get(n) or digest_of(raw)).hex(), len(raw), mtime) for n, raw, mtime in contents
        )
        if unit is Unit.ALL or not kept.sound_names([f.name for f in listed]):
            raise ValueError("a version is one unit with at least one file, by relative names")
        rows = [(entry, raw) for entry, (_, raw, _) in zip(listed, contents, strict=True)]
        manifest = Manifest(workspace, conversation, unit, "", root, at_ms, why, valid, events, listed)
        if self._batch is not None:
            return self._keep(manifest, rows, self._batch)
        with self.batch() as alone:
            return self._keep(manifest, rows, alone)

    def _keep(self, manifest: Manifest, rows: Sequence[tuple[KeptFile, Content]], batch: Batch) -> Kept:
        m, place = manifest, self._place(manifest.workspace, manifest.conversation)
        self._settle(place, batch)
        stamps = self._store(place, rows, batch)
        newest, last_ms = kept.load_newest(place, m)
        if newest and [f[:3] for f in newest.files] == [f[:3] for f in m.files]:
            folder = os.path.join(place, newest.version)
            with contextlib.suppress(FileNotFoundError):  # pruned at this moment: then it is kept anew
                if folder not in self._durable.doubted:
                    self._seal(folder, batch, age_ms=max(m.at_ms, newest.seen_ms))
                    return Kept(newest.version, new=False)
        version, stamp = kept.publish(place, replace(m, at_ms=max(m.at_ms, last_ms + 1)), batch)
        self._durable.note({os.path.join(place, version): stamp}, batch)
        lost = [
            r for r, at in zip(rows, stamps, strict=True) if objects.stamp_at(object_path(place, r[0].digest)) != at
        ]
        self._store(place, lost, batch)  # removed while no manifest asked for it
        return Kept(version, new=True)

    def _settle(self, place: str, batch: Batch | None) -> None:
        """Make the directories down to `objects`, private and durable.

        One that is there is synced once as well: who made it may have died before doing so.
        """
        paths = [self.data_dir, self.base, os.path.dirname(place), place, os.path.join(place, OBJECTS)]
        if not self._durable.knows_dir(paths[-1], batch):
            while not os.path.isdir(parent := os.path.dirname(paths[0])):
                paths.insert(0, parent)
            for path in (p for p in paths if not self._durable.knows_dir(p, batch)):
                self._make(path, batch)
        if batch is not None:
            batch.watch(self.data_dir)
            batch.watch(paths[-1])

    def _make(self, path: str, batch: Batch | None) -> None:
        ours = path.startswith(self.base)
        made = objects.make_dir(path, ours=ours)
        alone = batch or Batch()
        alone.named(os.path.dirname(path), ours=made or ours)  # else above the data directory, and not made by us
        if batch is None:
            alone.sync()
        if path == self.base and not os.path.exists(os.path.join(path, kept.README)):
            objects.write(os.path.join(path, kept.README), [kept.README_TEXT], batch.wrote if batch else kernel.fsync)
        self._durable.note({path: (os.stat(path).st_ino, 0)}, batch)

    def _store(self, place: str, rows: Sequence[tuple[KeptFile, Content]], batch: Batch) -> list[Stamp]:
        """An object that is there counts only if it gives back these very bytes; else it is written anew."""
        loose, stamps = dict[str, Stamp](), list[Stamp]()
        for entry, raw in rows:
            path, stamp = object_path(place, entry.digest), None
            with contextlib.suppress(OSError):
                stamp = self._stamp(path, objects.same_bytes(raw), batch)
            if stamp is None:
                # What is replaced may be whole and only unreadable at this moment, and older versions need it.
                wrote = kernel.fsync if os.path.lexists(path) else batch.wrote
                stamp = objects.write(path, objects.stored(raw), wrote)
                self._durable.doubted.discard(path)
                self.pressing.note(path)
            stamps.append(stamp)
            if not self._durable.knows(path, stamp, batch):
                loose[path] = stamp
        self._name(place, loose, batch)
        return stamps

    def _stamp(self, path: str, check: objects.Check, batch: Batch | None) -> Stamp | None:
        """The stamp of an object that passes, its content durable or left to the batch. Raises OSError."""
        if path in self._durable.doubted:
            return None
        stamp = objects.stamp_at(path)
        if batch is not None and stamp is not None and self._durable.knows(path, stamp, batch):
            return stamp  # read or written here, and nobody touched it since

        def loose(fd: int, stamp: Stamp) -> None:
            if not self._durable.knows(path, stamp, batch):
                (batch.wrote if batch else kernel.fsync)(fd)

        return objects.look_at(path, check, loose)

    def _name(self, place: str, loose: dict[str, Stamp], batch: Batch | None) -> None:
        """Make the names of these objects durable."""
        if loose and batch is None:
            objects.sync_dir(os.path.join(place, OBJECTS))
        elif loose and batch:
            batch.named(os.path.join(place, OBJECTS))
        self._durable.note(loose, batch)

    def _seal(self, folder: str, batch: Batch | None, *, age_ms: int | None = None) -> None:
        """Make a version that is there durable, with a new age or as it is."""
        with objects.opened(os.path.join(folder, MANIFEST)) as fd:
            known = self._durable.knows(folder, objects.stamp_of(os.fstat(fd)), batch)
            if age_ms is not None:
                objects.set_age(fd, age_ms)
            stamp = objects.stamp_of(os.fstat(fd))
            try:
                if not (known and age_ms is None):
                    (batch.wrote if batch else kernel.fsync)(fd)
            except OSError:
                self._durable.doubted.add(folder)
                raise
        for path in (folder, os.path.dirname(folder)) if not known else ():
            (batch.named if batch else objects.sync_dir)(path)
        self._durable.note({folder: stamp}, batch)

    # -- asking -----------------------------------------------------------

    def versions(self, workspace: str, conversation: int) -> list[Manifest]:
        """Every version that is whole as far as a cheap look tells, newest first."""
        return self.look(workspace, conversation).versions

    def problems(self, workspace: str, conversation: int) -> list[Problem]:
        """What lies among the versions and cannot be read. It is never touched."""
        return self.look(workspace, conversation).problems

    def look(self, workspace: str, conversation: int) -> Listing:
        place = self._place(workspace, conversation)
        manifests, troubles = kept.load_all(place, workspace, conversation)
        refs = None if troubles else frozenset(f.digest for m in manifests for f in m.files)
        versions = []
        for m in manifests:
            if all(objects.intact(place, f.digest, f.size) for f in m.files):
                versions.append(m)
            else:
                troubles.append(f"version {m.version} has lost content")
        problems = [Problem("io", conversation, None, f"history: {t}, left as it is") for t in sorted(troubles)]
        return Listing(versions, problems, refs)

    def read(self, workspace: str, conversation: int, version: str) -> list[tuple[str, bytes, int]]:
        """(name, content, mtime) of every file of a version, checked. Raises NotFound, StorageProblem."""
        return self._files(workspace, conversation, version, lambda path, f: objects.read_object(path, f.digest))

    def contents(self, workspace: str, conversation: int, version: str) -> list[tuple[str, Content, int]]:
        """The same, and what is large by pieces. Errors as for `read`."""
        return self._files(workspace, conversation, version, objects.content_of)

    def _files(
        self, workspace: str, conversation: int, version: str, get: Callable[[str, KeptFile], _T]
    ) -> list[tuple[str, _T, int]]:
        place, where = self._place(workspace, conversation), id_text(conversation)
        path, hint = os.path.join(place, version), f"convsync history {where}"
        if not VERSION.fullmatch(version) or not os.path.lexists(path):
            raise NotFound("no such version", where=where, hint=hint)
        try:
            files = kept.load(place, workspace, conversation, version).files
            return [(f.name, get(object_path(place, f.digest), f), f.mtime_ns) for f in files]
        except OSError as error:
            raise storage_problem(error, path, "read a kept version") from error
        except (ValueError, zlib.error) as error:
            reason = str(error) if isinstance(error, ValueError) else "damaged"
            raise StorageProblem(f"this kept version is {reason}", where=path, hint=hint, code="io") from error

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
        for manifest in kept.load_all(place, workspace, conversation)[0]:
            folder, files = os.path.join(place, manifest.version), wanted(manifest)
            if files and folder not in self._durable.doubted and self._sound(place, files):
                with contextlib.suppress(FileNotFoundError):  # pruned at this moment
                    self._settle(place, None)
                    self._seal(folder, None)
                    return True
        return False

    def _sound(self, place: str, files: Sequence[KeptFile]) -> bool:
        """These objects give back what they should and are durable, whoever wrote them and died before they were."""
        loose = dict[str, Stamp]()
        for entry in files:
            path = object_path(place, entry.digest)
            try:
                stamp = self._stamp(path, objects.same_digest(entry.digest), None)
            except OSError:
                self._durable.doubted.add(path)
                return False
            if stamp is None:
                return False
            if not self._durable.knows(path, stamp, None):
                loose[path] = stamp
        self._name(place, loose, None)
        return True

    def conversations(self, workspace: str) -> list[int]:
        """Every conversation of a workspace that there is a place for."""
        return [conversation for _, conversation in kept.conversations(self.base, workspace)]

    def size(self) -> int:
        """Bytes of everything, as stored."""
        return sum(objects.size_of(os.path.join(top, n)) for top, _, names in os.walk(self.base) for n in names)

    # -- clearing ---------------------------------------------------------

    def prune(
        self,
        workspace: str | None,
        now_ms: int,
        *,
        keep_days: int,
        keep_versions: int,
        max_bytes: int,
        protected: Callable[[Manifest], bool] = lambda _: False,
    ) -> Pruned:
        """Apply the rules to one workspace or, with None, to all; then drop what no manifest needs any more."""
        return pruning.prune(
            self._shelves(workspace),
            now_ms,
            keep_days=keep_days,
            keep_versions=keep_versions,
            max_bytes=max_bytes,
            protected=protected,
        )

    def note_stored(self) -> int:
        """Have compressed what was stored in a hurry, by whomever. Returns how many objects."""
        return self.pressing.note_all(pruning.stored(self._shelves(None)))

    def sweep(self) -> int:
        """Clear what a crash left. Returns how many names went. For the start, when nobody keeps."""
        return pruning.sweep(self.base, self._shelves(None))

    # -- where things are -------------------------------------------------

    def _place(self, workspace: str, conversation: int) -> str:
        if not kept.WORKSPACE.fullmatch(workspace):
            raise UsageProblem("not a workspace id")
        return os.path.join(self.base, workspace, id_text(conversation))

    def _shelves(self, workspace: str | None) -> list[pruning.Shelf]:
        found = kept.conversations(self.base, workspace)
        return [pruning.Shelf(self._place(s, c), partial(self.look, s, c)) for s, c in found]


def _hex(digest: str | bytes) -> str:
    return digest if isinstance(digest, str) else digest.hex()
