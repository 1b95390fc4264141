"""What a start finds of an earlier end: pending ages, a half-done rename, staging, lock files of ours."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from convsync_agent import abandoned, fs, halfway, kernel, locks, piecewise, staging
from convsync_agent.engine import Engine
from convsync_agent.locks import BusyError, conversation_lock
from convsync_agent.model import BASE_CONFIG, EVENTS
from convsync_agent.results import Pending
from convsync_agent.scan import View, list_root
from convsync_agent.site import Site


def recover(engine: Engine) -> int:
    """Finish or clear everything a crash left. Returns how many things there were."""
    return sum(recover_site(engine, site) for site in engine.sites.values()) + abandoned.sweep(engine)


def recover_site(engine: Engine, site: Site) -> int:
    """The same for one workspace. Its roots are listed only where something is left."""
    count = 0
    if _left(engine, site):
        _list(site)  # all of them first: what any root has need not go into the history
        count = finish_pending(engine, site)
        if count:
            _list(site)
        for view in site.views():
            count += staging.sweep_leftovers(view.root, engine.knower.saver(site))
    return count + locks.remove_own_leftovers(site.silo.root.path)


def _left(engine: Engine, site: Site) -> bool:
    """Something is pending, or staged in one of the roots.

    RACE: another command of ours dies right after this look, and what it staged stays (until the next start, or the
    next command that looks). Nothing of it is lost by staying.
    """
    pending = any(row[0] == site.id for row in engine.state.pending())
    return pending or any(staging.is_there(view.root) for view in site.views())


def finish_pending(engine: Engine, site: Site) -> int:
    """What a process that died had begun to place is finished, by the listings there are. How much it was."""
    return sum(_finish(engine, *row) for row in engine.state.pending() if row[0] == site.id)


def _list(site: Site) -> None:
    for view in site.views():
        with contextlib.suppress(OSError):
            view.listing = list_root(view.root.path)


def _finish(engine: Engine, workspace: str, conversation: int, target: str, work: str) -> int:
    """What is pending is finished here, a half-placed unit and the ages: equal bytes would never repair those.

    A held lock: next time.
    """
    site = engine.sites.get(workspace)
    view = next((v for v in site.views() if v.root.path == target), None) if site else None
    if site is not None and view is not None:
        try:
            said = json.loads(work)
            with conversation_lock(site.silo.root.path, conversation, site.stores) as lock:
                lock.require()
                for unit in said["units"]:
                    halfway.finish(view, conversation, unit, lock)
                    _set_ages(view, conversation, unit)
                _rename(site, view, conversation, said.get("name_of"))
        except BusyError:
            return 0
        except (OSError, fs.ChangedError, fs.OddFileError):
            pass  # gone or changed since: the next reconcile decides on what is there now
    engine.ledger.drop_pending(workspace, [Pending(conversation, target, work)])
    return 1


def _set_ages(view: View, conversation: int, unit: Mapping[str, Any]) -> None:
    """Only where every file of the unit is the one that was being placed."""
    for place in view.listing.places(conversation):
        where = fs.opened_partition(view.root.path, archived=place.archived)
        with where as part, fs.opened_dir(place.name, dir_fd=part) as fd:
            there = {n: piecewise.digest_in(n, fd).hex() for n in unit["digests"]}
            packed = EVENTS in there and BASE_CONFIG not in there
            if packed and fs.stat_file(BASE_CONFIG, fd) is not None:
                continue  # the loser's base config is still there: the true age would let this mixture win
            if there == unit["digests"]:
                for name, age in unit["ages"].items():
                    fs.set_mtime(name, age, fd, sync=view.root.is_silo)


def _rename(site: Site, view: View, conversation: int, name_of: str | None) -> None:
    source = next((v for v in site.views() if v.root.path == name_of), None)
    if source is None:
        return
    theirs, ours = source.listing.places(conversation), view.listing.places(conversation)
    if len(theirs) == len(ours) == 1 and theirs[0].archived is ours[0].archived and theirs[0].name != ours[0].name:
        with fs.opened_partition(view.root.path, archived=ours[0].archived) as part:
            kernel.rename_new(part, ours[0].name, part, theirs[0].name)
