"""The property list of the agent for launchd, as bytes. Pure: facts in, a document out."""

from __future__ import annotations

import plistlib
from typing import Any
from xml.parsers.expat import ExpatError

from convsync_agent.service import Launch

LABEL = "dev.convsync.agent"
UMASK = 0o077  # launchd reads a decimal number: 63


def content(launch: Launch) -> dict[str, Any]:
    """The keys. `Background` would be throttled far beyond what an edit may take to arrive, so it is `Standard`."""
    return {
        "Label": LABEL,
        "ProgramArguments": list(launch.argv),
        "EnvironmentVariables": dict(launch.environment),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 10,
        "ProcessType": "Standard",
        "Umask": UMASK,
        "ExitTimeOut": 20,
        "LimitLoadToSessionType": ["Aqua", "Background"],
        "StandardErrorPath": launch.log,
    }


def render(launch: Launch) -> bytes:
    return plistlib.dumps(content(launch), sort_keys=False)


def log_in(raw: bytes) -> str:
    """The log path that a property list names, or nothing where it is none."""
    try:
        found = plistlib.loads(raw)
    except (ValueError, plistlib.InvalidFileException, ExpatError):
        return ""
    path = found.get("StandardErrorPath") if isinstance(found, dict) else None
    return path if isinstance(path, str) else ""
