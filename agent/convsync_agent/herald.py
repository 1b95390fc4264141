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
from convsync_agent.advice import as_attention
from convsync_agent.concerns import Concerns, concerns, token
from convsync_agent.messengers import Messengers
from convsync_agent.tidings import DEGRADED, Key, Tidings, Told, message, tidings

if TYPE_CHECKING:
    from convsync_agent.agenda import Agenda
    from convsync_agent.aside import Aside
    from convsync_agent.engine import Engine
    from convsync_agent.lookout import Lookout

URGENT = publish.ATTENTION | publish.DEGRADED | {DEGRADED}
COMMAND_SECONDS, DESKTOP_SECONDS = 30.0, 10.0

log = logs.get("herald")


class Herald:
    """Only the loop thread calls it; `look` costs next to nothing while nothing changed."""

    def __init__(self) -> None:
        self._messengers = Messengers()
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
        seen = (token(engine, aside, lookout), settings)
        if seen == self._seen and self.wait() > 0:
            return
        self._seen, self._again_ms = seen, None
        if not settings.notify_desktop and not settings.notify_command:
            return
        now = concerns(engine, agenda, aside, lookout)
        keys = now.entries.keys() | ({(DEGRADED, "", 0, "")} if now.verdict == DEGRADED else set())
        now_ms = time.time_ns() // 1_000_000
        self._since = {k: self._since.get(k, now_ms) for k in keys}
        before = engine.state.told() if self._told is None else self._told
        found = tidings(self._since, before, now_ms)
        if found.tell and not self._send(engine, found, now):
            return  # nobody is there; as soon as somebody is, or something changes, it is told
        self._again_ms = found.again_ms
        self._told = found.told
        if found.told != before:
            with contextlib.suppress(OSError), engine.state.transaction():  # else a restart tells it again
                engine.state.put_told(before, found.told)

    def close(self) -> None:
        self._messengers.close()

    def _send(self, engine: Engine, found: Tidings, now: Concerns) -> bool:
        """Start what tells it. False: there is neither a desktop nor a command."""
        by = []
        urgent = [k for k in found.tell if k[0] in URGENT]
        title, text = message(urgent)
        shown = (
            desktop.notification(title, text, urgent=now.verdict == DEGRADED)
            if engine.settings.notify_desktop
            else None
        )
        if shown and urgent:
            by.append("desktop")
            self._messengers.send(shown, b"", limit=DESKTOP_SECONDS, ended=lambda why: self._ended("desktop", why))
        command = engine.settings.notify_command
        if command:
            by.append("command")
            new = [as_attention(now.entries[k]) for k in found.tell if k in now.entries]
            said = json.dumps({"schema": 1, "verdict": now.verdict, "attention": new}, ensure_ascii=False) + "\n"
            self._messengers.send(
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
