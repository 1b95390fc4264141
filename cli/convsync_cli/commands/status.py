"""`status`: what is safe, what is not, what to type."""

from __future__ import annotations

from typing import Any

import click

from convsync_agent.errors import UsageProblem
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
@click.option("--watch", is_flag=True, help="Show it again every second until Ctrl-C; in a pipe, at each change.")
@click.option("--check", is_flag=True, help="Exit with the verdict: 0 fine, 1 attention, 6 degraded, 7 no agent.")
def status(context: Context, path: str, compact: bool, watch: bool, check: bool) -> int:  # noqa: FBT001
    """Show what every registered worktree holds and whether all of it is durable.

    With an agent the answer is the agent's, asked now. Without one the disk itself is looked at: what
    was recorded holds where nothing changed since, everything else is pending.
    """
    if watch and (context.as_json or check):
        raise UsageProblem("--watch goes with neither --json nor --check", hint="convsync status --watch", code="watch")
    if watch:
        return _watch(context, path, compact=compact)
    found = gather(context, path)
    if context.as_json:
        output.document(found)
    else:
        for line in lines_of(context, found, compact=compact):
            output.line(line)
    if not check:
        return 0
    return CHECK.get(found["verdict"], 0 if found["agent"]["state"] == "running" else 7)


def gather(context: Context, path: str = "") -> dict[str, Any]:
    """The document of `status --json` (cli.md)."""
    from convsync_cli.standing import standing  # noqa: PLC0415

    return standing(context.state_dir, context.runtime_dir, path)


def _watch(context: Context, path: str, *, compact: bool) -> int:
    import json  # noqa: PLC0415

    from convsync_cli.watching import Look, watch  # noqa: PLC0415

    def look() -> Look:
        found = gather(context, path)
        since = {a["since"] for a in found["attention"] if a["kind"] == "deaf"}  # the time of the look itself
        mark = json.dumps([a | {"since": None} if a["since"] in since else a for a in found["attention"]])
        rest = {"verdict": found["verdict"], "agent": found["agent"]["state"], "workspaces": found["workspaces"]}
        return Look(lines_of(context, found, compact=compact), mark + json.dumps(rest))

    return watch(look)


def lines_of(context: Context, found: dict[str, Any], *, compact: bool) -> list[str]:
    """What a person is shown."""
    agent = found["agent"]
    verdict = found["verdict"]
    said = output.colored(WORDS[verdict], COLORS[verdict])
    if compact:
        return [_compact(found)]
    lines = [f"convsync {agent['version']} {_agent(agent)} - {said}"]
    if context.verbose and found["metrics"]:
        from convsync_cli import counted  # noqa: PLC0415

        lines += counted.lines(agent, found["metrics"])
    if not found["workspaces"]:
        lines.append("no worktree is registered yet: convsync register <worktree>")
    for workspace in found["workspaces"]:
        lines += _workspace(workspace)
    lines += _attention(context, found["attention"])
    if agent["state"] != "running" and found["workspaces"]:
        lines.append(f"the agent is not running: {_start()}")
    return lines


def _start() -> str:
    from convsync_agent import supervisor  # noqa: PLC0415

    return "convsync service start" if supervisor.unit_there() else "convsync service install --now, or: convsync agent"


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


def _workspace(workspace: dict[str, Any]) -> list[str]:
    durable = workspace["durable"]
    used = f"{durable['live']} durable ({durable['in_use']} in use)"
    rows = []
    for tree in workspace["worktrees"]:
        counts = tree["counts"]
        numbers = [str(counts[k]) for k in ("projected", "local", "external")]
        rows.append([tree["state"], *numbers, output.ago(tree["last_change_at"]), output.tilde(tree["path"])])
    header = ["state", "projected", "local", "ext", "changed", "worktree"]
    lines = [
        "",
        f"workspace {workspace['id']}: {used}, {durable['archived']} archived",
        f"  silo {output.tilde(workspace['silo'])}",
        *output.table_lines(header, rows, right=(1, 2, 3), indent="  ", path=True),
    ]
    for tree in workspace["worktrees"]:
        if tree["state"] == "paused":
            from convsync_cli.paused import reminder  # noqa: PLC0415

            lines.append(reminder(tree["path"], tree["paused_until"]))
    return lines


def _attention(context: Context, entries: list[dict[str, Any]]) -> list[str]:
    shown = entries if context.verbose else entries[:12]
    lines = [""] if entries else []
    for entry in shown:
        who = f" {entry['conversation']}" if entry["conversation"] else ""
        where = f" in {output.tilde(entry['worktree'])}" if entry["worktree"] else ""
        lines.append(f"{output.colored(entry['kind'], 'yellow')}{who}{where}, since {output.ago(entry['since'])}")
        lines.append(f"  {entry['detail']}")
        lines.append(f"  {output.colored('hint:', 'dim')} {entry['hint']}")
    if len(shown) < len(entries):
        lines.append(f"and {len(entries) - len(shown)} more: convsync status -v")
    return lines
