"""`agent`: the background process, in the foreground."""

from __future__ import annotations

from convsync_cli.command import command
from convsync_cli.context import Context


@command("agent", example="convsync agent", short_help="Run the agent in the foreground until it is told to stop.")
def agent(context: Context) -> int:
    """Watch every registered worktree and keep all copies in step, until SIGTERM or Ctrl-C.

    Logs go to stderr: readable on a terminal, JSON lines elsewhere. Only one agent runs per user.
    """
    import faulthandler  # noqa: PLC0415

    from convsync_agent import logs  # noqa: PLC0415
    from convsync_agent.loop import Agent  # noqa: PLC0415

    settings = context.settings
    level = "debug" if context.verbose else "warning" if context.quiet else settings.log_level
    logs.setup(level, color=not context.no_color)
    faulthandler.enable()  # a watchdog ends us with SIGABRT: files and lines say where we hung, and nothing else
    Agent(context.state_dir, context.data_dir, context.runtime_dir, settings).run()
    return 0
