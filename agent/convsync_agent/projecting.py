"""Create and delete one projection because a person said so, and remember that it was said (contract 6.4).

Both happen while JP's lock is held by the caller. The durable copy is never touched.
"""

from __future__ import annotations

import time

from convsync_agent import fs
from convsync_agent.chosen import being_written, look
from convsync_agent.engine import Engine
from convsync_agent.errors import NotFound, Refused
from convsync_agent.imported import Importer
from convsync_agent.locks import HeldLock
from convsync_agent.model import BOTH, Copy, FileCopy, Grade, Partition
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
    require_there(tree)
    copies = look(engine, site, conversation)
    here = [c for c in copies if c.root == tree.root]
    if any(c.partition is Partition.ARCHIVED for c in copies if c.root.is_silo or c.root == tree.root):
        raise archived(conversation)
    if here:
        _remember(engine, tree, conversation, unprojected=False)
        return False
    silo = next((c for c in copies if c.root.is_silo), None)
    if silo is None:
        raise _not_durable(conversation)
    _require_sound(silo)
    action = Import(conversation, tree.root, Partition.LIVE, silo.name, silo, silo, why="projected")
    importer = Importer(site.silo.root, lambda: site.stores, _read, 0, into=tree.root)
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

    Refused while what it holds is not durable: then it is no projection of anything.
    """
    require_there(tree)
    copies = look(engine, site, conversation)
    here = [c for c in copies if c.root == tree.root]
    silo = next((c for c in copies if c.root.is_silo), None)
    if not here:
        if silo is not None:
            _remember(engine, tree, conversation, unprojected=True)
        return False
    if any(c.partition is Partition.ARCHIVED for c in here):
        raise archived(conversation)
    if silo is None:
        raise _not_durable(conversation)
    _require_sound(silo)
    for copy in here:
        for result in keep_unsafe(engine, site, copy, silo, "unprojected"):
            require_done(site, conversation, result)
    _remember(engine, tree, conversation, unprojected=True)
    try:
        for copy in here:
            withdraw(engine, site, copy, lock, safe=safe_digests([silo, copy]), why="unprojected")
    except (fs.ChangedError, fs.OddFileError):
        raise being_written(conversation) from None
    forget(engine, site, tree.view, conversation)  # that it went says nothing about the durable copy
    _log(engine, site, "unproject", conversation, tree, 0)
    return True


def require_there(tree: Tree) -> None:
    if tree.state is not TreeState.WATCHING:
        hint = "convsync status" if tree.state is not TreeState.PAUSED else f"convsync resume {tree.worktree.path}"
        raise Refused(f"that worktree is {tree.state}", where=tree.worktree.path, hint=hint, code=str(tree.state))


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


def _read(copy: Copy, file: FileCopy) -> bytes:
    with fs.opened_copy(copy) as fd:
        raw, stamp = fs.read_file(file.name, fd)
    if stamp != file.stamp:
        raise fs.ChangedError
    return raw
