"""A copy whose own `expires_at` is past while the durable copy's is not. Pure.

JP looks at each copy by itself when it ends and removes the conversation from both roots (contract 6.8), so a
copy that git brought back, or one that may not be written, takes the durable one with it. A person hears of it
before; where it happened, the durable copy was not removed on purpose (`safety`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from convsync_agent.model import Base, Copy, Partition, Unit
from convsync_agent.plan import Action, Draft, Problem, Update

EXPIRED = "its expires_at is past and the durable copy's is not: jp would delete both"


def expires_early(own_ns: int | None, durable_ns: int | None, now: int) -> bool:
    """JP would remove the conversation for this copy alone."""
    return own_ns is not None and own_ns <= now and (durable_ns is None or durable_ns > now)


def report_expired(base: Base, copies: Sequence[Copy], actions: Iterable[Action], draft: Draft) -> None:
    """Of those whose metadata stays as it is; what is written to or taken over in this plan differs no more."""
    changing = [a for a in actions if isinstance(a, Update) and a.unit is Unit.METADATA]
    for copy in copies:
        stays = not any(copy is a.source or copy is a.target for a in changing)
        if stays and copy.partition is Partition.LIVE and (copy.conversation, copy.root) in base.expired:
            draft.problems.append(Problem("held", copy.conversation, copy.root, EXPIRED))
