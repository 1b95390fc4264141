"""One cycle: look, reconcile, apply, look back, record. Used by the agent's loop and by every command.

Two engines may run at once (the agent and a `sync`): JP's per-conversation lock and the comparison of
stamps before every change make that safe; the one that comes second finds nothing left to do.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from convsync_agent import fs, pausing, scan
from convsync_agent.apply import Applier
from convsync_agent.errors import kind_of, reason_of
from convsync_agent.followup import FAILED_RETRY_NS, follow_up
from convsync_agent.graves import Graves
from convsync_agent.history import History
from convsync_agent.holdings import Holdings
from convsync_agent.knowledge import Knower
from convsync_agent.ledger import Ledger
from convsync_agent.losses import Losses
from convsync_agent.model import (
    Absence,
    Agreed,
    Copy,
    Digest,
    Fate,
    Guard,
    ImportPolicy,
    Partition,
    Policy,
    Readable,
    Root,
    Snapshot,
    Unit,
)
from convsync_agent.observe import Contents, Eye
from convsync_agent.outcome import Outcome, replace_scope
from convsync_agent.plan import Bury, Import, Keep, Lift, Plan, Problem, PutBack, Update
from convsync_agent.progress import Count, Stage, Tell
from convsync_agent.provenance import Provenance
from convsync_agent.reconcile import reconcile
from convsync_agent.recording import record
from convsync_agent.records import unpack
from convsync_agent.removals import Removals
from convsync_agent.results import Done, Journal, Result
from convsync_agent.scan import View
from convsync_agent.settings import Settings
from convsync_agent.site import Site, arrive, load_sites, resolve
from convsync_agent.snapshots import Sightings, take
from convsync_agent.staging import Retired, remove_if_empty, settle
from convsync_agent.state import State
from convsync_agent.vault import Vault

LINGER_SECONDS = 2.0
PASSES = 6  # the longest way: bury, lift, import, update, look back; one to spare


class Engine:
    """The whole of convsync without a loop: `rescan` says what to look at, `cycle` does it."""

    def __init__(self, state: State, data_dir: str, settings: Settings, *, look: bool = True) -> None:
        self.state = state
        self.settings = settings
        self.history = History(data_dir)
        self.contents = Contents()
        self.closed: set[tuple[str, int, str]] = set()
        # What was brought in step since the last settling: a writer who goes on meanwhile makes no conflict of it.
        self.placed: dict[tuple[Root, int], dict[Unit, Digest]] = {}
        self.sightings = Sightings()
        self.eye = Eye(time.time_ns, self.sightings.age, lambda *key: key in self.closed, self.contents)
        self.policy = Policy(ImportPolicy(settings.import_policy), Guard(settings.policy))
        self.ledger = Ledger(state)
        self.sites = load_sites(state, _now_ms(), look=look)
        self.waiting: list[Retired] = []
        self.staged_in: set[Root] = set()
        self._staged_at = 0.0
        self.knower = Knower(self.history, self.contents)
        self.provenance = Provenance(state, self.contents)
        self.vault = Vault(data_dir, settings.trash_keep_days)
        self.removals = Removals(state, self.vault.shelter, Graves(data_dir), self.history)
        self.holdings = Holdings(state)
        self.losses = Losses(self)
        self.tell: Tell | None = None  # who shows how far it is, if anybody does

    def roots(self) -> set[str]:
        """Every silo and every worktree's `.jp`, by path."""
        return {r for s in self.sites.values() for r in (s.silo.root.path, *s.trees)}

    def sites_of(self, root: str) -> list[Site]:
        """The workspaces to which a root belongs."""
        return [s for s in self.sites.values() if s.silo.root.path == root or root in s.trees]

    def renewed(self) -> Engine:
        """The same after the registry changed: what is known of the disk and of writers kept, no root looked at yet."""
        fresh = Engine(self.state, self.history.data_dir, self.settings, look=False)
        fresh.waiting, fresh.staged_in, fresh.closed = self.waiting, self.staged_in, self.closed
        fresh.history.pressing = self.history.pressing
        fresh.placed, fresh.vault, fresh.removals = self.placed, self.vault, self.removals
        fresh.losses.copies, fresh.losses.written = self.losses.copies, self.losses.written
        return fresh

    def remember(self, old: Engine) -> None:
        """Since when its worktrees are what they are, and when they changed last."""
        for key, site in self.sites.items():
            for store, tree in site.trees.items():
                before = old.sites[key].trees.get(store) if key in old.sites else None
                if before is not None:
                    tree.last_change_ms = before.last_change_ms
                    tree.since_ms = before.since_ms if before.state is tree.state else tree.since_ms

    # -- what to look at --------------------------------------------------------

    def arrive(self) -> None:
        """The first look at every path, once it is known that they answer."""
        for site in self.sites.values():
            arrive(site, _now_ms())

    def locate(self, site: Site) -> bool:
        """Look what is at each path now, and note who went or came back. True if anything changed."""
        over = pausing.end(site, _now_ms())
        changed = resolve(site, _now_ms())
        self.losses.tell(site, self.holdings.note(site))
        pausing.forget_absent(self, over)
        return changed

    def rescan(self, site: Site, views: Iterable[View] | None = None) -> set[int]:
        """List the roots and stat everything in them. Returns the conversations that are not as recorded."""
        self.locate(site)
        dirty: set[int] = set()
        for view in views or site.views():
            began = time.time_ns()
            try:
                listing = scan.list_root(view.root.path)
                dirty.update(scan.sweep(view, listing))
            except OSError:
                dirty.update(view.listing.conversations())  # `look` finds out what is wrong and says so
                continue
            view.listing = listing
            scan.note_missing(view, began, time.time_ns())
        dirty.update(self.ledger.open_conversations(site.id))
        dirty.update(c for v in site.views() for c in v.listing.odd)
        return dirty

    def relocate(self, view: View, conversation: int, names: Sequence[str]) -> bool:
        """Bring the listing up to date for one conversation by stats alone; False: the root must be listed."""
        try:
            places = scan.find_places(view.root.path, conversation, tuple(names), view.listing.places(conversation))
        except OSError:
            return False
        if places is None:
            return False
        view.listing.put(conversation, places)
        return True

    # -- the cycle --------------------------------------------------------------

    def cycle(self, site: Site, conversations: Iterable[int], *, dry: bool = False) -> Outcome:
        """Reconcile these conversations of one workspace until there is nothing left to do, or to do now."""
        with fs.holding():
            return self._cycle(site, Outcome(looked=set(conversations)), dry=dry)

    def _cycle(self, site: Site, outcome: Outcome, *, dry: bool) -> Outcome:
        todo = set(outcome.looked)
        try:
            for number in range(PASSES):
                absent, snapshots, seen = self._see(site, todo)
                outcome.looked |= todo
                self.losses.looked(seen)
                plan = self._decide(site, snapshots, outcome.looked if number == 0 else todo, absent)
                if dry:
                    outcome.results.extend(Done(a) for a in plan.actions)
                    self._take(outcome, plan)
                    return outcome
                if plan.empty or number == PASSES - 1:
                    self._take(outcome, plan)
                    record(self, site, seen, plan, outcome)
                    outcome.again |= {a.conversation: FAILED_RETRY_NS for a in plan.actions}
                    break
                acting = {a.conversation for a in plan.actions}
                calm = replace_scope(plan, todo - acting)
                self._take(outcome, calm)
                record(self, site, [s for s in seen if s[0].conversation not in acting], calm, outcome)
                self.apply(site, plan, outcome)
                todo = acting - self._not_now(outcome)
                self._take(outcome, replace_scope(plan, acting - todo))
                self.eye.settling = True
                if not todo:
                    break
        finally:
            self.eye.settling = False
            self.eye.durable = {}
            self.contents.clear()
        if not dry:
            self.commit(site, outcome)
        return outcome

    def commit(self, site: Site, outcome: Outcome) -> None:
        """A cycle is over, of this engine or of another that works for it: what it left is written down."""
        if outcome.results:
            self.vault.disturbed()
            self.history.pressing.disturbed()
        try:
            self.ledger.write(site, outcome, _now_ms())
        except OSError as error:  # a convenience only (R8): what is not recorded is looked at again
            detail = f"cannot write the state: {reason_of(error)}"
            outcome.problems.append(Problem(kind_of(error), None, None, detail))

    def _see(self, site: Site, todo: set[int]) -> tuple[dict[int, Absence], list[Snapshot], list[tuple[Copy, int]]]:
        """What is gone, and snapshots that agree with it. Adds to `todo` what has to be judged once more."""
        absent = self.removals.survey(site, todo)
        for _ in range(PASSES):
            todo |= absent.keys()
            snapshots, seen = take(site, self.eye, self.knower, todo, self.tell)
            here = next(s.copies for s in snapshots if s.root.is_silo)
            # One that went between listing and look is gone as well, and never "only in a worktree".
            late = {c for c in todo & site.silo.records.keys() if c not in here and c not in absent}
            if not late or site.silo_state is not Readable.YES:
                break
            absent |= self.removals.survey(site, late)
        return absent, snapshots, seen

    def _not_now(self, outcome: Outcome) -> set[int]:
        return {r.action.conversation for r in outcome.results if not isinstance(r, Done)}

    def _decide(
        self,
        site: Site,
        snapshots: Sequence[Snapshot],
        conversations: set[int],
        absent: Mapping[int, Absence] = MappingProxyType({}),
    ) -> Plan:
        agreed = {}
        for view in site.views():
            for conversation in conversations:
                raw = view.records.get(conversation)
                placed = self.placed.get((view.root, conversation), {})
                if raw is not None or placed:
                    known = unpack(raw).agreed() if raw is not None else Agreed(None, None, Partition.LIVE, 0)
                    agreed[conversation, view.root] = known._replace(
                        stream=placed.get(Unit.STREAM, known.stream), metadata=placed.get(Unit.METADATA, known.metadata)
                    )
        base = self.provenance.add(self.knower.base(site, snapshots, agreed), site, snapshots, self.policy)
        base = replace(base, absent={c: self._with_lift(site, c, a, snapshots) for c, a in absent.items()})
        self.removals.expiring.note(site.id, conversations, base.expired)
        plan = reconcile(base, snapshots, self.policy)
        odd = [
            Problem("held", c, v.root, v.listing.odd[c])
            for v in site.views()
            for c in sorted(conversations & v.listing.odd.keys())
        ]
        kept = [a for a in plan.actions if not (isinstance(a, Keep) and self.knower.is_kept(site.id, a))]
        return replace(plan, actions=tuple(kept), problems=(*plan.problems, *odd))

    def _with_lift(self, site: Site, conversation: int, absence: Absence, snapshots: Sequence[Snapshot]) -> Absence:
        if absence.fate is not Fate.BURIED:
            return absence
        copies = [c for s in snapshots for c in s.copies.get(conversation, ())]
        lifted = bool(copies) and self.removals.lifted(site.id, conversation, copies, self.provenance.wrote)
        return absence._replace(lifted=lifted)

    def _rites(self, site: Site, action: PutBack | Bury | Lift) -> list[Result]:
        if isinstance(action, PutBack):
            self.staged_in.add(site.silo.root)
            return self.removals.put_back(site, action)
        return self.removals.bury(site, action) if isinstance(action, Bury) else self.removals.lift(site, action)

    def apply(self, site: Site, plan: Plan, outcome: Outcome) -> None:
        """Do a plan; what became of it is in the outcome."""
        applier = Applier(
            site.silo.root,
            lambda: site.stores,
            lambda copy, unit, files, why: self.knower.keep(site.id, copy, unit, files, why),
            Journal(
                lambda rows: self.ledger.put_pending(site.id, rows),
                lambda rows: self.ledger.drop_pending(site.id, rows),
            ),
            self.contents,
            self.eye.trust,
            self.history.batch,
            lambda action: self._rites(site, action),
            Count(self.tell, Stage.WRITE, sum(a.size for a in plan.actions if isinstance(a, Import | Update))),
            site.outrun,
        )
        for result in applier.apply(plan):
            outcome.results.append(result)
            follow_up(self, site, result, outcome)
        self.waiting_for(applier.waiting, applier.staged_in)

    def perform(self, site: Site, plan: Plan) -> list[Result]:
        """Do what a person decided, outside of any cycle; a cycle afterwards records it."""
        outcome = Outcome()
        self.apply(site, plan, outcome)
        return outcome.results

    @staticmethod
    def _take(outcome: Outcome, plan: Plan) -> None:
        outcome.deferred.extend(plan.deferred)
        outcome.problems.extend(plan.problems)
        outcome.behind.extend(plan.behind)
        for deferred in plan.deferred:
            outcome.later(deferred.conversation, deferred.again_ns)
        for conversation, wait in plan.again:
            outcome.later(conversation, wait)

    # -- waiting ----------------------------------------------------------------

    def settling_in(self) -> float:
        """Seconds until `settle_waiting` takes away what an agent leaves for the next change."""
        if not self.staged_in - {r.root for r in self.waiting}:
            return float("inf")
        return max(0.0, self._staged_at + LINGER_SECONDS - time.monotonic())

    def waiting_for(self, retired: Iterable[Retired], staged_in: Iterable[Root]) -> None:
        """What a cycle left in staging, and in which roots."""
        self.waiting.extend(retired)
        self.staged_in.update(staged_in)
        self._staged_at = time.monotonic()

    def settle_waiting(self, sites: dict[str, Site], *, linger: bool = False) -> None:
        """Let replaced files go that nobody can write to any more, and empty staging directories with them.

        With `linger` a directory stays for a moment: the next change is likely to need it.
        """
        by_root = {v.root: s for s in sites.values() for v in s.views()}
        still = []
        for retired in self.waiting:
            site = by_root.get(retired.root)
            if site is None:
                continue
            left = settle(retired, self.knower.saver(site))
            if left is not None:
                still.append(left)
        self.waiting = still
        busy = {r.root for r in still}
        if linger and self.settling_in() > 0:
            return
        for root in self.staged_in - busy:
            remove_if_empty(root)
        self.staged_in &= busy


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
