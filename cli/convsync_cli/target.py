"""TARGET -> one conversation of one registered workspace. Read-only: listings, and metadata for keywords."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from convsync_agent.errors import NotFound, UsageProblem
from convsync_agent.names import id_text, parse_id
from convsync_cli import output
from convsync_cli.context import Context

if TYPE_CHECKING:
    from convsync_agent.index import Conversation, IndexEntry
    from convsync_agent.site import Site, Tree

LIST = "convsync ls --all"
PICKED_FROM = 20
SHOWN_MATCHES = 12

_KEYWORDS = {
    "last": "last",
    "last-activated": "last",
    "recent": "last",
    "r": "last",
    "newest": "newest",
    "last-created": "newest",
    "n": "newest",
    "pinned": "pinned",
    "p": "pinned",
    "archived": "archived",
    "a": "archived",
}
_OF_A_SESSION = frozenset({"active", ".", "prev", "previous", "session", "s"})
_TYPED_ID = re.compile(r"(jp-c)?[0-9]{1,19}|jp-c[0-9]{1,19}-[0-9a-z]{1,5}|[a-z][a-z-]{0,15}")


class Target(NamedTuple):
    workspace: str
    conversation: int

    @property
    def id(self) -> str:
        return id_text(self.conversation)


def open_sites(context: Context) -> dict[str, Site]:
    """Every registered workspace, read-only. Empty when nothing was ever registered."""
    from convsync_agent.site import load_sites  # noqa: PLC0415

    opened = context.reader()
    if opened is None:
        return {}
    try:
        return load_sites(opened, time.time_ns() // 1_000_000)
    finally:
        opened.close()


def worktree_here(sites: dict[str, Site]) -> tuple[Site, Tree] | None:
    """The registered worktree that the current directory is in."""
    from convsync_agent.index import find_worktree  # noqa: PLC0415

    try:
        return find_worktree(sites.values(), os.getcwd())
    except FileNotFoundError:  # the directory was deleted under the shell
        return None


def load_entries(sites: dict[str, Site]) -> list[IndexEntry]:
    """Every conversation of every workspace. Raises StorageProblem when a silo cannot be listed."""
    from convsync_agent.index import load_index, said  # noqa: PLC0415

    found = []
    for key in sorted(sites):
        found += load_index(sites[key], lambda path, error: output.note(f"warning: {said(path, error)}"))
    return found


def resolve_many(context: Context, texts: Sequence[str], *, kept: bool = False) -> list[Target]:
    """Every target once, in the order given. The first that cannot be resolved raises."""
    return list(dict.fromkeys(resolve_target(context, text, kept=kept) for text in texts))


def resolve_target(context: Context, text: str, *, kept: bool = False) -> Target:
    """The conversation that `text` means. `kept`: one that only the history has counts, too.

    Raises UsageProblem (no target, ambiguous, a session) and NotFound.
    """
    text = text.strip()
    if not text and context.settings.target_default != "ask":
        text = context.settings.target_default
    if text in _OF_A_SESSION:
        raise UsageProblem(
            "sessions are not read yet by this version", where=text, hint=f"name an <id>, or `last` ({LIST})"
        )
    sites = open_sites(context)
    if not sites:
        raise NotFound("no worktree is registered", hint="convsync register <worktree>")
    if not text or text.startswith("?"):
        return _pick(sites)
    keyword = _KEYWORDS.get(text)
    if keyword is not None:
        return _by_keyword(keyword, sites)
    found = _by_id(text, sites, _candidates(context, sites, kept=kept))
    if found is None:
        where = text if _TYPED_ID.fullmatch(text) else None  # a directory name is chat text
        raise NotFound("no such conversation", where=where, hint=LIST)
    return found


def _candidates(context: Context, sites: dict[str, Site], *, kept: bool) -> list[Target]:
    found = [Target(e.workspace, e.id) for e in load_entries(sites)]
    if kept:
        from convsync_agent.history import History  # noqa: PLC0415

        history = History(context.data_dir)
        found += [Target(key, c) for key in sorted(sites) for c in history.conversations(key)]
    return list(dict.fromkeys(found))


def _by_id(text: str, sites: dict[str, Site], known: Sequence[Target]) -> Target | None:
    """An exact id wins over ids that it is the beginning of."""
    number = parse_id(text)
    full = re.fullmatch(r"jp-c[0-9]+-([0-9a-z]+)", text)
    exact = [t for t in known if t.conversation == number and (full is None or t.workspace == full[1])]
    begun = [t for t in known if any(form.startswith(text) for form in (t.id, str(t.conversation), _long(t)))]
    for matches in (exact, begun):
        if len(matches) > 1:
            return _only(text, sites, matches)
        if matches:
            return matches[0]
    return None


def _only(text: str, sites: dict[str, Site], matches: Sequence[Target]) -> Target:
    """One id in several workspaces means the one of the current directory. Else it is ambiguous."""
    if len({t.conversation for t in matches}) == 1:
        here = worktree_here(sites)
        mine = [t for t in matches if here is not None and t.workspace == here[0].id]
        if mine:
            return mine[0]
        names = [_long(t) for t in matches]
    else:
        names = [t.id for t in sorted(matches, key=lambda t: t.conversation)]
    shown = ", ".join(names[:SHOWN_MATCHES]) + (
        f" and {len(names) - SHOWN_MATCHES} more" if len(names) > SHOWN_MATCHES else ""
    )
    raise UsageProblem(
        f"several conversations match: {shown}", where=text, hint="type more of the id", code="ambiguous"
    )


def _long(target: Target) -> str:
    return f"{target.id}-{target.workspace}"


def _by_keyword(keyword: str, sites: dict[str, Site]) -> Target:
    """The conversation a keyword means, over all workspaces; ties go to the larger id."""
    from convsync_agent.model import Partition  # noqa: PLC0415
    from convsync_agent.shelf import Shelf  # noqa: PLC0415
    from convsync_agent.summary import Metadata  # noqa: PLC0415

    wanted = Partition.ARCHIVED if keyword == "archived" else Partition.LIVE
    entries = [e for e in load_entries(sites) if e.partition is wanted]
    best: Callable[[Metadata], int | None] = {
        "last": lambda m: m.last_activated_ms,
        "newest": lambda _: 0,
        "pinned": lambda m: m.pinned_ms,
        "archived": lambda m: m.archived_ms or 0,
    }[keyword]
    ranked = []
    with Shelf() as shelf:
        for entry in entries:
            rank = best(shelf.metadata(entry.spots) if keyword != "newest" else Metadata())
            if rank is not None:
                ranked.append((rank, entry.id, entry.workspace))
    if not ranked:
        words = {"last": "activated", "newest": "live"}
        raise NotFound(f"there is no {words.get(keyword, keyword)} conversation", where=keyword, hint=LIST)
    _, conversation, workspace = max(ranked)
    return Target(workspace, conversation)


def _pick(sites: dict[str, Site]) -> Target:
    """Ask on a terminal which one is meant; titles are read live and go to the screen only."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageProblem(
            "which conversation? there is no terminal to ask on", hint=f"name one: <id> or `last` ({LIST})"
        )
    import click  # noqa: PLC0415

    from convsync_agent.index import Filter, Status, list_conversations  # noqa: PLC0415

    wanted = Filter(statuses=frozenset({Status.ACTIVE, Status.IDLE}), limit=PICKED_FROM)
    rows = list_conversations(sites.values(), wanted)
    if not rows:
        raise NotFound("there is no live conversation", hint=LIST)
    for number, row in enumerate(rows, 1):
        output.note(_choice(number, row))
    number = click.prompt("which one", type=click.IntRange(1, len(rows)), err=True)
    entry = rows[number - 1].entry
    return Target(entry.workspace, entry.id)


def _choice(number: int, row: Conversation) -> str:
    when = output.ago(row.activity_ms)
    return f"{number:>3}  {id_text(row.entry.id)}  {when:>10}  {output.title_text(row.title)[:40]}"
