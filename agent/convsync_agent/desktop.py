"""How this desktop is told something: by its own command, if it has one and somebody is there to see it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping

# The texts are arguments, never part of the script.
_SCRIPT = (
    "on run argv",
    "display notification (item 2 of argv) with title (item 1 of argv)",
    "end run",
)


def notification(title: str, text: str, *, urgent: bool, env: Mapping[str, str] | None = None) -> list[str] | None:
    """The command that shows it; None where there is none, or no session bus that would carry it."""
    env = os.environ if env is None else env
    path = env.get("PATH")
    linux = shutil.which("notify-send", path=path)
    if linux and _has_bus(env):
        return [linux, "--app-name=convsync", f"--urgency={'critical' if urgent else 'normal'}", title, text]
    mac = shutil.which("osascript", path=path)
    if mac:
        return [mac, *(part for line in _SCRIPT for part in ("-e", line)), title, text]
    return None


def _has_bus(env: Mapping[str, str]) -> bool:
    if env.get("DBUS_SESSION_BUS_ADDRESS"):
        return True
    runtime = env.get("XDG_RUNTIME_DIR", "")
    return bool(runtime) and os.path.exists(os.path.join(runtime, "bus"))
