"""`ls`, `show` and `path`: what there is, read live. Nothing is written, nothing is imported."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import click

from convsync_agent.errors import NotFound, UsageProblem
from convsync_agent.model import BASE_CONFIG, EVENTS, METADATA, Presence
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context

if TYPE_CHECKING:
    from convsync_agent.index import Conversation, Filter, IndexEntry, Label
    from convsync_agent.shelf import Spot
    from convsync_agent.site import Site, Tree
    from convsync_cli.target import Target

LETTERS = {Presence.PROJECTED: "N", Presence.USER_LOCAL_ONLY: "Y", Presence.WORKSPACE_ONLY: "ext"}
PRESENCES = {
    "projected": Presence.PROJECTED,
    "local": Presence.USER_LOCAL_ONLY,
    "user_local_only": Presence.USER_LOCAL_ONLY,
    "external": Presence.WORKSPACE_ONLY,
    "workspace_only": Presence.WORKSPACE_ONLY,
}
_LABEL_KEY = re.compile(r"[A-Za-z0-9_-]+")
WORDS = {Presence.PROJECTED: "projected", Presence.USER_LOCAL_ONLY: "local", Presence.WORKSPACE_ONLY: "external"}


@command(
    "ls",
    example="convsync ls --worktree . --presence projected,external",
    short_help="List conversations, newest activity first.",
    quiet_long_only=True,
)
@click.option("--worktree", metavar="PATH", help="As seen from this worktree, also when it is gone.")
@click.option("--status", "statuses", metavar="LIST", help="active,idle,closed; active and idle by default.")
@click.option("--all", "everything", is_flag=True, help="Every status, the archive too.")
@click.option("--presence", "presences", metavar="LIST", help="projected,local,external; all by default.")
@click.option("-q", "prefix", metavar="PREFIX", default="", help="Only ids that begin so, with or without jp-c.")
@click.option("--label", "labels", metavar="KEY[=VALUE]", multiple=True, help="Only with this label; repeatable.")
@click.option("--archived", is_flag=True, help="Only the archive.")
@click.option("--behind", is_flag=True, help="Only those of which git brought an older version back.")
@click.option("--sort", type=click.Choice(["activity", "created", "id", "events"]), default="activity")
@click.option("--reverse", is_flag=True, help="The other way round.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most N, after sorting.")
def ls(context: Context, worktree: str | None, **flags: Any) -> int:
    """List the conversations of every registered workspace, each one once.

    PRESENCE is N for projected (in the silo and in a worktree), Y for local (in the silo only), ext for
    external (in a worktree only); `behind` where git brought an older version back. Every option narrows what
    the others leave.
    """
    from convsync_agent.index import find_worktree, list_conversations, said  # noqa: PLC0415
    from convsync_cli.target import open_sites  # noqa: PLC0415

    wanted = _filter(flags)
    sites = open_sites(context)
    chosen = [sites[k] for k in sorted(sites)]
    if worktree is not None:
        found = find_worktree(chosen, worktree) or _unregistered(worktree)
        chosen = [found[0]] if found else []
        wanted = _within(wanted, found[1].worktree.path if found else "")
    rows = list_conversations(chosen, wanted, lambda path, error: output.note(f"warning: {said(path, error)}"))
    if context.as_json:
        output.document({"conversations": [row.as_json() for row in rows]})
    elif rows or not context.quiet:
        _table(rows)
    return 0


def _unregistered(path: str) -> tuple[Site, Tree] | None:
    """A worktree that nobody registered answers too; where there is none at all there is nothing to list."""
    from convsync_agent.library import site_of  # noqa: PLC0415

    try:
        return site_of(path)
    except (NotFound, UsageProblem):
        return None


def _filter(flags: dict[str, Any]) -> Filter:
    from convsync_agent.index import Filter, Sort, Status  # noqa: PLC0415

    statuses = _statuses(flags["statuses"] or "")
    if statuses is None and flags["statuses"] is None and not (flags["everything"] or flags["archived"]):
        statuses = frozenset({Status.ACTIVE, Status.IDLE})
    return Filter(
        statuses=statuses,
        presences=_presences(flags["presences"]),
        prefix=flags["prefix"],
        archived=flags["archived"],
        behind=flags["behind"],
        labels=tuple(_label(text) for text in flags["labels"]),
        sort=Sort(flags["sort"]),
        reverse=flags["reverse"],
        limit=flags["limit"],
    )


def _within(wanted: Filter, path: str) -> Filter:
    from dataclasses import replace  # noqa: PLC0415

    return replace(wanted, worktree=path)


def _statuses(text: str) -> Any:
    """The valid ones of a comma list. None: none is, so there is no filter."""
    from convsync_agent.index import Status  # noqa: PLC0415

    words = [w.strip() for w in text.split(",") if w.strip()]
    known = {str(s) for s in Status}
    for word in words:
        if word not in known:
            output.note(f"warning: no such status, left out: {word} (there are {', '.join(sorted(known))})")
    return frozenset(Status(w) for w in words if w in known) or None


def _label(text: str) -> Label:
    """KEY stands for any value, KEY= for the empty one."""
    from convsync_agent.index import Label  # noqa: PLC0415

    key, equals, value = text.partition("=")
    if not _LABEL_KEY.fullmatch(key):
        raise UsageProblem(
            "no label is called so", hint="--label KEY or --label KEY=VALUE; in a KEY are A-Z a-z 0-9 _ -"
        )
    return Label(key, value if equals else None)


def _presences(text: str | None) -> frozenset[Presence] | None:
    words = [w.strip() for w in (text or "").split(",") if w.strip()]
    wrong = [w for w in words if w not in PRESENCES]
    if wrong:
        raise UsageProblem("no such presence", where=wrong[0], hint="--presence projected,local,external")
    return frozenset(PRESENCES[w] for w in words) or None


def _table(rows: list[Conversation]) -> None:
    cells = [
        [
            f"jp-c{r.entry.id}",
            LETTERS[r.presence] + (" behind" if r.entry.behind else ""),
            str(r.status),
            str(r.events),
            output.ago(r.activity_ms),
            output.title_text(r.title),
        ]
        for r in rows
    ]
    output.table(["ID", "PRESENCE", "STATUS", "EVENTS", "ACTIVITY", "TITLE"], cells, right=(3,))


# -- one conversation -------------------------------------------------------------


@command("show", example="convsync show last", short_help="Everything about one conversation.")
@click.argument("target", default="")
def show(context: Context, target: str) -> int:
    """Show one conversation: where its copies lie, how large and how old they are, what is kept of it."""
    from convsync_agent.history import History  # noqa: PLC0415
    from convsync_agent.index import describe  # noqa: PLC0415

    found, site, entry = _find(context, target)
    row = describe(site, entry)
    copies = [_copy(spot) for spot in entry.spots]
    versions = len(History(context.data_dir).versions(found.workspace, found.conversation))
    body = row.as_json() | {
        "copies": copies,
        "paths": [c["path"] for c in copies],
        "bytes": sum(f["bytes"] for c in copies for f in c["files"]),
        "versions": versions,
        "attention": _attention(context, found),
    }
    if context.as_json:
        output.document(body)
    else:
        _tell(row, body)
    return 0


def _find(context: Context, text: str) -> tuple[Target, Site, IndexEntry]:
    from convsync_cli.target import load_entries, open_sites, resolve_target  # noqa: PLC0415

    found = resolve_target(context, text)
    sites = open_sites(context)
    entries = load_entries({found.workspace: sites[found.workspace]} if found.workspace in sites else {})
    entry = next((e for e in entries if e.id == found.conversation), None)
    if entry is None:
        raise NotFound("this conversation went away just now", where=found.id, hint="convsync ls --all")
    return found, sites[found.workspace], entry


def _copy(spot: Spot) -> dict[str, Any]:
    files = []
    for top, _, names in os.walk(spot.path):
        for name in sorted(names):
            path = os.path.join(top, name)
            try:
                at = os.lstat(path)
            except OSError:
                continue
            relative = os.path.relpath(path, spot.path)
            files.append({"name": relative, "bytes": at.st_size, "mtime": at.st_mtime_ns // 1_000_000})
    return {
        "path": spot.path,
        "kind": str(spot.root.kind),
        "worktree": spot.worktree or None,
        "archived": spot.place.archived,
        "files": sorted(files, key=lambda f: f["name"]),
    }


def _attention(context: Context, found: Target) -> list[dict[str, Any]]:
    from convsync_cli.reports import as_attention  # noqa: PLC0415

    opened = context.reader()
    if opened is None:
        return []
    try:
        entries = opened.attention()
    finally:
        opened.close()
    return [as_attention(e) for e in entries if (e.workspace, e.conversation) == found]


def _tell(row: Conversation, body: dict[str, Any]) -> None:
    facts = [
        ("ID", body["id"]),
        ("Title", output.title_text(body["title"])),
        ("Status", body["status"] + (" (its lock is held now)" if body["status"] == "active" else "")),
        ("Presence", f"{LETTERS[row.presence]} ({WORDS[row.presence]})" + (", behind" if row.entry.behind else "")),
        ("Workspace", body["workspaceId"]),
        ("Events", str(body["events"])),
        ("Last activity", output.ago(body["lastActivityAt"])),
        ("Created", output.ago(body["createdAt"])),
        ("Kept versions", f"{body['versions']}" + (f" (convsync history {body['id']})" if body["versions"] else "")),
    ]
    labels = [f"{k}={v}" if v else k for k, values in row.metadata.labels.items() for v in values or ("",)]
    if labels:
        facts.append(("Labels", output.title_text(", ".join(labels))))
    for name, value in facts:
        output.line(f"{name + ':':<15}{value}")
    for copy in body["copies"]:
        total = sum(f["bytes"] for f in copy["files"])
        newest = max((f["mtime"] for f in copy["files"]), default=None)
        output.line(f"{('Silo' if copy['kind'] == 'silo' else 'Worktree') + ':':<15}{output.tilde(copy['path'])}")
        amount = f"{output.plural(len(copy['files']), 'file')}, {output.size(total)}"
        output.line(f"{'':<15}{amount}, written {output.ago(newest)}")
    for entry in body["attention"]:
        output.line(f"{output.colored(entry['kind'] + ':', 'yellow'):<15}{entry['detail']}")
        output.line(f"{'':<15}{output.colored('hint:', 'dim')} {entry['hint']}")


@command("path", example="convsync path last --events", short_help="Where one conversation lies on disk.")
@click.argument("target", default="")
@click.option("--events", is_flag=True, help=f"Its {EVENTS}.")
@click.option("--metadata", is_flag=True, help=f"Its {METADATA}.")
@click.option("--base-config", is_flag=True, help=f"Its {BASE_CONFIG}.")
def path(context: Context, target: str, events: bool, metadata: bool, base_config: bool) -> int:  # noqa: FBT001
    """Print the directory of one conversation, or the files that are asked for, a line each.

    The worktree's copy where there is one (the current worktree's first), else the silo's. As with jp,
    a file's path is printed whether or not it exists.
    """
    from convsync_cli.target import worktree_here  # noqa: PLC0415

    _, site, entry = _find(context, target)
    here = worktree_here({site.id: site})
    top = _preferred(entry, here[1].worktree.path if here else "")
    wanted = [n for n, asked in ((EVENTS, events), (METADATA, metadata), (BASE_CONFIG, base_config)) if asked]
    paths = [os.path.join(top, n) for n in wanted] or [top]
    if context.as_json:
        output.document({"path": paths[0], "paths": paths})
    else:
        for one in paths:
            output.line(one)
    return 0


def _preferred(entry: IndexEntry, here: str) -> str:
    """The copy JP would open (contract 5.5): a worktree's before the silo's."""
    ranked = sorted(entry.spots, key=lambda s: (s.root.is_silo, s.worktree != here, s.worktree))
    return ranked[0].path
