"""TARGET -> a conversation that was removed: the index of what there is does not list it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from convsync_agent.errors import ConvsyncError, NotFound, UsageProblem
from convsync_agent.names import id_text, parse_id
from convsync_cli.context import Context
from convsync_cli.target import SHOWN_MATCHES, Target, open_sites, resolve_target

if TYPE_CHECKING:
    from convsync_agent.site import Site

LIST = "convsync trash ls"
_TYPED_ID = re.compile(r"(jp-c)?[0-9]{1,19}|jp-c[0-9]{1,19}-[0-9a-z]{1,5}")
_FULL = re.compile(r"jp-c[0-9]+-([0-9a-z]+)")


def resolve_removed(context: Context, texts: Sequence[str]) -> list[Target]:
    """Every conversation once, in the order given: ids or unique beginnings of ids, of what is gone.

    Raises NotFound, UsageProblem (ambiguous), and Refused for one that is there.
    """
    from convsync_agent.departed import known  # noqa: PLC0415

    sites = open_sites(context)
    candidates = [Target(*key) for key in known(context.data_dir, sites)]
    return list(dict.fromkeys(_one(context, text.strip(), sites, candidates) for text in texts))


def _one(context: Context, text: str, sites: Mapping[str, Site], candidates: Sequence[Target]) -> Target:
    matches = matching(text, candidates)
    if len(matches) == 1:
        return matches[0]
    if matches:
        same = len({t.conversation for t in matches}) == 1
        names = [f"{t.id}-{t.workspace}" if same else t.id for t in matches]
        more = f" and {len(names) - SHOWN_MATCHES} more" if len(names) > SHOWN_MATCHES else ""
        raise UsageProblem(
            f"several removed conversations match: {', '.join(names[:SHOWN_MATCHES])}{more}",
            where=text,
            hint="type more of the id",
            code="ambiguous",
        )
    raise _not_removed(context, text, sites)


def matching(text: str, candidates: Sequence[Target]) -> list[Target]:
    """An exact id wins over ids that it is the beginning of. Pure."""
    number, full = parse_id(text), _FULL.fullmatch(text)
    exact = [t for t in candidates if t.conversation == number and (full is None or t.workspace == full[1])]
    forms = {t: (t.id, str(t.conversation), f"{t.id}-{t.workspace}") for t in candidates}
    return exact or [t for t in candidates if text and any(form.startswith(text) for form in forms[t])]


def _not_removed(context: Context, text: str, sites: Mapping[str, Site]) -> ConvsyncError:
    """Is it there after all? Else it is unknown; what is no id is not repeated, a directory name is chat text."""
    from convsync_agent.departed import durable  # noqa: PLC0415
    from convsync_agent.reviving import there_already  # noqa: PLC0415

    where = text if _TYPED_ID.fullmatch(text) else None
    if where is not None:
        try:
            found = resolve_target(context, text)
        except ConvsyncError:
            pass
        else:
            if found.conversation in durable(sites.get(found.workspace)):
                return there_already(found.conversation)
            where = id_text(found.conversation)
    return NotFound("nothing is kept of such a removed conversation", where=where, hint=LIST)
