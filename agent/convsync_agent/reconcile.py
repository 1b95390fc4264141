"""Base + snapshots + policy -> Plan: the one function that decides. No I/O, no clock, no logging.

The rows of the design's table, in their order, and where each lives:

    silo, its file system or the user data directory gone   `reconcile`
    mass disappearance of durable copies (brake)            judged by `safety.judge`, asked by `removals`
    two directories for one id in one root                  `_doubled`
    live in one root, archived in another                   `transition.plan_split`
    silo copy vanished, on purpose or not; tombstones       `absence.plan_absent`, after `safety.judge`
    newest copy held                                        `contest.hold_contest`
    newest copy stale (git brought it back)                 `_set_stale_aside`, decided in `stale`
    all equal bytes                                         `_unit`: no loser differs
    silo has none, worktrees have it                        `imports.plan_import`
    worktree has none                                       nothing: no copy, no target
    newest ahead of the clock                               `contest`
    silo newer or tie / a worktree newer / conflict         `_unit`
    metadata winner has another directory name              `_unit`, for metadata
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from convsync_agent.absence import plan_absent
from convsync_agent.contest import OUT_OF_REACH, Contest, changed, hold_contest, report_out_of_reach, report_unfit
from convsync_agent.expiry import report_expired
from convsync_agent.imports import newest_extras, plan_import, young
from convsync_agent.model import (
    BOTH,
    QUIET_NS,
    UNSAVED_NS,
    UNSTABLE_NS,
    Base,
    Copy,
    Partition,
    Policy,
    Readable,
    Root,
    Snapshot,
    Unit,
)
from convsync_agent.plan import (
    AddExtras,
    Behind,
    Deferred,
    Draft,
    Import,
    Keep,
    Lift,
    Plan,
    Problem,
    PutBack,
    Rename,
    Update,
)
from convsync_agent.stale import Standing, returned, standing
from convsync_agent.transition import plan_split

OLD_LOCK = ", or is still at it: its index.lock is older than 5 minutes"


@dataclass(frozen=True, slots=True)
class _Scene:
    """What every row needs: the base, the policy, the time of the scan and who may be written."""

    base: Base
    policy: Policy
    now: int
    silo: Root
    read_only: frozenset[Root]


def reconcile(base: Base, snapshots: Sequence[Snapshot], policy: Policy) -> Plan:
    """Decide for every conversation that occurs in `snapshots` (one silo, any number of worktrees)."""
    draft = Draft()
    for snapshot in snapshots:
        _report_unreadable(snapshot, draft)
    silo = next((s for s in snapshots if s.root.is_silo), None)
    if silo is None or silo.readable is not Readable.YES:
        return draft.finish()
    scene = _Scene(
        base,
        policy,
        max(s.taken_at for s in snapshots),
        silo.root,
        frozenset(s.root for s in snapshots if not s.refresh),
    )
    readable = [s for s in snapshots if s.readable is Readable.YES]
    for conversation in sorted({c for s in readable for c in s.copies} | base.absent.keys()):
        _decide(scene, conversation, [s.copies.get(conversation, ()) for s in readable], draft)
    return draft.finish()


def _report_unreadable(snapshot: Snapshot, draft: Draft) -> None:
    if snapshot.readable is Readable.UNREADABLE:
        draft.problems.append(Problem(snapshot.fault or "io", None, snapshot.root, "cannot be listed"))
    elif snapshot.readable is Readable.MISSING and snapshot.root.is_silo:
        draft.problems.append(Problem("missing", None, snapshot.root, "the silo is not there"))


def _decide(scene: _Scene, conversation: int, per_root: Iterable[tuple[Copy, ...]], draft: Draft) -> None:
    groups = [g for g in per_root if g]
    copies = sorted((c for g in groups for c in g), key=lambda c: c.root.order)
    mark = len(draft.actions)
    if not _doubled(scene, groups, draft) and not plan_split(scene.base, copies, scene.read_only, scene.now, draft):
        _together(scene, conversation, copies, draft)
    _keep_unsaved(scene, copies, draft, draft.actions[mark:])


def _doubled(scene: _Scene, groups: list[tuple[Copy, ...]], draft: Draft) -> bool:
    """JP will delete one of two directories by name (contract 3.5): both contents are kept at once, and all files."""
    doubled = [g for g in groups if len(g) > 1]
    for copy in (c for g in doubled for c in g):
        for unit in (*BOTH, Unit.EXTRAS):
            _keep(scene, copy, unit, "two directories", draft)
    for group in doubled:
        detail = f"{len(group)} directories for one conversation"
        draft.problems.append(Problem("held", group[0].conversation, group[0].root, detail))
    return bool(doubled)


def _together(scene: _Scene, conversation: int, copies: Sequence[Copy], draft: Draft) -> None:
    """All copies lie in one partition: the ordinary case."""
    usable, mark = [c for c in copies if not _partial_projection(scene, c, draft)], len(draft.actions)
    silo = next((c for c in usable if c.root.is_silo), None)
    if silo is None:
        absence = scene.base.absent.get(conversation)
        if absence is None:
            plan_import(scene.base, scene.policy, scene.silo, usable, scene.now, draft)
        else:
            plan_absent(scene.base, absence, conversation, scene.silo, usable, scene.now, draft)
        return
    for unit in BOTH:
        able = _set_stale_aside(scene, usable, silo, unit, draft)
        if able is None:
            continue
        contest = hold_contest(able, unit, scene.base, scene.now, draft)
        if contest.winner is not None:
            _unit(scene, unit, contest, draft)
    report_expired(scene.base, usable, draft.actions[mark:], draft)
    files = newest_extras([c for c in usable if c is not silo], silo, scene.now)
    if any(young(e, scene.now) for c in usable if c is not silo for e in c.extras):
        draft.again.append((silo.conversation, QUIET_NS))
    for source in usable:
        mine = tuple(e for c, e in files if c is source)
        if mine:
            draft.actions.append(AddExtras(silo.conversation, source, silo, mine))


def _set_stale_aside(scene: _Scene, copies: Sequence[Copy], silo: Copy, unit: Unit, draft: Draft) -> list[Copy] | None:
    """The copies that take part: neither source nor target is what git brought back. None: git is at work."""
    able = []
    for copy in copies:
        found = standing(scene.base, scene.policy, copy, silo, unit)
        said = scene.base.git.get((copy.conversation, copy.root, unit))
        if found is Standing.WAIT:
            draft.deferred.append(Deferred(copy.conversation, "unstable", copy.root, said.again_ns if said else 0))
            return None
        if found is Standing.STALE:
            draft.behind.append(Behind(copy.conversation, copy.root, unit, copy.unit(unit).digest))
            detail = "git wrote an older version here" + (OLD_LOCK if said and said.old_lock else "")
            draft.problems.append(Problem("behind", copy.conversation, copy.root, detail))
        else:
            able.append(copy)
    return able


def _partial_projection(scene: _Scene, copy: Copy, draft: Draft) -> bool:
    """A worktree copy without all its files is being built or taken away: neither source nor target.

    Completing it would fight a removal in progress (contract 10.4, R1). The durable copy of an
    unfinished import is different: it takes part, and a good newer copy repairs it.
    """
    if copy.root.is_silo or copy.whole:
        return False
    unit = Unit.METADATA if copy.metadata.exists else Unit.STREAM
    if copy.unit(unit).grade not in OUT_OF_REACH:
        report_unfit(copy, unit, scene.base, draft)
        return True
    report_out_of_reach(copy, unit, draft)
    return True


def _still_moving(copy: Copy) -> int:
    """How long, ns, until a durable copy without all its files is repaired: it may be just being taken away."""
    return 0 if copy.whole else UNSTABLE_NS - min(copy.stream.age_ns, copy.metadata.age_ns)


def _unit(scene: _Scene, unit: Unit, contest: Contest, draft: Draft) -> None:
    """Bring every loser that exists, differs and may be written up to the winner."""
    winner = contest.winner
    assert winner is not None  # noqa: S101  # the caller checked; the type checker cannot
    for loser in contest.losers:
        if loser.unit(unit).digest == winner.unit(unit).digest or loser.root in scene.read_only:
            continue
        if loser.partition is Partition.ARCHIVED and not loser.root.is_silo:
            continue
        state = loser.unit(unit)
        if (moving := _still_moving(loser)) > 0:
            draft.deferred.append(Deferred(loser.conversation, "building", loser.root, moving))
            continue
        if state.exists and not state.quiet:
            draft.deferred.append(Deferred(loser.conversation, "unstable", loser.root, max(1, QUIET_NS - state.age_ns)))
            continue
        keep = not scene.base.covers(unit, winner.unit(unit), state)
        clash = keep and (changed(loser, unit, scene.base) or returned(scene.base, winner, unit))
        draft.actions.append(
            Update(
                loser.conversation,
                unit,
                winner,
                loser,
                keep=keep,
                why="conflict" if clash else "replaced",
                younger=state.mtime_ns > winner.unit(unit).mtime_ns,
            )
        )
        if unit is Unit.METADATA and loser.name != winner.name:
            draft.actions.append(Rename(loser.conversation, loser, winner.name))


# -- what can not be taken over now is kept (R4) --------------------------------


def _keep_unsaved(scene: _Scene, copies: Sequence[Copy], draft: Draft, actions: Sequence[object]) -> None:
    """Quiet content of a worktree that is in no silo copy and no plan goes into the history after 1 s."""
    if any(isinstance(a, Import | PutBack | Lift) for a in actions):
        return  # decided again in the next pass, beside a durable copy
    handled = {(u, c.root) for a in actions for u, c in _touched(a)}
    durable = [c for c in copies if c.root.is_silo]
    for copy in copies:
        for unit in BOTH:
            state = copy.unit(unit)
            if copy.root.is_silo or not state.exists or (unit, copy.root) in handled or state.grade in OUT_OF_REACH:
                continue
            if any(scene.base.covers(unit, d.unit(unit), state) for d in durable):
                continue
            if state.quiet and state.age_ns > UNSAVED_NS:
                _keep(scene, copy, unit, "not taken over", draft)
            elif (copy.conversation, unit, state.digest) not in scene.base.kept:
                draft.again.append((copy.conversation, max(QUIET_NS, UNSAVED_NS - state.age_ns + 1)))


def _touched(action: object) -> list[tuple[Unit, Copy]]:
    """The units that an action makes durable or keeps, by where they lie."""
    if isinstance(action, Update):
        made_durable = [(action.unit, action.source)] if action.target.root.is_silo else []
        return [*made_durable, (action.unit, action.target)]
    return [(action.unit, action.source)] if isinstance(action, Keep) else []


def _keep(scene: _Scene, copy: Copy, unit: Unit, why: str, draft: Draft) -> None:
    state = copy.unit(unit)
    there = bool(copy.extras) if unit is Unit.EXTRAS else state.exists and state.grade not in OUT_OF_REACH
    if there and (copy.conversation, unit, copy.identity(unit)) not in scene.base.kept:
        draft.actions.append(Keep(copy.conversation, unit, copy, why))
