"""The disk as `status` sees it without an agent: listings and stats, no content, nothing written."""

from __future__ import annotations

import time
from typing import Any

from convsync_agent import pausing, scan
from convsync_agent.inventory import describe_site
from convsync_agent.site import Site, load_sites, resolve
from convsync_agent.state import Attention, State


def look_at_disk(opened: State, attention: list[Attention]) -> tuple[list[dict[str, Any]], bool]:
    """The workspaces of `status --json`, and whether anything differs from the record that no entry explains."""
    now_ms = time.time_ns() // 1_000_000
    sites = load_sites(opened, now_ms)
    pending = False
    found = []
    for key in sorted(sites):
        site = sites[key]
        if pausing.end(site, now_ms):
            resolve(site, now_ms)
        explained = {e.conversation for e in attention if e.workspace == key}
        pending = bool(_changed(site) - explained) or pending
        found.append(describe_site(site, attention, set()))
    return found, pending


def _changed(site: Site) -> set[int]:
    dirty: set[int] = set()
    for view in site.views():
        try:
            view.listing = scan.list_root(view.root.path)
            dirty.update(scan.sweep(view, view.listing, strict=False))
        except OSError:
            dirty.update(view.records)
    return dirty
