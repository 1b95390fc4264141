"""Who is told what needs a person, when: the desktop, and the command of `notify.command`. `tidings` decides.

The desktop gets ids, kinds and counts of what needs a person; the command gets every new entry as in `status --json`.
What was told is in the state, so that a restart tells nothing twice.
"""

from __future__ import annotations

import contextlib
import json
import time
from typing import TYPE_CHECKING

from convsync_agent import desktop, logs, publish
from convsync_agent.advice import as_attention, deaf
from convsync_agent.errands import Errands
from convsync_agent.ledger import key_of
from convsync_agent.results import UNWRITTEN
from convsync_agent.site import TreeState
from convsync_agent.state import Attention
from convsync_agent.tidings import DEGRADED, Key, Tidings, Told, message, tidings

if TYPE_CHECKING:
    from convsync_agent.agenda import Agenda
    from convsync_agent.aside import Aside
    from convsync_agent.engine import Engine
    from convsync_agent.lookout import Lookout

URGENT = publish.ATTENTION | publish.DEGRADED | {DEGRADED}
COMMAND_SECONDS, DESKTOP_SECONDS = 30.0, 10.0
GONE = "the worktree is gone"

log = logs.get("herald")


class Herald:
    """Only the loop thread calls it; `look` costs next to nothing while nothing changed."""

    def __init__(self) -> None:
        self._errands = Errands()
        self._told: Told | None = None
        self._since: dict[Key, int] = {}
        self._seen: object = None
        self._again_ms: int | None = None
        self._failing: dict[str, bool] = {}

    def wait(self) -> float:
        """Seconds until something is due to be told."""
        return float("inf") if self._again_ms is None else max(0.0, self._again_ms / 1000 - time.time())

    def look(self, engine: Engine, agenda: Agenda, aside: Aside, lookout: Lookout) -> None:
        """Tell what is new, if it is time."""
        settings = engine.settings
        unwatched = lookout.health.deaf_roots()
        sites = engine.sites | aside.sites
        trees = [(s.id, t.worktree.path, t.state, t.since_ms) for s in sites.values() for t in s.trees.values()]
        silent = [s.id for s in sites.values() if s.silo_identity is None]
        seen = (id(engine.ledger), engine.ledger.version, unwatched, trees, silent, settings)
        if seen == self._seen and self.wait() > 0:
            return
        self._seen, self._again_ms = seen, None
        if not settings.notify_desktop and not settings.notify_command:
            return
        now_ms = time.time_ns() // 1_000_000
        more = [*deaf(unwatched, now_ms), *_missing(trees)]
        entries = engine.ledger.entries | {key_of(e): e for e in more}
        verdict = _verdict(entries, agenda, missing_silo=bool(silent))
        keys = entries.keys() | ({(DEGRADED, "", 0, "")} if verdict == DEGRADED else set())
        self._since = {k: self._since.get(k, now_ms) for k in keys}
        before = engine.state.told() if self._told is None else self._told
        found = tidings(self._since, before, now_ms)
        if found.tell and not self._send(engine, found, entries, verdict):
            return  # nobody is there; as soon as somebody is, or something changes, it is told
        self._again_ms = found.again_ms
        self._told = found.told
        if found.told != before:
            with contextlib.suppress(OSError), engine.state.transaction():  # else a restart tells it again
                engine.state.put_told(before, found.told)

    def close(self) -> None:
        self._errands.close()

    def _send(self, engine: Engine, found: Tidings, entries: dict[Key, Attention], verdict: str) -> bool:
        """Start what tells it. False: there is neither a desktop nor a command."""
        by = []
        urgent = [k for k in found.tell if k[0] in URGENT]
        title, text = message(urgent)
        shown = (
            desktop.notification(title, text, urgent=verdict == DEGRADED) if engine.settings.notify_desktop else None
        )
        if shown and urgent:
            by.append("desktop")
            self._errands.send(shown, b"", limit=DESKTOP_SECONDS, ended=lambda why: self._ended("desktop", why))
        command = engine.settings.notify_command
        if command:
            by.append("command")
            new = [as_attention(entries[k]) for k in found.tell if k in entries]
            said = json.dumps({"schema": 1, "verdict": verdict, "attention": new}, ensure_ascii=False) + "\n"
            self._errands.send(
                ["/bin/sh", "-c", command],
                said.encode("utf-8", "backslashreplace"),
                limit=COMMAND_SECONDS,
                ended=lambda why: self._ended("command", why),
            )
        if by:
            log.info("told", kinds=sorted({k[0] for k in found.tell}), entries=len(found.tell), by=by)
        return bool(shown or command)

    def _ended(self, what: str, why: str) -> None:
        """Called by the thread that waited for it. A failure is told once, until it works again."""
        if why and not self._failing.get(what):
            log.warning("cannot tell", by=what, why=why)
        self._failing[what] = bool(why)


def _verdict(entries: dict[Key, Attention], agenda: Agenda, *, missing_silo: bool) -> str:
    unwritten = any(e.detail.startswith(UNWRITTEN) for e in entries.values())
    pending = bool(agenda.size) or any(agenda.deferred.values())
    return publish.verdict({k[0] for k in entries}, missing_silo=missing_silo, unwritten=unwritten, pending=pending)


def _missing(trees: list[tuple[str, str, TreeState, int]]) -> list[Attention]:
    return [
        Attention("missing", workspace, 0, path, since_ms, GONE, lasting=False)
        for workspace, path, state, since_ms in trees
        if state is TreeState.MISSING
    ]
