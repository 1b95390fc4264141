"""Metrics for Prometheus: which there are, and when the file of `metrics.textfile` is written (docs/metrics.md)."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from convsync_agent import __version__, logs, textfile
from convsync_agent.advice import HINTS
from convsync_agent.concerns import Concerns, concerns, token
from convsync_agent.errors import reason_of
from convsync_agent.exposition import Family, histogram, labelled, render, single
from convsync_agent.site import TreeState

if TYPE_CHECKING:
    from convsync_agent.agenda import Agenda
    from convsync_agent.aside import Aside
    from convsync_agent.engine import Engine
    from convsync_agent.lookout import Lookout
    from convsync_agent.meter import Meter

BUSY_SECONDS, IDLE_SECONDS = 15.0, 60.0
VERDICTS = ("in-sync", "pending", "attention", "degraded")

log = logs.get("metrics")


def due_at(written_at: float, *, changed: bool) -> float:
    """When a file that was written then is to be written again: soon after a change, else as a sign of life."""
    return written_at + (BUSY_SECONDS if changed else IDLE_SECONDS)


class Gauges:
    """Owns the file. Without the setting it does nothing; with it an idle agent writes once a minute."""

    def __init__(self, meter: Meter, started_ms: int) -> None:
        self._meter, self._started_ms = meter, started_ms
        self._path: str | None = None
        self._written_at = self._due_at = float("-inf")
        self._seen: object = None
        self._failing = False

    def wait(self) -> float:
        """Seconds until it is written again."""
        return float("inf") if self._path is None else max(0.0, self._due_at - time.monotonic())

    def write(self, engine: Engine, agenda: Agenda, aside: Aside, lookout: Lookout) -> None:
        """Write it if it is time."""
        path = engine.settings.metrics_textfile
        if path != self._path:
            self.close()
            self._path, self._written_at = path, float("-inf")
        if path is None:
            return
        seen = (self._meter.version, token(engine, aside, lookout))
        self._due_at = due_at(self._written_at, changed=seen != self._seen)
        if time.monotonic() < self._due_at:
            return
        self._seen, self._written_at = seen, time.monotonic()
        self._due_at = due_at(self._written_at, changed=False)
        try:
            textfile.write(path, render(self.families(engine, agenda, aside, lookout)))
            self._failing = False
        except OSError as error:
            if not self._failing:
                log.warning("cannot write metrics", code=error.errno, detail=reason_of(error))
            self._failing = True

    def close(self) -> None:
        """What nobody keeps up to date is taken away."""
        if self._path is not None:
            textfile.remove(self._path)

    def families(self, engine: Engine, agenda: Agenda, aside: Aside, lookout: Lookout) -> list[Family]:
        """Everything there is to say, in the order of docs/metrics.md."""
        open_now = concerns(engine, agenda, aside, lookout)
        return [
            *self._counted(lookout),
            *self._now(agenda, lookout, open_now),
            *_of_workspaces(engine, aside, open_now),
        ]

    def _counted(self, lookout: Lookout) -> list[Family]:
        meter, health = self._meter, lookout.health
        took = "Seconds from the first hint of a change until it was durable and every worktree in step."
        return [
            single("convsync_build_info", "gauge", "The version of the agent.", 1, version=__version__),
            histogram("convsync_propagation_seconds", took, meter.latency),
            labelled("convsync_actions_total", "counter", "What was done, by action.", "action", meter.actions),
            single("convsync_files_written_total", "counter", "Files written into silos and worktrees.", meter.files),
            single("convsync_bytes_written_total", "counter", "Bytes written into silos and worktrees.", meter.bytes),
            labelled("convsync_errors_total", "counter", "What failed, by code.", "code", meter.errors),
            labelled("convsync_rescans_total", "counter", "Looks at everything, by reason.", "reason", meter.rescans),
            single("convsync_overflows_total", "counter", "How often events were lost.", health.overflows),
            single("convsync_watcher_replacements_total", "counter", "New watchers.", health.replacements),
        ]

    def _now(self, agenda: Agenda, lookout: Lookout, open_now: Concerns) -> list[Family]:
        verdicts = {v: float(v == open_now.verdict) for v in VERDICTS}
        started = self._started_ms / 1000
        return [
            single("convsync_agent_start_time_seconds", "gauge", "When the agent started, Unix time.", started),
            single(
                "convsync_agent_last_loop_timestamp_seconds",
                "gauge",
                "When the loop wrote this, Unix time; older than two minutes: it hangs or is gone.",
                round(time.time(), 3),
            ),
            single("convsync_queue", "gauge", "Conversations that are due.", agenda.size),
            single("convsync_watches", "gauge", "Directories that are watched.", lookout.watches),
            labelled("convsync_verdict", "gauge", "1 for the verdict of status.", "verdict", verdicts),
        ]


def _of_workspaces(engine: Engine, aside: Aside, open_now: Concerns) -> list[Family]:
    """By workspace id and kind; never by conversation or path: series would grow without end."""
    sites = engine.sites | aside.sites
    entries = Counter({(s, kind): 0 for s in sites for kind in HINTS})  # what is 0 is said to be 0
    for entry in open_now.entries.values():
        owners = [entry.workspace] if entry.workspace else [s.id for s in engine.sites_of(entry.root)]
        entries.update((owner, entry.kind) for owner in owners if owner in sites)
    trees = Counter({(s, str(state)): 0 for s in sites for state in TreeState})
    kept = Counter[tuple[str, str]]()
    for key, site in sites.items():
        trees.update((key, str(t.state)) for t in site.trees.values())
        kept[key, "live"], kept[key, "archived"] = len(site.silo.listing.live), len(site.silo.listing.archived)
    return [
        _by_two("convsync_attention", "Open entries of status, by kind.", "kind", entries),
        _by_two("convsync_worktrees", "Registered worktrees, by state.", "state", trees),
        _by_two("convsync_conversations", "Durable conversations.", "partition", kept),
    ]


def _by_two(name: str, text: str, label: str, counts: Counter[tuple[str, str]]) -> Family:
    rows = [("", (("workspace", w), (label, v)), float(n)) for (w, v), n in sorted(counts.items())]
    return Family(name, "gauge", text, tuple(rows))
