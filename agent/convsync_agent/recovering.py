"""`recover`: put back what a worktree held, because a person asks; into itself, or into another of its workspace."""

from __future__ import annotations

from dataclasses import dataclass, field

from convsync_agent.engine import Engine
from convsync_agent.errors import NotFound, Refused
from convsync_agent.homecoming import sort_out
from convsync_agent.projecting import never_written
from convsync_agent.registry import find_registered
from convsync_agent.results import Done, Failed
from convsync_agent.returning import postponed, put_back
from convsync_agent.settling import settle
from convsync_agent.site import Site, Tree, TreeState

STATES = {
    TreeState.MISSING: ("nothing is there", "make it again, or: convsync recover {path} --into ANOTHER"),
    TreeState.FOREIGN: ("another workspace has that path now", "convsync recover {path} --into ANOTHER"),
    TreeState.PAUSED: ("it is paused", "convsync resume {path}"),
    TreeState.ERROR: ("it cannot be used as a worktree", "convsync status"),
}


@dataclass(slots=True)
class Recovered:
    """What was put back, or would be; what was there already; what could not be, and why."""

    worktree: str
    into: str
    put: list[int] = field(default_factory=list)
    found: list[int] = field(default_factory=list)
    left: dict[int, str] = field(default_factory=dict)
    failed: bool = False


def recover_held(engine: Engine, path: str, into: str | None, *, dry: bool) -> Recovered:
    """Put back what the worktree at `path` held. `dry` writes nothing. Raises NotFound, Refused."""
    engine.holdings.dry = dry
    site, source = _tree(engine, path, "convsync status shows the registered ones")
    _, target = (site, source) if into is None else _tree(engine, into, f"convsync register {into}")
    if target.root.path not in site.trees:
        raise Refused(
            "the two worktrees are of different workspaces",
            where=target.worktree.path,
            hint=f"name one of workspace {site.id}",
            code="other-workspace",
        )
    engine.rescan(site)
    _require_usable(source, target)
    here, durable = target.view.listing.conversations(), site.silo.listing.live.keys()
    known = sort_out(source.held, here, durable, None)
    done = Recovered(source.worktree.path, target.worktree.path, found=sorted(known.found))
    done.left = dict.fromkeys(sorted(known.waiting), "no live durable copy")
    if dry:
        done.put = sorted(known.restorable)
        return done
    results = put_back(engine, site, target, known.restorable)
    done.put = sorted(r.action.conversation for r in results if isinstance(r, Done))
    done.failed = any(isinstance(r, Failed) for r in results)
    done.left |= dict.fromkeys(sorted(known.restorable - set(done.put)), "unstable") | postponed(results)
    engine.holdings.settle(source, known.found | set(done.put))
    settle(engine, site, set(done.put))
    return done


def _tree(engine: Engine, path: str, hint: str) -> tuple[Site, Tree]:
    try:
        row = find_registered(engine, path)
    except NotFound as error:
        raise NotFound(error.message, where=error.where, hint=hint) from None
    site = engine.sites[row.workspace]
    return site, next(t for t in site.trees.values() if t.worktree.path == row.path)


def _require_usable(source: Tree, target: Tree) -> None:
    if target.state is not TreeState.WATCHING:
        said, hint = STATES[target.state]
        where = target.worktree.path
        raise Refused(
            f"nothing can be put back: {said}",
            where=where,
            hint=hint.format(path=source.worktree.path),
            code=str(target.state),
        )
    if not target.worktree.refresh:
        raise never_written(target, "nothing can be put back: it")
