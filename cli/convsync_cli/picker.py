"""Asking on a terminal which conversation is meant. Titles are read live and go to the screen only."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from convsync_agent.errors import NotFound, UsageProblem
from convsync_agent.names import id_text
from convsync_cli import output
from convsync_cli.registered import LIST, Target

if TYPE_CHECKING:
    from convsync_agent.index import Conversation
    from convsync_cli.keywords import Scope

PICKERS = {
    "?": "live",
    "?p": "pinned",
    "?pinned": "pinned",
    "?s": "session",
    "?session": "session",
    "?a": "archived",
    "?archived": "archived",
}
SHOWN = 20


def pick(scope: Scope, text: str = "?") -> Target:
    """The one a person chooses: the session's own first, then by last activity. Raises UsageProblem off a terminal."""
    which = PICKERS.get(text)
    if which is None:
        raise NotFound(
            "no such picker", where=text if text[1:].isalpha() else None, hint=f"one of {', '.join(PICKERS)}"
        )
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageProblem(
            "which conversation? there is no terminal to ask on",
            hint=f"name one: <id> or `last` ({LIST}); or set $JP_SESSION, and once: convsync use <id>",
            code="no-tty",
        )
    rows = _rows(scope, which)
    if not rows:
        raise NotFound(f"there is no {which} conversation", where=text, hint=LIST)
    shown = rows[:SHOWN]
    for number, row in enumerate(shown, 1):
        output.note(_choice(number, row))
    if len(rows) > SHOWN:
        output.note(f"     and {len(rows) - SHOWN} more: {LIST}")
    number = click.prompt("which one", type=click.IntRange(1, len(shown)), err=True)
    entry = shown[number - 1].entry
    return Target(entry.workspace, entry.id)


def _rows(scope: Scope, which: str) -> list[Conversation]:
    from convsync_agent.index import Filter, Status, list_conversations  # noqa: PLC0415

    live = frozenset({Status.ACTIVE, Status.IDLE})
    wanted = Filter(archived=True) if which == "archived" else Filter(statuses=live)
    visited = {target: rank for rank, target in enumerate(scope.visited())}
    rows = [(r, visited.get(_target(r))) for r in list_conversations(scope.near.values(), wanted)]
    if which == "pinned":
        rows = [(r, rank) for r, rank in rows if r.metadata.pinned_ms is not None]
    if which == "session":
        rows = [(r, rank) for r, rank in rows if rank is not None]
    return [r for r, _ in sorted(rows, key=lambda row: len(visited) if row[1] is None else row[1])]


def _target(row: Conversation) -> Target:
    return Target(row.entry.workspace, row.entry.id)


def _choice(number: int, row: Conversation) -> str:
    when = output.ago(row.activity_ms)
    return f"{number:>3}  {id_text(row.entry.id)}  {when:>10}  {output.title_text(row.title)[:40]}"
