"""The service as a noun: how the agent is launched for a user, and how its service stands. Plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Manager = Literal["systemd", "launchd"]


@dataclass(frozen=True, slots=True)
class Launch:
    """The command that runs the agent, the variables it needs, and where its log goes if nobody collects it."""

    argv: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    log: str = ""


@dataclass(frozen=True, slots=True)
class ServiceState:
    """How the service stands. `active` is the manager's word: `active`, `inactive`, `failed`; "unknown" without one.

    `enabled`, `linger`: None where that cannot be told or has no meaning. `path`: the unit, or where it would be.
    """

    manager: Manager | None
    installed: bool
    enabled: bool | None
    active: str
    path: str
    linger: bool | None
    pid: int | None = None
    status: str = ""
