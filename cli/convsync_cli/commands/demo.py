"""`demo`: the whole story in a throw-away home, with the real agent."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from convsync_cli import output
from convsync_cli.command import command
from convsync_cli.context import Context

if TYPE_CHECKING:
    from convsync_agent.sample import Sample
    from convsync_cli.home import Home

DATA = "CONVSYNC_DEMO_DATA"
WIDTH = 80
TITLES = ("Reading the index twice", None, "Größe & 時計: why two?", "A retry that waits")


@command("demo", example="convsync demo", short_help="See it work: a story in a throw-away home.")
@click.option("--keep", is_flag=True, help="Keep the throw-away home and say where it is.")
@click.option("--conversations", metavar="DIR", help="Begin with the conversations below DIR, which stay untouched.")
def demo(context: Context, keep: bool, conversations: str | None) -> int:  # noqa: FBT001
    """Play a whole story with the real agent, and check every step of it.

    Two worktrees, edits by hand and by JP, a broken file, a lock, a killed agent, a deleted worktree.
    Nothing of yours is touched: everything happens in a temporary directory that is removed afterwards.
    Exits 0 only if every check held; else 1, and the directory with the agent's log stays.
    """
    import tempfile  # noqa: PLC0415

    from convsync_cli.home import Home  # noqa: PLC0415

    source = conversations if conversations is not None else os.environ.get(DATA, "")
    content = _content(source)
    base = os.path.realpath(tempfile.mkdtemp(prefix="convsync-demo-"))
    if not context.as_json and not context.quiet:
        what = "of yours" if source else "made for it"
        output.line(f"the real agent in a throw-away home, with {output.plural(len(content), 'conversation')} {what}")
    kept = keep
    try:
        home = Home(base, content)
        with _ended(home):
            steps = _play(context, home)
        ok = all(step["ok"] for step in steps)
        kept = keep or not ok
    finally:
        output.progress("")
        if not kept:
            _remove(base)
    if context.as_json:
        output.document({"ok": ok, "steps": steps, "directory": base if kept else None})
    else:
        _conclude(context, steps, base if kept else "")
    return 0 if ok else 1


def _content(source: str) -> dict[int, Sample]:
    """What the story begins with: the conversations below `source`, else generated ones."""
    from convsync_agent.errors import UsageProblem  # noqa: PLC0415
    from convsync_agent.names import dirname  # noqa: PLC0415
    from convsync_agent.sample import Sample, conversation, conversations_below  # noqa: PLC0415

    if source:
        found = conversations_below(source)
        if not found:
            raise UsageProblem(
                "no conversation with all of its three files is below it", where=source, hint="convsync demo"
            )
        return found
    made = {}
    for number, title in enumerate(TITLES):
        cid = 17_200_000_000 + number
        made[cid] = Sample(dirname(cid, title), conversation(number, cid=cid, title=title, turns=3 + 8 * number))
    return made


def _play(context: Context, home: Home) -> list[dict[str, Any]]:
    """Every step until one does not hold."""
    from convsync_cli.story import STEPS  # noqa: PLC0415

    steps: list[dict[str, Any]] = []
    for step in STEPS:
        name = step.__name__.replace("_", " ")
        started = time.monotonic()
        shown, fault = None, ""
        output.progress(f"{name} ...")
        try:
            detail, shown = step(home)
        except Exception as error:  # noqa: BLE001  # whatever goes wrong in a step is what the demo is there to tell
            detail = fault = str(error) or type(error).__name__
        output.progress("")
        ms = shown if shown is not None else round((time.monotonic() - started) * 1000)
        steps.append({"step": name, "ok": not fault, "detail": detail, "ms": ms})
        if not context.as_json and (fault or not context.quiet):
            _tell(name, detail, shown, fault=fault)
        if fault:
            break
    return steps


def _tell(name: str, detail: str, ms: int | None, *, fault: str) -> None:
    """One step: a tick and a sentence."""
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    tick, cross = ("+", "x") if plain else ("✓", "✗")
    text = f"{name}: {detail}" if fault else detail if ms is None else f"{detail} ({ms} ms)"
    lines = textwrap.wrap(text, WIDTH - 3) or [""]
    mark = output.colored(cross, "red") if fault else output.colored(tick, "green")
    output.line(f"{mark} {lines[0]}")
    for more in lines[1:]:
        output.line(f"  {more}")
    sys.stdout.flush()


def _conclude(context: Context, steps: list[dict[str, Any]], kept: str) -> None:
    last = steps[-1]
    if not last["ok"]:
        output.note(f"{output.colored('failed:', 'red', sys.stderr)} {last['step']}: {last['detail']}")
        output.note(f"the log of the agent: {os.path.join(kept, 'agent.log')}")
        output.note(f"everything else is kept beside it; remove it with: rm -rf {kept}")
    elif not context.quiet:
        output.line(f"all {len(steps)} checks held; {'nothing is left behind' if not kept else 'kept in ' + kept}")
    elif kept:
        output.line(kept)


@contextmanager
def _ended(home: Home) -> Iterator[None]:
    """Whatever ends the story ends the agent too; a signal is no exception."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        home.close()
        for number, handler in old.items():
            signal.signal(number, handler)


def _remove(base: str) -> None:
    import shutil  # noqa: PLC0415

    shutil.rmtree(base)
