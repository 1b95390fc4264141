"""`status`: what is safe, what is not, what to type."""

from __future__ import annotations

import time
from typing import Any

import click

from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context

CHECK = {"degraded": 6, "attention": 1}
COLORS = {"in-sync": "green", "pending": "yellow", "attention": "yellow", "degraded": "red"}
WORDS = {
    "in-sync": "everything in sync",
    "pending": "catching up",
    "attention": "something needs you",
    "degraded": "DEGRADED: something could not be written",
}


@command("status", example="convsync status --check", short_help="What is safe, what is not, what to type.")
@click.argument("path", default="")
@click.option("--compact", is_flag=True, help="One line.")
@click.option("--watch", is_flag=True, help="Show it again every second until Ctrl-C.")
@click.option("--check", is_flag=True, help="Exit with the verdict: 0 fine, 1 attention, 6 degraded, 7 no agent.")
def status(context: Context, path: str, compact: bool, watch: bool, check: bool) -> int:  # noqa: FBT001
    """Show what every registered worktree holds and whether all of it is durable.

    With an agent the answer is the agent's, asked now. Without one the disk itself is looked at: what
    was recorded holds where nothing changed since, everything else is pending.
    """
    if watch and not context.as_json:
        return _watch(context, path, compact=compact)
    found = gather(context, path)
    if context.as_json:
        output.document(found)
    else:
        show(context, found, compact=compact)
    if not check:
        return 0
    return CHECK.get(found["verdict"], 0 if found["agent"]["state"] == "running" else 7)


def gather(context: Context, path: str = "") -> dict[str, Any]:
    """The document of `status --json` (cli.md)."""
    from convsync_cli.standing import standing  # noqa: PLC0415

    return standing(context.state_dir, context.runtime_dir, path)


def _watch(context: Context, path: str, *, compact: bool) -> int:
    try:
        while True:
            found = gather(context, path)
            if output.is_terminal():
                output.clear()
            show(context, found, compact=compact)
            time.sleep(1.0)
    except KeyboardInterrupt:
        return 0


def show(context: Context, found: dict[str, Any], *, compact: bool) -> None:
    agent = found["agent"]
    verdict = found["verdict"]
    said = output.colored(WORDS[verdict], COLORS[verdict])
    if compact:
        output.line(_compact(found))
        return
    output.line(f"convsync {agent['version']} {_agent(agent)} - {said}")
    if context.verbose and found["metrics"]:
        from convsync_cli.counted import lines  # noqa: PLC0415

        for text in lines(agent, found["metrics"]):
            output.line(text)
    if not found["workspaces"]:
        output.line("no worktree is registered yet: convsync register <worktree>")
    for workspace in found["workspaces"]:
        _workspace(workspace)
    _attention(context, found["attention"])
    if agent["state"] != "running" and found["workspaces"]:
        output.line("the agent is not running: convsync agent")


def _agent(agent: dict[str, Any]) -> str:
    if agent["state"] != "running":
        return output.colored(agent["state"], "yellow")
    return f"running (pid {agent['pid']}, up {output.ago(agent['started_at']).removesuffix(' ago')})"


def _compact(found: dict[str, Any]) -> str:
    counts: dict[str, int] = {}
    for entry in found["attention"]:
        counts[entry["kind"]] = counts.get(entry["kind"], 0) + 1
    trees = sum(len(w["worktrees"]) for w in found["workspaces"])
    parts = [f"{found['verdict']}: {output.plural(trees, 'worktree')}"]
    parts += [f"{number} {kind}" for kind, number in sorted(counts.items())]
    if found["agent"]["state"] != "running":
        parts.append("agent not running")
    return ", ".join(parts)


def _workspace(workspace: dict[str, Any]) -> None:
    durable = workspace["durable"]
    output.line()
    used = f"{durable['live']} durable ({durable['in_use']} in use)"
    output.line(f"workspace {workspace['id']}: {used}, {durable['archived']} archived")
    output.line(f"  silo {output.tilde(workspace['silo'])}")
    rows = []
    for tree in workspace["worktrees"]:
        counts = tree["counts"]
        numbers = [str(counts[k]) for k in ("projected", "local", "external")]
        rows.append([tree["state"], *numbers, output.ago(tree["last_change_at"]), output.tilde(tree["path"])])
    output.table(["state", "projected", "local", "ext", "changed", "worktree"], rows, right=(1, 2, 3), indent="  ")
    for tree in workspace["worktrees"]:
        if tree["state"] == "paused":
            from convsync_cli.paused import reminder  # noqa: PLC0415

            output.line(reminder(tree["path"], tree["paused_until"]))


def _attention(context: Context, entries: list[dict[str, Any]]) -> None:
    shown = entries if context.verbose else entries[:12]
    if entries:
        output.line()
    for entry in shown:
        who = f" {entry['conversation']}" if entry["conversation"] else ""
        where = f" in {output.tilde(entry['worktree'])}" if entry["worktree"] else ""
        output.line(f"{output.colored(entry['kind'], 'yellow')}{who}{where}, since {output.ago(entry['since'])}")
        output.line(f"  {entry['detail']}")
        output.line(f"  {output.colored('hint:', 'dim')} {entry['hint']}")
    if len(shown) < len(entries):
        output.line(f"and {len(entries) - len(shown)} more: convsync status -v")
