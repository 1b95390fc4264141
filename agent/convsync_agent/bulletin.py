"""What the agent says of itself, and when: asked, or after a moment when something changed."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

from convsync_agent import logs, publish
from convsync_agent.agenda import Agenda
from convsync_agent.aside import Aside
from convsync_agent.engine import Engine
from convsync_agent.gauges import Gauges
from convsync_agent.herald import Herald
from convsync_agent.inventory import describe
from convsync_agent.lookout import Lookout
from convsync_agent.meter import Meter

PUBLISH_SECONDS = 0.25

log = logs.get("agent")


class Bulletin:
    """Owns `runtime.json` and the questions of others. Only the loop thread calls it."""

    def __init__(self, state_dir: str, runtime_dir: str) -> None:
        self.signals = os.path.join(runtime_dir, publish.SIGNALS)
        self.started_ms = time.time_ns() // 1_000_000
        self.last_error: dict[str, Any] | None = None
        self._state_dir = state_dir
        self.meter = Meter()
        self._herald = Herald()
        self._gauges = Gauges(self.meter, self.started_ms)
        self._pokes: set[str] = set()
        self._published: dict[str, Any] = {}
        self._published_at = 0.0

    def asked(self, name: str) -> None:
        """Somebody dropped a question into the signal directory."""
        self._pokes.add(name)

    def failed(self, code: str) -> None:
        """The newest failure is told until the next one."""
        self.last_error = {"code": code, "at": time.time_ns() // 1_000_000}
        self.meter.failed(code)

    def mended(self, code: str) -> None:
        """What failed with this code is over."""
        if self.last_error is not None and self.last_error["code"] == code:
            self.last_error = None

    def wait(self, *, touched: bool) -> float:
        """Seconds until something may have to be said."""
        return (
            0.0
            if self._pokes
            else min(PUBLISH_SECONDS if touched else 3600.0, self._herald.wait(), self._gauges.wait())
        )

    def close(self) -> None:
        """The agent stops: nothing that tells is left behind."""
        self._herald.close()
        self._gauges.close()
        publish.remove(self._state_dir)

    def publish(self, engine: Engine, agenda: Agenda, aside: Aside, lookout: Lookout, *, force: bool = False) -> None:
        """Write `runtime.json` when asked, or when something changed and a moment has passed; tell what is new."""
        self._herald.look(engine, agenda, aside, lookout)
        self._gauges.write(engine, agenda, aside, lookout)
        if self._pokes and agenda.ready():  # what came before the question is answered first
            return
        recent = time.monotonic() - self._published_at < PUBLISH_SECONDS
        if not (force or self._pokes or (agenda.touched and not recent)):
            return
        said = publish.header(self.started_ms, lookout.watches, agenda.size, self.last_error)
        workspaces = describe(engine, agenda.deferred, aside.sites)
        counted = self.meter.as_json(lookout.health.overflows, lookout.health.replacements)
        deaf = lookout.health.deaf_roots()
        document = publish.document(said, workspaces, deaf, self._pokes, self.signals, counted)
        agenda.touched = False
        self._published_at = time.monotonic()
        if document != self._published:
            try:
                publish.write(self._state_dir, document)
                self._published = document
            except OSError as error:
                log.warning("cannot publish", code=error.errno)
        for name in self._pokes:
            self.answered(name)
        self._pokes = set()

    def answered(self, name: str) -> None:
        """Take a signal file away."""
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.signals, name))
