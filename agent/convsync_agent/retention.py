"""When the rules of retention are applied: by the agent, once a day, to the history and to kept copies.

Never to versions under an open entry, and to kept copies only of conversations that are gone. Conversations
themselves have no retention, nor have tombstones.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from convsync_agent import logs
from convsync_agent.engine import Engine
from convsync_agent.kept import Manifest

DAY_SECONDS = 86_400.0

log = logs.get("retention")


class Retention:
    """Applies `history.*` and `trash.keep_days`. The next time is a day after the last, or soon after the start."""

    def __init__(self) -> None:
        self._next = time.monotonic() + 60.0  # not while everything is being looked at for the first time

    def wait(self) -> float:
        return max(0.0, self._next - time.monotonic())

    def run(self, engine: Engine, breathe: Callable[[], None] = lambda: None) -> None:
        """Remove what the rules no longer keep. A full disk or a damaged history stops nothing else.

        `breathe` is called for each version that was looked at: a large history takes long, and gets on.
        """
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + DAY_SECONDS
        now_ms = time.time_ns() // 1_000_000
        for prune in (partial(_prune_history, breathe=breathe), _prune_trash):
            try:
                prune(engine, now_ms)
            except OSError as error:
                log.warning("retention failed", code=error.errno)


def _prune_history(engine: Engine, now_ms: int, *, breathe: Callable[[], None]) -> None:
    open_entries = {(e.workspace, e.conversation) for e in engine.ledger.entries.values()}

    def protected(kept: Manifest) -> bool:
        breathe()
        return (kept.workspace, kept.conversation) in open_entries

    settings = engine.settings
    gone = engine.history.prune(
        None,
        now_ms,
        keep_days=settings.history_keep_days,
        keep_versions=settings.history_keep_versions,
        max_bytes=settings.history_max_bytes,
        protected=protected,
    )
    engine.history.note_stored()
    if gone.versions:
        log.info("retention", versions=gone.versions, bytes=gone.bytes)


def _prune_trash(engine: Engine, now_ms: int) -> None:
    alive = {site.id: site.silo.listing.conversations() for site in engine.sites.values()}
    gone = engine.vault.shelter.prune(now_ms, engine.settings.trash_keep_days, but=alive)
    if gone.copies:
        log.info("retention", copies=gone.copies, bytes=gone.bytes)
