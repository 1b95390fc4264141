"""A unit that a death left half placed, finished from what was staged for it. One new file, one old: nobody wrote that.

A winner that lies in a root is placed again by the next reconcile. What a person restored lies in no root, so the
mixture would stay. Its other files lie in staging, under the name of a process that is gone, durable where the target
is the silo.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convsync_agent import fs, kernel, piecewise, staging
from convsync_agent.locks import HeldLock
from convsync_agent.model import BASE_CONFIG
from convsync_agent.scan import Place, View


def finish(view: View, conversation: int, unit: Mapping[str, Any], lock: HeldLock) -> bool:
    """Place the rest of `unit` (see `targets.pending_of`). False: nothing was half done, or it has changed since."""
    done = False
    for place in view.listing.places(conversation):
        done |= _finish_in(view, place, conversation, unit, lock)
    return done


def _finish_in(view: View, place: Place, conversation: int, unit: Mapping[str, Any], lock: HeldLock) -> bool:
    new: dict[str, str] = unit["digests"]
    old: dict[str, str | None] = unit.get("olds", {})
    where = fs.opened_partition(view.root.path, archived=place.archived)
    with where as part, fs.opened_dir(place.name, dir_fd=part) as fd:
        there = {n: _digest(n, fd) for n in {*new, *old}}
        rest = missing(new, old, there)
        if not rest:
            return False
        with staging.opened(view.root) as stage_fd:
            staged = _staged(conversation, {n: new[n] for n in rest if n in new}, stage_fd)
            if any(n in new and n not in staged for n in rest):
                return False
            for name in rest:
                lock.require()
                if name not in new:  # the loser's base config, which the winner does not have
                    kernel.rename_new(fd, name, stage_fd, staging.fresh_name(conversation, name))
                elif there[name] is None:
                    kernel.rename_new(stage_fd, staged[name], fd, name)
                elif not kernel.exchange(stage_fd, staged[name], fd, name):
                    fs.replace(stage_fd, staged[name], fd, name)
        if view.root.is_silo:
            kernel.fsync(fd)
    return True


def missing(new: Mapping[str, str], old: Mapping[str, str | None], there: Mapping[str, str | None]) -> list[str]:
    """What is still to be placed or, where it is not in `new`, taken out; in order, and nothing unless it was begun.

    Digests in hex by name, None where there is no such file: of the winner, of the loser, and of what is there.
    """
    begun = any(there[n] == new[n] != old.get(n) for n in new)
    rest = sorted((n for n in new if there[n] != new[n]), key=lambda n: (n != BASE_CONFIG, n))
    rest += [n for n in old if n not in new and there[n] is not None]
    if not begun or any(there[n] != old.get(n) for n in rest):
        return []
    return rest


def _digest(name: str, dir_fd: int) -> str | None:
    if fs.stat_file(name, dir_fd) is None:
        return None
    return piecewise.digest_in(name, dir_fd).hex()


def _staged(conversation: int, wanted: Mapping[str, str], stage_fd: int) -> dict[str, str]:
    """Where each wanted content lies in staging, by the name it is to have."""
    found = {}
    for name in fs.list_names(stage_fd):
        said = staging.left_over(name)
        ours = said is not None and said.conversation == conversation and said.file in wanted
        if said is not None and ours and _digest(name, stage_fd) == wanted[said.file]:
            found[said.file] = name
    return found
