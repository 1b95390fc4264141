"""`edit`: the files of one conversation in an editor, checked before anybody else sees them."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from convsync_agent.errors import NotFound, Refused, UsageProblem, storage_problem
from convsync_agent.model import BASE_CONFIG, EVENTS, METADATA, Projection
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context

if TYPE_CHECKING:
    from convsync_agent.editing import Edited
    from convsync_agent.restoring import Restored
    from convsync_agent.scratch import Scratch
    from convsync_cli.salvage import Salvage
    from convsync_cli.target import Target

BARE = "toggle"
LOCAL = {BARE: None, "true": Projection.LOCAL_ONLY, "false": Projection.PROJECTED}


class WithBareLocal(click.Command):
    """`--local` takes a value after `=` only: what follows a bare one is TARGET."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        args = [f"--local={BARE}" if a == "--local" and i < end else a for i, a in enumerate(args)]
        return super().parse_args(ctx, args)


@command(
    "edit", example="convsync edit last -e", short_help="Edit a conversation's files; checked, then synced.",
    cls=WithBareLocal,
)  # fmt: skip
@click.argument("target", default="")
@click.option("-e", "--events", is_flag=True, help=f"Its {EVENTS}.")
@click.option("-m", "--metadata", is_flag=True, help=f"Its {METADATA}.")
@click.option("-b", "--base-config", is_flag=True, help=f"Its {BASE_CONFIG}.")
@click.option(
    "--local", metavar="[=true|false]", help="No editor: unproject (true), project (false), or turn it round."
)
def edit(context: Context, target: str, local: str | None, **files: bool) -> int:
    """Open the files of one conversation in $JP_EDITOR, $VISUAL or $EDITOR; without an option all three, a directory.

    What is edited is a private copy of what is current. What jp could not load is never written: on a terminal you
    may go on editing, elsewhere it is discarded. Else it is at once in every root, and what it replaced is in the
    history. If the conversation changed meanwhile, nothing is overwritten and your text is kept as a version.
    """
    names = [n for n, flag in ((EVENTS, "events"), (METADATA, "metadata"), (BASE_CONFIG, "base_config")) if files[flag]]
    if local is None:
        return _edit_files(context, target, names)
    if local not in LOCAL:
        raise UsageProblem("not a value of --local", where=local[:20], hint="--local, --local=true or --local=false")
    if names:
        raise UsageProblem("--local edits no files", hint="convsync edit TARGET --local, or: convsync edit TARGET -e")
    from convsync_cli.projected import set_projection  # noqa: PLC0415

    return set_projection(context, target, None, LOCAL[local])


def _edit_files(context: Context, text: str, names: list[str]) -> int:
    from convsync_agent import scratch  # noqa: PLC0415
    from convsync_agent.editing import given  # noqa: PLC0415
    from convsync_cli import editor  # noqa: PLC0415
    from convsync_cli.salvage import Salvage  # noqa: PLC0415
    from convsync_cli.target import resolve_target  # noqa: PLC0415

    found = resolve_target(context, text)
    editor.chosen()
    current, root = _begin(context, found)
    files = given(current, names, found.conversation)
    try:
        with scratch.opened(context.data_dir, found.workspace, found.conversation, files) as private:
            salvage = Salvage(context, found, private, root)
            edited = _let_edit(context, private, current, names, salvage)
            done = _write(context, found, current, edited, salvage) if edited else None
            beside = salvage.beside()
    except OSError as error:
        raise storage_problem(error, context.data_dir, "make a private copy to edit") from None
    _tell(context, found, edited, done, beside)
    return 0


def _begin(context: Context, found: Target) -> tuple[Edited, str]:
    """What is current, and the root whose copy jp would open (contract 5.5)."""
    from convsync_agent.abandoned import sweep  # noqa: PLC0415
    from convsync_agent.editing import begin  # noqa: PLC0415
    from convsync_agent.recover import recover_site  # noqa: PLC0415
    from convsync_cli.waiting import patiently  # noqa: PLC0415
    from convsync_cli.worktree import entry_of, tree_named  # noqa: PLC0415

    with context.engine() as engine:
        sweep(engine)
        site = engine.sites[found.workspace]
        recover_site(engine, site)
        entry = entry_of(site, found)
        here = tree_named(engine.sites, found, None)
        current = patiently(lambda deadline: begin(engine, site, entry, deadline=deadline))
        ranked = sorted(entry.spots, key=lambda s: (s.root.is_silo, here is None or s.root != here.root, s.worktree))
        return current, ranked[0].root.path


# -- the editor ------------------------------------------------------------------------


def _let_edit(context: Context, private: Scratch, current: Edited, names: list[str], salvage: Salvage) -> Edited:
    """Open the editor until what it leaves can be used. Empty: nothing was changed. Raises UsageProblem, Refused."""
    from convsync_agent.editing import Vanished, collect  # noqa: PLC0415
    from convsync_agent.scratch import Unusable  # noqa: PLC0415
    from convsync_cli import editor  # noqa: PLC0415

    paths = [private.path(n) for n in names] or [private.folder]
    while True:
        code = editor.run(paths, private.fd, aside=context.as_json)
        number = -code if code < 0 else max(0, code - 128)
        if number:
            raise salvage.ended(number)
        if code:
            detail = f"the editor failed (exit {code}); nothing was changed"
            raise Refused(detail, where=salvage.found.id, hint=f"convsync edit {salvage.found.id}", code="editor")
        try:
            return collect(private, current, names)
        except KeyboardInterrupt:
            raise salvage.ended(signal.SIGINT) from None
        except Unusable as fault:
            if isinstance(fault, Vanished) or not _edits_on(str(fault)):
                detail = f"discarded, nothing was changed: {fault}"
                hint = f"convsync edit {salvage.found.id}"
                raise UsageProblem(detail, where=salvage.found.id, hint=hint, code="not-valid") from None


def _edits_on(fault: str) -> bool:
    """Ask on a terminal. False: discard it, as everywhere else."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    output.note(f"jp could not load this: {fault}")
    output.note("  1  edit again")
    output.note("  2  discard")
    number: int = click.prompt("what now", type=click.IntRange(1, 2), default=1, err=True)
    return number == 1


# -- what came of it --------------------------------------------------------------------


def _write(context: Context, found: Target, current: Edited, edited: Edited, salvage: Salvage) -> Restored:
    """Make it current, patiently; whatever goes wrong, what was edited is kept."""
    from convsync_agent.editing import commit  # noqa: PLC0415
    from convsync_cli.waiting import patiently  # noqa: PLC0415
    from convsync_cli.worktree import entry_of  # noqa: PLC0415

    def act(deadline: float) -> Restored:
        with context.engine() as engine:  # a new one: an editor may be open for days
            site = engine.sites.get(found.workspace)
            if site is None:
                raise NotFound("its worktree is not registered any more", where=found.id, hint="convsync register")
            return commit(engine, site, entry_of(site, found), current, edited, deadline=deadline)

    try:
        return patiently(act)
    except BaseException as error:
        salvage.not_written(error, edited)
        raise


def _tell(context: Context, found: Target, edited: Edited, done: Restored | None, beside: list[str]) -> None:
    from convsync_agent.restoring import Restored  # noqa: PLC0415
    from convsync_cli.restored import tell_restored  # noqa: PLC0415

    if beside:
        output.note(f"other files were put beside: kept, not taken over ({', '.join(beside)})")
    units = [str(u) for u in edited]
    body: dict[str, Any] = {"conversation": found.id, "changed": bool(units), "units": units}
    if done is None and not context.as_json:
        if not context.quiet:
            output.line(f"{found.id} is unchanged; nothing was written")
        return
    tell_restored(context, body, done or Restored(), f"{found.id} {' and '.join(units)}: as edited")
