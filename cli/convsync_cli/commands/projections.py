"""`project`, `unproject` and `import`: in which roots one conversation is, decided by a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from convsync_agent.errors import NotFound, UsageProblem
from convsync_agent.model import Presence, Projection
from convsync_agent.names import id_text
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context
from convsync_cli.projected import set_projection

if TYPE_CHECKING:
    from convsync_agent.engine import Engine
    from convsync_agent.outcome import Outcome
    from convsync_agent.site import Site, Tree
    from convsync_cli.target import Target

WORKTREE = "--worktree"
TARGET = click.argument("target", default="")
WHICH = click.option(
    WORKTREE, "worktree", metavar="PATH", help="Which one; the current one, or the only one, by default."
)


@command(
    "project",
    example="convsync project last --worktree ~/code/feature",
    short_help="Copy a local conversation into a worktree.",
)
@TARGET
@WHICH
def project(context: Context, target: str, worktree: str | None) -> int:
    """Create the projection of one conversation in one worktree: from then on both are kept in step.

    The three managed files only; drafts and notes stay in the silo. Content and times are those of the durable
    copy. Waits for JP's lock as long as $JP_LOCK_DURATION says (30 s).
    """
    return set_projection(context, target, worktree, Projection.PROJECTED)


@command(
    "unproject",
    example="convsync unproject last --worktree ~/code/feature",
    short_help="Take a conversation out of a worktree; it stays durable.",
)
@TARGET
@WHICH
def unproject(context: Context, target: str, worktree: str | None) -> int:
    """Delete the projection of one conversation in one worktree: the conversation is local there, in the silo only.

    It stays so: nobody makes it again but `convsync project` or jp. What the projection alone had is in the
    history. Waits for JP's lock as long as $JP_LOCK_DURATION says (30 s).
    """
    return set_projection(context, target, worktree, Projection.LOCAL_ONLY)


# -- import -------------------------------------------------------------------------


@command("import", example="convsync import --all", short_help="Make external conversations durable now.")
@TARGET
@click.option("--all", "everything", is_flag=True, help="Every conversation that only a worktree has.")
@click.option(WORKTREE, "worktree", metavar="PATH", help="Only what lies in this worktree.")
def import_(context: Context, target: str, everything: bool, worktree: str | None) -> int:  # noqa: FBT001
    """Give conversations that only a worktree has (`ext` in `ls`) their durable copy, whatever `import.policy` says.

    The whole directory, unmanaged files too, with its times. With --all what is locked or cannot be used is
    listed and no error; a TARGET waits for JP's lock as long as $JP_LOCK_DURATION says (30 s).
    """
    if everything is bool(target.strip()):
        raise UsageProblem("name one TARGET, or --all", hint="convsync import --all")
    from convsync_cli.target import resolve_target  # noqa: PLC0415

    found = None if everything else resolve_target(context, target)
    with context.engine(bar=everything) as engine:
        body, failed = _all(engine, worktree) if found is None else (_one(engine, found, worktree), False)
    if context.as_json:
        output.document(body)
    else:
        _tell(context, body)
    return 6 if failed else 0


def _one(engine: Engine, found: Target, worktree: str | None) -> dict[str, list[object]]:
    from convsync_agent.importing import ensure_durable  # noqa: PLC0415
    from convsync_agent.recover import recover_site  # noqa: PLC0415
    from convsync_cli.waiting import patiently  # noqa: PLC0415
    from convsync_cli.worktree import entry_of  # noqa: PLC0415

    site = engine.sites[found.workspace]
    recover_site(engine, site)
    entry = entry_of(site, found)
    _require_there(engine, found, entry.worktrees, worktree)
    external = entry.overall is Presence.WORKSPACE_ONLY
    if external:
        patiently(lambda deadline: ensure_durable(engine, site, found.conversation, deadline))
    return {
        "imported": [found.id] if external else [],
        "already": [] if external else [found.id],
        "deferred": [],
        "held": [],
    }


def _require_there(engine: Engine, target: Target, worktrees: tuple[str, ...], path: str | None) -> None:
    from convsync_cli.worktree import tree_named  # noqa: PLC0415

    tree = tree_named(engine.sites, target, path) if path is not None else None
    if tree is not None and tree.worktree.path not in worktrees:
        raise NotFound(f"no copy of {target.id} is there", where=tree.worktree.path, hint=f"convsync show {target.id}")


def _all(engine: Engine, worktree: str | None) -> tuple[dict[str, list[object]], bool]:
    from convsync_agent.index import find_worktree  # noqa: PLC0415
    from convsync_cli.reports import as_deferred, as_held  # noqa: PLC0415

    only = None
    if worktree is not None:
        only = find_worktree(engine.sites.values(), worktree)
        if only is None:
            raise NotFound("not a registered worktree", where=worktree, hint="convsync status lists them")
    if not engine.sites:
        raise NotFound("no worktree is registered", hint="convsync register <worktree>")
    body: dict[str, list[object]] = {"imported": [], "already": [], "deferred": [], "held": []}
    failed = False
    for key in sorted(engine.sites) if only is None else [only[0].id]:
        outcome = _take_in(engine, engine.sites[key], only[1] if only else None, body)
        body["deferred"] += as_deferred(outcome)
        body["held"] += as_held(outcome)
        failed |= bool(outcome.failed) or any(p.kind == "missing" for p in outcome.problems)
    return body, failed


def _take_in(engine: Engine, site: Site, tree: Tree | None, body: dict[str, list[object]]) -> Outcome:
    from convsync_agent.importing import imported, take_in  # noqa: PLC0415
    from convsync_agent.index import load_index  # noqa: PLC0415
    from convsync_agent.recover import recover_site  # noqa: PLC0415

    recover_site(engine, site)
    mine = [e for e in load_index(site) if tree is None or tree.worktree.path in e.worktrees]
    external = {e.id for e in mine if e.overall is Presence.WORKSPACE_ONLY}
    outcome = take_in(engine, site, external)
    body["imported"] += [id_text(c) for c in imported(outcome)]
    body["already"] += [id_text(e.id) for e in mine if e.id not in external]
    return outcome


def _tell(context: Context, body: dict[str, list[object]]) -> None:
    for kind in ("held", "deferred"):
        for entry in body[kind]:
            assert isinstance(entry, dict)  # noqa: S101  # made by `reports`
            detail = entry.get("detail") or entry.get("reason")
            output.line(output.colored(f"{kind}: {entry['conversation']} ({detail})", "yellow"))
    if context.quiet:
        return
    number = len(body["imported"])
    if number == 1:
        output.line(f"imported {body['imported'][0]}: it is durable now")
    elif number:
        output.line(f"imported {number} conversations: they are durable now")
    elif body["held"] or body["deferred"]:
        output.line("nothing was imported")
    elif len(body["already"]) == 1:
        output.line(f"{body['already'][0]} is durable already; nothing was written")
    else:
        output.line("nothing to import: everything is durable already")
