"""`diff`: what a kept version and what is current do not have in common."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Any

import click

from convsync_agent.errors import NotFound
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context
from convsync_cli.reports import worktree_of

if TYPE_CHECKING:
    from convsync_agent.comparing import Compared
    from convsync_agent.eventdiff import Event, EventChange, KeyChange, LineChange
    from convsync_agent.history import Manifest

SIGNS = {"removed": ("-", "red"), "added": ("+", "green"), "changed": ("~", "yellow")}
SHOWN_KEYS = 6


@command("diff", example="convsync diff last", short_help="What a kept version and the current content differ in.")
@click.argument("target", default="")
@click.argument("version", required=False)
def diff(context: Context, target: str, version: str | None) -> int:
    """Compare a kept version (the newest by default) with what is current: the durable copy.

    A line begins with - for what only the version has, + for what is only in the current content, ~ for what
    changed. Streams are compared by event, configs and metadata by key; what is not JSON by line. Texts are
    cut, and go to the screen only: --json has none.
    """
    from convsync_agent.comparing import compare  # noqa: PLC0415
    from convsync_agent.history import History  # noqa: PLC0415
    from convsync_cli.target import open_sites  # noqa: PLC0415
    from convsync_cli.version import choose_version, resolve_kept  # noqa: PLC0415

    history = History(context.data_dir)
    found = resolve_kept(context, history, target)
    chosen = choose_version(history, found, version)
    site = open_sites(context).get(found.workspace)
    if site is None:
        raise NotFound(
            f"no worktree of workspace {found.workspace} is registered: what is current is not known",
            where=found.id,
            hint=f"convsync register WORKTREE; or look at a copy: convsync restore {found.id} --into PATH",
        )
    compared = compare(history, site, chosen)
    if context.as_json:
        output.document({"conversation": found.id} | _as_json(chosen, compared))
    else:
        _tell(context, chosen, compared)
    return 0


# -- for programs -------------------------------------------------------------------


def _as_json(chosen: Manifest, compared: Compared) -> dict[str, Any]:
    found = compared.found
    return {
        "version": chosen.version,
        "unit": str(chosen.unit),
        "at": chosen.at_ms,
        "from": worktree_of(chosen.root),
        "valid": chosen.valid,
        "current": None if compared.place is None else worktree_of(compared.place),
        "same": found.same,
        "identical": compared.identical,
        "versionEvents": found.old_events,
        "currentEvents": found.new_events,
        "events": [_event_as_json(c) for c in found.events],
        "keys": [{"change": str(k.change), "file": k.file, "path": k.path} for k in found.keys],
        "lines": [{"change": str(c.change), "file": c.file, "line": c.line, "bytes": c.size} for c in found.lines],
    }


def _event_as_json(change: EventChange) -> dict[str, Any]:
    shown = change.new or change.old
    return {
        "change": str(change.change),
        "index": shown.index if shown else None,
        "version": _side_as_json(change.old),
        "current": _side_as_json(change.new),
        "keys": list(change.keys),
    }


def _side_as_json(event: Event | None) -> dict[str, Any] | None:
    if event is None:
        return None
    return {"index": event.index, "type": event.kind, "at": event.at_ms, "bytes": event.size}


# -- for people ---------------------------------------------------------------------


def _tell(context: Context, chosen: Manifest, compared: Compared) -> None:
    found = compared.found
    if not context.quiet:
        place = output.tilde(worktree_of(compared.place)) if compared.place else "no copy is left"
        old, new = _amount(compared.old, found.old_events), _amount(compared.new, found.new_events)
        unusable = "" if chosen.valid else ", not valid"
        _line("---", "red", f" version {chosen.version}: {old}, kept {output.ago(chosen.seen_ms)}{unusable}")
        _line("+++", "green", f" current: {new} ({place})")
    for change in found.events:
        _tell_event(change)
    for key in found.keys:
        _tell_key(key)
    for line in found.lines:
        _tell_line(line)
    if not context.quiet or not found.same:
        for said in _summary(chosen, compared):
            output.line(said)


def _amount(files: Any, events: int | None) -> str:
    size = output.size(sum(map(len, files.values())))
    return size if events is None else f"{output.plural(events, 'event')}, {size}"


def _tell_event(change: EventChange) -> None:
    sign, color = SIGNS[change.change]
    shown = change.new or change.old
    if shown is None:  # never: each change has one side
        return
    size = output.size(shown.size)
    if change.old and change.new and change.old.size != change.new.size:
        size = f"{output.size(change.old.size)} -> {size}"
    index = f"{shown.index}"
    if change.old and change.new and change.old.index != change.new.index:
        index = f"{change.old.index} -> {index}"
    facts = f" {index}  {shown.kind or 'no type'}  {shown.timestamp[:19] or 'no time'}  {size}"
    if change.keys:
        more = f" and {len(change.keys) - SHOWN_KEYS} more" if len(change.keys) > SHOWN_KEYS else ""
        facts += f"  {', '.join(k or 'all of it' for k in change.keys[:SHOWN_KEYS])}{more}"
    _line(sign, color, facts)
    if change.old and change.new:
        if change.old.text != change.new.text:
            _text("    - ", change.old.text)
            _text("    + ", change.new.text)
    elif shown.text:
        _text("    ", shown.text)


def _tell_key(key: KeyChange) -> None:
    sign, color = SIGNS[key.change]
    _line(sign, color, f" {key.file}  {key.path or 'all of it'}")
    if key.old:
        _text("    - " if key.new else "    ", key.old)
    if key.new:
        _text("    + " if key.old else "    ", key.new)


def _tell_line(line: LineChange) -> None:
    sign, color = SIGNS[line.change]
    _line(sign, color, f" {line.file}:{line.line}  {output.size(line.size)}")
    if line.text:
        _text("    ", line.text)


def _summary(chosen: Manifest, compared: Compared) -> list[str]:
    found = compared.found
    if compared.identical:
        return [f"the same {chosen.unit}, byte for byte"]
    if found.same:
        return [f"the same {chosen.unit}, written differently"]
    words = {"removed": "only in the version", "added": "only in what is current", "changed": "changed"}
    said = []
    for nouns, changes in (("events", found.events), ("keys", found.keys), ("lines", found.lines)):
        numbers = {sign: sum(c.change == sign for c in changes) for sign in SIGNS}
        parts = [f"{n} {words[sign]}" for sign, n in numbers.items() if n]
        said += [f"{nouns}: {', '.join(parts)}"] if parts else []
    return said


def _line(sign: str, color: str, rest: str) -> None:
    output.line(output.colored(sign, color) + _fitted(rest, output.width() - len(sign)))


def _text(lead: str, text: str) -> None:
    output.line(output.colored(lead + _fitted(text, output.width() - len(lead)), "dim"))


def _fitted(text: str, columns: int) -> str:
    """Cut to the columns of a terminal, where some characters take two and some none; whole elsewhere."""
    if not output.is_terminal():
        return text
    used = 0
    for at, char in enumerate(text):
        used += 0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        if (used > columns - 1 and at < len(text) - 1) or used > columns:
            return text[:at] + "…"
    return text
