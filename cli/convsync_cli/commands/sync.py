"""`sync`: one reconciliation now, in this process."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import click

from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context
from convsync_cli.reports import as_deferred, as_held

if TYPE_CHECKING:
    from convsync_agent.engine import Engine
    from convsync_agent.model import Partition, Root
    from convsync_agent.outcome import Outcome
    from convsync_agent.site import Site


@command("sync", example="convsync sync --dry-run", short_help="Reconcile once, now; safe beside a running agent.")
@click.argument("what", default="", metavar="[PATH|TARGET]")
@click.option("--dry-run", is_flag=True, help="Print the plan and touch nothing.")
@click.option("--policy", type=click.Choice(["guarded", "mtime"]), help="Override the setting `policy` for this run.")
def sync(context: Context, what: str, dry_run: bool, policy: str | None) -> int:  # noqa: FBT001
    """Bring the silo and every registered worktree in step.

    With a PATH only the workspace of that worktree, with a TARGET only that conversation. What is
    locked by a running jp is deferred, what cannot be used is held; both are no errors.
    """
    from convsync_agent.outcome import Outcome  # noqa: PLC0415
    from convsync_agent.settling import absorb  # noqa: PLC0415

    started = time.monotonic()
    total, conversations = Outcome(), 0
    paused: list[str] = []
    with context.engine(bar=True, policy=policy) as engine:
        for site, wanted in _scope(context, engine, what):
            found, number = _one(engine, site, wanted, dry=dry_run)
            conversations += number
            absorb(total, found)
            paused += sorted(t.worktree.path for t in site.trees.values() if t.worktree.paused)
    document = {
        "dry_run": dry_run,
        "actions": _actions(total),
        "deferred": as_deferred(total),
        "held": as_held(total),
        "written": 0 if dry_run else total.written,
        "unchanged": conversations - len({a.action.conversation for a in total.done}),
        "duration_ms": round((time.monotonic() - started) * 1000),
    }
    if context.as_json:
        output.document(document)
    else:
        _tell(context, document, total)
        for path in paused:
            output.note(f"paused, left alone: convsync resume {output.tilde(path)}")
    return 6 if total.failed or any(p.kind == "missing" for p in total.problems) else 0


def _scope(context: Context, engine: Engine, what: str) -> list[tuple[Site, set[int] | None]]:
    """Which workspaces, and which conversations of them (None: all)."""
    from convsync_agent.errors import NotFound  # noqa: PLC0415
    from convsync_agent.registry import find_registered  # noqa: PLC0415

    if not engine.sites:
        raise NotFound("no worktree is registered", hint="convsync register <worktree>")
    if not what:
        return [(engine.sites[k], None) for k in sorted(engine.sites)]
    if "/" in what or os.path.exists(what):
        return [(engine.sites[find_registered(engine, what).workspace], None)]
    from convsync_cli.target import resolve_target  # noqa: PLC0415

    found = resolve_target(context, what)
    return [(engine.sites[found.workspace], {found.conversation})]


def _one(engine: Engine, site: Site, wanted: set[int] | None, *, dry: bool) -> tuple[Outcome, int]:
    from convsync_agent.settling import settle  # noqa: PLC0415

    if not dry:
        from convsync_agent.recover import recover_site  # noqa: PLC0415

        recover_site(engine, site)
    dirty = engine.rescan(site)
    everything = {c for v in site.views() for c in v.listing.conversations()}
    if wanted is not None:
        dirty, everything = dirty & wanted, everything & wanted
    if dry:
        return engine.cycle(site, dirty, dry=True), len(everything)
    if wanted is None:
        engine.vault.note_all(site)  # a `register` leaves its kept copies to whoever comes next
    return settle(engine, site, dirty), len(everything)


def _actions(outcome: Outcome) -> list[dict[str, Any]]:
    from convsync_agent.layout import copy_path  # noqa: PLC0415
    from convsync_agent.plan import Keep, as_json, order  # noqa: PLC0415

    def place(root: Root, partition: Partition, name: str) -> str:
        """Without the slug, which is chat text (R9): `convsync path` tells where a copy lies."""
        return copy_path(root, partition, name.partition("-")[0])

    actions = sorted((r.action for r in outcome.done if not isinstance(r.action, Keep)), key=order)
    return [as_json(a, place) for a in actions]


def _tell(context: Context, done: dict[str, Any], outcome: Outcome) -> None:
    word = "would " if done["dry_run"] else ""
    for action in done["actions"] if done["dry_run"] or context.verbose else ():
        where = os.path.dirname(os.path.dirname(action["target"])).removesuffix("/.jp")
        amount = f" ({output.size(action['bytes'])})" if action["bytes"] else ""
        output.line(
            f"{word}{action['action']} {action['conversation']} {action['unit']} in {output.tilde(where)}{amount}"
        )
    for entry in done["held"]:
        output.line(output.colored(f"held: {entry['conversation']} {entry['detail']} ({entry['worktree']})", "yellow"))
    for entry in done["deferred"]:
        output.line(f"deferred: {entry['conversation']} ({entry['reason']})")
    for failed in outcome.failed:
        text = f"failed: jp-c{failed.action.conversation} {failed.problem.detail}"
        output.line(output.colored(text, "red"))
    for problem in outcome.problems:
        if problem.kind == "missing" and problem.root:
            text = f"DEGRADED: {problem.detail} ({output.tilde(problem.root.path)}); nothing was synced"
            output.line(output.colored(text, "red"))
            output.line("hint: mount it again, or create it anew: convsync register <worktree>")
            return
    if context.quiet:
        return
    if done["dry_run"]:
        output.line(f"{output.plural(len(done['actions']), 'action')} planned; nothing was touched")
    elif not done["actions"] and not outcome.failed:
        output.line(f"in sync: {output.plural(done['unchanged'], 'conversation')}, nothing to do")
    else:
        output.line(
            f"synced {output.plural(len({a['conversation'] for a in done['actions']}), 'conversation')}: "
            f"{output.plural(done['written'], 'file')} written, {done['unchanged']} unchanged, {done['duration_ms']} ms"
        )
