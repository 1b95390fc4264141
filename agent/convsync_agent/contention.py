"""Somebody else holds JP's lock of a conversation: wait for it, say who (contract 7)."""

from __future__ import annotations

import time

from convsync_agent import flocks, layout, locks
from convsync_agent.errors import LockHeld
from convsync_agent.names import id_text
from convsync_agent.site import Site

RETRY_SECONDS = 0.1


def wait_for_lock(site: Site, conversation: int, deadline: float) -> None:
    """Wait while it can be seen that somebody holds the lock: nothing is kept, staged or built for nothing.

    `deadline` is of `time.monotonic`. Raises LockHeld.
    """
    while locks.busy_conversations(site.silo.root.path, [conversation]):
        if time.monotonic() >= deadline:
            raise lock_held(site, conversation)
        time.sleep(RETRY_SECONDS)


def lock_held(site: Site, conversation: int) -> LockHeld:
    """The error that names the holder, by what is written in the lock file."""
    paths = [layout.lock_path(p, conversation) for p in (site.silo.root.path, *site.stores)]
    holder = next((h for h in map(locks.holder_of, paths) if h is not None), None)
    pid = (holder.pid if holder else None) or next((p for p in map(flocks.flocked_by, paths) if p), None)
    who = f"pid {pid}" if pid else "another process"
    session = f", session {holder.session}" if holder and holder.session else ""
    return LockHeld(
        f"in use by {who}{session}",
        where=id_text(conversation),
        hint="try again when it is done, or wait longer: JP_LOCK_DURATION=2m",
    )
