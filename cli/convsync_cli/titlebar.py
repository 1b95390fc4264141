"""The title of the terminal: which conversation this session works on. For eyes only, never in a pipe."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from convsync_agent.names import id_text
from convsync_cli import output

if TYPE_CHECKING:
    from convsync_agent.site import Site

LONGEST = 120


def announce(site: Site, conversation: int) -> None:
    """Put `<id>: <title>` into the title of the terminal; the title is read now. Nothing where there is none."""
    if sys.stderr.isatty():
        output.window_title(title_bar(conversation, _title(site, conversation)))


def title_bar(conversation: int, title: str) -> str:
    """The text, without a character that a terminal obeys. Pure."""
    from convsync_agent.excerpt import one_line  # noqa: PLC0415

    name = id_text(conversation)
    return f"{name}: {one_line(title, LONGEST)}" if title.strip() else name


def _title(site: Site, conversation: int) -> str:
    from convsync_agent.errors import ConvsyncError  # noqa: PLC0415
    from convsync_agent.index import describe, load_index  # noqa: PLC0415

    try:
        entry = next((e for e in load_index(site) if e.id == conversation), None)
    except ConvsyncError:
        return ""
    return describe(site, entry).title if entry is not None else ""
