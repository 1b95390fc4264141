"""VERSION -> one kept version, and TARGET where only the history is left to know it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from convsync_agent import objects
from convsync_agent.errors import NotFound, UsageProblem
from convsync_agent.names import parse_id
from convsync_cli.context import Context
from convsync_cli.target import Target, open_sites, resolve_target

if TYPE_CHECKING:
    from convsync_agent.history import History, Manifest


def resolve_kept(context: Context, history: History, text: str) -> Target:
    """The conversation that `text` means; by its full id also where nothing is registered, or not any more (R8).

    Raises what `target.resolve_target` raises.
    """
    known = open_sites(context)
    try:
        return resolve_target(context, text, kept=True)
    except NotFound:
        conversation = parse_id(text.strip())
        if conversation is None:
            raise
        full = re.fullmatch(r"jp-c[0-9]+-([0-9a-z]+)", text.strip())
        spaces = [
            s for s in objects.names_in(history.base) if s not in known and conversation in history.conversations(s)
        ]
        found = [Target(s, conversation) for s in spaces if full is None or s == full[1]]
        if not found:
            raise
    if len(found) > 1:
        names = ", ".join(f"{t.id}-{t.workspace}" for t in found)
        raise UsageProblem(
            f"several conversations match: {names}", where=text, code="ambiguous", hint="name it in full"
        )
    return found[0]


def choose_version(history: History, target: Target, text: str | None) -> Manifest:
    """The version that `text` names or begins; without one the newest of any unit."""
    versions = history.versions(target.workspace, target.conversation)
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
