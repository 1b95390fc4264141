"""`history`, `restore` and `accept`: what was kept, and making it current again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from convsync_agent.errors import NotFound, Refused, UsageProblem, storage_problem
from convsync_agent.model import Unit
from convsync_agent.names import id_text
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context
from convsync_cli.reports import worktree_of

if TYPE_CHECKING:
    from convsync_agent.engine import Engine
    from convsync_agent.history import History, Manifest
    from convsync_agent.model import Copy
    from convsync_agent.restoring import Restored
    from convsync_agent.site import Site
    from convsync_agent.state import Attention
    from convsync_cli.target import Target

SILO = "silo"


@command("history", example="convsync history last", short_help="Every version kept of one conversation.")
@click.argument("target", default="")
def history(context: Context, target: str) -> int:
    """List what was kept of one conversation before it was overwritten, newest first, and why.

    Bring one back with `convsync restore TARGET --version VERSION`.
    """
    from convsync_agent.history import History  # noqa: PLC0415
    from convsync_cli.target import resolve_target  # noqa: PLC0415

    found = resolve_target(context, target, kept=True)
    kept = History(context.data_dir).look(found.workspace, found.conversation)
    for problem in kept.problems:
        output.note(f"warning: {problem.detail}")
    if context.as_json:
        output.document({"conversation": found.id, "versions": [_as_json(m) for m in kept.versions]})
    elif kept.versions:
        output.table(
            ["VERSION", "KEPT", "EVENTS", "SIZE", "WHY AND WHERE"],
            [_cells(m) for m in kept.versions],
            right=(2, 3),
        )
    elif not context.quiet:
        output.line(f"nothing of {found.id} had to be kept: no overwrite ever lost anything of it")
    return 0


def _as_json(m: Manifest) -> dict[str, Any]:
    return {
        "version": m.version,
        "unit": str(m.unit),
        "at": m.at_ms,
        "from": worktree_of(m.root),
        "why": m.why,
        "events": m.events,
        "bytes": m.size,
        "valid": m.valid,
        "files": [f.name for f in m.files],
    }


def _cells(m: Manifest) -> list[str]:
    events = "-" if m.events is None else str(m.events)
    why = m.why if m.valid else f"{m.why} (not valid)"
    return [
        m.version,
        output.ago(m.at_ms),
        events,
        output.size(m.size),
        f"{why}: {os.path.basename(worktree_of(m.root))}",
    ]


# -- restore ------------------------------------------------------------------------


@command(
    "restore",
    example="convsync restore jp-c17457886043 --version 1745788604300-stream-0a1b2c3d",
    short_help="Make a kept version the current content again.",
)
@click.argument("target", default="")
@click.option("--version", metavar="VERSION", help="Which one (convsync history); the newest by default.")
@click.option("--into", metavar="PATH", help="Write a copy below PATH instead; no conversation changes.")
def restore(context: Context, target: str, version: str | None, into: str | None) -> int:
    """Make a version the current content of its unit wherever a copy exists, dated now.

    What it replaces is kept first, so a second `restore` brings that back. Waits for JP's lock as
    long as $JP_LOCK_DURATION says (30 s).
    """
    from convsync_agent.history import History  # noqa: PLC0415
    from convsync_cli.patience import lock_patience  # noqa: PLC0415
    from convsync_cli.target import resolve_target  # noqa: PLC0415

    found = resolve_target(context, target, kept=True)
    chosen = _choose(History(context.data_dir), found, version)
    if into is not None:
        return _restore_into(context, found, chosen, into)
    if not chosen.valid:
        raise _not_usable(context, found, chosen)
    patience = lock_patience()
    with context.engine() as engine:
        site = engine.sites[found.workspace]
        done = _put_back(engine, site, chosen, patience)
    context.tell_agent()
    body = {"conversation": found.id, "version": chosen.version, "unit": str(chosen.unit)}
    _tell(context, body, done, f"{found.id} {chosen.unit} is now version {chosen.version}")
    return 0


def _choose(kept: History, target: Target, text: str | None) -> Manifest:
    """The version that `text` names or begins; without one the newest of any unit."""
    versions = kept.versions(target.workspace, target.conversation)
    if text is None:
        if not versions:
            raise NotFound("nothing is kept of this conversation", where=target.id, hint=f"convsync show {target.id}")
        return versions[0]
    matches = [m for m in versions if m.version == text] or [m for m in versions if m.version.startswith(text)]
    if not matches:
        raise NotFound("no such version", where=target.id, hint=f"convsync history {target.id}")
    if len(matches) > 1:
        raise UsageProblem(
            f"{len(matches)} versions begin so", where=text, hint=f"convsync history {target.id}", code="ambiguous"
        )
    return matches[0]


def _not_usable(context: Context, target: Target, chosen: Manifest) -> Refused:
    from convsync_agent.history import History  # noqa: PLC0415

    versions = History(context.data_dir).versions(target.workspace, target.conversation)
    good = next((m.version for m in versions if m.valid and m.unit is chosen.unit), None)
    other = f"convsync restore {target.id} --version {good}" if good else f"convsync restore {target.id} --into PATH"
    return Refused(
        f"version {chosen.version} is not valid: JP could not load it", where=target.id, hint=other, code="not-valid"
    )


def _put_back(engine: Engine, site: Site, chosen: Manifest, patience: float) -> Restored:
    from convsync_agent.chosen import fault_in  # noqa: PLC0415
    from convsync_agent.restoring import make_current  # noqa: PLC0415

    files = engine.history.read(site.id, chosen.conversation, chosen.version)
    contents = {chosen.unit: [(name, raw) for name, raw, _ in files]}
    fault = fault_in(contents)
    if fault:
        raise Refused(
            f"version {chosen.version} is not valid: {fault}", where=id_text(chosen.conversation), code="not-valid"
        )
    return make_current(engine, site, chosen.conversation, contents, why="restored over", patience=patience)


def _restore_into(context: Context, target: Target, chosen: Manifest, into: str) -> int:
    from convsync_agent.history import History  # noqa: PLC0415

    place = os.path.realpath(os.path.join(into, target.id))
    _require_outside(context, place, into)
    files = History(context.data_dir).read(target.workspace, target.conversation, chosen.version)
    paths = [os.path.join(place, name) for name, _, _ in files]
    taken = next((p for p in paths if os.path.lexists(p)), None)
    if taken is not None:
        raise Refused("a file is there already; nothing was written", where=taken, hint="--into an empty PATH")
    try:
        for path, (_, raw, mtime_ns) in zip(paths, files, strict=True):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb") as file:
                file.write(raw)
            os.utime(path, ns=(mtime_ns, mtime_ns))
    except FileExistsError:
        raise Refused("something is in the way there", where=place, hint="--into an empty PATH") from None
    except OSError as error:
        raise storage_problem(error, place, "write the copy") from None
    if context.as_json:
        body = {"conversation": target.id, "version": chosen.version, "unit": str(chosen.unit)}
        output.document(body | {"into": place, "files": paths})
    elif not context.quiet:
        output.line(f"wrote {output.plural(len(paths), 'file')} of version {chosen.version} to {output.tilde(place)}")
    return 0


def _require_outside(context: Context, place: str, into: str) -> None:
    """A copy for looking at must not become a conversation: not below any root, nor in our own places."""
    from convsync_agent.dirs import jp_user_data_dir  # noqa: PLC0415
    from convsync_agent.layout import STORE, workspaces_dir  # noqa: PLC0415
    from convsync_cli.target import open_sites  # noqa: PLC0415

    sites = open_sites(context).values()
    roots = {s.silo.root.path for s in sites} | {store for s in sites for store in s.trees}
    roots |= {workspaces_dir(jp_user_data_dir()), context.state_dir, context.data_dir}
    inside = any(place == r or place.startswith(r.rstrip("/") + "/") for r in map(os.path.realpath, roots))
    if inside or STORE in place.split("/"):
        raise Refused(
            "--into writes outside of every place that is synced or kept",
            where=os.path.realpath(into),
            hint="name a directory elsewhere, for example --into ./restored",
            code="inside-a-root",
        )


# -- accept -------------------------------------------------------------------------


@command(
    "accept",
    example="convsync accept jp-c17457886043 --from ~/code/feature",
    short_help="Take over a copy on purpose, or close a conflict.",
)
@click.argument("target", default="")
@click.option("--from", "source", metavar="PATH", help="The worktree (or the silo) whose copy becomes current.")
def accept(context: Context, target: str, source: str | None) -> int:
    """Decide what convsync left to you.

    With --from, that copy becomes the current content everywhere and what it replaces is kept. Without, a
    conflict is closed (what is current stays), and a single copy that is behind is taken over.
    """
    from convsync_cli.target import resolve_target  # noqa: PLC0415

    found = resolve_target(context, target)
    with context.engine() as engine:
        site = engine.sites[found.workspace]
        entries = [e for e in engine.ledger.entries.values() if (e.workspace, e.conversation) == found]
        root = _root_named(site, source) if source is not None else _root_meant(found, entries)
        if root is None:
            closed = engine.ledger.close("conflict", *found)
            _tell_closed(context, site, found, closed)
        else:
            _take_over(context, engine, found, root)
    context.tell_agent()
    return 0


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
    """Without --from: None closes the conflict, else the root of the one copy that is behind."""
    if any(e.kind == "conflict" for e in entries):
        return None
    behind = sorted({e.root for e in entries if e.kind == "behind"})
    if not behind:
        raise NotFound("there is nothing to accept", where=target.id, hint=f"convsync accept {target.id} --from PATH")
    if len(behind) > 1:
        hint = f"convsync accept {target.id} --from {worktree_of(behind[0])}"
        raise UsageProblem(f"{len(behind)} copies are behind", where=target.id, hint=hint, code="ambiguous")
    return behind[0]


def _take_over(context: Context, engine: Engine, target: Target, root: str) -> None:
    from convsync_agent.chosen import BOTH, look, read_units  # noqa: PLC0415
    from convsync_agent.restoring import make_current  # noqa: PLC0415
    from convsync_cli.patience import lock_patience  # noqa: PLC0415

    site = engine.sites[target.workspace]
    patience = lock_patience()
    mine = [c for c in look(engine, site, target.conversation) if c.root.path == root]
    if not mine:
        raise NotFound(f"no copy of {target.id} is there", where=worktree_of(root), hint=f"convsync show {target.id}")
    _require_valid(mine, root)
    contents = read_units(mine[0])
    done = make_current(engine, site, target.conversation, contents, why="accepted over", patience=patience)
    body = {"conversation": target.id, "from": worktree_of(root), "units": [str(u) for u in BOTH]}
    _tell(context, body, done, f"the copy of {target.id} in {output.tilde(worktree_of(root))} is now current")


def _require_valid(copies: list[Copy], root: str) -> None:
    from convsync_agent.model import Grade  # noqa: PLC0415

    faults = [
        c.unit(u).fault for c in copies for u in (Unit.STREAM, Unit.METADATA) if c.unit(u).grade is not Grade.VALID
    ]
    if faults:
        name = id_text(copies[0].conversation)
        raise Refused(
            f"that copy of {name} is not valid ({faults[0]}) and cannot be accepted",
            where=worktree_of(root),
            hint=f"mend it, or replace it by the durable one: convsync accept {name} --from {SILO}",
            code="not-valid",
        )


def _tell_closed(context: Context, site: Site, target: Target, closed: int) -> None:
    from convsync_agent.index import describe, load_index  # noqa: PLC0415

    entry = next((e for e in load_index(site) if e.id == target.conversation), None)
    row = describe(site, entry).as_json() if entry else None
    current = {k: row[k] for k in ("events", "lastActivityAt", "presence", "worktrees")} if row else None
    if context.as_json:
        output.document({"conversation": target.id, "closed": closed, "current": current})
    elif not context.quiet:
        stays = f" ({output.plural(current['events'], 'event')})" if current else ""
        output.line(f"{target.id} stays as it is{stays}; the conflict is closed")
        output.line(f"the other content stays in the history: convsync history {target.id}")


def _tell(context: Context, body: dict[str, Any], done: Restored, headline: str) -> None:
    written = [worktree_of(r) for r in done.written]
    left = [{"worktree": worktree_of(r), "detail": detail} for r, detail in done.left]
    if context.as_json:
        output.document(body | {"written": written, "files": done.files, "left": left})
        return
    for one in left:
        output.line(output.colored(f"not written: {one['worktree']} ({one['detail']})", "yellow"))
    if context.quiet:
        return
    if written:
        output.line(f"{headline}; written: {', '.join(output.tilde(w) for w in written)}")
        output.line(f"what it replaced is kept: convsync history {body['conversation']}")
    else:
        output.line(f"{headline}; it was already, nothing was written")
