"""`doctor`: is everything here as it has to be, and what to type where it is not."""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING

from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context

if TYPE_CHECKING:
    from convsync_agent.finding import Finding

COLORS = {"ok": "green", "warn": "yellow", "error": "red"}
INDENT = 6


@command("doctor", example="convsync doctor", short_help="Check everything that convsync stands on.")
def doctor(context: Context) -> int:
    """Check directories, file systems, limits, clock, settings, state, service, agent, silos and worktrees.

    What is not as it should be is followed by what to type. Nothing is changed. Exits 1 when there is an error, 0
    when there are warnings only.
    """
    return report(context, examine(context))


def examine(context: Context) -> list[Finding]:
    """What every check found."""
    from convsync_agent import dirs  # noqa: PLC0415
    from convsync_agent.checkup import examine as look  # noqa: PLC0415
    from convsync_agent.scene import Premises  # noqa: PLC0415

    where = Premises(
        context.state_dir, context.data_dir, context.runtime_dir, dirs.jp_user_data_dir(), context.config, context.sets
    )
    return look(where, os.environ)


def report(context: Context, findings: list[Finding]) -> int:
    """Show them, as a person or a program reads them. The exit code."""
    from convsync_agent.finding import Level, tally  # noqa: PLC0415

    errors, warnings = tally(findings)
    if context.as_json:
        body = {"ok": not errors, "errors": errors, "warnings": warnings, "checks": [f.as_json() for f in findings]}
        output.document(body)
        return 1 if errors else 0
    for finding in findings:
        if finding.level is not Level.OK or not context.quiet:
            _tell(finding)
    output.line(f"{output.plural(errors, 'error')}, {output.plural(warnings, 'warning')}")
    return 1 if errors else 0


def _tell(finding: Finding) -> None:
    """The level and what was found; where, and what to type, on lines of their own that can be copied."""
    level = output.colored(f"{finding.level:<{INDENT}}", COLORS[finding.level])
    room = max(20, output.width() - INDENT)
    first, *rest = textwrap.wrap(finding.what, room, break_long_words=False, break_on_hyphens=False) or [""]
    output.line(level + first)
    margin = " " * INDENT
    for line in rest:
        output.line(margin + line)
    if finding.fix is None:
        return
    if finding.where is not None:
        output.line(f"{margin}{output.colored(output.tilde(finding.where), 'dim')}")
    output.line(f"{margin}{output.colored('fix:', 'dim')} {finding.fix}")
