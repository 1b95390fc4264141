"""`doctor`: is everything here as it has to be, and what to type where it is not."""

from __future__ import annotations

import os
import textwrap
from time import monotonic
from typing import TYPE_CHECKING, Any

import click

from convsync_agent.errors import UsageProblem
from convsync_agent.finding import quoted
from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context

if TYPE_CHECKING:
    from convsync_agent.finding import Finding
    from convsync_agent.leakscan import Progress

COLORS = {"ok": "green", "warn": "yellow", "error": "red"}
INDENT = 6
MARGIN = " " * INDENT
REMARK = "  # "
SHOW_AFTER_SECONDS, SHOW_EVERY_SECONDS = 0.5, 0.1


@command("doctor", example="convsync doctor --scan .", short_help="Check everything that convsync stands on.")
@click.argument("path", default="")
@click.option("--scan", is_flag=True, help="Look for secrets in what git would commit of the projections instead.")
@click.option("--bundle", metavar="FILE", help="Write a support bundle (tar.gz) that names nobody.")
def doctor(context: Context, path: str, scan: bool, bundle: str | None) -> int:  # noqa: FBT001
    """Check directories, file systems, limits, clock, settings, state, service, agent, silos and worktrees.

    What is not as it should be is followed by what to type. Nothing is changed. Exits 1 when there is an error, 0
    when there are warnings only. With --scan the projections of the worktree at or above PATH are read, by default
    those of every registered one; what looks like a secret is an error, and its value is never shown.
    """
    if scan and bundle:
        raise UsageProblem("--scan and --bundle are two things", hint="convsync doctor --scan")
    if path and not scan:
        raise UsageProblem("a PATH goes with --scan", where=path, hint=f"convsync doctor --scan {path}")
    if scan:
        return _scan(context, path)
    if bundle:
        return _bundle(context, bundle)
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


def report(context: Context, findings: list[Finding], **more: Any) -> int:
    """Show them, as a person or a program reads them. The exit code. `more`: for a program."""
    from convsync_agent.finding import Level, tally  # noqa: PLC0415

    errors, warnings = tally(findings)
    if context.as_json:
        body = {"ok": not errors, "errors": errors, "warnings": warnings, "checks": [f.as_json() for f in findings]}
        output.document(body | more)
        return 1 if errors else 0
    for finding in findings:
        if finding.level is not Level.OK or not context.quiet:
            _tell(finding)
    output.line(f"{output.plural(errors, 'error')}, {output.plural(warnings, 'warning')}")
    return 1 if errors else 0


def _tell(finding: Finding) -> None:
    """The level and what was found; where, and what to type, on lines of their own that can be copied."""
    level = output.colored(f"{finding.level:<{INDENT}}", COLORS[finding.level])
    first, *rest = _wrapped(finding.what) or [""]
    if finding.fix is None and finding.where is not None and not rest:
        place = f" ({output.tilde(finding.where)})"
        first += output.colored(place, "dim") if len(first) + len(place) <= _room() else ""
    output.line(level + first)
    for line in rest:
        output.line(MARGIN + line)
    if finding.fix is None:
        return
    if finding.where is not None:
        output.line(MARGIN + output.colored(output.tilde(finding.where), "dim"))
    typed, _, remark = output.tilde_words(finding.fix).partition(REMARK)
    fix = f"{MARGIN}{output.colored('fix:', 'dim')} {typed}"
    if len(f"fix: {typed}{REMARK}{remark}") <= _room():
        output.line(f"{fix}{REMARK}{remark}" if remark else fix)
        return
    output.line(fix)
    for line in _wrapped(remark):
        output.line(f"{MARGIN}# {line}")


def _room() -> int:
    return max(20, output.width() - INDENT)


def _wrapped(text: str) -> list[str]:
    """As lines beside the margin; a path is never broken, so that it can be copied."""
    return textwrap.wrap(text, _room() - 2, break_long_words=False, break_on_hyphens=False)


# -- secrets ----------------------------------------------------------------------


def _scan(context: Context, path: str) -> int:
    """Read what git would commit, and say in one line how much that was."""
    from convsync_agent.finding import Code, ok  # noqa: PLC0415
    from convsync_agent.leakscan import scan  # noqa: PLC0415

    worktrees = _worktrees(context, path)
    try:
        done = scan(worktrees, *([] if context.quiet else [_progress()]))
    finally:
        output.progress("")
    said = f"read {output.plural(done.files, 'file')}, {output.size(done.bytes)}"
    asked = done.asked == len(worktrees)
    read = ok(Code.SECRET, f"{said}: {'what git tracks or would add' if asked else 'all, for want of a git to ask'}")
    findings = [*(f.finding() for f in done.found), *done.skipped, read]
    leaks = [f.as_json() for f in done.found]
    return report(context, findings, leaks=leaks, scanned={"files": done.files, "bytes": done.bytes})


def _worktrees(context: Context, path: str) -> list[str]:
    """The one at or above PATH, registered or not; without PATH all registered ones that are there."""
    from convsync_agent import layout  # noqa: PLC0415

    if path:
        return [layout.find_worktree(path)]
    opened = context.reader()
    rows = opened.worktrees() if opened is not None else []
    if opened is not None:
        opened.close()
    return [r.path for r in rows if os.path.isdir(layout.store_of(r.path))] or [layout.find_worktree(".")]


def _progress() -> Progress:
    """Shows how far it is, once it takes longer than a moment."""
    started = shown = monotonic()

    def show(done: int, total: int, size: int) -> None:
        nonlocal shown
        now = monotonic()
        if now - started < SHOW_AFTER_SECONDS or now - shown < SHOW_EVERY_SECONDS:
            return
        shown = now
        rate = f"{output.size(round(size / (now - started)))}/s"
        output.progress(f"reading: {done} of {output.plural(total, 'file')}, {output.size(size)}, {rate}")

    return show


# -- the bundle -------------------------------------------------------------------


def _bundle(context: Context, path: str) -> int:
    """Write it and say what is inside. Exits 0 whatever the checks found."""
    from convsync_agent import bundle  # noqa: PLC0415
    from convsync_cli.dossier import CONTENTS, gather  # noqa: PLC0415

    path = os.path.abspath(path)
    bundle.require_free(path)
    documents = gather(context, examine(context))
    size = bundle.write(path, documents)
    if context.as_json:
        output.document({"bundle": path, "bytes": size, "files": list(documents)})
        return 0
    output.line(f"wrote {output.tilde(path)} ({output.size(size)}), which only you can read:")
    for name in documents:
        output.line(f"  {name:14} {CONTENTS.get(name, 'what all this is')}")
    output.line("look at it before you give it away:")
    output.line(f"  tar -xzOf {quoted(path)} | less")
    return 0
