"""`history`, `restore` and `undo`: what was kept, and making it current again."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from convsync_agent.errors import NotFound, Refused
from convsync_agent.names import id_text
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context
from convsync_cli.reports import worktree_of

if TYPE_CHECKING:
    from convsync_agent.engine import Engine
    from convsync_agent.history import Manifest
    from convsync_agent.restoring import Restored
    from convsync_agent.site import Site
    from convsync_cli.target import Target


@command("history", example="convsync history last", short_help="Every version kept of one conversation.")
@click.argument("target", default="")
def history(context: Context, target: str) -> int:
    """List what was kept of one conversation before it was overwritten, newest first, and why.

    `convsync diff TARGET VERSION` shows what is in one, `convsync restore TARGET --version VERSION` brings it
    back. By its full id a conversation is found also where nothing is registered any more.
    """
    from convsync_agent.history import History  # noqa: PLC0415
    from convsync_cli.version import resolve_kept  # noqa: PLC0415

    known = History(context.data_dir)
    found = resolve_kept(context, known, target)
    kept = known.look(found.workspace, found.conversation)
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
    from convsync_cli.restored import tell_restored  # noqa: PLC0415
    from convsync_cli.version import choose_version, resolve_kept  # noqa: PLC0415

    kept = History(context.data_dir)
    found = resolve_kept(context, kept, target)
    chosen = choose_version(kept, found, version)
    if into is not None:
        return _restore_into(context, found, chosen, into)
    if not chosen.valid:
        raise _not_usable(context, found, chosen)
    patience = lock_patience()
    with context.engine() as engine:
        _require_registered(engine, found)
        site = engine.sites[found.workspace]
        done = _put_back(engine, site, chosen, patience)
    context.tell_agent()
    body = {"conversation": found.id, "version": chosen.version, "unit": str(chosen.unit)}
    tell_restored(context, body, done, f"{found.id} {chosen.unit} is now version {chosen.version}")
    return 0


def _require_registered(engine: Engine, target: Target) -> None:
    if target.workspace not in engine.sites:
        raise NotFound(
            f"no worktree of workspace {target.workspace} is registered",
            where=target.id,
            hint="convsync register WORKTREE; or look at a copy: convsync restore TARGET --into PATH",
        )


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

    files = engine.history.contents(site.id, chosen.conversation, chosen.version)
    contents = {chosen.unit: [(name, raw) for name, raw, _ in files]}
    fault = fault_in(contents)
    if fault:
        raise Refused(
            f"version {chosen.version} is not valid: {fault}", where=id_text(chosen.conversation), code="not-valid"
        )
    return make_current(engine, site, chosen.conversation, contents, why="restored over", patience=patience)


def _restore_into(context: Context, target: Target, chosen: Manifest, into: str) -> int:
    from convsync_agent.history import History  # noqa: PLC0415
    from convsync_cli.elsewhere import require_outside, write_files  # noqa: PLC0415

    require_outside(context, into)
    place = os.path.realpath(os.path.join(into, target.id))
    files = History(context.data_dir).contents(target.workspace, target.conversation, chosen.version)
    paths = write_files(place, files)
    if context.as_json:
        body = {"conversation": target.id, "version": chosen.version, "unit": str(chosen.unit)}
        output.document(body | {"into": place, "files": paths})
    elif not context.quiet:
        output.line(f"wrote {output.plural(len(paths), 'file')} of version {chosen.version} to {output.tilde(place)}")
    return 0


# -- undo ---------------------------------------------------------------------------


@command("undo", example="convsync undo last", short_help="Take back what was overwritten last; twice swaps.")
@click.argument("target", default="")
def undo(context: Context, target: str) -> int:
    """Make the newest version of the history current wherever a copy exists, dated now.

    What was replaced together comes back together (the stream, the metadata, unmanaged files). What that
    replaces is kept, so a second `undo` swaps back. An open conflict is closed. Waits for JP's lock as long as
    $JP_LOCK_DURATION says (30 s).
    """
    from convsync_agent import undoing  # noqa: PLC0415
    from convsync_agent.history import History  # noqa: PLC0415
    from convsync_cli.patience import lock_patience  # noqa: PLC0415
    from convsync_cli.restored import tell_restored  # noqa: PLC0415
    from convsync_cli.version import resolve_kept  # noqa: PLC0415

    found = resolve_kept(context, History(context.data_dir), target)
    patience = lock_patience()
    with context.engine() as engine:
        _require_registered(engine, found)
        site = engine.sites[found.workspace]
        versions, done = undoing.undo(engine, site, found.conversation, patience=patience)
    context.tell_agent()
    body = {
        "conversation": found.id,
        "versions": [{"version": m.version, "unit": str(m.unit)} for m in versions],
    }
    units = " and ".join(str(m.unit) for m in versions)
    tell_restored(context, body, done, f"{found.id} {units}: again as kept {output.ago(versions[0].seen_ms)}")
    return 0
