"""Make a conversation the one that a session works on, as JP does (contract 8.3)."""

from __future__ import annotations

import time
from dataclasses import dataclass

from convsync_agent.bulk import whole
from convsync_agent.chosen import fault_in, read_units
from convsync_agent.contention import RETRY_SECONDS
from convsync_agent.engine import Engine
from convsync_agent.errors import LockHeld, NotFound, Refused
from convsync_agent.guard import Guard, held
from convsync_agent.importing import ensure_durable
from convsync_agent.index import IndexEntry, load_index
from convsync_agent.model import METADATA, Partition, Unit
from convsync_agent.names import id_text
from convsync_agent.projecting import archived
from convsync_agent.rawjson import with_fields
from convsync_agent.session import Session
from convsync_agent.sessions import Mappings
from convsync_agent.settling import settle
from convsync_agent.site import Site
from convsync_agent.summary import format_timestamp

GRACE_SECONDS = 2 * RETRY_SECONDS  # an agent holds the lock for milliseconds: that is nobody at work


@dataclass(frozen=True, slots=True)
class Activated:
    """`held`: somebody works on it, so `last_activated_at` is theirs. `imported`: it was external."""

    previous: int | None
    held: bool = False
    imported: bool = False


def activate(engine: Engine, site: Site, session: Session, conversation: int) -> Activated:
    """The session works on it from now on. One try at the lock, as JP: without it only the session's file is written.

    Raises NotFound, Refused (archived, not valid, no session file) and StorageProblem; then nothing has changed.
    """
    mappings = Mappings(site.silo.root.path)
    entries = load_index(site)
    entry = _entry(entries, conversation)
    previous = mappings.active(session, {e.id: e.partition for e in entries})  # it can be read, so it can be written
    external = not any(s.root.is_silo for s in entry.spots)
    try:
        if external:
            ensure_durable(engine, site, conversation, time.monotonic() + GRACE_SECONDS)
            entry = _entry(load_index(site), conversation)
        else:
            engine.rescan(site)
            settle(engine, site, {conversation})
        with held(engine, site, entry, deadline=time.monotonic() + GRACE_SECONDS) as guard:
            now = time.time_ns()
            raw = _touched(guard, now)
            mappings.activate(session, conversation, now)
            guard.write(Unit.METADATA, [(METADATA, raw)], guard.projection)
    except LockHeld:
        mappings.activate(session, conversation, time.time_ns())
        return Activated(previous, held=True)
    return Activated(previous, imported=external)


def _entry(entries: list[IndexEntry], conversation: int) -> IndexEntry:
    found = next((e for e in entries if e.id == conversation), None)
    if found is None:
        raise NotFound("this conversation went away just now", where=id_text(conversation), hint="convsync ls --all")
    if found.partition is Partition.ARCHIVED:
        raise archived(conversation)
    return found


def _touched(guard: Guard, now_ns: int) -> bytes:
    """The durable metadata with the time of this activation. Raises Refused where there is none that is valid."""
    silo = next((c for c in guard.copies() if c.root.is_silo), None)
    files = dict(read_units(silo)[Unit.METADATA]) if silo is not None else {}
    fault = fault_in({Unit.METADATA: list(files.items())})
    if fault:
        name = id_text(guard.conversation)
        raise Refused(f"its durable copy is not valid: {fault}", where=name, hint="convsync status", code="not-valid")
    return with_fields(whole(files[METADATA]), {"last_activated_at": format_timestamp(now_ns)})
