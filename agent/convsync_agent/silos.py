"""Create a silo complete, and fold sibling silos into one (contract 2.3, 2.4, 10.7; design 5).

JP imports a workspace's conversations only when it finds no silo, so a silo that we create must be
complete before it gets its name. And JP merges siblings by one mtime over all entries and deletes the
rest; we merge unit by unit and delete nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace

from convsync_agent import flocks, fs, kernel, layout
from convsync_agent.dirs import ensure_private
from convsync_agent.engine import Engine
from convsync_agent.errors import LockHeld, Refused, storage_problem
from convsync_agent.extras import DRAFT
from convsync_agent.model import UNSTABLE_NS, ImportPolicy, Kind, Root
from convsync_agent.outcome import Outcome
from convsync_agent.scan import View, list_root
from convsync_agent.settling import settle
from convsync_agent.site import Site, Tree
from convsync_agent.state import Worktree

BUILDING = ".convsync-"
SESSIONS = "sessions"
MADE_ABOVE = 3  # directories: JP's own, the user's data, and what holds that


def start_silo(user_data: str, store: str) -> str:
    """An empty silo under a name that no JP takes for one: it ends neither in `-<id>` nor in the id."""
    parent = layout.workspaces_dir(user_data)
    try:
        os.makedirs(parent, exist_ok=True)
        path = os.path.join(parent, f"{BUILDING}{os.getpid()}-{time.time_ns()}.new")
        os.mkdir(path)
        os.mkdir(os.path.join(path, fs.CONVERSATIONS))
        os.symlink(store, os.path.join(path, layout.STORAGE_LINK))
    except OSError as error:
        raise storage_problem(error, parent, "create the silo") from None
    return path


def finish_silo(engine: Engine, site: Site, name: str) -> bool:
    """Give a complete silo its name, without replacing. False: JP made one meanwhile (then merge into that).

    RACE: JP names its silo `<slug>-<id>`; one made between the look and the rename (microseconds) stands
    beside ours until the next `register` folds them.
    """
    if layout.matching_silos(site.workspace.user_data, site.id):
        return False
    old = site.silo.root.path
    parent = os.path.dirname(old)
    new = os.path.join(parent, name)
    with fs.opened_dir(old) as fd:
        kernel.fsync(fd)
    _fsync_above(parent)
    with fs.opened_dir(parent) as fd:
        try:
            kernel.rename_new(fd, os.path.basename(old), fd, name)
        except FileExistsError:
            return False
        kernel.fsync(fd)
    with engine.state.transaction():
        engine.state.rename_root(old, new)
    site.silo.root = Root(Kind.SILO, new)
    site.workspace = site.workspace._replace(silo=new)
    return True


def _fsync_above(path: str) -> None:
    """The directories above may be as new as the silo: without their entries nothing of it would be found again."""
    for _ in range(MADE_ABOVE):
        path = os.path.dirname(path)
        with contextlib.suppress(PermissionError), fs.opened_dir(path) as fd:  # one not ours to read, we did not make
            kernel.fsync(fd)


def sweep_unfinished(user_data: str, data_dir: str) -> None:
    """Move silos whose creation died into our trash: copies all, but nothing goes unread."""
    parent = layout.workspaces_dir(user_data)
    with contextlib.suppress(OSError):
        for name in os.listdir(parent):
            pid = name.removeprefix(BUILDING).partition("-")[0]
            if name.startswith(BUILDING) and name.endswith(".new") and pid.isdigit() and not kernel.alive(int(pid)):
                to_trash(os.path.join(parent, name), data_dir)


def merge(engine: Engine, site: Site, loser: str, data_dir: str) -> Outcome:
    """Fold one sibling silo into the site's: newest unit wins, what loses is in the history, the rest moves.

    Raises LockHeld while a JP works in the sibling, Refused when something could not be taken over.
    """
    if flocks.all_busy(loser):
        raise LockHeld(
            "a running jp uses a second silo of this workspace", where=loser, hint="try again when it is done"
        )
    view = View(Root(Kind.WORKTREE, loser), list_root(loser))
    row = Worktree(loser, site.id, refresh=False, paused=False, registered_ms=0, device=None, inode=None)
    tree = Tree(row, view, identity=layout.identity(loser))
    merging = Site(site.workspace, site.silo, {loser: tree})
    site.silo.listing = list_root(site.silo.root.path)
    ids = view.listing.conversations() | view.listing.odd.keys()
    with taking_all(engine):
        outcome = settle(engine, merging, ids)
    try:
        if outcome.failed:
            problem = outcome.failed[0].problem
            raise Refused(
                f"could not merge a second silo: {problem.detail}",
                where=loser,
                hint="free some space, then: convsync migrate",
            )
        if any(d.reason == "locked" for d in outcome.deferred):
            raise LockHeld("a conversation is locked", where=loser, hint="try again when jp is done")
        if any(d.again_ns <= UNSTABLE_NS for d in outcome.deferred):
            raise LockHeld("a conversation is being written", where=loser, hint="try again in a moment")
    finally:
        with engine.state.transaction():
            engine.state.forget_root(loser)
        for key in [k for k in engine.ledger.entries if k[3] == loser]:
            del engine.ledger.entries[key]
    _move_rest(loser, site.silo.root.path, view)
    to_trash(loser, data_dir)
    return outcome


@contextlib.contextmanager
def taking_all(engine: Engine) -> Iterator[None]:
    """What was durable, or belongs into a new silo, is taken over whatever the import policy (contract 10.7)."""
    before, engine.policy = engine.policy, replace(engine.policy, imports=ImportPolicy.AUTO)
    try:
        yield
    finally:
        engine.policy = before


def _move_rest(loser: str, target: str, view: View) -> None:
    """Sessions one by one, drafts, and every other top-level entry whose name is free."""
    with fs.opened_dir(loser) as old, fs.opened_dir(target) as new:
        for name in fs.list_names(old):
            if name in (fs.CONVERSATIONS, layout.STORAGE_LINK, flocks.LOCKS):
                continue
            if name == SESSIONS:
                _move_sessions(old, new)
                continue
            with contextlib.suppress(FileExistsError):
                kernel.rename_new(old, name, new, name)
    ours = list_root(target)
    for conversation, name in view.listing.live.items():
        with contextlib.suppress(FileExistsError, FileNotFoundError, KeyError):
            where = fs.opened_partition(loser, archived=False), fs.opened_partition(target, archived=False)
            with (
                where[0] as a,
                where[1] as b,
                fs.opened_dir(name, dir_fd=a) as one,
                fs.opened_dir(ours.live[conversation], dir_fd=b) as two,
            ):
                kernel.rename_new(one, DRAFT, two, DRAFT)


def _move_sessions(old: int, new: int) -> None:
    fs.make_dir(SESSIONS, new)
    with fs.opened_dir(SESSIONS, dir_fd=old) as a, fs.opened_dir(SESSIONS, dir_fd=new) as b:
        for name in fs.list_names(a):
            with contextlib.suppress(FileExistsError):
                kernel.rename_new(a, name, b, name)


def to_trash(path: str, data_dir: str) -> str:
    """Move a silo out of JP's sight, never deleting: to our trash, or beside it where that is another disk."""
    name = f"{time.time_ns() // 1_000_000}-{os.path.basename(path).lstrip('.')}"
    trash = os.path.join(data_dir, "trash", "silos")
    ensure_private(trash)
    target = os.path.join(trash, name)
    try:
        os.rename(path, target)
    except OSError:
        aside = os.path.join(os.path.dirname(path), ".convsync-trash")
        os.makedirs(aside, mode=0o700, exist_ok=True)
        target = os.path.join(aside, name + ".silo")
        os.rename(path, target)
    return target


def discard_copy(path: str) -> None:
    """Remove a silo that we built and nobody ever saw: used only when its creation is refused half-way."""
    shutil.rmtree(path, ignore_errors=True)
