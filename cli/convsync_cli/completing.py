"""What a shell may complete: conversations by id, registered worktrees, settings, kept versions. Reads, and is quick.

Ids only: a title would be chat text on a screen that nobody asked for it (R9). Whatever goes wrong completes nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from convsync_agent.state import State

VARIABLE = "_CONVSYNC_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
WORDS = ("last", "newest", "active", "prev", "pinned", "archived")
SETS = ("+live", "+session", "+pinned", "+archived", "+external")
DIRECTORIES, FILES = "dir", "file"

Candidates = Callable[[click.Context, str], Iterable[str]]


class Completed(click.types.StringParamType):
    """Text whose possible values are known. `also`: what the shell completes by itself in addition."""

    def __init__(self, candidates: Candidates, also: str = "") -> None:
        self.candidates = candidates
        self.also = also

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415

        del param
        found: list[CompletionItem[Any]] = [CompletionItem(incomplete, type=self.also)] if self.also else []
        with contextlib.suppress(Exception):
            found += [CompletionItem(text) for text in self.candidates(ctx, incomplete) if text.startswith(incomplete)]
        return found


# -- candidates ---------------------------------------------------------------------


@contextmanager
def _state() -> Iterator[State | None]:
    from convsync_agent import dirs, state  # noqa: PLC0415

    opened = state.reader(dirs.state_dir())
    try:
        yield opened
    finally:
        if opened is not None:
            opened.close()


def _roots() -> list[str]:
    from convsync_agent.layout import store_of  # noqa: PLC0415

    with _state() as opened:
        if opened is None:
            return []
        return [w.silo for w in opened.workspaces()] + [store_of(t.path) for t in opened.worktrees()]


def _in_roots() -> set[int]:
    """Every conversation that has a directory, by listings alone."""
    from convsync_agent.fs import ARCHIVE, CONVERSATIONS  # noqa: PLC0415
    from convsync_agent.names import parse_dirname  # noqa: PLC0415

    names: set[str] = set()
    for root in _roots():
        for partition in ("", ARCHIVE):
            with contextlib.suppress(OSError):
                names.update(os.listdir(os.path.join(root, CONVERSATIONS, partition)))
    return {number for name in names if (number := parse_dirname(name)) is not None}


def _in_trash() -> set[int]:
    from convsync_agent import dirs  # noqa: PLC0415
    from convsync_agent.plot import plots  # noqa: PLC0415

    return {p.conversation for p in plots(dirs.data_dir())}


def _ids(numbers: Iterable[int], incomplete: str) -> list[str]:
    """The newest first; without `jp-c` where a digit was typed."""
    before = "" if incomplete[:1].isdigit() else "jp-c"
    return [f"{before}{number}" for number in sorted(numbers, reverse=True)]


def conversations(ctx: click.Context, incomplete: str) -> list[str]:
    """TARGET: an id or a word; the sets where several are taken. In the trash what is there."""
    if ctx.command_path.startswith("convsync trash "):
        return _ids(_in_trash() - _in_roots(), incomplete)
    several = any(isinstance(p, click.Argument) and p.nargs == -1 for p in ctx.command.params)
    return [*(SETS if several and incomplete.startswith("+") else WORDS), *_ids(_in_roots(), incomplete)]


def prefixes(ctx: click.Context, incomplete: str) -> list[str]:
    del ctx
    return _ids(_in_roots(), incomplete)


def worktrees(ctx: click.Context, incomplete: str) -> list[str]:
    """Registered worktrees, by their absolute paths; what is relative the shell knows better."""
    del ctx, incomplete
    with _state() as opened:
        return [w.path for w in opened.worktrees()] if opened is not None else []


def sources(ctx: click.Context, incomplete: str) -> list[str]:
    return ["silo", *worktrees(ctx, incomplete)]


def whatever(ctx: click.Context, incomplete: str) -> list[str]:
    """PATH or TARGET, as `sync` takes them."""
    return [*worktrees(ctx, incomplete), *conversations(ctx, incomplete)]


def settings(ctx: click.Context, incomplete: str) -> list[str]:
    """KEY=, and the values of a key that has a few."""
    from convsync_agent.settings import KEYS  # noqa: PLC0415

    del ctx
    key, equals, _ = incomplete.partition("=")
    if not equals:
        return [f"{name}=" for name in KEYS]
    what = KEYS[key]
    return [f"{key}={value}" for value in (("true", "false") if what.kind == "bool" else what.choices)]


def versions(ctx: click.Context, incomplete: str) -> list[str]:
    """What is kept of the conversation that was named before, newest first."""
    from convsync_agent import dirs  # noqa: PLC0415
    from convsync_agent.history import History  # noqa: PLC0415
    from convsync_agent.names import parse_id  # noqa: PLC0415

    del incomplete
    said = [ctx.params.get("target") or "", *(ctx.obj if isinstance(ctx.obj, list) else [])]
    number = next((found for word in said if (found := parse_id(word)) is not None), None)
    with _state() as opened:
        known = [w.id for w in opened.workspaces()] if opened is not None and number is not None else []
    history = History(dirs.data_dir())
    return [m.version for workspace in known for m in history.versions(workspace, number or 0)]


def hooks(ctx: click.Context, incomplete: str) -> list[str]:
    from convsync_cli.snippets import SNIPPETS  # noqa: PLC0415

    del ctx, incomplete
    return [s.name for s in SNIPPETS]


TARGET, WORKTREE = Completed(conversations), Completed(worktrees, DIRECTORIES)
NOTHING: Candidates = lambda _ctx, _incomplete: ()  # noqa: E731  # a value of the table below
KINDS = {
    "target": TARGET,
    "targets": TARGET,
    "what": Completed(whatever, DIRECTORIES),
    "prefix": Completed(prefixes),
    "path": WORKTREE,
    "worktree": WORKTREE,
    "source": Completed(sources, DIRECTORIES),
    "into": WORKTREE,
    "version": Completed(versions),
    "sets": Completed(settings),
    "config": Completed(NOTHING, FILES),
    "conversations": Completed(NOTHING, DIRECTORIES),
    "hook": Completed(hooks),
}


def teach(command: click.Command) -> None:
    """Let a command's text parameters complete what their names stand for."""
    for param in command.params:
        if type(param.type) is click.types.StringParamType and param.name in KINDS:
            param.type = KINDS[param.name]


# -- the answer ----------------------------------------------------------------------


def answer(cli: click.Command, shell: str, words: Sequence[str]) -> list[str]:
    """The lines for our own scripts: `:dir` or `:file` for what the shell adds, else a value, a tab and its help.

    `words` are those after the command's name, the last one not finished.
    """
    from click.shell_completion import ShellComplete  # noqa: PLC0415

    taken, cut = _rejoined(words) if shell == "bash" else (list(words), 0)
    *before, incomplete = taken or [""]
    found = ShellComplete(cli, {"obj": before}, "convsync", VARIABLE).get_completions(before, incomplete)
    lines = {f":{item.type}": None for item in found if item.type in (DIRECTORIES, FILES)}
    for item in found:
        if item.type == "plain" and item.value[cut:].isprintable():
            told = item.help.splitlines()[0] if item.help and shell != "bash" else ""
            lines[f"{item.value[cut:]}\t{told}" if told else item.value[cut:]] = None
    return list(lines)


def _rejoined(words: Sequence[str]) -> tuple[list[str], int]:
    """Bash hands over what was typed, quotes and all, and takes `KEY=VALUE` apart; and how much of it to leave out."""
    plain = [_unquoted(word) for word in words]
    if plain[-1:] == ["="] and len(plain) > 1:
        return [*plain[:-2], plain[-2] + "="], len(plain[-2]) + 1
    if plain[-2:-1] == ["="] and len(plain) > 2:
        return [*plain[:-3], f"{plain[-3]}={plain[-1]}"], len(plain[-3]) + 1
    return plain, 0


def _unquoted(word: str) -> str:
    import shlex  # noqa: PLC0415

    for closing in ("", "'", '"'):
        with contextlib.suppress(ValueError):
            return "".join(shlex.split(word + closing))
    return word
