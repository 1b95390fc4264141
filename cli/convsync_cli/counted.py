"""What the agent counted since it started, for `status -v`."""

from __future__ import annotations

from typing import Any

from convsync_cli import output


def lines(agent: dict[str, Any], metrics: dict[str, Any]) -> list[str]:
    """Two or three lines: how it looks, what it did, what failed."""
    looks = [
        f"watching {agent['watches']} places, {agent['queue']} due",
        output.plural(metrics["rescans"], "rescan"),
        output.plural(metrics["overflows"], "overflow"),
        f"{output.plural(metrics['replacements'], 'watcher')} replaced",
    ]
    latency = metrics["latency_ms"]
    did = f"  {output.plural(latency['count'], 'change')} made durable"
    if latency["count"]:
        did += f", half within {latency['p50']:g} ms, 95 % within {latency['p95']:g} ms"
    found = [f"  {', '.join(looks)}", f"{did}; {output.size(metrics['bytes_written'])} written"]
    if metrics["errors"]:
        found.append("  failed: " + ", ".join(f"{number} {code}" for code, number in metrics["errors"].items()))
    return found
