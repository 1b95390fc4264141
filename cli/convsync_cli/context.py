"""What every command shares: flags, settings, places; the engine only when a command really acts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from convsync_agent import dirs
from convsync_cli import output

if TYPE_CHECKING:
    from convsync_agent.config import Loaded
    from convsync_agent.engine import Engine
    from convsync_agent.progress import Tell
    from convsync_agent.settings import Settings
    from convsync_agent.state import State


class Context:
    """Flags given before and after the command, merged, and lazily everything they lead to."""

    def __init__(self) -> None:
        self.as_json = False
        self.quiet = False
        self.verbose = 0
        self.no_color = bool(os.environ.get("NO_COLOR"))
        self.config: str | None = None
        self.sets: tuple[str, ...] = ()
        self._loaded: Loaded | None = None

    def take(self, flags: dict[str, Any]) -> dict[str, Any]:
        """Absorb the global flags out of `flags`; what is left belongs to the command."""
        self.as_json |= bool(flags.pop("as_json", False))
        self.quiet |= bool(flags.pop("quiet", False))
        self.verbose += int(flags.pop("verbose", 0) or 0)
        self.no_color |= bool(flags.pop("no_color", False))
        self.config = flags.pop("config", None) or self.config
        self.sets += tuple(flags.pop("sets", ()))
        return flags

    @property
    def loaded(self) -> Loaded:
        """The configuration with its origins. Raises UsageProblem with every mistake in it."""
        if self._loaded is None:
            from convsync_agent.config import load  # noqa: PLC0415

            self._loaded = load(self.config, os.environ, self.sets)
        return self._loaded

    def forget_settings(self) -> None:
        """Whoever asks next reads file and environment again."""
        self._loaded = None

    @property
    def settings(self) -> Settings:
        return self.loaded.settings

    @property
    def state_dir(self) -> str:
        return dirs.state_dir()

    @property
    def data_dir(self) -> str:
        return dirs.data_dir()

    @property
    def runtime_dir(self) -> str:
        return dirs.runtime_dir()

    def reader(self) -> State | None:
        """The state, read-only; None when nothing was ever registered."""
        from convsync_agent import state  # noqa: PLC0415

        return state.reader(self.state_dir)

    @contextmanager
    def engine(self, *, bar: bool = False, **overrides: Any) -> Iterator[Engine]:
        """The engine in this process, safe beside a running agent. `overrides` replace settings.

        `bar`: on a terminal, show how far it is.
        """
        from dataclasses import replace  # noqa: PLC0415

        from convsync_agent import state  # noqa: PLC0415
        from convsync_agent.engine import Engine  # noqa: PLC0415

        settings = replace(self.settings, **{k: v for k, v in overrides.items() if v is not None})
        dirs.ensure_private(self.state_dir)
        dirs.ensure_private(self.data_dir)
        opened = state.writer(self.state_dir)
        try:
            made = Engine(opened, self.data_dir, settings)
            made.tell = self.bar() if bar else None
            yield made
        finally:
            output.progress("")
            opened.close()

    def bar(self) -> Tell | None:
        """Who shows how far something is: nobody with -q or --json, or where stderr is no terminal."""
        if self.quiet or self.as_json or not output.is_watched():
            return None
        from convsync_cli.bar import Bar  # noqa: PLC0415

        return Bar()

    def tell_agent(self) -> None:
        """Let a running agent know that the registry changed."""
        from convsync_agent import publish  # noqa: PLC0415

        publish.signal(self.state_dir, self.runtime_dir, publish.RELOAD)
