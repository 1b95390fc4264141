"""`agent`: the background process, in the foreground."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convsync_cli.command import command
from convsync_cli.context import Context

if TYPE_CHECKING:
    from convsync_agent.settings import Settings


@command("agent", example="convsync agent", short_help="Run the agent in the foreground until it is told to stop.")
def agent(context: Context) -> int:
    """Watch every registered worktree and keep all copies in step, until SIGTERM or Ctrl-C.

    Logs go to stderr: readable on a terminal, JSON lines elsewhere. Only one agent runs per user. SIGHUP
    makes it read its settings again; a mistake in them changes nothing and is told.
    """
    import faulthandler  # noqa: PLC0415

    from convsync_agent import logs  # noqa: PLC0415
    from convsync_agent.inforce import InForce  # noqa: PLC0415
    from convsync_agent.loop import Agent  # noqa: PLC0415

    faulthandler.enable()  # a watchdog ends us with SIGABRT: files and lines say where we hung, and nothing else

    def read() -> Settings:
        context.forget_settings()
        return context.settings

    def listen(settings: Settings) -> None:
        level = "debug" if context.verbose else "warning" if context.quiet else settings.log_level
        logs.setup(level, color=not context.no_color)

    Agent(context.state_dir, context.data_dir, context.runtime_dir, InForce(read, listen)).run()
    return 0
