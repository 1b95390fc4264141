"""Outcomes and attention in the shapes of cli.md, and what to type about each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convsync_agent.outcome import Outcome
    from convsync_agent.state import Attention

HINTS = {
    "held": "mend or remove it (bytes are kept: convsync history {id})",
    "conflict": "convsync diff {id}, then: accept or undo {id}",
    "behind": "nothing, or take it over on purpose: convsync accept {id} (git switch back ends it, too)",
    "removed": "delete it there, too; or: convsync trash restore {id}",
    "lost": "convsync verify, then: convsync accept {id}",
    "split": "convsync archive {id}, or: convsync unarchive {id}",
    "no-space": "free some space; convsync goes on by itself",
    "denied": "check owner and permissions; convsync goes on by itself",
    "io": "check the disk or mount; convsync goes on by itself",
    "deaf": "raise fs.inotify.max_user_watches, then restart the agent; until then it looks in turns",
    "missing": "it may come back; if not: convsync unregister {root}",
    "future": "correct the clock or the file's time; nothing is lost",
}


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


def worktree_of(root: str) -> str:
    """The worktree of a `.jp`, or the silo itself."""
    return root.removesuffix("/.jp")


def as_attention(entry: Attention) -> dict[str, Any]:
    """One entry of `status --json`."""
    conversation = f"jp-c{entry.conversation}" if entry.conversation else None
    root = worktree_of(entry.root)
    hint = HINTS.get(entry.kind, "convsync status").format(id=conversation or "", root=root)
    return {
        "kind": entry.kind,
        "conversation": conversation,
        "worktree": root or None,
        "since": entry.since_ms,
        "detail": entry.detail,
        "hint": hint,
    }
