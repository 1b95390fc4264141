"""Outcomes and attention in the shapes of cli.md."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convsync_agent.advice import HINTS, as_attention, worktree_of

if TYPE_CHECKING:
    from convsync_agent.outcome import Outcome

__all__ = ["HINTS", "as_attention", "as_deferred", "as_held", "worktree_of"]


def as_deferred(outcome: Outcome) -> list[dict[str, str]]:
    """`deferred` of sync and register: one entry a conversation and reason."""
    found = sorted({(d.conversation, d.reason) for d in outcome.deferred})
    return [{"conversation": f"jp-c{c}", "reason": r} for c, r in found]


def as_held(outcome: Outcome) -> list[dict[str, str | None]]:
    """`held` of sync and register: everything one conversation could not be taken over for."""
    found = sorted(
        {
            (p.conversation or 0, worktree_of(p.root.path) if p.root else "", p.kind, p.detail)
            for p in outcome.problems
            if p.conversation
        }
    )
    return [{"conversation": f"jp-c{c}", "worktree": w or None, "kind": k, "detail": d} for c, w, k, d in found]
