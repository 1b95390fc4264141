"""Session files that nobody needs any more: JP's clean-up, by its rules, when a person asks (contract 8.4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from convsync_agent import layout, locks
from convsync_agent.errors import StorageProblem
from convsync_agent.index import load_index
from convsync_agent.model import Readable
from convsync_agent.session import Session, Trail, cleaned
from convsync_agent.sessions import Found, Mappings, alive
from convsync_agent.site import Site

Exists = Callable[[int], bool]


@dataclass(slots=True)
class Tidied:
    """What became, or would become, of the session files. `broken`: path and why it is none; left as it is."""

    removed: list[Session] = field(default_factory=list)
    shortened: list[tuple[Session, int]] = field(default_factory=list)
    renamed: list[Session] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)


def tidy(site: Site, *, dry: bool) -> Tidied:
    """Remove the sessions that are over, and from the others what exists nowhere. Raises StorageProblem.

    What was written to meanwhile is left for the next time.
    """
    if site.silo_state is not Readable.YES:
        where = site.silo.root.path
        raise StorageProblem("the silo is not there", where=where, hint="convsync status", code="missing")
    mappings = Mappings(site.silo.root.path)
    there = existing(site)
    done = Tidied()
    for found in mappings.all():
        if found.trail is None:
            done.broken.append((mappings.path(found.key), found.fault))
        elif found.key in (found.trail.session.key, found.trail.session.legacy_key):
            _one(mappings, found, found.trail, done, lambda c: c in there or _in_work(site, c), dry=dry)
        else:
            done.broken.append((mappings.path(found.key), "it holds a session of another name"))
    if not dry:
        mappings.sweep()
    return done


def existing(site: Site) -> set[int]:
    """Every conversation that any root has, live or archived; of a root that cannot be listed, what it held last."""
    unknown: set[str] = set()
    there = {e.id for e in load_index(site, lambda path, _: unknown.add(path))}
    for tree in site.trees.values():
        if tree.worktree.path in unknown or tree not in site.watched():
            there |= tree.view.records.keys() | tree.held.keys()
    return there


def _in_work(site: Site, conversation: int) -> bool:
    """Somebody who writes it has left a readable lock file: it may be about to exist."""
    holders = (locks.holder_of(layout.lock_path(root, conversation)) for root in (site.silo.root.path, *site.stores))
    return any(h is not None and h.pid is not None and h.acquired_at is not None for h in holders)


def _one(mappings: Mappings, found: Found, trail: Trail, done: Tidied, exists: Exists, *, dry: bool) -> None:
    session = trail.session
    left = cleaned(trail, exists, alive=alive(session.pid))
    if left is None:
        if dry or mappings.remove(found):
            done.removed.append(session)
        return
    fewer = len(trail.history) - len(left.history)
    if found.key != session.key:
        now = mappings.read(session.key)
        if now is None and (dry or mappings.rename(found, left)):
            done.renamed.append(session)
        elif now and now.trail and now.trail.session == session and (dry or mappings.remove(found)):
            done.removed.append(session)  # it goes on under its new name
        return
    if fewer and (dry or mappings.rewrite(found, left)):
        done.shortened.append((session, fewer))
