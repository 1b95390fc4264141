"""Workspaces with a root that does not answer are set aside: touched by nobody, so that the others go on."""

from __future__ import annotations

import time

from convsync_agent import mounts
from convsync_agent.agenda import Agenda
from convsync_agent.engine import Engine
from convsync_agent.errors import UNWRITTEN
from convsync_agent.pulse import Pulse
from convsync_agent.site import Site, TreeState
from convsync_agent.state import Attention

PATIENCE = 2.0  # seconds; a busy disk that takes longer costs its workspace one rescan
AGAIN = 1.0
DETAIL = UNWRITTEN + "the file system does not answer; the workspace waits, the others go on"


class Aside:
    """Takes workspaces out of the engine and puts them back. They come back with a full rescan."""

    def __init__(self, ours: str) -> None:
        self.sites: dict[str, Site] = {}
        self._pulse = Pulse(ours)
        self._mounts = mounts.mount_table()

    def refresh(self, engine: Engine, agenda: Agenda) -> None:
        """Before a full rescan, which touches everything: what is mounted where may have changed."""
        table = mounts.mount_table()
        if table is None or table != self._mounts:
            self._mounts = table
            self._pulse.forget()
        self.check(engine, agenda)

    def wait(self) -> float:
        """Seconds until one that is set aside is asked again."""
        return AGAIN if self.sites else float("inf")

    def check(self, engine: Engine, agenda: Agenda, *, write: bool = False) -> None:
        """Ask every root: as a writer would find it when there is something to do, else only whether it is there."""
        self.sites = {k: s for k, s in self.sites.items() if k not in engine.sites}  # the registry was read anew
        known = engine.sites | self.sites
        roots = {k: _roots(s) for k, s in known.items()}
        # What is due in a moment counts, too: the work begins after this.
        write = write or not agenda.idle() or bool(self.sites)
        silent = self._pulse.silent({r for k in known for r in roots[k]}, write=write, patience=PATIENCE)
        for key in known:
            dead = roots[key] & silent
            if dead and key in engine.sites:
                self.sites[key] = engine.sites.pop(key)
                for root in sorted(dead):
                    now = time.time_ns() // 1_000_000
                    engine.ledger.tell(Attention("io", key, 0, root, now, DETAIL, lasting=False))
                agenda.touched = True
            elif not dead and key in self.sites:
                engine.sites[key] = self.sites.pop(key)
                agenda.rescan_all("answers again")


def _roots(site: Site) -> set[str]:
    return {site.silo.root.path} | {p for p, t in site.trees.items() if t.state is not TreeState.PAUSED}
