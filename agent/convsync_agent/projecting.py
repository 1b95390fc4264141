"""Create and delete one projection because a person said so, and remember that it was said (contract 6.4).

Both happen while JP's lock is held by the caller. The durable copy is never touched.
"""

from __future__ import annotations

import os
import time

from convsync_agent import fs, layout
from convsync_agent.chosen import being_written, look
from convsync_agent.engine import Engine
from convsync_agent.errors import NotFound, Refused
from convsync_agent.imported import Importer, read_as_seen
from convsync_agent.locks import HeldLock
from convsync_agent.model import BOTH, Copy, Grade, Partition
from convsync_agent.names import id_text
from convsync_agent.plan import Import
from convsync_agent.recording import forget
from convsync_agent.scan import Place
from convsync_agent.site import Site, Tree, TreeState
from convsync_agent.withdrawal import keep_unsafe, require_done, safe_digests, withdraw


def project(engine: Engine, site: Site, tree: Tree, conversation: int) -> bool:
    """Copy the managed files of the durable copy into a worktree that has none. False: it is there already.

    Never drafts, notes or other unmanaged files (contract 6.4). Raises NotFound, Refused, LockHeld, StorageProblem.
    """
    silo, here = _pair(engine, site, tree, conversation)
    if silo is None:
        raise _not_durable(conversation)
    if here is not None:
        _remember(engine, tree, conversation, unprojected=False)
        return False
    _require_sound(silo)
    action = Import(conversation, tree.root, Partition.LIVE, silo.name, silo, silo, why="projected")
    importer = Importer(site.silo.root, lambda: site.stores, read_as_seen, 0, into=tree.root)
    engine.staged_in.add(tree.root)
    [result] = list(importer.imports([action]))
    engine.contents.clear()
    require_done(site, conversation, result)
    tree.view.listing.put(conversation, (Place(silo.name, archived=False),))
    _remember(engine, tree, conversation, unprojected=False)
    _log(engine, site, "project", conversation, tree, action.size)
    return True


def unproject(engine: Engine, site: Site, tree: Tree, conversation: int, lock: HeldLock) -> bool:
    """Take the projection away; the conversation is local there from now on. False: there was none.

    Refused where there is no sound durable copy: then it is no projection of anything. What it has and the durable
    one has not is in the history before it goes.
    """
    silo, here = _pair(engine, site, tree, conversation)
    if silo is None:
        raise _not_durable(conversation)
    if here is None:
        _remember(engine, tree, conversation, unprojected=True)
        return False
    _require_sound(silo)
    for result in keep_unsafe(engine, site, here, silo, "unprojected"):
        require_done(site, conversation, result)
    _remember(engine, tree, conversation, unprojected=True)  # before it goes, or a death in between forgets why
    try:
        withdraw(engine, site, here, lock, safe=safe_digests([silo, here]), why="unprojected")
    except (fs.ChangedError, fs.OddFileError):
        raise being_written(conversation) from None
    finally:
        if os.path.lexists(layout.copy_path(here.root, here.partition, here.name)):
            _remember(engine, tree, conversation, unprojected=False)
    _remember(engine, tree, conversation, unprojected=True)  # and after: no look at it is younger than this
    forget(engine, site, tree.view, conversation)  # that it went says nothing about the durable copy
    _log(engine, site, "unproject", conversation, tree, 0)
    return True


def _pair(engine: Engine, site: Site, tree: Tree, conversation: int) -> tuple[Copy | None, Copy | None]:
    """The durable copy and the one in the worktree, as far as there are any. Raises Refused where that is no pair."""
    require_there(tree)
    copies = [c for c in look(engine, site, conversation) if c.root.is_silo or c.root == tree.root]
    for root in (site.silo.root, tree.root):
        if len([c for c in copies if c.root == root]) > 1:
            raise Refused(
                "two directories claim this conversation",
                where=f"{id_text(conversation)} in {root.path}",
                hint="remove one of them; convsync history has what both hold",
                code="doubled",
            )
    if any(c.partition is Partition.ARCHIVED for c in copies):
        raise archived(conversation)
    silo = next((c for c in copies if c.root.is_silo), None)
    return silo, next((c for c in copies if not c.root.is_silo), None)


def require_there(tree: Tree) -> None:
    """Raises Refused for a worktree that nobody may write into now, or ever."""
    if tree.state is not TreeState.WATCHING:
        hint = "convsync status" if tree.state is not TreeState.PAUSED else f"convsync resume {tree.worktree.path}"
        raise Refused(f"that worktree is {tree.state}", where=tree.worktree.path, hint=hint, code=str(tree.state))
    if not tree.worktree.refresh:
        raise never_written(tree, "that worktree")


def never_written(tree: Tree, what: str) -> Refused:
    """`what`: how the message begins."""
    return Refused(
        f"{what} is registered as never to be written into",
        where=tree.worktree.path,
        hint=f"convsync register {tree.worktree.path} (without --no-refresh), then again",
        code="no-refresh",
    )


def archived(conversation: int) -> Refused:
    name = id_text(conversation)
    return Refused("it is archived", where=name, hint=f"convsync unarchive {name}", code="archived")


def _not_durable(conversation: int) -> NotFound:
    name = id_text(conversation)
    return NotFound("it has no durable copy", where=name, hint=f"convsync import {name}", code="external")


def _require_sound(silo: Copy) -> None:
    fault = next((silo.unit(u).fault for u in BOTH if silo.unit(u).grade is not Grade.VALID), "")
    if fault or not silo.whole:
        name = id_text(silo.conversation)
        detail = fault or "a file of it is missing"
        raise Refused(f"the durable copy is not valid ({detail})", where=name, hint="convsync status", code="not-valid")


def _remember(engine: Engine, tree: Tree, conversation: int, *, unprojected: bool) -> None:
    """The intent outlives the command: what was taken away on purpose is not put back when its worktree returns."""
    root, now_ms = tree.root.path, time.time_ns() // 1_000_000
    with engine.state.transaction():
        if unprojected:
            engine.state.put_unprojected(root, conversation, now_ms)
            engine.state.drop_held(root, [conversation])
        else:
            engine.state.drop_unprojected(root, [conversation])
    if unprojected:
        tree.held.pop(conversation, None)


def _log(engine: Engine, site: Site, verb: str, conversation: int, tree: Tree, size: int) -> None:
    row = (time.time_ns() // 1_000_000, verb, site.id, conversation, "all", site.silo.root.path, tree.root.path, size)
    with engine.state.transaction():
        engine.state.log([row])
