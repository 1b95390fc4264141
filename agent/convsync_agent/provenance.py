"""Where a suspect copy comes from: the lineage of the durable one, its last activation, and git's own records.

Asked only for what would win and lacks something durable, so an append asks nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from convsync_agent import fs
from convsync_agent.content import expires_at, last_activated
from convsync_agent.expiry import expires_early
from convsync_agent.githead import GitEye, find_git
from convsync_agent.model import (
    BOTH,
    METADATA,
    Base,
    Copy,
    Digest,
    Evidence,
    Grade,
    Guard,
    Partition,
    Policy,
    Root,
    Snapshot,
    Unit,
    Verdict,
)
from convsync_agent.observe import Contents
from convsync_agent.records import pack_digest
from convsync_agent.site import Site
from convsync_agent.stale import newer_without, suspect
from convsync_agent.state import State


@dataclass(slots=True)
class Provenance:
    """Reads the state, roots and git directories; writes nothing."""

    state: State
    contents: Contents
    # With objects: a checkout within two seconds of a commit, and an edit that is added and not yet committed,
    # are told apart by the age of the object, where index and log alone would take the one for the other.
    git: GitEye = field(default_factory=lambda: GitEye(objects=True))

    def add(self, base: Base, site: Site, snapshots: Sequence[Snapshot], policy: Policy) -> Base:
        """The base with everything that tells an edit from what git brought back."""
        base = replace(base, behind=site.behind, expired=self._expired(snapshots))
        if policy.guard is Guard.MTIME:
            return base
        found: dict[tuple[int, Root, Unit], Evidence] = {}
        lineage: set[tuple[int, Unit, Digest]] = set()
        earlier: set[tuple[int, Root]] = set()
        groups: dict[int, list[Copy]] = {}
        for snapshot in snapshots:
            for conversation, there in snapshot.copies.items():
                groups.setdefault(conversation, []).extend(there)
        for conversation, copies in groups.items():
            silo = next((c for c in copies if c.root.is_silo), None)
            if silo is None:
                found |= self._of_imports(copies)
                continue
            newer = [(c, u) for u in BOTH for c in copies if newer_without(base, c, silo, u)]
            if not newer:
                continue
            lineage |= {(conversation, u, d) for c, u in newer if self._had(site.id, c, u, d := c.unit(u).digest)}
            earlier |= {(conversation, c.root) for c, _ in newer if self._earlier(c, silo)}
            known = replace(base, lineage=frozenset(lineage), earlier=frozenset(earlier))
            for copy, unit in newer:
                if suspect(known, copy, silo, unit):
                    found[conversation, copy.root, unit] = self._ask(copy, unit, [silo])
        if not found:
            self.git.forget()
        return replace(base, lineage=frozenset(lineage), earlier=frozenset(earlier), git=found)

    def _expired(self, snapshots: Sequence[Snapshot]) -> frozenset[tuple[int, Root]]:
        """Live copies that JP would remove for their own `expires_at`. Read only where the metadata differs."""
        now = max((s.taken_at for s in snapshots), default=0)
        durable = {c: group[0] for s in snapshots if s.root.is_silo for c, group in s.copies.items()}
        return frozenset(
            (copy.conversation, copy.root)
            for s in snapshots
            for group in s.copies.values()
            for copy in group
            if (silo := durable.get(copy.conversation)) is not None
            and copy.partition is Partition.LIVE
            and copy.metadata.digest != silo.metadata.digest
            and expires_early(self._time(copy, expires_at), self._time(silo, expires_at), now)
        )

    def _of_imports(self, copies: Sequence[Copy]) -> Mapping[tuple[int, Root, Unit], Evidence]:
        """Only where worktrees disagree does it matter which of them git wrote."""
        return {
            (c.conversation, c.root, unit): self._ask(c, unit, copies)
            for unit in BOTH
            if len({c.unit(unit).digest for c in copies}) > 1
            for c in copies
            if c.unit(unit).exists
        }

    def _had(self, workspace: str, copy: Copy, unit: Unit, digest: Digest) -> bool:
        """The durable unit was this once. Asked for this one: of a long life there are many."""
        packed = pack_digest(digest)
        return (str(unit), packed) in self.state.lineage(workspace, copy.conversation, packed)

    def _earlier(self, copy: Copy, silo: Copy) -> bool:
        if copy.metadata.digest == silo.metadata.digest:
            return False
        mine, theirs = self._time(copy, last_activated), self._time(silo, last_activated)
        return mine is not None and theirs is not None and mine < theirs

    def _time(self, copy: Copy, read: Callable[[bytes], int | None]) -> int | None:
        file = copy.metadata.file(METADATA)
        if copy.metadata.grade is not Grade.VALID or file.stamp is None:
            return None
        raw = self.contents.get(file.digest)
        try:
            if raw is None:
                with fs.opened_copy(copy) as fd:
                    raw, _ = fs.read_file(METADATA, fd)
            return read(raw)
        except (OSError, fs.ChangedError, fs.OddFileError):
            return None

    def wrote(self, copy: Copy, unit: Unit) -> bool:
        """Git wrote every file of this unit."""
        return self._ask(copy, unit, None).verdict is Verdict.WROTE

    def _ask(self, copy: Copy, unit: Unit, others: Sequence[Copy] | None) -> Evidence:
        """About the files that are not the same in all of the others, if there are some: they make the difference."""
        git = find_git(os.path.dirname(copy.root.path))
        if git is None:
            return Evidence(Verdict.EDIT)
        units = [c.unit(unit) for c in others or ()]
        part = f"{fs.CONVERSATIONS}/{fs.ARCHIVE}" if copy.partition is Partition.ARCHIVED else fs.CONVERSATIONS
        top = git.relative(os.path.join(copy.root.path, part, copy.name))
        files = [
            (f"{top}/{f.name}", f.stamp.mtime_ns, f.stamp.size, f.stamp.inode)
            for f in copy.unit(unit).files
            if f.stamp and (others is None or any(f.digest != u.file(f.name).digest for u in units))
        ]
        return self.git.evidence(git, files, time.time_ns())
