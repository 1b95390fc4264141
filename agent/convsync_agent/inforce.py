"""The settings in force, and reading them again while the agent runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from convsync_agent import logs
from convsync_agent.errors import ConvsyncError
from convsync_agent.settings import KEYS, Settings

if TYPE_CHECKING:
    from convsync_agent.bulletin import Bulletin
    from convsync_agent.engine import Engine

CODE = "config"

log = logs.get("agent")


class InForce:
    """What the agent was started with, until a person changes it.

    `read` loads file, environment and flags anew, `listen` makes the log as talkative as they say.
    """

    def __init__(self, read: Callable[[], Settings], listen: Callable[[Settings], None]) -> None:
        """Raises UsageProblem."""
        self.settings = read()
        self._read, self._listen = read, listen
        listen(self.settings)

    def again(self, engine: Engine, bulletin: Bulletin) -> None:
        """Read them; a mistake changes nothing and is told, in the log by key and place only, and in `status`."""
        try:
            fresh = self._read()
        except ConvsyncError as problem:
            from convsync_agent.config import mistakes_of, without_value  # noqa: PLC0415

            bulletin.failed(CODE)
            log.warning("settings kept", mistakes=[without_value(m) for m in mistakes_of(problem)])
            return
        bulletin.mended(CODE)
        changed = [k for k in KEYS if getattr(fresh, KEYS[k].field) != getattr(self.settings, KEYS[k].field)]
        if changed:
            log.info("settings", changed=changed)
        self._listen(fresh)
        self.settings = engine.settings = fresh
        engine.vault.shelter.keep_days = fresh.trash_keep_days
