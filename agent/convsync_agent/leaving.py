"""`remove-worktree`: everything in it durable and read back, then git removes it. The promise outranks `--force`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from convsync_agent import fs, githead, layout, piecewise, registry
from convsync_agent.contest import OUT_OF_REACH
from convsync_agent.engine import Engine
from convsync_agent.errors import NotFound, Refused
from convsync_agent.extras import read_extra
from convsync_agent.githead import Git
from convsync_agent.model import BOTH, Copy, Extra, Unit
from convsync_agent.names import parse_dirname
from convsync_agent.receipt import Receipt, Trouble
from convsync_agent.recover import recover_site
from convsync_agent.settling import settle
from convsync_agent.site import Site, Tree, TreeState
from convsync_agent.verifying import verify

LOOKS = 5
WHY = "worktree removed"
HARMLESS = ("differs", "split", "held")  # JP could not load it, or would load another; its bytes are durable


@dataclass(slots=True)
class Left:
    """What was removed, and the receipts of what was read before. `kept`: conversations that only the history has."""

    worktree: str
    receipts: list[Receipt] = field(default_factory=list)
    kept: set[int] = field(default_factory=set)
    removed: bool = False


def leave(engine: Engine, path: str, *, force: bool, check: bool = False) -> Left:
    """Sync, verify, let git remove; with `check` all but that. Raises NotFound, and Refused with nothing removed."""
    git, trees = find_leaving(engine, path)
    done = Left(git.top)
    for _ in range(LOOKS):
        done.receipts = []
        before = [_make_durable(engine, site, tree, done, force=force) for site, tree in trees]
        # RACE: what is written between this look and git's removal (milliseconds, then as long as git takes) is
        # seen by a running agent only. It is told as `lost` when even that comes too late.
        if before == [_fingerprint(tree) for _, tree in trees]:
            break
    else:
        raise Refused("it is being written all the time", where=git.top, hint="stop who writes there, then again")
    if check:
        return done
    for site, _ in trees:
        engine.locate(site)
    registry.remove_git_worktree(git.common_dir, git.top, force=force)
    done.removed = True
    for site, _ in trees:
        engine.locate(site)
    return done


def find_leaving(engine: Engine, path: str) -> tuple[Git, list[tuple[Site, Tree]]]:
    """The linked git worktree at or above `path`, and what is registered in it: nothing where no `.jp` is.

    Raises NotFound, Refused.
    """
    at = os.path.realpath(path)
    if not os.path.isdir(at):
        raise NotFound("nothing is there", where=at, hint=f"convsync status, or: convsync unregister {path}")
    git = githead.find_git(at)
    trees = [(s, t) for s in engine.sites.values() for t in s.trees.values() if git and _within(t, git.top)]
    if not trees:
        _require_nothing_there(git.top if git else None, at)
    if git is None or git.git_dir == git.common_dir:
        raise Refused(
            "this is no linked git worktree; git does not remove it",
            where=at,
            hint=f"convsync verify {path}, then remove the directory",
            code="not-linked",
        )
    for _, tree in trees:
        if tree.state not in (TreeState.WATCHING, TreeState.PAUSED):
            raise Refused(f"it is {tree.state}", where=tree.worktree.path, hint="convsync status", code=str(tree.state))
    return git, sorted(trees, key=lambda pair: pair[1].worktree.path)


def _require_nothing_there(top: str | None, path: str) -> None:
    """Raises NotFound for a `.jp` that nobody registered, wherever in the worktree: it would go unread."""
    for at, dirs, _ in os.walk(top) if top else [(path, [layout.STORE], [])]:
        if layout.STORE in dirs:
            raise NotFound("not a registered worktree", where=at, hint=f"convsync register {at}")
        dirs[:] = [d for d in dirs if d != ".git"]


def _within(tree: Tree, top: str) -> bool:
    return tree.worktree.path == top or tree.worktree.path.startswith(top + "/")


def _make_durable(engine: Engine, site: Site, tree: Tree, done: Left, *, force: bool) -> tuple[object, ...]:
    """Sync and read back; returns what it looked like before it was read. `force` keeps what is not durable.

    Raises Refused with what is not durable.
    """
    recover_site(engine, site)
    settle(engine, site, engine.rescan(site))
    before = _fingerprint(tree)
    receipt = _verify(engine, site, tree)
    loose = _loose(engine, site, tree, receipt.problems)
    if loose and force:
        wanted = {t.conversation for t in loose if t.conversation is not None}
        done.kept |= {c for c in sorted(wanted) if _keep(engine, site, tree, c)}
        receipt = _verify(engine, site, tree)
        loose = _loose(engine, site, tree, receipt.problems)
    if loose:
        raise refusal(tree, loose, force=force)
    done.receipts.append(receipt)
    return before


def _verify(engine: Engine, site: Site, tree: Tree) -> Receipt:
    return verify([site], engine.history, list(engine.ledger.entries.values()), only=tree)


def refusal(tree: Tree, loose: Sequence[Trouble], *, force: bool) -> Refused:
    """What is not durable: the first few by id."""
    said = [f"jp-c{t.conversation}: {t.detail}" if t.conversation is not None else t.detail for t in loose]
    more = f"; and {len(said) - 3} more" if len(said) > 3 else ""
    path = tree.worktree.path
    first = "resume" if tree.worktree.paused else "sync"
    hint = f"convsync {first} {path}, then again" + ("" if force else f"; or keep it in the history: --force {path}")
    return Refused(f"not durable: {'; '.join(said[:3])}{more}", where=path, hint=hint, code="not-durable")


def _loose(engine: Engine, site: Site, tree: Tree, problems: Iterable[Trouble]) -> list[Trouble]:
    """What would be gone with the worktree."""
    found = []
    for trouble in problems:
        conversation = trouble.conversation
        reached = conversation is None or not _out_of_reach(engine, tree, conversation)
        if trouble.kind not in HARMLESS or not reached:
            found.append(trouble)
    return found + _trashed(engine, site, tree)


def _out_of_reach(engine: Engine, tree: Tree, conversation: int) -> bool:
    """A link, a device, something unreadable stands for a part of it: what that is cannot be kept."""
    copies = _copies(engine, tree, conversation)
    odd = conversation in tree.view.listing.odd or len(copies) < len(tree.view.listing.places(conversation))
    return odd or any(c.unit(u).grade in OUT_OF_REACH for c in copies for u in BOTH)


def _copies(engine: Engine, tree: Tree, conversation: int) -> list[Copy]:
    found = []
    for place in tree.view.listing.places(conversation):
        try:
            found.append(engine.eye.look(tree.root, conversation, place, None)[0])
        except OSError:
            continue
    return found


def _keep(engine: Engine, site: Site, tree: Tree, conversation: int) -> bool:
    """Every file of it into the history, as it is. False: some of it cannot be read."""
    try:
        for copy in _copies(engine, tree, conversation):
            for unit in BOTH:
                files = [Extra(f.name, f.stamp) for f in copy.unit(unit).files if f.stamp]
                _keep_files(engine, site, copy, unit, files)
            _keep_files(engine, site, copy, Unit.EXTRAS, copy.extras)
    except (OSError, fs.ChangedError, fs.OddFileError):
        return False
    return True


def _keep_files(engine: Engine, site: Site, copy: Copy, unit: Unit, files: Sequence[Extra]) -> None:
    read = [(f.path, *read_extra(copy, f)) for f in files]
    if read:
        engine.knower.keep(site.id, copy, unit, [(path, raw, stamp.mtime_ns) for path, raw, stamp in read], WHY)


def _trashed(engine: Engine, site: Site, tree: Tree) -> list[Trouble]:
    """What JP's sanitizer moved aside in this worktree and nobody has kept (contract 10)."""
    loose = []
    try:
        with fs.opened_partition(tree.root.path, archived=False) as live, fs.opened_dir(fs.TRASH, dir_fd=live) as trash:
            for name in fs.list_names(trash):
                conversation = parse_dirname(name)
                if conversation is not None and not _is_kept(engine, site, conversation, name, trash):
                    detail = "JP moved it to the trash of this worktree, and its bytes are nowhere else"
                    loose.append(Trouble(conversation, tree.worktree.path, "not-durable", detail))
    except FileNotFoundError:
        return []
    except OSError:
        return [Trouble(None, tree.worktree.path, "io", "the trash of this worktree cannot be read")]
    return loose


def _is_kept(engine: Engine, site: Site, conversation: int, name: str, trash: int) -> bool:
    try:
        with fs.opened_dir(name, dir_fd=trash) as fd:
            found = [piecewise.digest_in(f, fd).hex() for f in fs.list_names(fd) if f != "TRASHED.md"]
    except (OSError, fs.ChangedError, fs.OddFileError):
        return False
    return all(engine.history.has_content(site.id, conversation, digest) for digest in found)


def _fingerprint(tree: Tree) -> tuple[object, ...]:
    """The stamp of everything below `conversations/`. Raises OSError."""
    found: list[object] = []
    for at, dirs, files in os.walk(os.path.join(tree.root.path, fs.CONVERSATIONS)):
        dirs[:] = sorted(d for d in dirs if d != layout.STAGING)
        for name in sorted(files):
            with contextlib.suppress(FileNotFoundError):
                stat = os.stat(os.path.join(at, name), follow_symlinks=False)
                found.append((at, name, stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_ctime_ns))
    return tuple(found)
