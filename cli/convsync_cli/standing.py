"""Where everything stands: the agent's word when one runs, else a look at the disk (stats only)."""

from __future__ import annotations

import errno
import os
from typing import Any

from convsync_agent import __version__, advice, flocks, publish, state
from convsync_agent.errors import UNWRITTEN
from convsync_agent.state import Attention, State

LOCK = "agent.lock"
AT_ONCE = 0.05  # seconds; about 3 ms are needed
BRANCH = "; git is not on the branch that it was on"


def standing(state_dir: str, runtime_dir: str, path: str = "") -> dict[str, Any]:
    """The document of `status --json`, for all workspaces or for the one of a worktree."""
    told = _answer(state_dir, runtime_dir)
    running = told is not None  # one that does not answer is as good as none: then the disk itself is looked at
    told = told or publish.read(state_dir)
    opened = state.reader(state_dir)
    try:
        entries = opened.attention() if opened else []
        if running and told:
            workspaces, deaf = told["workspaces"], told.get("deaf", [])
            pending = bool(told["agent"]["queue"]) or _deferred(workspaces)
        else:
            workspaces, pending = _look(opened, entries)
            deaf = []
    finally:
        if opened is not None:
            opened.close()
    workspaces, entries = _within(workspaces, entries, path)
    attention = [advice.as_attention(e) for e in entries] + _deaf(deaf) + _missing(workspaces, running=running)
    kinds = {a["kind"] for a in attention}
    gone = any(w.get("missing") for w in workspaces)
    failed = any(e.detail.startswith(UNWRITTEN) for e in entries)
    for workspace in workspaces:
        workspace.pop("missing", None)
        held = flocks.all_busy(workspace["silo"])
        workspace["durable"]["in_use"] = sum(1 for n in held if n.startswith("jp-c"))
    return {
        "verdict": publish.verdict(kinds, missing_silo=gone, unwritten=failed, pending=pending),
        "agent": _agent(told, running=running),
        "workspaces": workspaces,
        "attention": attention,
        "metrics": told.get("metrics") if running and told else None,
    }


def _answer(state_dir: str, runtime_dir: str) -> dict[str, Any] | None:
    """What a running agent says now. One that answers at once need not be proved to run, which costs more."""
    said = publish.read(state_dir)
    if said is not None and _lives(said["agent"]["pid"]):
        told = publish.ask(state_dir, runtime_dir, AT_ONCE)
        if told is not None:
            return told
    return publish.ask(state_dir, runtime_dir) if flocks.agent_running(os.path.join(state_dir, LOCK)) else None


def _lives(pid: int) -> bool:
    """Some process has this number: the agent that wrote it, or another one after its death.

    As `kernel.alive`, without the foreign function interface that comes with that module.
    """
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def _agent(told: dict[str, Any] | None, *, running: bool) -> dict[str, Any]:
    if running and told:
        return {"state": "running", **told["agent"]}
    blank: dict[str, Any] = {
        "pid": None,
        "version": __version__,
        "started_at": None,
        "watches": 0,
        "queue": 0,
        "last_error": None,
    }
    return {"state": "stale" if told else "stopped"} | blank


def _deferred(workspaces: list[dict[str, Any]]) -> bool:
    return any(t["counts"]["deferred"] for w in workspaces for t in w["worktrees"])


def _look(opened: State | None, entries: list[Attention]) -> tuple[list[dict[str, Any]], bool]:
    """No agent: list and stat every root. Anything that is not as recorded is pending."""
    if opened is None:
        return [], False
    from convsync_agent.looking import look_at_disk  # noqa: PLC0415

    return look_at_disk(opened, entries)


def _within(
    workspaces: list[dict[str, Any]], entries: list[Attention], path: str
) -> tuple[list[dict[str, Any]], list[Attention]]:
    if not path:
        return workspaces, entries
    at = os.path.realpath(path)
    for workspace in workspaces:
        for tree in workspace["worktrees"]:
            if at == tree["path"] or at.startswith(tree["path"] + "/"):
                chosen = workspace | {"worktrees": [tree]}
                return [chosen], [e for e in entries if e.workspace == workspace["id"]]
    from convsync_agent.errors import NotFound  # noqa: PLC0415

    raise NotFound("not a registered worktree", where=at, hint="convsync register")


def _missing(workspaces: list[dict[str, Any]], *, running: bool) -> list[dict[str, Any]]:
    """Worktrees that are gone, or are back without what they held: listed, and no change of the verdict."""
    found = []
    for workspace in workspaces:
        for tree in workspace["worktrees"]:
            entry = Attention("missing", workspace["id"], 0, tree["path"], tree["since"], "", lasting=False)
            if tree["state"] == "missing":
                safe, loose = tree["counts"]["projected"], tree["counts"]["external"]
                detail = f"the worktree is gone; {safe} of {safe + loose} conversations that it held are durable"
                found.append(advice.as_attention(entry._replace(detail=detail)))
            elif tree.get("restorable") and (tree["recovery"] != "settling" or not running):
                detail = f"the worktree is back; {tree['restorable']} projections that it held can be put back"
                detail += BRANCH if tree["recovery"] == "branch" else ""
                hint = f"convsync recover {tree['path']}"
                found.append(advice.as_attention(entry._replace(detail=detail)) | {"hint": hint})
    return found


def _deaf(roots: list[dict[str, Any]]) -> list[dict[str, Any]]:
    import time  # noqa: PLC0415

    return [advice.as_attention(e) for e in advice.deaf(roots, time.time_ns() // 1_000_000)]
