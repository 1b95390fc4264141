"""`use` and `session`: which conversation each terminal works on, shared with jp."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from convsync_agent.names import id_text
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context
from convsync_cli.main import global_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convsync_agent.activating import Activated
    from convsync_agent.model import Partition
    from convsync_agent.session import Session
    from convsync_agent.sessions import Found
    from convsync_agent.site import Site
    from convsync_agent.tidying import Tidied
    from convsync_cli.registered import Target


@command("use", example="convsync use jp-c17457886043", short_help="Make a conversation the active one here.")
@click.argument("target", default="")
def use(context: Context, target: str) -> int:
    """Make a conversation the one this terminal's session works on, for convsync and for jp.

    Without TARGET the one before, as `cd -` does; where there is none you are asked. A conversation that only a
    worktree has becomes durable. Never waits: while somebody works on it, only the session is written.
    """
    from convsync_agent.activating import activate  # noqa: PLC0415
    from convsync_cli.registered import nothing_registered, session_here  # noqa: PLC0415
    from convsync_cli.titlebar import announce  # noqa: PLC0415

    session = session_here()
    found = _wanted(context, target)
    with context.engine() as engine:
        site = engine.sites.get(found.workspace)
        if site is None:
            raise nothing_registered()
        done = activate(engine, site, session, found.conversation)
        announce(site, found.conversation)
    if done.imported:
        context.tell_agent()
    if context.as_json:
        output.document(_used(session, found, done))
    elif not context.quiet:
        _tell_used(found, done)
    return 0


def _wanted(context: Context, text: str) -> Target:
    from convsync_cli.keywords import Scope  # noqa: PLC0415
    from convsync_cli.picker import pick  # noqa: PLC0415
    from convsync_cli.target import resolve_target  # noqa: PLC0415

    if text.strip():
        return resolve_target(context, text)
    scope = Scope(context)
    return scope.current(back=1) or pick(scope)


def _used(session: Session, target: Target, done: Activated) -> dict[str, Any]:
    return {
        "id": target.id,
        "workspaceId": target.workspace,
        "source": session.source,
        "session": session.id,
        "previous": _name(done.previous),
        "imported": done.imported,
        "locked": done.held,
    }


def _tell_used(target: Target, done: Activated) -> None:
    before = f" (before: {_name(done.previous)})" if done.previous not in (None, target.conversation) else ""
    output.line(f"{target.id} is active here{before}")
    if done.imported:
        output.line("it was in a worktree only; it is durable now")
    if done.held:
        output.note("somebody works on it: its time of activation is theirs")


def _name(conversation: int | None) -> str | None:
    return None if conversation is None else id_text(conversation)


# -- session --------------------------------------------------------------------------


@click.group(
    "session",
    short_help="Terminal sessions: what each works on, and which are over.",
    epilog="\b\nExample:\n  convsync session show",
)
@click.pass_context
def session(ctx: click.Context, /, **flags: Any) -> None:
    """Terminal sessions, as jp tells them apart, and the conversations they work on.

    A session is $JP_SESSION where that is set, else the terminal (its session leader, else its pane). Each has its own
    active conversation in each workspace.
    """
    ctx.obj.take(flags)


session.params.extend(global_options())
_worktree = click.option("--worktree", metavar="PATH", help="In the workspace of this worktree (default: of here).")


@command("show", example="convsync session show", short_help="What this terminal works on.")
@_worktree
def show(context: Context, worktree: str | None) -> int:
    """Show who this session is, its active conversation and the one before."""
    from convsync_agent.sessions import Mappings  # noqa: PLC0415
    from convsync_cli.registered import session_here  # noqa: PLC0415

    site = _site(context, worktree)
    mine = session_here()
    walked = [id_text(c) for c in Mappings(site.silo.root.path).walk(mine, _known(site))]
    active, previous = ([*walked, None, None])[:2]
    if context.as_json:
        output.document(
            {"source": mine.source, "id": mine.id, "active": active, "previous": previous, "workspaceId": site.id}
        )
    else:
        output.line(f"{'Session:':<11}{output.title_text(mine.id)} ({mine.source})")
        output.line(f"{'Active:':<11}{active or 'none (convsync use <id>)'}")
        output.line(f"{'Previous:':<11}{previous or 'none'}")
    return 0


def _site(context: Context, worktree: str | None) -> Site:
    from convsync_cli.registered import open_sites, require_site  # noqa: PLC0415

    return require_site(open_sites(context), worktree, hint="add: --worktree PATH")


def _known(site: Site) -> dict[int, Partition]:
    from convsync_cli.registered import load_entries  # noqa: PLC0415

    return {e.id: e.partition for e in load_entries({site.id: site})}


@command("ls", example="convsync session ls", short_help="Every session of the workspace.")
@_worktree
def ls(context: Context, worktree: str | None) -> int:
    """List the sessions of the workspace, the last used first, and what each works on."""
    from convsync_agent.sessions import Mappings, identify  # noqa: PLC0415

    site = _site(context, worktree)
    mine, known = identify(os.environ), _known(site)
    mappings = Mappings(site.silo.root.path)
    rows = []
    for found in mappings.all():
        if found.trail is None:
            output.note(f"warning: {mappings.path(found.key)} is no session file: {found.fault}")
        else:
            rows.append(_row(site, found, known, mine))
    rows.sort(key=lambda r: (-(r["lastActivatedAt"] or 0), r["source"], r["id"]))
    if context.as_json:
        output.document({"sessions": rows})
    elif rows:
        output.table(["", "SESSION", "FROM", "ACTIVE", "PREVIOUS", "USED", "STATE"], [_cells(r) for r in rows])
    elif not context.quiet:
        output.line("no session has used a conversation of this workspace")
    return 0


def _row(site: Site, found: Found, known: Mapping[int, Partition], mine: Session | None) -> dict[str, Any]:
    from convsync_agent.session import walk  # noqa: PLC0415
    from convsync_agent.sessions import alive  # noqa: PLC0415
    from convsync_agent.summary import parse_timestamp  # noqa: PLC0415

    assert found.trail is not None  # noqa: S101  # the caller looked
    who, walked = found.trail.session, [id_text(c) for c in walk(found.trail, known)]
    used = [parse_timestamp(v.at) for v in found.trail.history[:1]]
    return {
        "source": who.source,
        "id": who.id,
        "workspaceId": site.id,
        "active": walked[0] if walked else None,
        "previous": walked[1] if len(walked) > 1 else None,
        "conversations": len(found.trail.history),
        "lastActivatedAt": used[0] // 1_000_000 if used and used[0] is not None else None,
        "alive": alive(who.pid),
        "current": who == mine,
    }


def _cells(row: dict[str, Any]) -> list[str]:
    state = {True: "alive", False: "over", None: "-"}[row["alive"]]
    return [
        "*" if row["current"] else "",
        output.title_text(row["id"]),
        row["source"],
        row["active"] or "-",
        row["previous"] or "-",
        output.ago(row["lastActivatedAt"]),
        state,
    ]


@command("prune", example="convsync session prune --dry-run", short_help="Remove the sessions that are over.")
@click.option("--dry-run", is_flag=True, help="Say what would go, and change nothing.")
@_worktree
def prune(context: Context, dry_run: bool, worktree: str | None) -> int:  # noqa: FBT001
    """Remove the session files that nobody needs, by the rules of jp's own clean-up.

    A terminal's goes when its process is dead for certain, a variable's when none of its conversations exists; one in
    the archive exists. From the others, conversations that exist nowhere are taken out.
    """
    from convsync_agent.tidying import tidy  # noqa: PLC0415

    done = tidy(_site(context, worktree), dry=dry_run)
    if context.as_json:
        output.document({"dry_run": dry_run} | _pruned(done))
    else:
        _tell_pruned(context, done, "would be " if dry_run else "")
    return 0


def _pruned(done: Tidied) -> dict[str, Any]:
    def who(one: Session) -> dict[str, Any]:
        return {"source": one.source, "id": one.id}

    return {
        "removed": [who(s) for s in done.removed],
        "shortened": [who(s) | {"entries": number} for s, number in done.shortened],
        "renamed": [who(s) for s in done.renamed],
        "left": [{"path": path, "why": why} for path, why in done.broken],
    }


def _tell_pruned(context: Context, done: Tidied, word: str) -> None:
    for path, why in done.broken:
        output.note(f"left as it is: {path}: {why}")
    for one in done.removed:
        output.line(f"{word}removed: {output.title_text(one.id)} ({one.source})")
    for one, number in done.shortened:
        gone = output.plural(number, "conversation")
        output.line(f"{word}shortened: {output.title_text(one.id)} ({one.source}), {gone} gone")
    for one in done.renamed:
        output.line(f"{word}renamed as jp does now: {output.title_text(one.id)} ({one.source})")
    if not (done.removed or done.shortened or done.renamed or context.quiet):
        output.line("nothing to remove")


for _command in (show, ls, prune):
    session.add_command(_command)
