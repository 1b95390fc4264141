"""`pause` and `resume`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import click

from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context

if TYPE_CHECKING:
    from convsync_agent.engine import Engine
    from convsync_agent.outcome import Outcome
    from convsync_agent.site import Site, Tree

LONGEST = 366 * 86400.0
PATIENCE = 5.0  # seconds for the agent to say that it knows


@command("pause", example="convsync pause ~/code/app --for 30m", short_help="Leave a worktree alone for a while.")
@click.argument("path", default="")
@click.option("--for", "duration", metavar="TIME", help="End by itself after 30m, 2h, 1d; else: convsync resume.")
@click.option("--all", "everything", is_flag=True, help="Every registered worktree.")
def pause(context: Context, path: str, duration: str | None, everything: bool) -> int:  # noqa: FBT001
    """Neither write nor read the worktree at or above PATH (default: here) until it is resumed.

    What is in it now is made durable first. What is written there afterwards is durable only when it is
    resumed; what is removed there means nothing. The silo and the other worktrees go on.
    """
    from convsync_agent import pausing  # noqa: PLC0415

    lasts_ms = None if duration is None else round(_seconds(duration) * 1000)
    with context.engine() as engine:
        chosen = _chosen("pause", engine, path, everything=everything)
        total = _settled(engine, [(s, t) for s, t in chosen if not t.worktree.paused])
        until = None if lasts_ms is None else time.time_ns() // 1_000_000 + lasts_ms
        rows = [_row(site, tree, changed=pausing.pause(engine, tree, until)) for site, tree in chosen]
    context.tell_agent()
    answer = _agent_knows(context, {r["path"]: True for r in rows})
    if context.as_json:
        output.document(_document(rows, total, answer))
        return 0
    from convsync_cli.paused import until as until_text  # noqa: PLC0415

    for row in rows:
        if row["changed"] or not context.quiet:
            output.line(f"paused {until_text(row['paused_until'])}: {output.tilde(row['path'])}")
    _tell(total)
    if answer is False:
        output.note("warning: the agent did not say that it knows; look again: convsync status")
    if not context.quiet:
        which = "--all" if everything else output.tilde(rows[0]["path"])
        output.note(f"not saved meanwhile; to end it: convsync resume {which}")
    return 0


@command("resume", example="convsync resume ~/code/app", short_help="Watch a paused worktree again.")
@click.argument("path", default="")
@click.option("--all", "everything", is_flag=True, help="Every paused worktree.")
def resume(context: Context, path: str, everything: bool) -> int:  # noqa: FBT001
    """End the pause of the worktree at or above PATH (default: here) and bring everything in step.

    What was written there meanwhile becomes durable, by the same rules as always; where another worktree
    was written as well, the newest wins and the other one is kept. Resuming what is not paused changes nothing.
    """
    from convsync_agent import pausing  # noqa: PLC0415

    with context.engine() as engine:
        chosen = _chosen("resume", engine, path, everything=everything)
        ended = [(s, t, pausing.resume(engine, s, t)) for s, t in chosen]
        total = _settled(engine, [(s, t) for s, t, was in ended if was])
        rows = [_row(site, tree, changed=was) for site, tree, was in ended]
    context.tell_agent()
    answer = _agent_knows(context, {r["path"]: False for r in rows})
    if context.as_json:
        output.document(_document(rows, total, answer))
        return 6 if total.failed else 0
    for row in rows:
        where = output.tilde(row["path"])
        if row["changed"]:
            output.line(f"resumed: {where}")
        elif not context.quiet and not everything:
            output.line(f"not paused: {where} (nothing to do)")
    if everything and not context.quiet and not any(r["changed"] for r in rows):
        output.line("nothing is paused")
    _tell(total)
    if total.written and not context.quiet:
        output.line(f"brought in step: {output.plural(total.written, 'file')} written")
    return 6 if total.failed else 0


def _seconds(text: str) -> float:
    from convsync_agent.errors import UsageProblem  # noqa: PLC0415
    from convsync_cli.patience import parse_duration  # noqa: PLC0415

    seconds = parse_duration(text.strip())
    if seconds is None or not 0 < seconds <= LONGEST:
        what = "not a duration" if seconds is None else "not a time from now up to a year"
        raise UsageProblem(f"{what}: {text[:20]!r}", where="--for", hint="--for 30m (or 2h, or 1d; or without --for)")
    return seconds


def _chosen(verb: str, engine: Engine, path: str, *, everything: bool) -> list[tuple[Site, Tree]]:
    """The worktree that is meant, or every one. Raises UsageProblem, NotFound."""
    from convsync_agent.errors import NotFound, UsageProblem  # noqa: PLC0415
    from convsync_agent.registry import find_registered  # noqa: PLC0415

    trees = [(s, t) for s in engine.sites.values() for t in s.trees.values()]
    if everything:
        if path:
            raise UsageProblem(
                "--all is every worktree: a PATH does not go with it", where=path, hint=f"convsync {verb} --all"
            )
        if not trees:
            raise NotFound("no worktree is registered", hint="convsync register <worktree>")
        return sorted(trees, key=lambda pair: pair[1].worktree.path)
    try:
        row = find_registered(engine, path or os.getcwd())
    except (NotFound, FileNotFoundError) as error:  # or the directory was deleted under the shell
        if path:
            raise
        raise UsageProblem(
            "not in a registered worktree",
            where="the current directory",
            hint=f"convsync {verb} PATH, or: convsync {verb} --all",
            code="which-worktree",
        ) from error
    return [(s, t) for s, t in trees if t.worktree.path == row.path]


def _settled(engine: Engine, trees: list[tuple[Site, Tree]]) -> Outcome:
    """Bring the workspaces of these in step."""
    from convsync_agent.outcome import Outcome  # noqa: PLC0415
    from convsync_agent.recover import recover_site  # noqa: PLC0415
    from convsync_agent.settling import absorb, settle  # noqa: PLC0415

    total = Outcome()
    for site in {s.id: s for s, _ in trees}.values():
        recover_site(engine, site)
        absorb(total, settle(engine, site, engine.rescan(site)))
    return total


def _row(site: Site, tree: Tree, *, changed: bool) -> dict[str, Any]:
    row = tree.worktree
    until = row.until_ms if row.paused else None
    return {"path": row.path, "workspace": site.id, "paused": row.paused, "paused_until": until, "changed": changed}


def _document(rows: list[dict[str, Any]], total: Outcome, answer: bool | None) -> dict[str, Any]:  # noqa: FBT001
    from convsync_cli.reports import as_deferred, as_held  # noqa: PLC0415

    return {"worktrees": rows, "agent_knows": answer, "deferred": as_deferred(total), "held": as_held(total)}


def _tell(total: Outcome) -> None:
    from convsync_cli.reports import as_deferred, as_held  # noqa: PLC0415

    for held in as_held(total):
        output.line(output.colored(f"held: {held['conversation']} {held['detail']}", "yellow"))
    for deferred in as_deferred(total):
        output.line(f"deferred: {deferred['conversation']} ({deferred['reason']})")
    for failed in total.failed:
        output.line(output.colored(f"failed: jp-c{failed.action.conversation} {failed.problem.detail}", "red"))


def _agent_knows(context: Context, wanted: dict[str, bool]) -> bool | None:
    """Wait until a running agent says that these worktrees are (not) paused. None: no agent runs."""
    from convsync_agent import flocks, publish  # noqa: PLC0415
    from convsync_cli.standing import LOCK  # noqa: PLC0415

    if not flocks.agent_running(os.path.join(context.state_dir, LOCK)):
        return None
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        told = publish.ask(context.state_dir, context.runtime_dir) or {"workspaces": []}
        states = {t["path"]: t["state"] == "paused" for w in told["workspaces"] for t in w["worktrees"]}
        if all(states.get(path) is paused for path, paused in wanted.items()):
            return True
    return False
