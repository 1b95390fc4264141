"""When the rules of retention are applied: by the agent, once a day, never to what is under an open entry."""

from __future__ import annotations

import time

from convsync_agent import logs
from convsync_agent.engine import Engine
from convsync_agent.kept import Manifest

DAY_SECONDS = 86_400.0

log = logs.get("retention")


class Retention:
    """Applies `history.*` of the settings. The next time is a day after the last, or after the start."""

    def __init__(self) -> None:
        self._next = time.monotonic() + 60.0  # not while everything is being looked at for the first time

    def wait(self) -> float:
        return max(0.0, self._next - time.monotonic())

    def run(self, engine: Engine) -> None:
        """Remove what the rules no longer keep. A full disk or a damaged history stops nothing else."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + DAY_SECONDS
        open_entries = {(e.workspace, e.conversation) for e in engine.ledger.entries.values()}

        def protected(kept: Manifest) -> bool:
            return (kept.workspace, kept.conversation) in open_entries

        settings = engine.settings
        try:
            gone = engine.history.prune(
                None,
                time.time_ns() // 1_000_000,
                keep_days=settings.history_keep_days,
                keep_versions=settings.history_keep_versions,
                max_bytes=settings.history_max_bytes,
                protected=protected,
            )
        except OSError as error:
            log.warning("retention failed", code=error.errno)
            return
        if gone.versions:
            log.info("retention", versions=gone.versions, bytes=gone.bytes)
