"""Read every byte of every copy and say whether it is durable, valid and equal. Writes nothing, decides nothing.

Durable: the silo has these bytes or contains them, or the history gives them back. Equal: the same bytes in
the silo and in every live copy that is kept refreshed; a copy that is `behind` need not be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from convsync_agent import fs, layout, scan
from convsync_agent.bulk import Content, digest_of
from convsync_agent.errors import StorageProblem, kind_of, reason_of
from convsync_agent.extras import read_extra
from convsync_agent.growth import contains, metadata_contains
from convsync_agent.history import History
from convsync_agent.knowledge import Knower
from convsync_agent.model import (
    BASE_CONFIG,
    BOTH,
    EVENTS,
    METADATA,
    SECOND,
    Copy,
    Extra,
    Grade,
    Partition,
    Unit,
    UnitCopy,
)
from convsync_agent.names import id_text
from convsync_agent.observe import Contents, Eye
from convsync_agent.receipt import Found, Receipt, Trouble, receipt
from convsync_agent.scan import View
from convsync_agent.site import Site, Tree
from convsync_agent.state import Attention

FRESH_NS = 2 * SECOND
PATIENCE_SECONDS = 2.0
LOOK_AGAIN_SECONDS = 0.05
OUT_OF_REACH = (Grade.UNREADABLE, Grade.ODD)


Progress = Callable[[int, int, int, int], None]
"""Told (conversations done, of how many, files, bytes)."""


def verify(
    sites: Iterable[Site],
    history: History,
    attention: Sequence[Attention],
    *,
    only: Tree | None = None,
    progress: Progress | None = None,
) -> Receipt:
    """Everything in `sites`, or what one worktree holds. What is being written is looked at again for 2 s."""
    started = time.monotonic()
    readers = [Reader(site, history, attention, only) for site in sites]
    found: dict[tuple[str, int], Found] = {}
    wanted = [(r, c) for r in readers for c in r.list()]
    files = size = 0
    for number, (reader, conversation) in enumerate(wanted, 1):
        one = found[reader.site.id, conversation] = reader.read(conversation)
        files, size = files + one.files, size + one.bytes
        if progress is not None:
            progress(number, len(wanted), files, size)
    by_id = {r.site.id: r for r in readers}
    while time.monotonic() - started < PATIENCE_SECONDS:
        unsettled = [k for k, f in found.items() if f.troubles and f.fresh]
        if not unsettled:
            break
        time.sleep(LOOK_AGAIN_SECONDS)
        for reader in readers:
            reader.list()
        for workspace, conversation in unsettled:
            found[workspace, conversation] = by_id[workspace].read(conversation)
    troubles = [t for r in readers for t in r.troubles] + [t for f in found.values() for t in f.troubles]
    return receipt(found.values(), troubles, time.time_ns() // 1_000_000)


class Reader:
    """Reads the conversations of one workspace as they are now."""

    def __init__(self, site: Site, history: History, attention: Sequence[Attention], only: Tree | None) -> None:
        self.site = site
        self.history = history
        self.only = only
        self.behind = {(e.conversation, e.root) for e in attention if e.kind == "behind" and e.workspace == site.id}
        self.troubles: list[Trouble] = []
        self.contents = Contents()
        self.eye = Eye(
            time.time_ns, lambda _key, _stamps, ctime: time.time_ns() - ctime, lambda *_: False, self.contents
        )
        self._views: list[tuple[View, Tree | None]] = []

    def list(self) -> list[int]:
        """List every root in scope; what cannot be listed is a trouble of the workspace."""
        self.troubles = []
        self._views = []
        trees = [self.only] if self.only is not None else [self.site.trees[k] for k in sorted(self.site.trees)]
        seen: set[tuple[int, int]] = set()
        for tree in [None, *trees]:
            view = tree.view if tree is not None else self.site.silo
            if (tree is None or self._in_reach(tree, seen)) and self._list(view, tree):
                self._views.append((view, tree))
        scope = [v for v, t in self._views if self.only is None or t is not None]
        return sorted({c for v in scope for c in v.listing.conversations() | v.listing.odd.keys()})

    def _in_reach(self, tree: Tree, seen: set[tuple[int, int]]) -> bool:
        """Whether it is a worktree of this workspace now. One that is gone is no trouble: what it held is durable."""
        store = tree.root.path
        tree.identity = layout.identity(store)
        if tree.identity is None:
            return False
        live = layout.identity(f"{store}/{fs.CONVERSATIONS}")
        if live is not None and live in seen:
            return False  # the same directory under two paths is one root
        seen.update({live} if live else ())
        try:
            found = layout.read_id(store)
        except OSError as error:
            self._trouble(None, tree, kind_of(error), f"its workspace id cannot be read: {reason_of(error)}")
            return False
        if found is None:
            self._trouble(None, tree, "io", "it has no valid workspace id")
        return found == self.site.id

    def _list(self, view: View, tree: Tree | None) -> bool:
        try:
            view.listing = scan.list_root(view.root.path)
        except FileNotFoundError:
            if tree is None:
                self._trouble(None, None, "missing", "the silo is not there")
            return False
        except OSError as error:
            self._trouble(None, tree, kind_of(error), f"cannot be listed: {reason_of(error)}")
            return False
        return True

    def _trouble(self, conversation: int | None, tree: Tree | None, kind: str, detail: str) -> None:
        self.troubles.append(Trouble(conversation, self._where(tree), kind, detail))

    def _where(self, tree: Tree | None) -> str:
        return tree.worktree.path if tree is not None else self.site.silo.root.path

    # -- one conversation ---------------------------------------------------------

    def read(self, conversation: int) -> Found:
        """Look at every copy and judge it."""
        found = Found()
        copies: list[tuple[Copy, Tree | None]] = []
        for view, tree in self._views:
            odd = view.listing.odd.get(conversation)
            if odd is not None:
                found.troubles.append(Trouble(conversation, self._where(tree), "held", odd))
            for place in view.listing.places(conversation):
                try:
                    copies.append((self.eye.look(view.root, conversation, place, None)[0], tree))
                except (FileNotFoundError, NotADirectoryError):
                    found.fresh = True  # it went or moved this moment: judged again after the next listing
                    found.troubles.append(Trouble(conversation, self._where(tree), "unstable", "it just moved away"))
                except OSError as error:
                    copies.append((Knower.unreadable(view, conversation, place, error)[0], tree))
        try:
            self._count(found, copies)
            self._judge(found, conversation, copies)
        finally:
            self.contents.clear()
        return found

    def _count(self, found: Found, copies: Sequence[tuple[Copy, Tree | None]]) -> None:
        now = time.time_ns()
        for copy, _ in copies:
            for file in (f for u in BOTH for f in copy.unit(u).files if f.stamp):
                assert file.stamp is not None  # noqa: S101  # filtered above
                found.fresh = found.fresh or now - file.stamp.ctime_ns < FRESH_NS
                if file.digest is not None:
                    found.files += 1
                    found.bytes += file.stamp.size
                    found.rows.add((id_text(copy.conversation), file.name, file.digest.hex()))

    def _judge(self, found: Found, conversation: int, copies: Sequence[tuple[Copy, Tree | None]]) -> None:
        durable = next((c for c, t in copies if t is None), None)
        roots = [c.root for c, _ in copies]
        for root in sorted({r for r in roots if roots.count(r) > 1}, key=lambda r: r.order):
            where = next(self._where(t) for c, t in copies if c.root == root)
            found.troubles.append(Trouble(conversation, where, "held", "two directories for one conversation"))
        extras = self._read_extras(found, durable) if durable is not None else {}
        for copy, tree in copies:
            where = self._where(tree)
            if durable is not None and copy.partition is not durable.partition:
                detail = f"{durable.partition} in the silo, {copy.partition} here"
                found.troubles.append(Trouble(conversation, where, "split", detail))
            for unit in BOTH:
                fault = self._fault(copy, unit)
                if fault is not None:
                    found.troubles.append(Trouble(conversation, where, *fault))
                if tree is not None and copy.unit(unit).grade not in OUT_OF_REACH:
                    self._compare(found, copy, tree, durable, unit, valid=fault is None)
            if tree is not None:
                self._compare_extras(found, copy, tree, extras)

    @staticmethod
    def _fault(copy: Copy, unit: Unit) -> tuple[str, str] | None:
        """(kind, detail) of a unit that JP could not load, or that could not be read."""
        state = copy.unit(unit)
        if state.grade is Grade.VALID:
            return None
        if state.grade in OUT_OF_REACH:
            kind, _, detail = state.fault.partition(": ")
            return kind or "io", detail or state.fault
        return "held", state.fault or "not usable"

    def _compare(self, found: Found, copy: Copy, tree: Tree, durable: Copy | None, unit: Unit, *, valid: bool) -> None:
        state = copy.unit(unit)
        if not state.exists:
            return
        same = durable is not None and durable.unit(unit).digest == state.digest
        if not same and not self._durable(copy, durable, unit):
            detail = f"its {unit} is neither in the silo nor in the history"
            found.troubles.append(Trouble(copy.conversation, tree.worktree.path, "not-durable", detail))
        refreshed = tree.worktree.refresh and not tree.worktree.paused and copy.partition is Partition.LIVE
        behind = (copy.conversation, tree.root.path) in self.behind
        if durable is not None and not same and valid and refreshed and not behind:
            detail = f"its {unit} is not the durable one"
            found.troubles.append(Trouble(copy.conversation, tree.worktree.path, "differs", detail))

    def _durable(self, copy: Copy, durable: Copy | None, unit: Unit) -> bool:
        if durable is not None and durable.unit(unit).grade is Grade.VALID and self._contains(durable, copy, unit):
            return True
        for version in self.history.versions(self.site.id, copy.conversation):
            if version.unit is unit and version.digest == copy.unit(unit).digest:
                try:
                    self.history.contents(self.site.id, copy.conversation, version.version)
                except StorageProblem:
                    continue
                return True
        return False

    def _contains(self, outer: Copy, inner: Copy, unit: Unit) -> bool:
        try:
            ours, theirs = self._bytes(outer, unit), self._bytes(inner, unit)
        except (OSError, fs.ChangedError, fs.OddFileError):
            return False
        if unit is Unit.METADATA:
            return METADATA in theirs and metadata_contains(ours[METADATA], theirs[METADATA])
        if EVENTS not in theirs:
            return False
        one, other = ((files.get(BASE_CONFIG), files[EVENTS]) for files in (ours, theirs))
        try:
            return contains(one, other)
        except (OSError, fs.ChangedError, fs.OddFileError):
            return False

    def _bytes(self, copy: Copy, unit: Unit) -> dict[str, Content]:
        state: UnitCopy = copy.unit(unit)
        found: dict[str, Content] = {}
        for file in state.files:
            if file.stamp is None:
                continue
            raw: Content | None = self.contents.get(file.digest)
            if raw is None:
                raw, at = read_extra(copy, Extra(file.name, file.stamp))
                if at != file.stamp:
                    raise fs.ChangedError
            found[file.name] = raw
        return found

    # -- unmanaged files ------------------------------------------------------------

    def _read_extras(self, found: Found, copy: Copy) -> dict[str, str]:
        """The digest of every unmanaged file of a copy; what cannot be read is a trouble."""
        digests = {}
        for extra in copy.extras:
            try:
                raw, _ = read_extra(copy, extra)
            except (OSError, fs.ChangedError, fs.OddFileError) as error:
                kind = kind_of(error) if isinstance(error, OSError) else "unstable"
                where = copy.root.path.removesuffix("/" + layout.STORE)
                found.troubles.append(Trouble(copy.conversation, where, kind, "an extra file cannot be read"))
                continue
            digests[extra.path] = digest_of(raw).hex()
            found.files += 1
            found.bytes += len(raw)
            found.rows.add((id_text(copy.conversation), extra.path, digests[extra.path]))
            found.fresh = found.fresh or time.time_ns() - extra.stamp.ctime_ns < FRESH_NS
        return digests

    def _compare_extras(self, found: Found, copy: Copy, tree: Tree, durable: dict[str, str]) -> None:
        mine = self._read_extras(found, copy)
        loose = [
            path
            for path, digest in mine.items()
            if durable.get(path) != digest and not self.history.has_content(self.site.id, copy.conversation, digest)
        ]
        if loose:
            detail = f"{len(loose)} extra file(s) in it are neither in the silo nor in the history"
            found.troubles.append(Trouble(copy.conversation, tree.worktree.path, "not-durable", detail))
