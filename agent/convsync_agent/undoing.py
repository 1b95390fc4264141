"""`undo`: the newest act of the history is taken back, so that doing it twice changes nothing."""

from __future__ import annotations

from collections.abc import Sequence

from convsync_agent import fs
from convsync_agent.acts import ACT_MS, Candidate, newest_act
from convsync_agent.chosen import Contents, fault_in, look
from convsync_agent.engine import Engine
from convsync_agent.errors import NotFound, Refused
from convsync_agent.extras import digest_of_extra
from convsync_agent.history import Manifest
from convsync_agent.model import Copy, Unit
from convsync_agent.names import id_text
from convsync_agent.restoring import Restored, make_current
from convsync_agent.site import Site

WHY = "undone"
FRAGMENT = "found in staging"  # single files of a change that a crash stopped: no copy ever held them


def undo(engine: Engine, site: Site, conversation: int, *, patience: float) -> tuple[list[Manifest], Restored]:
    """Make what the newest act replaced current again, all its units; what that replaces is kept as the next act.

    Waits up to `patience` seconds for JP's lock. Raises NotFound when nothing is to be undone, Refused for a
    version that JP could not load, and what `restoring.make_current` raises.
    """
    versions = newest_versions(engine, site, conversation)
    if not versions:
        name = id_text(conversation)
        raise NotFound("there is nothing to undo", where=name, hint=f"convsync history {name}", code="nothing-to-undo")
    contents = contents_of(engine, site, conversation, versions)
    return versions, make_current(engine, site, conversation, contents, why=WHY, patience=patience)


def newest_versions(engine: Engine, site: Site, conversation: int) -> list[Manifest]:
    """What `undo` would make current, the newest first. Raises StorageProblem when the silo is not there."""
    return _act(engine, site, conversation, engine.history.versions(site.id, conversation))


def lost_in_conflict(engine: Engine, site: Site, conversation: int, root: str) -> list[Manifest]:
    """What the copy in `root` held when it last lost a conflict, if that is not current already."""
    mine = [m for m in engine.history.versions(site.id, conversation) if m.root == root]
    lost = next((m for m in mine if m.why == "conflict"), None)
    near = [m for m in mine if lost is not None and abs(m.seen_ms - lost.seen_ms) <= ACT_MS]
    return _act(engine, site, conversation, near)


def _act(engine: Engine, site: Site, conversation: int, versions: Sequence[Manifest]) -> list[Manifest]:
    durable = next((c for c in look(engine, site, conversation) if c.root.is_silo), None)
    known = {m.version: m for m in versions if m.why != FRAGMENT or m.seen_ms > m.at_ms}  # then it was kept as more
    candidates = [Candidate(m.version, m.unit, m.seen_ms, _is_current(durable, m), m.valid) for m in known.values()]
    return [known[c.version] for c in newest_act(candidates)]


def contents_of(engine: Engine, site: Site, conversation: int, versions: Sequence[Manifest]) -> Contents:
    """The files of some versions, each of another unit. Raises Refused where JP could not load one of them."""
    contents = {}
    for one in versions:
        files = [(name, raw) for name, raw, _ in engine.history.contents(site.id, conversation, one.version)]
        fault = fault_in({one.unit: files})
        if fault:
            name = id_text(conversation)
            raise Refused(
                f"version {one.version} is not valid: {fault}",
                where=name,
                hint=f"convsync history {name}, then: convsync restore {name} --version VERSION",
                code="not-valid",
            )
        contents[one.unit] = files
    return contents


def _is_current(durable: Copy | None, manifest: Manifest) -> bool:
    """The durable copy holds this content now."""
    if durable is None:
        return False
    if manifest.unit is not Unit.EXTRAS:
        return durable.unit(manifest.unit).digest == manifest.digest
    have = {e.path: e for e in durable.extras}
    try:
        return all(f.name in have and digest_of_extra(durable, have[f.name]).hex() == f.digest for f in manifest.files)
    except (OSError, fs.ChangedError, fs.OddFileError):
        return False
