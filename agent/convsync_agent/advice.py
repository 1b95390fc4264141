"""Attention as others read it: the entries of `status --json`, with what to type about each."""

from __future__ import annotations

from typing import Any

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


def deaf(roots: list[dict[str, Any]], now_ms: int) -> list[Attention]:
    """What cannot be watched, as the agent says it of itself: no cycle finds that."""
    return [Attention("deaf", "", 0, r["root"], now_ms, unwatched(r) + "; looked at in turns", False) for r in roots]


def unwatched(root: dict[str, Any]) -> str:
    """What of it is not watched, and why (`Health.deaf_roots`)."""
    number = root.get("unwatched")
    if number is None:
        return f"cannot be watched ({root['code']})"
    return f"{number} conversations, those that changed least recently, are not watched ({root['code']})"
