"""`accept`: what convsync left to a person to decide."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from convsync_agent.errors import NotFound, Refused, UsageProblem
from convsync_agent.model import BOTH
from convsync_agent.names import id_text
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context
from convsync_cli.reports import worktree_of

if TYPE_CHECKING:
    from convsync_agent.engine import Engine
    from convsync_agent.model import Copy
    from convsync_agent.site import Site
    from convsync_agent.state import Attention
    from convsync_cli.target import Target

SILO = "silo"
CLOSED = ("conflict", "lost")  # the kinds of attention that end when a person has seen them


@command(
    "accept",
    example="convsync accept jp-c17457886043 --from ~/code/feature",
    short_help="Take over a copy on purpose, or close a conflict or loss.",
)
@click.argument("target", default="")
@click.option("--from", "source", metavar="PATH", help="The worktree (or the silo) whose copy becomes current.")
def accept(context: Context, target: str, source: str | None) -> int:
    """Decide what convsync left to you.

    With --from, that copy becomes the current content everywhere and what it replaces is kept; of a worktree
    that lost an open conflict it is what it lost. Without, a conflict or a loss is closed (what is current stays);
    where neither is open, a single copy that is behind is taken over.
    """
    with context.engine() as engine:
        found = _resolve(context, engine, target)
        site = engine.sites[found.workspace]
        entries = [e for e in engine.ledger.entries.values() if (e.workspace, e.conversation) == found]
        root = _root_named(site, source) if source is not None else _root_meant(found, entries)
        if root is None:
            closed = {kind: number for kind in CLOSED if (number := engine.ledger.close(kind, *found))}
            _let_go(engine, site, found, entries)
            _tell_closed(context, site, found, closed)
        else:
            lost = any(e.kind == "conflict" and e.root == root for e in entries)
            _take_over(context, engine, found, root, lost=lost)
    context.tell_agent()
    return 0


def _resolve(context: Context, engine: Engine, text: str) -> Target:
    """TARGET; also one of which nothing is left but the entry that says so."""
    from convsync_agent.names import parse_id  # noqa: PLC0415
    from convsync_cli.target import Target, resolve_target  # noqa: PLC0415

    try:
        return resolve_target(context, text)
    except NotFound:
        number = parse_id(text.strip())
        ours = [e for e in engine.ledger.entries.values() if e.kind in CLOSED and e.workspace in engine.sites]
        told = {(e.workspace, e.conversation) for e in ours if e.conversation == number}
        if number is None or len(told) != 1:
            raise
        return Target(*told.pop())


def _let_go(engine: Engine, site: Site, target: Target, entries: list[Attention]) -> None:
    """What is gone, and could not be put back, is told in every cycle: a person who accepts that ends it."""
    from convsync_agent.chosen import look  # noqa: PLC0415
    from convsync_agent.plan import Bury, Plan  # noqa: PLC0415

    if any(e.kind == "lost" and not e.lasting for e in entries) and not look(engine, site, target.conversation):
        engine.perform(site, Plan((Bury(target.conversation, site.silo.root, "accepted"),)))
        engine.cycle(site, {target.conversation})  # records it


def _root_named(site: Site, source: str) -> str:
    """The path of the root that --from names: a registered worktree, the silo, or something in one."""
    from convsync_agent.index import find_worktree  # noqa: PLC0415

    at = os.path.realpath(source)
    silo = os.path.realpath(site.silo.root.path)
    if at == silo or at.startswith(silo + "/") or (source == SILO and not os.path.exists(source)):
        return site.silo.root.path
    found = find_worktree([site], source)
    if found is None:
        raise NotFound(
            "not a registered worktree of this workspace", where=at, hint="convsync status shows the registered ones"
        )
    return found[1].root.path


def _root_meant(target: Target, entries: list[Attention]) -> str | None:
    """Without --from: None closes what is open, else the root of the one copy that is behind."""
    if any(e.kind in CLOSED for e in entries):
        return None
    behind = sorted({e.root for e in entries if e.kind == "behind"})
    if not behind:
        raise NotFound("there is nothing to accept", where=target.id, hint=f"convsync accept {target.id} --from PATH")
    if len(behind) > 1:
        hint = f"convsync accept {target.id} --from {worktree_of(behind[0])}"
        raise UsageProblem(f"{len(behind)} copies are behind", where=target.id, hint=hint, code="ambiguous")
    return behind[0]


def _take_over(context: Context, engine: Engine, target: Target, root: str, *, lost: bool) -> None:
    """Make the copy in `root` current; where it lost a conflict and is in step since, what it held before."""
    from convsync_agent import undoing  # noqa: PLC0415
    from convsync_agent.chosen import look, read_units  # noqa: PLC0415
    from convsync_agent.restoring import make_current  # noqa: PLC0415
    from convsync_cli.patience import lock_patience  # noqa: PLC0415
    from convsync_cli.restored import tell_restored  # noqa: PLC0415

    site = engine.sites[target.workspace]
    patience = lock_patience()
    copies = look(engine, site, target.conversation)
    mine = [c for c in copies if c.root.path == root]
    if not mine:
        raise NotFound(f"no copy of {target.id} is there", where=worktree_of(root), hint=f"convsync show {target.id}")
    _require_valid(mine, root)
    durable = next((c for c in copies if c.root.is_silo), mine[0])
    in_step = all(mine[0].unit(u).digest == durable.unit(u).digest for u in BOTH)
    kept = undoing.lost_in_conflict(engine, site, target.conversation, root) if lost and in_step else []
    contents = undoing.contents_of(engine, site, target.conversation, kept) if kept else read_units(mine[0])
    done = make_current(engine, site, target.conversation, contents, why="accepted over", patience=patience)
    body = {"conversation": target.id, "from": worktree_of(root), "units": sorted(str(u) for u in contents)}
    body |= {"versions": [m.version for m in kept]}
    what = f"what {target.id} was in" if kept else f"the copy of {target.id} in"
    tell_restored(context, body, done, f"{what} {output.tilde(worktree_of(root))} is now current")


def _require_valid(copies: list[Copy], root: str) -> None:
    from convsync_agent.model import Grade  # noqa: PLC0415

    faults = [c.unit(u).fault for c in copies for u in BOTH if c.unit(u).grade is not Grade.VALID]
    if faults:
        name = id_text(copies[0].conversation)
        raise Refused(
            f"that copy of {name} is not valid ({faults[0]}) and cannot be accepted",
            where=worktree_of(root),
            hint=f"mend it, or replace it by the durable one: convsync accept {name} --from {SILO}",
            code="not-valid",
        )


def _tell_closed(context: Context, site: Site, target: Target, closed: dict[str, int]) -> None:
    from convsync_agent.index import describe, load_index  # noqa: PLC0415

    entry = next((e for e in load_index(site) if e.id == target.conversation), None)
    row = describe(site, entry).as_json() if entry else None
    current = {k: row[k] for k in ("events", "lastActivityAt", "presence", "worktrees")} if row else None
    if context.as_json:
        output.document({"conversation": target.id, "closed": sum(closed.values()), "current": current})
    elif not context.quiet:
        stays = f"stays as it is ({output.plural(current['events'], 'event')})" if current else "is gone"
        kinds = " and ".join({"conflict": "the conflict", "lost": "the loss"}[k] for k in closed)
        output.line(f"{target.id} {stays}; {kinds} {'is' if len(closed) == 1 else 'are'} closed")
        if "conflict" in closed:
            output.line(f"the other content stays in the history: convsync history {target.id}")
