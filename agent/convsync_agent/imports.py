"""The row "the silo has none, worktrees have it": which content becomes the durable copy. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from convsync_agent.contest import changed, fit, newest_first, report_unfit, set_aside
from convsync_agent.model import BOTH, QUIET_NS, Base, Copy, Extra, ImportPolicy, Policy, Root, Unit
from convsync_agent.plan import Draft, Import
from convsync_agent.stale import by_hand


def plan_import(
    base: Base, policy: Policy, silo: Root, copies: Sequence[Copy], now: int, draft: Draft, *, why: str = ""
) -> None:
    """Import one conversation, each unit from its own winner; the name comes with the metadata."""
    if not copies or not wanted(base, policy, copies):
        return
    stream = best_source(base, copies, Unit.STREAM, draft)
    metadata = best_source(base, copies, Unit.METADATA, draft)
    if stream is None or metadata is None:
        return
    draft.actions.append(
        Import(
            conversation=stream.conversation,
            target=silo,
            partition=stream.partition,
            name=metadata.name,
            stream=stream,
            metadata=metadata,
            extras=newest_extras(copies, None, now),
            why=why,
        )
    )


def wanted(base: Base, policy: Policy, copies: Sequence[Copy]) -> bool:
    """`auto`: always. `manual`: only on command. `on-write`: once a copy changed after first sight."""
    if policy.imports is ImportPolicy.AUTO:
        return True
    if policy.imports is ImportPolicy.MANUAL:
        return False
    return any(changed(c, unit, base) for c in copies for unit in BOTH)


def best_source(base: Base, copies: Sequence[Copy], unit: Unit, draft: Draft) -> Copy | None:
    """The fit copy that contains all others, else the newest that git did not write, else the newest.

    None while the newest may still change.
    """
    rest = [c for c in newest_first(copies, unit) if not set_aside(c, unit, draft)]
    while rest and not fit(rest[0], unit):
        if not report_unfit(rest.pop(0), unit, base, draft):
            return None
    good = [c for c in rest if fit(c, unit)]
    for copy in good:
        if all(base.covers(unit, copy.unit(unit), other.unit(unit)) for other in good):
            return copy
    return next(iter([*by_hand(base, good, unit), *good]), None)


def newest_extras(sources: Sequence[Copy], silo: Copy | None, now: int) -> tuple[tuple[Copy, Extra], ...]:
    """Unmanaged files worth copying to the silo: the newest of each path, if missing there or older.

    Worktree to silo only, never deleted (design 3); equal bytes never move. Beside a durable copy one that
    changed this moment waits until it is quiet: an editor's backup of a managed file is gone by then.
    """
    have = {e.path: e for e in silo.extras} if silo else {}
    best: dict[str, tuple[Copy, Extra]] = {}
    for copy in sorted(sources, key=lambda c: c.root.order):
        for extra in copy.extras:
            if silo is not None and young(extra, now):
                continue
            rival = best.get(extra.path)
            if rival is None or extra.stamp.mtime_ns > rival[1].stamp.mtime_ns:
                best[extra.path] = (copy, extra)
    return tuple(pair for path, pair in sorted(best.items()) if _worth(pair[1], have.get(path)))


def young(extra: Extra, now: int) -> bool:
    return 0 <= now - extra.stamp.ctime_ns < QUIET_NS


def _worth(new: Extra, old: Extra | None) -> bool:
    if old is None:
        return True
    same = new.digest is not None and new.digest == old.digest
    return new.stamp.mtime_ns > old.stamp.mtime_ns and not same
