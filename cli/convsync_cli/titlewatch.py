"""The title of the terminal while somebody works on a conversation: said again when it changes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from convsync_agent.errors import ConvsyncError
from convsync_agent.model import METADATA, Partition
from convsync_cli.titlebar import announce

if TYPE_CHECKING:
    from convsync_agent.shelf import Spot
    from convsync_agent.site import Site

Stamps = tuple[tuple[int, int] | None, ...]


class TitleWatch:
    """Says it at once, then whenever `look` finds another one: a stat for each copy where nothing changed."""

    def __init__(self, site: Site, conversation: int) -> None:
        self.site, self.conversation = site, conversation
        self._spots: tuple[Spot, ...] = ()
        self._title: str | None = None
        self._title = self._read()
        self._seen = self._stamps()
        announce(site, conversation)

    def look(self) -> None:
        stamps = self._stamps()
        if stamps == self._seen and None not in stamps:
            return
        title = self._read()
        self._seen = self._stamps()  # of other directories, when a title gave them another name
        if title != self._title:
            self._title = title
            announce(self.site, self.conversation)

    def _read(self) -> str | None:
        from convsync_agent.index import load_index  # noqa: PLC0415
        from convsync_agent.shelf import Shelf  # noqa: PLC0415

        try:
            entry = next((e for e in load_index(self.site) if e.id == self.conversation), None)
        except ConvsyncError:
            return self._title
        self._spots = entry.spots if entry is not None else ()
        with Shelf() as shelf:
            return shelf.metadata(self._spots).title

    def _stamps(self) -> Stamps:
        from convsync_agent.layout import copy_path  # noqa: PLC0415

        found: list[tuple[int, int] | None] = []
        for spot in self._spots:
            partition = Partition.ARCHIVED if spot.place.archived else Partition.LIVE
            try:
                seen = os.stat(os.path.join(copy_path(spot.root, partition, spot.place.name), METADATA))
            except OSError:
                found.append(None)
            else:
                found.append((seen.st_ino, seen.st_mtime_ns))
        return tuple(found)
