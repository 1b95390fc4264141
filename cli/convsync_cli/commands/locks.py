"""`locks` and `lock`: who works on what, and holding JP's lock while a command runs."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import ExitStack
from time import monotonic as now
from typing import TYPE_CHECKING, Any

import click

from convsync_agent.errors import NotFound, storage_problem
from convsync_agent.names import id_text
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context

if TYPE_CHECKING:
    from collections.abc import Callable

    from convsync_agent.forking import Forked
    from convsync_agent.lockfiles import LockFile
    from convsync_agent.locks import HeldLock
    from convsync_agent.site import Site
    from convsync_cli.target import Target

VARIABLE = "CONVSYNC_CONVERSATION"
GRACE_SECONDS = 0.2  # an agent of ours holds a lock for milliseconds: that is nobody at work
NEW, FORK = "start a new conversation", "fork this conversation"


@command("locks", example="convsync locks", short_help="List lock files: who holds which conversation.")
def locks(context: Context) -> int:
    """List every lock file of every registered workspace, held or orphaned, and what it says of its holder.

    An orphan is a file that nobody holds: its process was killed. It stops nobody, and JP removes it.
    """
    from convsync_cli.target import open_sites  # noqa: PLC0415

    sites = open_sites(context)
    rows = [(key, file) for key in sorted(sites) for file in _files_of(sites[key])]
    if context.as_json:
        output.document({"locks": [_as_json(*row) for row in rows]})
    elif rows:
        shown = [_as_row(sites[key], file) for key, file in rows]
        output.table(("CONVERSATION", "STATE", "PID", "SESSION", "SINCE", "WHERE"), shown, path=True)
    elif not context.quiet:
        output.line("no conversation is locked")
    return 0


def _files_of(site: Site) -> list[LockFile]:
    """Those of the silo, and strays beside a worktree, which redirect the JP of that checkout (contract 7.1)."""
    from convsync_agent.errors import kind_of, reason_of  # noqa: PLC0415
    from convsync_agent.lockfiles import lock_files  # noqa: PLC0415

    silo = site.silo.root.path
    try:
        found = lock_files([silo])
    except OSError as error:
        raise storage_problem(error, silo, "list locks") from None
    for store in sorted(site.trees):
        try:
            found += lock_files([store])
        except OSError as error:
            output.note(f"warning: {store} cannot be listed ({kind_of(error)}: {reason_of(error)})")
    return sorted(found, key=lambda f: f.conversation)


def _as_json(workspace: str, file: LockFile) -> dict[str, Any]:
    return {
        "conversation": id_text(file.conversation),
        "workspaceId": workspace,
        "path": file.path,
        "state": str(file.grasp),
        "pid": file.holder.pid,
        "session": file.holder.session,
        "since": file.since_ms,
        "info": str(file.note),
    }


def _as_row(site: Site, file: LockFile) -> tuple[str, ...]:
    from convsync_agent.lockfiles import Note  # noqa: PLC0415

    said = file.note is Note.WHOLE
    unsaid = "no info" if file.note is Note.ABSENT else "broken info"
    where = "" if file.path.startswith(site.silo.root.path + "/") else output.tilde(file.path)
    since = output.ago(file.since_ms) if said else "-"
    session = output.title_text(file.holder.session or "-") if said else unsaid
    return (
        id_text(file.conversation),
        str(file.grasp),
        str(file.holder.pid or "-"),
        session,
        since,
        where,
    )


# -- lock -----------------------------------------------------------------------------


@command(
    "lock",
    example="convsync lock last --wait 10s -- vim notes.md",
    short_help="Hold JP's lock on a conversation while a command runs.",
    context_settings={"allow_interspersed_args": True},
)
@click.argument("target")
@click.argument("argv", nargs=-1, required=True, metavar="-- CMD...", type=click.UNPROCESSED)
@click.option("--wait", metavar="DUR", help="How long to wait while somebody else has it: 10s, 2m, 0. Default 30s.")
def lock(context: Context, target: str, argv: tuple[str, ...], wait: str | None) -> int:
    """Hold JP's lock on a conversation while a command runs; no JP can write it meanwhile.

    The command finds the id in $CONVSYNC_CONVERSATION. Its exit code is ours (127 and 126 where it cannot be run),
    signals go on to it, and the lock is let go when it ends. With --json what it prints goes to stderr.
    On a terminal a person whose wait is over may go on with a new conversation, or with a fork.
    """
    from convsync_cli.patience import lock_patience  # noqa: PLC0415
    from convsync_cli.running import Foreground  # noqa: PLC0415
    from convsync_cli.target import open_sites, resolve_target  # noqa: PLC0415
    from convsync_cli.titlewatch import TitleWatch  # noqa: PLC0415
    from convsync_cli.waiting import patiently  # noqa: PLC0415

    patience = lock_patience(wait=wait)
    found = resolve_target(context, target)
    site = open_sites(context)[found.workspace]
    _require_live(site, found.conversation)
    for name in ("guard", "sessions"):  # now: what a signal's handler raises in the middle of an import gets lost
        importlib.import_module(f"convsync_agent.{name}")
    foreground = Foreground()
    with foreground.handling(), ExitStack() as stack:
        number, ours = patiently(
            lambda deadline: _hold(stack, site, found.conversation, deadline),
            wait=patience,
            instead={
                NEW: lambda: _hold(stack, site, _begin(context, found), now() + patience),
                FORK: lambda: _hold(stack, site, _fork(context, found), now() + patience),
            },
        )
        watch = TitleWatch(site, number).look if sys.stderr.isatty() else None
        code = foreground.run(argv, {VARIABLE: id_text(number)}, watch=watch, to_stderr=context.as_json)
        if not ours.still_ours():
            output.note("warning: the lock file was removed meanwhile, so somebody else may have written, too")
    if context.as_json:
        output.document({"id": id_text(number), "exit_code": code})
    return code


def _hold(stack: ExitStack, site: Site, conversation: int, deadline: float) -> tuple[int, HeldLock]:
    """Hold its lock until the stack is left. Raises LockHeld, and NotFound or Refused for what went while we waited."""
    from convsync_agent.guard import locked  # noqa: PLC0415
    from convsync_agent.locks import SESSION  # noqa: PLC0415
    from convsync_agent.sessions import identify  # noqa: PLC0415

    session = identify(os.environ)
    deadline = max(deadline, now() + GRACE_SECONDS)
    lock = stack.enter_context(locked(site, conversation, deadline, session=session.id if session else SESSION))
    _require_live(site, conversation)
    return conversation, lock


def _require_live(site: Site, conversation: int) -> None:
    from convsync_agent.index import load_index  # noqa: PLC0415
    from convsync_agent.model import Partition  # noqa: PLC0415
    from convsync_agent.projecting import archived  # noqa: PLC0415

    entry = next((e for e in load_index(site) if e.id == conversation), None)
    if entry is None:
        raise NotFound("it was removed just now", where=id_text(conversation), hint="convsync trash ls")
    if entry.partition is Partition.ARCHIVED:
        raise archived(conversation)


def _begin(context: Context, target: Target) -> int:
    from convsync_agent import forking  # noqa: PLC0415

    return _made(context, target, forking.begin)


def _fork(context: Context, target: Target) -> int:
    from convsync_agent import forking  # noqa: PLC0415

    return _made(context, target, forking.fork)


def _made(context: Context, target: Target, make: Callable[..., Forked]) -> int:
    """A new conversation instead of the one that is held, and a word about it."""
    from convsync_cli.newcomer import tree_here, welcome  # noqa: PLC0415

    with context.engine() as engine:
        site = engine.sites[target.workspace]
        made = make(engine, site, target.conversation, here=tree_here(engine, site))
        welcome(site, made)
    context.tell_agent()
    output.note(f"going on with {id_text(made.id)}")
    return made.id
