"""A worktree that joins others: what it holds just as the silo does is known at once, and the others are left alone.

Mostly that is everything, as a new git worktree is made of what is there. Whatever is in any way different is left
to a reconciliation of the whole workspace, for its copies in other worktrees have a say in it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from convsync_agent import fs, scan
from convsync_agent.engine import Engine
from convsync_agent.model import BOTH, Copy, Grade, Partition, Readable
from convsync_agent.records import pack, settled, unpack
from convsync_agent.scan import View
from convsync_agent.site import Site, Tree, TreeState


def join(engine: Engine, site: Site, tree: Tree) -> bool:
    """Record each copy of `tree` that equals the durable one as in step. True: there is nothing else in it.

    Costs the content of this worktree and a few stats of the silo; both are listed. Raises OSError when the state
    cannot be written.
    """
    engine.locate(site)
    if tree.state is not TreeState.WATCHING or site.silo_state is not Readable.YES:
        return False
    try:
        for view in (site.silo, tree.view):
            view.listing = scan.list_root(view.root.path)
        rows = dict(_in_step(engine, site, tree.view))
    except (OSError, fs.ChangedError, fs.OddFileError):
        return False
    finally:
        engine.contents.clear()
    with engine.state.transaction():
        engine.state.put_records((site.id, tree.root.path, c, raw) for c, raw in rows.items())
    tree.view.records.update(rows)
    here = tree.view.listing
    return not here.odd and here.conversations() == rows.keys()


def _in_step(engine: Engine, site: Site, view: View) -> Iterator[tuple[int, bytes]]:
    """The records of all live copies that are exactly what the silo holds, and of which nothing is to be decided."""
    now = time.time_ns()
    open_for = {e.conversation for e in engine.ledger.entries.values() if e.workspace == site.id and e.kind != "behind"}
    for conversation in view.listing.live.keys() - open_for:
        durable = _durable(engine, site, conversation)
        places = view.listing.places(conversation)
        if durable is None or len(places) != 1:
            continue
        copy, dir_mtime = engine.eye.look(view.root, conversation, places[0], None)
        raw = pack(copy, dir_mtime, now)
        if settled(raw) and _equal(copy, durable, now):
            yield conversation, raw


def _durable(engine: Engine, site: Site, conversation: int) -> Copy | None:
    """The live durable copy, if it is as recorded and settled: its digests are known without reading it."""
    raw, places = site.silo.records.get(conversation), site.silo.listing.places(conversation)
    if raw is None or not settled(raw) or unpack(raw).archived or len(places) != 1:
        return None
    known = engine.eye.recall(site.silo.root, conversation, places[0], raw)
    return known[0] if known is not None else None


def _equal(copy: Copy, durable: Copy, now_ns: int) -> bool:
    """The same name, whole, valid, quiet, byte for byte, without unmanaged files, and not of the future."""
    units = [copy.unit(u) for u in BOTH]
    sound = copy.whole and not copy.extras and all(u.grade is Grade.VALID and u.quiet for u in units)
    same = (copy.name, copy.partition) == (durable.name, Partition.LIVE)
    known = all(u.mtime_ns <= now_ns for u in units)
    return sound and same and known and all(copy.unit(u).digest == durable.unit(u).digest for u in BOTH)
