"""A durable copy that went back: what is kept of it and is not in it any more goes into the history first.

The kept copy is the last durable content. Before it is exchanged for the content of today, whatever of it is
neither in that nor in the history is put there: a backup laid over the silo, or a JP that wrote from an old
memory, takes nothing away. Our own changes kept what they replaced when they were made.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from convsync_agent import growth
from convsync_agent.bulk import Content, whole
from convsync_agent.content import last_activated
from convsync_agent.errors import ConvsyncError
from convsync_agent.keepsake import Keepsake
from convsync_agent.kept import Manifest
from convsync_agent.model import BASE_CONFIG, BOTH, EVENTS, MANAGED, METADATA, UNIT_FILES, Copy, Unit
from convsync_agent.state import Attention
from convsync_agent.stream_json import count

if TYPE_CHECKING:
    from convsync_agent.engine import Engine
    from convsync_agent.site import Site

WHY = "replaced"
WENT_BACK = "the durable copy was replaced by content that lacks what it held; that is in the history"
Files = Mapping[str, tuple[Content, int]]


def save(engine: Engine, site: Site, copy: Copy) -> None:
    """Save what the kept copy of this durable copy has alone. Raises OSError; fs.ChangedError: look again later."""
    have = engine.vault.shelter.held(site.id, copy.conversation)
    if have is None:
        return
    back = [_save_unit(engine, site, copy, have, unit) for unit in BOTH]
    _save_extras(engine, site, copy, have)
    if any(back):
        now_ms = time.time_ns() // 1_000_000
        root = copy.root.path
        engine.ledger.tell(Attention("conflict", site.id, copy.conversation, root, now_ms, WENT_BACK, lasting=True))


def _save_unit(engine: Engine, site: Site, copy: Copy, have: Keepsake, unit: Unit) -> bool:
    """True: it went back to something older, and not by our doing; a person has to hear of it."""
    if copy.unit(unit).digest == have.digest(unit) or not any(have.digest(unit)):
        return False
    old = _kept_files(engine, site, have, UNIT_FILES[unit])
    ages = {f.name: f.mtime_ns for f in copy.unit(unit).files}
    new = {name: (raw, ages[name]) for name, raw in engine.knower.read(copy, unit).items()}
    if _contains(unit, new, old):
        return False
    holders = [m for m in _versions(engine, site, copy, unit) if _version_contains(engine, site, m, old)]
    if not holders:
        _keep(engine, site, copy, unit, old)
    if any(m.root == copy.root.path for m in holders):
        return False  # a change of ours, or a person's: what it replaced was kept from here
    return _contains(unit, old, new) or _older(unit, new, old)


def _older(unit: Unit, new: Files, old: Files) -> bool:
    """No later time, or activated before. Other content alone is no news: JP and editors write that all the time."""
    if max(mtime for _, mtime in new.values()) <= max(mtime for _, mtime in old.values()):
        return True
    if unit is Unit.STREAM:
        return False
    mine, theirs = last_activated(whole(new[METADATA][0])), last_activated(whole(old[METADATA][0]))
    return mine is not None and theirs is not None and mine < theirs


def _versions(engine: Engine, site: Site, copy: Copy, unit: Unit) -> list[Manifest]:
    return [m for m in engine.history.versions(site.id, copy.conversation) if m.unit is unit]


def _version_contains(engine: Engine, site: Site, version: Manifest, old: Files) -> bool:
    try:
        rows = engine.history.contents(site.id, version.conversation, version.version)
    except ConvsyncError:
        return False  # damaged, or pruned at this moment: then it holds nothing
    return version.valid and _contains(version.unit, {name: (raw, mtime) for name, raw, mtime in rows}, old)


def _contains(unit: Unit, outer: Files, inner: Files) -> bool:
    if {n: raw for n, (raw, _) in outer.items()} == {n: raw for n, (raw, _) in inner.items()}:
        return True
    if unit is Unit.METADATA:
        return growth.metadata_contains(outer[METADATA][0], inner[METADATA][0])
    one, two = ((f[BASE_CONFIG][0] if BASE_CONFIG in f else None, f[EVENTS][0]) for f in (outer, inner))
    return growth.contains(one, two)


def _kept_files(engine: Engine, site: Site, have: Keepsake, names: tuple[str, ...]) -> Files:
    rows = engine.vault.shelter.read(site.id, have.conversation, names, now=False)
    return {name: (raw, mtime) for name, raw, mtime in rows}


def _save_extras(engine: Engine, site: Site, copy: Copy, have: Keepsake) -> None:
    """Unmanaged files that are another one now, or gone: kept, and nothing is said, for they are never merged."""
    here = {(e.path, e.stamp.size, e.stamp.mtime_ns) for e in copy.extras}
    lost = [
        f.name
        for f in have.files
        if f.name not in MANAGED
        and (f.name, f.size, f.mtime_ns) not in here
        and not engine.history.has_content(site.id, copy.conversation, f.digest)
    ]
    if lost:
        _keep(engine, site, copy, Unit.EXTRAS, _kept_files(engine, site, have, tuple(lost)))


def _keep(engine: Engine, site: Site, copy: Copy, unit: Unit, files: Files) -> None:
    engine.history.keep(
        site.id,
        copy.conversation,
        unit,
        [(name, raw, mtime) for name, (raw, mtime) in files.items()],
        root=copy.root.path,
        at_ms=time.time_ns() // 1_000_000,
        why=WHY,
        valid=True,
        events=count(files[EVENTS][0]) if EVENTS in files else None,
    )
