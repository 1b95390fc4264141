"""`service`: the agent as a service of this user, by systemd or launchd."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from convsync_agent import __version__
from convsync_agent.errors import NotFound, Refused, UsageProblem
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context
from convsync_cli.main import global_options

if TYPE_CHECKING:
    from convsync_agent.installing import Installed
    from convsync_agent.service import ServiceState
    from convsync_agent.supervisor import Supervisor

INSTALL = "convsync service install"


@click.group(
    "service",
    short_help="Run the agent at every login: install, start, stop, look.",
    epilog="\b\nExample:\n  convsync service install --now",
)
@click.pass_context
def service(ctx: click.Context, /, **flags: Any) -> None:
    """Have systemd or launchd run the agent for you, from every login on, and start it again if it fails."""
    ctx.obj.take(flags)


service.params.extend(global_options())


def manager() -> Supervisor:
    """Whoever runs services for this user. Raises Refused where nobody does, with the command to run by hand."""
    from convsync_agent import supervisor  # noqa: PLC0415

    found = supervisor.find()
    if found is None:
        raise Refused(
            "no service manager answers: neither systemd's (systemctl --user) nor launchd",
            hint="run it by hand, in tmux or as: nohup convsync agent >/dev/null 2>&1 &",
            code="no-manager",
        )
    return found


def installed() -> tuple[Supervisor, ServiceState]:
    """The manager and how the service stands. Raises NotFound where it is not installed."""
    found = manager()
    state = found.state()
    if not state.installed:
        raise NotFound("the service is not installed", hint=INSTALL, code="not-installed")
    return found, state


# -- install and uninstall ----------------------------------------------------------


@command("install", example="convsync service install --now", short_help="Install the service, or upgrade it in place.")
@click.option("--now", is_flag=True, help="Start it at once; else it starts at the next login.")
def install(context: Context, now: bool) -> int:  # noqa: FBT001
    """Write the unit for this convsync and enable it.

    Done again after an upgrade it writes the unit anew, and restarts a running agent only if the unit or the
    version is another one. --config, --set, JP_USER_DATA_DIR, XDG_*_HOME and CONVSYNC_* go along as they are here.
    """
    from convsync_agent import installing, program  # noqa: PLC0415

    _ = context.settings  # a mistake in them is told here and not in a log
    found = manager()
    launch = program.launch(context.config, context.sets)
    program.require_running(launch)
    done = installing.install(found, launch, context.state_dir, now=now)
    state = found.state()
    if context.as_json:
        output.document({
            "manager": found.name, "path": done.path, "changed": done.changed, "action": done.act or None,
            "active": state.active, "linger": state.linger,
            "command": list(launch.argv), "logs": found.log_place(launch),
        })  # fmt: skip
        return 0
    if not context.quiet:
        _tell_installed(done, state, " ".join(launch.argv), found.log_place(launch))
        _offer_linger(state)
    return 0


def _tell_installed(done: Installed, state: ServiceState, runs: str, logs: str) -> None:
    what = "unchanged" if not done.changed else "upgraded" if done.before else "installed"
    output.line(f"{what}: {output.tilde(done.path)}")
    output.line(f"  runs    {runs}")
    output.line(f"  logs    convsync service logs  ({output.tilde(logs)})")
    agent = f"{done.act}, and ready" if done.act else "runs on" if state.pid else "starts at your next login"
    output.line(f"  agent   {agent}")
    if not done.act and not state.pid:
        output.line("start it now: convsync service start")


def _offer_linger(state: ServiceState) -> None:
    """Without it a user's services end with the last login, which is no loss: what happened is found at the next."""
    if state.linger is not False:
        return
    output.line("It stops when you are logged out everywhere, and finds at the next login what happened meanwhile.")
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        output.line("To let it run without a login: loginctl enable-linger")
        return
    if not click.confirm("Let it run without a login, too (loginctl enable-linger)?", err=True):
        return
    from convsync_agent import systemd  # noqa: PLC0415

    wrong = systemd.enable_linger()
    output.line(f"not allowed: {wrong}; try: sudo loginctl enable-linger $USER" if wrong else "it runs without a login")


@command("uninstall", example="convsync service uninstall", short_help="Stop the service and remove its unit.")
def uninstall(context: Context) -> int:
    """Stop the agent of the service and delete the unit. Conversations, history and settings stay as they are."""
    from convsync_agent import installing  # noqa: PLC0415

    path = installing.uninstall(manager())
    if context.as_json:
        output.document({"removed": path})
    elif not context.quiet:
        output.line(f"removed {output.tilde(path)}" if path else "the service is not installed")
    return 0


# -- start and stop -----------------------------------------------------------------


@command("start", example="convsync service start", short_help="Start the agent; return when it is ready.")
def start(context: Context) -> int:
    """Start the agent. Returns when its watches are armed and what changed meanwhile is in step."""
    from convsync_agent.installing import require_no_other  # noqa: PLC0415

    found, state = installed()
    require_no_other(context.state_dir, state, "convsync service start")
    found.start()
    return _told(context, found, "started" if state.pid is None else "runs already")


@command("stop", example="convsync service stop", short_help="Stop the agent until the next login or start.")
def stop(context: Context) -> int:
    """Stop the agent. It finishes the action in hand first; the service stays installed."""
    found, _ = installed()
    found.stop()
    return _told(context, found, "stopped")


@command("restart", example="convsync service restart", short_help="Stop the agent and start it again.")
def restart(context: Context) -> int:
    """Stop the agent, start it again, and return when it is ready."""
    from convsync_agent.installing import require_no_other  # noqa: PLC0415

    found, state = installed()
    require_no_other(context.state_dir, state, "convsync service restart")
    found.restart()
    return _told(context, found, "restarted")


def _told(context: Context, found: Supervisor, act: str) -> int:
    state = found.state()
    if context.as_json:
        output.document({"action": act, "active": state.active, "pid": state.pid})
    elif not context.quiet:
        output.line(f"{act}: pid {state.pid}" if state.pid else act)
    return 0


# -- look -----------------------------------------------------------------------------


@command(
    "status", example="convsync service status", short_help="Is it installed, enabled, running, and which version?"
)
def status(context: Context) -> int:
    """Show how the service stands. What is safe and what is not is said by `convsync status`."""
    from convsync_agent.installing import running  # noqa: PLC0415

    found = manager()
    state, agent = found.state(), running(context.state_dir)
    version = agent.version if agent else None
    inside = agent is not None and agent.pid == state.pid
    if context.as_json:
        output.document({
            "manager": state.manager, "installed": state.installed, "enabled": state.enabled, "active": state.active,
            "pid": state.pid, "unit": state.path, "linger": state.linger, "status": state.status,
            "version": __version__, "agent_version": version, "agent_pid": agent.pid if agent else None,
        })  # fmt: skip
        return 0
    if not state.installed:
        output.line(f"not installed: {INSTALL}")
    else:
        at = f" (pid {state.pid})" if state.pid else ""
        output.line(f"{state.active}{at}, {'starts at login' if state.enabled else 'does not start at login'}")
        if state.status and state.pid:
            output.line(f"  says    {state.status}")
        output.line(f"  unit    {output.tilde(state.path)}")
        output.line(f"  logs    convsync service logs  ({output.tilde(found.log_place())})")
    if agent is not None and not inside:
        output.line(f"an agent runs that is not the service's (pid {agent.pid})")
    if version is not None and version != __version__:
        then = "convsync service restart" if inside else "stop it and start it again"
        output.line(f"the agent is version {version}, this is {__version__}: {then}")
    if state.active == "failed":
        output.line("it failed too often and was given up: convsync service logs, then convsync service start")
    return 0


@command("logs", example="convsync service logs -f", short_help="What the agent of the service logged.")
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("-n", "--lines", type=click.IntRange(0), default=100, show_default=True, help="How many lines.")
def logs(context: Context, follow: bool, lines: int) -> int:  # noqa: FBT001
    """Print the newest log lines, oldest first: from the journal, or from the file that launchd writes."""
    found, _ = installed()
    argv = found.log_command(lines, follow=follow)
    if context.as_json:
        if follow:
            raise UsageProblem("--follow never ends, so there is no one document", hint="convsync service logs --json")
        from convsync_agent import errand  # noqa: PLC0415

        said = errand.run([*argv, "--output=cat"] if found.name == "systemd" else argv, patience=60.0)
        output.document({"command": argv, "lines": said.out.splitlines()})
        return 0
    from convsync_cli.running import Foreground  # noqa: PLC0415

    foreground = Foreground()
    with foreground.handling():
        return foreground.run(argv, {}, watch=None, to_stderr=False)


for _one in (install, uninstall, start, stop, restart, status, logs):
    service.add_command(_one)
