"""Who keeps the agent running for this user: systemd, launchd or nobody. Chosen by what answers, not by platform."""

from __future__ import annotations

import os
import shutil

from convsync_agent import launchd, systemd
from convsync_agent.launchd import Launchd
from convsync_agent.service import ServiceState
from convsync_agent.systemd import Systemd

Supervisor = Systemd | Launchd


def find() -> Supervisor | None:
    """The manager that answers, None where there is none."""
    candidates: tuple[Supervisor, ...] = (Systemd(), Launchd())
    return next((c for c in candidates if c.reachable()), None)


def state() -> ServiceState:
    """How the service stands. Without a manager: whether a unit lies on the disk all the same."""
    found = find()
    if found is not None:
        return found.state()
    launchd_only = shutil.which("launchctl") is not None and shutil.which("systemctl") is None
    path = launchd.default_path() if launchd_only else systemd.default_path()
    return ServiceState(
        manager=None, installed=os.path.lexists(path), enabled=None, active="unknown", path=path, linger=None
    )


def unit_there() -> bool:
    """A unit lies where a manager would look for it; nobody is asked."""
    return os.path.lexists(systemd.default_path()) or os.path.lexists(launchd.default_path())
