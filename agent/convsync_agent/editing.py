"""Edit the files of one conversation: what is current is given to a person, and what they made of it becomes current.

Nobody holds JP's lock while an editor is open; so what was given is compared with what is there when it is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from convsync_agent.bulk import whole
from convsync_agent.chosen import fault_in, look, read_units
from convsync_agent.contest import OUT_OF_REACH, newest_first
from convsync_agent.engine import Engine
from convsync_agent.errors import ConvsyncError, Refused
from convsync_agent.guard import held, locked
from convsync_agent.importing import ensure_durable
from convsync_agent.index import IndexEntry
from convsync_agent.model import (
    BASE_CONFIG,
    BOTH,
    EVENTS,
    MANAGED,
    METADATA,
    UNIT_FILES,
    Copy,
    Grade,
    Partition,
    Presence,
    Unit,
)
from convsync_agent.names import id_text
from convsync_agent.projecting import archived
from convsync_agent.restoring import Restored
from convsync_agent.scratch import Scratch, Unusable
from convsync_agent.settling import settle
from convsync_agent.site import Site

Files = list[tuple[str, bytes]]
Edited = Mapping[Unit, Files]
"""The files of both units, or of those that were changed."""


def begin(engine: Engine, site: Site, entry: IndexEntry, *, deadline: float) -> Edited:
    """What is current of both units. An external conversation is imported first, as JP does (contract 6.6).

    Waits until JP's lock is free. Raises LockHeld, Refused, StorageProblem.
    """
    if entry.partition is Partition.ARCHIVED:
        raise archived(entry.id)
    if entry.overall is Presence.WORKSPACE_ONLY:
        ensure_durable(engine, site, entry.id, deadline)
    with locked(site, entry.id, deadline):
        copies = look(engine, site, entry.id)
    if any(c.unit(u).digest != copies[0].unit(u).digest for c in copies for u in BOTH):
        settle(engine, site, {entry.id})
        copies = look(engine, site, entry.id)
    if any(c.partition is Partition.ARCHIVED for c in copies):  # all of them soon, or a person is to decide
        raise archived(entry.id)
    return {unit: _texts(_winner(site, copies, unit, entry.id), unit) for unit in BOTH}


def _texts(copy: Copy, unit: Unit) -> list[tuple[str, bytes]]:
    """An editor has all of it in memory, and so have we."""
    return [(name, whole(content)) for name, content in read_units(copy)[unit]]


def _winner(site: Site, copies: Sequence[Copy], unit: Unit, conversation: int) -> Copy:
    """JP's rule, among what JP could load and git did not just bring back; without such, among what can be read."""
    if len({c.root for c in copies}) < len(copies):
        raise Refused(
            "two directories claim this conversation",
            where=id_text(conversation),
            hint="remove one of them; convsync history has what both hold",
            code="doubled",
        )
    live = [c for c in copies if (conversation, c.root, unit) not in site.behind]
    ranked = newest_first(live, unit)
    usable = [c for c in ranked if c.unit(unit).grade is Grade.VALID]
    readable = [c for c in ranked if c.unit(unit).exists and c.unit(unit).grade not in OUT_OF_REACH]
    for copy in usable or readable:
        return copy
    fault = next((c.unit(unit).fault for c in ranked), "nothing is there")
    raise Refused(f"it cannot be read: {fault}", where=id_text(conversation), hint="convsync status", code="held")


def given(current: Edited, names: Sequence[str], conversation: int) -> Files:
    """The files to be edited: those that are asked for, or all. Raises Refused for one that there is not."""
    have = {name: raw for files in current.values() for name, raw in files}
    if BASE_CONFIG in names and BASE_CONFIG not in have:
        raise Refused(
            f"it has no {BASE_CONFIG}: its config is in {EVENTS}",
            where=id_text(conversation),
            hint=f"convsync edit {id_text(conversation)} -e",
            code="legacy",
        )
    return [(n, have[n]) for n in MANAGED if n in have and (not names or n in names)]


def collect(private: Scratch, current: Edited, names: Sequence[str]) -> Edited:
    """What is not as it was, whole units, valid. Empty: nothing is. Raises Unusable that says what is wrong."""
    before = {name: raw for files in current.values() for name, raw in files}
    after = dict(before)
    gone = []
    for name in names or MANAGED:
        raw = private.read(name, len(before.get(name, b"")))
        if raw is None:
            after.pop(name, None)
            gone += [name] if name in before else []
        else:
            after[name] = raw
    if gone and names:
        raise Vanished(f"{gone[0]} is gone")
    if not names and EVENTS in gone and METADATA in gone:
        raise Vanished("its files are gone")
    changed = {u: [(n, after[n]) for n in UNIT_FILES[u] if n in after] for u in BOTH}
    changed = {u: files for u, files in changed.items() if dict(files) != dict(current[u])}
    fault = fault_in(changed)
    if fault:
        raise Unusable(fault)
    return changed


class Vanished(Unusable):
    """Who deletes what they edit wants nothing of it."""


def commit(
    engine: Engine, site: Site, entry: IndexEntry, current: Edited, edited: Edited, *, deadline: float
) -> Restored:
    """Write what was edited into every root at once, byte for byte. What it replaces is in the history.

    Raises Refused when what was given is not what is there any more: then nothing is overwritten. Else as `held`.
    """
    try:
        with held(engine, site, entry, deadline=deadline) as guard:
            copies = guard.copies()
            for unit in edited:
                if _texts(_winner(site, copies, unit, entry.id), unit) != current[unit]:
                    raise Refused(
                        "it changed while the editor was open; nothing was overwritten",
                        where=id_text(entry.id),
                        code="changed",
                    )
            for unit, files in edited.items():
                guard.write(unit, files, guard.projection)
        return guard.written
    finally:
        engine.settle_waiting(engine.sites)


def is_durable(engine: Engine, site: Site, conversation: int, edited: Edited) -> bool:
    """The silo has what was edited already, whatever went wrong afterwards."""
    try:
        silo = next((c for c in look(engine, site, conversation) if c.root.is_silo), None)
        return silo is not None and all(_texts(silo, u) == files for u, files in edited.items())
    except ConvsyncError:
        return False
