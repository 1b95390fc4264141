"""A machine that is only imagined, and what convsync remembers of it, as data for whole histories.

`Memory.cycle` is one cycle of the engine around the real core: `safety`, `reconcile` and `plan.after` decide and do;
what the engine keeps between two cycles (base, lineage, tombstones) is kept here. The disk is `imagined_disk.Disk`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from convsync_agent import safety
from convsync_agent.contest import fit
from convsync_agent.engine import PASSES
from convsync_agent.model import (
    MS,
    SPLIT_NS,
    Absence,
    Agreed,
    Base,
    Copy,
    Digest,
    Evidence,
    Fate,
    Grade,
    Policy,
    Root,
    Snapshot,
    Unit,
    Verdict,
)
from convsync_agent.plan import Bury, Keep, Lift, Plan, PutBack, Update, after
from convsync_agent.reconcile import reconcile
from imagined_disk import BEGIN, BOTH, SILO, Disk, contains, content_of, inodes, words


@dataclass(slots=True)
class Memory(Disk):
    """A machine with convsync: the disk, and what is in `state.db`, in the history and in the trash."""

    policy: Policy = field(default_factory=Policy)
    agreed: dict[tuple[int, Root], Agreed] = field(default_factory=dict)
    placed: dict[tuple[int, Root], dict[Unit, Digest]] = field(default_factory=dict)
    history: set[tuple[int, Unit, Digest]] = field(default_factory=set)
    lineage: set[tuple[int, Unit, Digest]] = field(default_factory=set)
    behind: dict[tuple[int, Root, Unit], Digest] = field(default_factory=dict)
    split_since: dict[int, int] = field(default_factory=dict)
    missed: dict[tuple[int, Root], tuple[int, int, int]] = field(default_factory=dict)
    listed: dict[Root, int] = field(default_factory=dict)
    stones: dict[int, safety.Tombstone] = field(default_factory=dict)
    shelter: dict[int, Copy] = field(default_factory=dict)

    # -- one cycle --------------------------------------------------------------------

    def survey(self) -> dict[int, Absence]:
        """What the silo had and has not any more, as `removals` finds it out."""
        for root in self.roots():
            for conversation in [c for c, r in self.agreed if r == root]:
                if conversation in self.disk[root]:
                    self.missed.pop((conversation, root), None)
                else:
                    first, seen, _ = self.missed.get((conversation, root), (self.now, self.listed.get(root, 0), 0))
                    self.missed[conversation, root] = (first, seen, self.now)
            self.listed[root] = self.now
        gone = sorted(c for c, r in self.agreed if r == SILO and c not in self.disk[SILO])
        total = len([1 for _, r in self.agreed if r == SILO])
        found = {c: Absence(Fate.BURIED, lifted=self._lifted(c)) for c in self.stones if c not in self.disk[SILO]}
        for verdict in safety.judge([self._facts(c) for c in gone], total):
            kept = verdict.conversation in self.shelter
            found[verdict.conversation] = Absence(verdict.fate, verdict.why, verdict.again_ns, kept)
        return found

    def _facts(self, conversation: int) -> safety.Vanished:
        first, seen, looked = self.missed[conversation, SILO]
        traces = tuple(self._trace(r, conversation) for r in self.disk if r != SILO)
        locked = first - self.locked.get(conversation, -BEGIN) <= safety.LOCK_NS
        return safety.Vanished(conversation, seen, first, looked, traces, locked=locked)

    def _trace(self, root: Root, conversation: int) -> safety.Projection:
        if root in self.away:
            return safety.Projection(root, safety.Trace.UNKNOWN)
        if conversation in self.disk[root]:
            return safety.Projection(root, safety.Trace.HOLDS)
        if (conversation, root) not in self.missed:
            return safety.Projection(root, safety.Trace.NEVER)
        first, _, looked = self.missed[conversation, root]
        certain = looked - first >= safety.CERTAIN_NS
        return safety.Projection(root, safety.Trace.VANISHED if certain else safety.Trace.MISSING, first)

    def _lifted(self, conversation: int) -> bool:
        copies = [c for c in self.copies() if c.conversation == conversation]
        return any(
            fit(self._seen(c), u)
            and safety.lifts(
                self.stones[conversation], u, c.unit(u).digest, written_by_git=self._said(c, u) is Verdict.WROTE
            )
            for c in copies
            for u in BOTH
        )

    def base(self, absent: dict[int, Absence]) -> Base:
        """Everything the engine gathers for `reconcile`."""
        groups: dict[int, list[Copy]] = {}
        for copy in self.copies():
            groups.setdefault(copy.conversation, []).append(copy)
        for conversation in {*groups, *self.split_since}:
            if len({c.partition for c in groups.get(conversation, ())}) > 1:
                self.split_since.setdefault(conversation, self.wall)
            else:
                self.split_since.pop(conversation, None)
        inside: set[tuple[Unit, Digest, Digest]] = set()
        earlier = set()
        for group in groups.values():
            for unit in BOTH:
                variants = {c.unit(unit).digest for c in group if c.unit(unit).grade is Grade.VALID}
                inside |= {(unit, a, b) for a, b in itertools.permutations(variants, 2) if contains(unit, b, a)}
            durable = next((c for c in group if c.root == SILO), None)
            if durable is not None:
                earlier |= {(c.conversation, c.root) for c in group if _activated(c) < _activated(durable)}
        agreed = dict(self.agreed)
        for (conversation, root), units in self.placed.items():
            known = self.agreed.get((conversation, root))
            partition = next((c.partition for c in groups.get(conversation, ()) if c.root == root), None)
            if known is None and partition is None:
                continue
            known = known or Agreed(None, None, partition, 0)  # type: ignore[arg-type]
            agreed[conversation, root] = known._replace(
                stream=units.get(Unit.STREAM, known.stream), metadata=units.get(Unit.METADATA, known.metadata)
            )
        return Base(
            agreed,
            frozenset(inside),
            dict(self.split_since),
            frozenset(self.history),
            frozenset(),
            frozenset(self.lineage),
            frozenset(earlier),
            {(c.conversation, c.root, u): Evidence(self._said(c, u)) for c in self.copies() for u in BOTH},
            dict(self.behind),
            absent=absent,
        )

    def decide(self) -> tuple[Plan, Base, list[Snapshot]]:
        base, shots = self.base(self.survey()), self.snapshots()
        return reconcile(base, shots, self.policy), base, shots

    def cycle(self, *, die_after: int | None = None) -> tuple[Plan, Plan]:
        """Look, decide, do, until nothing is planned: the first plan and the last. `die_after` so many actions."""
        first: Plan | None = None
        for _ in range(PASSES):
            plan, _, shots = self.decide()
            first = first or plan
            acting = {a.conversation for a in plan.actions}
            self.remember(plan, acting)
            if plan.empty:
                break
            doing = plan if die_after is None else replace(plan, actions=plan.actions[:die_after])
            self.do(shots, doing)
            if die_after is not None:
                self.placed.clear()
                break
        return first or plan, plan

    def do(self, shots: list[Snapshot], plan: Plan) -> None:
        """What `apply` does, by its pure twin; the history and the trash beside it."""
        for action in plan.actions:
            if isinstance(action, Keep):
                self.history.add(content_of(action.source, action.unit))
            if isinstance(action, Update):
                if action.keep:
                    self.history.add(content_of(action.target, action.unit))
                content = action.source.unit(action.unit).digest
                for copy in (action.source, action.target):
                    self.placed.setdefault((copy.conversation, copy.root), {})[action.unit] = content
                if action.target.root == SILO:
                    self.lineage.add(content_of(action.source, action.unit))
        for shot in after(shots, plan):
            self.disk[shot.root] = dict(shot.copies)
        for action in plan.actions:
            if isinstance(action, PutBack):
                self._put_back(action)
            elif isinstance(action, Bury):
                self._bury(action.conversation)
            elif isinstance(action, Lift):
                del self.stones[action.conversation]

    def _put_back(self, action: PutBack) -> None:
        kept = self.shelter[action.conversation]
        self.put(replace(kept, root=SILO, name=action.name or kept.name, inode=next(inodes)))
        self.stones.pop(action.conversation, None)

    def _bury(self, conversation: int) -> None:
        ever: dict[Unit, set[Digest]] = {
            u: {d for c, k, d in self.lineage if (c, k) == (conversation, u)} for u in BOTH
        }
        for (one, _), known in self.agreed.items():
            for unit in BOTH:
                if one == conversation and (held := known.unit(unit)) is not None:
                    ever[unit].add(held)
        stone = {u: frozenset(found) for u, found in ever.items()}
        self.stones[conversation] = safety.Tombstone("w", conversation, digests=stone)
        self.agreed.pop((conversation, SILO), None)
        self.missed.pop((conversation, SILO), None)

    def remember(self, plan: Plan, acting: set[int]) -> None:
        """What a cycle records: copies in step are the base from here on (`recording`, `ledger`)."""
        undecided = {d.conversation for d in plan.deferred} | {c for c, _ in plan.again} | acting
        undecided |= {p.conversation for p in plan.problems if p.kind == "split" and p.conversation}
        blocked = {
            (p.conversation, p.root) for p in plan.problems if not p.lasting and p.kind not in {"future", "behind"}
        }
        for copy in self.copies():
            where = (copy.conversation, copy.root)
            if copy.conversation in undecided or where in blocked:
                continue
            self.placed.pop(where, None)
            if copy.root == SILO and where not in self.agreed:
                self._came_back(copy.conversation)
            stamps = tuple(f.stamp for u in BOTH for f in copy.unit(u).files)
            self.agreed[where] = Agreed(copy.stream.digest, copy.metadata.digest, copy.partition, copy.inode, stamps)
            if copy.root == SILO:
                self.stones.pop(copy.conversation, None)
                self.lineage |= {content_of(copy, u) for u in BOTH if copy.unit(u).exists}
                self._shelter(copy)
        stale = {(b.conversation, b.root, b.unit): b.digest for b in plan.behind if b.conversation not in acting}
        waiting = {d.conversation for d in plan.deferred} | acting
        for spot in [s for s in self.behind if s not in stale and s[0] not in waiting and s[1] not in self.away]:
            del self.behind[spot]
        self.behind |= stale

    def _came_back(self, conversation: int) -> None:
        """A projection that went with an earlier durable copy says nothing about this one."""
        for spot in [s for s in self.missed if s[0] == conversation and s[0] not in self.disk[s[1]]]:
            self.missed.pop(spot)
            self.agreed.pop(spot, None)

    def _shelter(self, copy: Copy) -> None:
        """The kept copy follows the durable one; what that does not contain any more goes to the history first."""
        if not copy.whole or any(copy.unit(u).grade is not Grade.VALID for u in BOTH):
            return
        old = self.shelter.get(copy.conversation)
        for unit in BOTH if old is not None else ():
            if not contains(unit, copy.unit(unit).digest, old.unit(unit).digest):
                self.history.add(content_of(old, unit))
        self.shelter[copy.conversation] = copy

    def rest(self, rounds: int = 30) -> list[Plan]:
        """Cycle until nothing needs only a moment. The first and last plan of each; AssertionError if it never ends."""
        plans = []
        for _ in range(rounds):
            first, plan = self.cycle()
            plans += [first, plan]
            assert plan.empty, f"still planned after {PASSES} passes: {plan.actions}"
            waits = [d.again_ns or 250 * MS for d in plan.deferred] + [ns for _, ns in plan.again]
            if not waits or min(waits) > SPLIT_NS:
                return plans
            self.now += min(waits) + 1
        raise AssertionError(f"never at rest: {plans[-1].deferred} {plans[-1].again}")

    def forget(self) -> None:
        """`state.db` is deleted: the history and the trash stay (R8)."""
        for known in (self.agreed, self.placed, self.lineage, self.behind, self.split_since, self.missed, self.listed):
            known.clear()

    # -- what is safe -------------------------------------------------------------------

    def durable(self) -> set[tuple[int, Unit, Digest]]:
        """Every content that outlives all worktrees: in the silo, the history or the trash."""
        silo = {content_of(c, u) for g in self.disk[SILO].values() for c in g for u in BOTH}
        return silo | self.history | {content_of(c, u) for c in self.shelter.values() for u in BOTH}


def _activated(copy: Copy) -> int:
    found = words(copy.metadata.digest)[0]
    return int(found.partition(" ")[2]) if found and "!" not in found else 0


def is_safe(content: tuple[int, Unit, Digest], safe: Iterable[tuple[int, Unit, Digest]]) -> bool:
    conversation, unit, inner = content
    return any(c == conversation and u is unit and contains(unit, outer, inner) for c, u, outer in safe)
