"""Laws over whole histories: edits, checkouts, removals, clocks that jump and deaths of convsync, in any order.

Each history is played on a machine that is only imagined (`imagined.Memory`) around the real core. Whenever
convsync has come to rest the laws are checked. `CONVSYNC_HISTORIES` sets how many histories are played in all,
`CONVSYNC_SEED` which ones.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from convsync_agent.model import (
    SECOND,
    Copy,
    Grade,
    Guard,
    Partition,
    Root,
    Unit,
)
from convsync_agent.plan import Plan
from convsync_agent.reconcile import reconcile
from histories import IDS, PICK, Writers, face, jp_loads, usable
from imagined import is_safe
from imagined_disk import BOTH, SILO, contains, content_of, files, words

HISTORIES = int(os.environ.get("CONVSYNC_HISTORIES", "10000"))
SHARDS = 8
SEED = int(os.environ.get("CONVSYNC_SEED", "0"))
PHASES = (Phase.generate, Phase.shrink)
STEPS = 14


class Histories(Writers):
    """One history: up to three worktrees, two conversations; what goes, the passing of time, convsync, the laws."""

    # -- what goes ------------------------------------------------------------------------

    @rule(number=PICK)
    def jp_removes(self, number):
        """Under the lock: the projection in one worktree, then the durable copy."""
        copy = self.pick(number)
        if copy is None:
            return
        conversation = copy.conversation
        self.m.drop(self.tree(number), conversation)
        self.m.drop(SILO, conversation)
        self.m.locked[conversation] = self.m.now
        known = (conversation, SILO) in self.m.agreed and conversation in self.m.shelter
        fresh = self.m.contents(away=True) - self.m.lineage  # also what it had before its state was lost
        if known and not any(c == conversation for c, _, _ in fresh):
            self.m.survey()
            self.removed.add(conversation)

    @rule(number=PICK, part=st.booleans())
    def projection_goes(self, number, part):
        """A projection, or its metadata only: a removal in progress."""
        copy = self.pick(number, trees=True)
        if copy is None:
            return
        if part:
            self.m.put(replace(copy, metadata=files(Unit.METADATA, ("",), (0,), self.m.now)), instead=copy)
        else:
            self.m.drop(copy.root, copy.conversation)

    @rule(which=st.integers(0, 1))
    def durable_copy_is_lost(self, which):
        self.m.drop(SILO, IDS[which])

    @rule(number=PICK, everywhere=st.booleans())
    def archive_or_unarchive(self, number, everywhere):
        copy = self.pick(number)
        if copy is None:
            return
        other = Partition.LIVE if copy.partition is Partition.ARCHIVED else Partition.ARCHIVED
        for each in [c for c in self.m.copies() if c.conversation == copy.conversation]:
            if everywhere or each is copy:
                self.m.put(replace(each, partition=other), instead=each)

    @rule(number=PICK)
    def two_directories(self, number):
        """A second directory for the same id, as a late copy makes it; or one of two is taken away."""
        copy = self.pick(number, trees=True)
        if copy is None:
            return
        group = self.m.disk[copy.root][copy.conversation]
        if len(group) > 1:
            self.m.disk[copy.root][copy.conversation] = group[:1]
        else:
            stream = files(Unit.STREAM, ("cfg", "b"), [self.m.wall] * 2, self.m.now)
            self.m.put(replace(copy, inode=-copy.inode, name=f"{copy.conversation}-x", stream=stream))

    @precondition(lambda self: len(self.m.disk) > 2)
    @rule(number=PICK, destroyed=st.booleans())
    def worktree_goes_or_comes(self, number, destroyed):
        root = sorted(self.m.disk, key=lambda r: r.order)[1 + number % (len(self.m.disk) - 1)]
        if root in self.m.away:
            self.m.away.discard(root)
        else:
            self.m.away.add(root)
            if destroyed:
                self.m.disk[root] = {}

    # -- time and convsync --------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0, 1, 3, 90, 4000]), jump=st.sampled_from([0, 0, 0, -7200, 86400]))
    def time_passes(self, seconds, jump):
        self.m.now += seconds * SECOND + SECOND // 3
        self.m.skew += jump * SECOND

    @rule(actions=st.integers(0, 3))
    def convsync_dies(self, actions):
        """In the middle of a plan; what it did is on the disk, what it would have recorded is not."""
        self.forgive()
        self.m.cycle(die_after=actions)

    @rule()
    def state_is_lost(self):
        self.m.forget()
        self.removed.clear()

    @rule()
    def one_cycle(self):
        self.forgive()
        self.m.cycle()

    @rule()
    def rests(self):
        self.rest()

    @rule()
    def rests_again(self):
        self.rest()

    def teardown(self):
        if self.checked:
            self.rest()

    # -- the laws -------------------------------------------------------------------------------

    def rest(self) -> None:
        before, began = self.m.copies(), self.m.wall
        by_place = {(c.conversation, c.root): c for c in before}
        brought_back = {content_of(c, u) for c in before for u in BOTH if self.m.git_wrote(c, u)}
        brought_back &= self.m.lineage - {content_of(c, u) for c in before for u in BOTH if not self.m.git_wrote(c, u)}
        by_inode = {(c.conversation, c.root, c.inode): c for c in before}
        self.checked = False
        self.forgive()
        plan, base, shots = self.m.decide()
        assert reconcile(base, shots[::-1], self.m.policy) == plan, "the order of roots matters"
        plans = self.m.rest()

        self.check_nothing_is_planned_again()
        self.check_nothing_is_lost(before)
        self.check_what_jp_loads(by_place, plans)
        self.check_only_what_may_be_written_was(by_inode, plans)
        self.check_what_may_win(before, brought_back, began)
        for conversation in self.removed:
            assert conversation not in self.m.disk[SILO], "resurrected"
        self.commit()
        self.checked = True

    def check_nothing_is_planned_again(self) -> None:
        plan, _, _ = self.m.decide()
        assert plan.empty, f"planned at rest: {plan.actions}"

    def check_nothing_is_lost(self, before: list[Copy]) -> None:
        safe = self.m.durable()
        self.ever |= {content_of(c, u) for c in before for u in BOTH if c.unit(u).exists} | self.m.contents()
        for content in self.ever - safe:
            assert is_safe(content, safe), f"lost: {content[1]} {words(content[2])}"

    def check_what_jp_loads(self, before: dict[tuple[int, Root], Copy], plans: list[Plan]) -> None:
        """From each worktree JP loads what it would have loaded before, or newer, or more."""
        told = {p.conversation for plan in plans for p in plan.problems if p.kind in {"future", "split", "held"}}
        for (conversation, root), tree in before.items():
            silo = before.get((conversation, SILO))
            now = [self.m.one(r, conversation) for r in (SILO, root)]
            if root == SILO or conversation in told or None in now or silo is None:
                continue
            if {c.partition for c in (silo, tree, *now)} != {Partition.LIVE}:
                continue
            for unit in BOTH:
                was, is_ = jp_loads(silo, tree, unit), jp_loads(*now, unit)
                if not usable(was, unit):
                    continue
                old, new = was.unit(unit), is_.unit(unit)
                fine = contains(unit, new.digest, old.digest) or new.mtime_ns >= old.mtime_ns
                assert fine, f"JP loads something else: {unit} {words(old.digest)} -> {words(new.digest)}"

    def check_what_may_win(self, before: list[Copy], brought_back: set, began: int) -> None:
        """What is broken goes nowhere, and what git brought back replaces nothing that it does not contain."""
        had = {(c.root, content_of(c, u)) for c in before for u in BOTH}
        durable = {c.conversation: c for c in before if c.root == SILO}
        for copy in self.m.copies():
            was = durable.get(copy.conversation)
            for unit in BOTH:
                content = content_of(copy, unit)
                if (copy.root, content) in had:
                    continue
                assert copy.unit(unit).grade is not Grade.INVALID, "what is broken was taken over"
                if was is None or copy.root != SILO or not usable(was, unit) or self.m.policy.guard is Guard.MTIME:
                    continue
                if was.unit(unit).mtime_ns > began:
                    continue  # dated ahead of the clock: then whatever changed since wins, and what loses is kept
                more = contains(unit, content[2], was.unit(unit).digest)
                assert more or content not in brought_back, "what git brought back was taken for an edit"

    def check_only_what_may_be_written_was(self, before: dict[tuple[int, Root, int], Copy], plans: list[Plan]) -> None:
        """No projection appears; what is behind, archived or not to be refreshed stays as it is."""
        behind = {(b.conversation, b.root, b.unit) for b in plans[-1].behind}
        for copy in self.m.copies():
            was = before.get((copy.conversation, copy.root, copy.inode))
            if copy.root == SILO:
                continue
            assert was is not None, "a projection appeared"
            if copy.root in self.m.readonly or {was.partition, copy.partition} == {Partition.ARCHIVED}:
                assert face(was) == face(copy), "what may not be written was"
            for unit in BOTH:
                if (copy.conversation, copy.root, unit) in behind:
                    assert was.unit(unit).digest == copy.unit(unit).digest, "what is behind was written"


@pytest.mark.slow
@pytest.mark.parametrize("number", range(SEED, SEED + SHARDS))
def test_every_law_holds_over_every_history(number):
    """At rest nothing is planned, nothing is lost, JP loads no less, order does not matter, nothing is resurrected."""
    lean = settings(
        max_examples=max(1, HISTORIES // SHARDS),
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=PHASES,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(number)(Histories), settings=lean)
