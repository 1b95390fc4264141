"""TARGET -> conversations of registered workspaces. Read-only: listings, session files, metadata for keywords."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from convsync_agent.errors import NotFound, UsageProblem
from convsync_agent.names import parse_id
from convsync_cli.context import Context
from convsync_cli.registered import LIST, Target, load_entries, open_sites, worktree_here

if TYPE_CHECKING:
    from convsync_cli.keywords import Scope

__all__ = ["LIST", "SHOWN_MATCHES", "Target", "load_entries", "open_sites", "resolve_many", "resolve_target"]
__all__ += ["worktree_here"]

SHOWN_MATCHES = 12
STDIN = "-"

_TYPED_ID = re.compile(r"(jp-c)?[0-9]{1,19}|jp-c[0-9]{1,19}-[0-9a-z]{1,5}|[a-z][a-z-]{0,15}")


def resolve_target(context: Context, text: str, *, kept: bool = False) -> Target:
    """The conversation that `text` means. `kept`: one that only the history has counts, too.

    Raises UsageProblem (no target, ambiguous, several, which workspace), NotFound, and Refused for what should be
    a session file and is none.
    """
    found = resolve_many(context, [text], kept=kept)
    if len(found) > 1:
        raise UsageProblem(
            f"that means {len(found)} conversations, and one is wanted: {_listed(t.id for t in found)}",
            where=text.strip(),
            hint="name one of them",
            code="several",
        )
    return found[0]


def resolve_many(context: Context, texts: Sequence[str], *, kept: bool = False) -> list[Target]:
    """Every conversation once, in the order given: ids add up. A keyword among several is a fallback (contract 8.5):
    then the first of them that means anything counts, and nothing else.

    Raises what `resolve_target` raises.
    """
    from convsync_cli.keywords import Scope  # noqa: PLC0415

    names = [text.strip() for text in texts] or [""]
    scope = Scope(context)
    if not any(_is_word(name) for name in names):
        return list(dict.fromkeys(t for name in names for t in _meant(scope, name, kept=kept)))
    for name in names[:-1]:
        try:
            return _meant(scope, name, kept=kept)
        except NotFound:
            continue
    return _meant(scope, names[-1], kept=kept)


def _is_word(name: str) -> bool:
    from convsync_cli.keywords import ONE  # noqa: PLC0415

    return not name or name in ONE or name[0] in "+?"


def _meant(scope: Scope, name: str, *, kept: bool) -> list[Target]:
    from convsync_cli.keywords import ONE, one, several  # noqa: PLC0415

    if not name:
        return [_unnamed(scope, kept=kept)]
    if name in ONE:
        return [one(scope, name)]
    if name[0] == "+":
        return several(scope, name)
    if name[0] == "?":
        from convsync_cli.picker import pick  # noqa: PLC0415

        return [pick(scope, name)]
    known = _candidates(scope, kept=kept)
    if name == STDIN:
        return list(dict.fromkeys(_by_id(scope, line, known) for line in _from_stdin()))
    return [_by_id(scope, name, known)]


def _unnamed(scope: Scope, *, kept: bool) -> Target:
    """No target: what the session works on, else what `target.default` says, else a person."""
    current = scope.current()
    default = scope.context.settings.target_default
    if current is not None:
        return current
    if default != "ask":
        return _meant(scope, default, kept=kept)[0]
    from convsync_cli.picker import pick  # noqa: PLC0415

    return pick(scope)


def _from_stdin() -> list[str]:
    """Ids, one a line; blank lines do not count."""
    if sys.stdin.isatty():
        raise UsageProblem(
            "ids are read from stdin, and that is a terminal", where=STDIN, hint="... | convsync show -", code="no-ids"
        )
    text = sys.stdin.buffer.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UsageProblem("no id on stdin", where=STDIN, hint="one id a line", code="no-ids")
    return lines


# -- ids ------------------------------------------------------------------------------


def _candidates(scope: Scope, *, kept: bool) -> list[Target]:
    found = [Target(e.workspace, e.id) for e in scope.entries]
    if kept:
        from convsync_agent.history import History  # noqa: PLC0415

        history = History(scope.context.data_dir)
        found += [Target(key, c) for key in sorted(scope.sites) for c in history.conversations(key)]
    return list(dict.fromkeys(found))


def _by_id(scope: Scope, text: str, known: Sequence[Target]) -> Target:
    """An exact id wins over ids that it is the beginning of."""
    number = parse_id(text)
    full = re.fullmatch(r"jp-c[0-9]+-([0-9a-z]+)", text)
    exact = [t for t in known if t.conversation == number and (full is None or t.workspace == full[1])]
    begun = [t for t in known if any(form.startswith(text) for form in (t.id, str(t.conversation), _long(t)))]
    matches = exact or begun
    if len(matches) > 1:
        return _only(text, scope, matches)
    if not matches:
        where = text if _TYPED_ID.fullmatch(text) else None  # a directory name is chat text
        raise NotFound("no such conversation", where=where, hint=LIST)
    return matches[0]


def _only(text: str, scope: Scope, matches: Sequence[Target]) -> Target:
    """One id in several workspaces means the one of the current directory. Else it is ambiguous."""
    if len({t.conversation for t in matches}) == 1:
        here = worktree_here(scope.sites)
        mine = [t for t in matches if here is not None and t.workspace == here[0].id]
        if mine:
            return mine[0]
        names = [_long(t) for t in matches]
    else:
        names = [t.id for t in sorted(matches, key=lambda t: t.conversation)]
    raise UsageProblem(
        f"several conversations match: {_listed(names)}", where=text, hint="type more of the id", code="ambiguous"
    )


def _listed(names: Iterable[str]) -> str:
    known = list(names)
    more = f" and {len(known) - SHOWN_MATCHES} more" if len(known) > SHOWN_MATCHES else ""
    return ", ".join(known[:SHOWN_MATCHES]) + more


def _long(target: Target) -> str:
    return f"{target.id}-{target.workspace}"
