"""Everything that reaches a person or a program: JSON, tables, colour, errors. The only module that prints."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from convsync_agent.errors import ConvsyncError
from convsync_cli import columns

_CODES = {"red": "31", "green": "32", "yellow": "33", "bold": "1", "dim": "2"}
_plain = False


def set_plain(*, plain: bool) -> None:
    """No colour from here on (--no-color, NO_COLOR)."""
    global _plain  # noqa: PLW0603  # one terminal, one decision
    _plain = plain


def colored(text: str, color: str, stream: TextIO | None = None) -> str:
    out = stream or sys.stdout
    if _plain or os.environ.get("NO_COLOR") or not out.isatty():
        return text
    return f"\x1b[{_CODES[color]}m{text}\x1b[0m"


def document(body: dict[str, Any]) -> None:
    """The one JSON document of a command (`--json`)."""
    sys.stdout.write(json.dumps({"schema": 1} | body, ensure_ascii=False) + "\n")


def line(text: str = "") -> None:
    sys.stdout.write(printable(text) + "\n")


def is_terminal() -> bool:
    return sys.stdout.isatty()


def is_watched() -> bool:
    """Whether a line of progress has somebody to see it, on a terminal that can take it away again."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def error_width() -> int:
    """Columns of the terminal that progress is shown on."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except OSError:
        return 80


def note(text: str) -> None:
    """To stderr: progress and remarks that must not mix with a result."""
    sys.stderr.write(printable(text) + "\n")


def progress(text: str) -> None:
    """Rewrite the one line of progress on a terminal; '' takes it away. Nothing elsewhere."""
    if is_watched():
        sys.stderr.write("\r\x1b[K" + columns.cut(printable(text), error_width() - 1))
        sys.stderr.flush()


def window_title(text: str) -> None:
    """The title of the terminal's window (OSC 2), on stderr; nothing elsewhere. `text` has no control characters."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\x1b]2;{text}\x07")
        sys.stderr.flush()


def error(problem: ConvsyncError, *, as_json: bool) -> None:
    if as_json:
        body = {"code": problem.code, "message": str(problem), "hint": problem.hint}
        sys.stdout.write(json.dumps({"schema": 1, "error": body}, ensure_ascii=False) + "\n")
        return
    note(f"{colored('error:', 'red', sys.stderr)} {problem}")
    if problem.hint:
        note(f"{colored('hint:', 'yellow', sys.stderr)} {problem.hint}")


def printable(text: str) -> str:
    """No control characters but our own colours: a title must not move the cursor."""
    clean = "".join(c if _harmless(c) or c in "\n\t\x1b" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return clean.encode("utf-8", "backslashreplace").decode()


def title_text(text: str) -> str:
    """A title for one cell: no line breaks, no escapes."""
    return "".join(c if _harmless(c) else " " for c in text)


def _harmless(character: str) -> bool:
    """Neither C0 nor C1, which some terminals obey."""
    return character >= " " and not "\x7f" <= character <= "\x9f"


def width() -> int:
    import shutil  # noqa: PLC0415  # it brings three compressors, and JSON has no width

    return shutil.get_terminal_size((80, 24)).columns


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Iterable[int] = (),
    indent: str = "",
    path: bool = False,
) -> None:
    """Aligned columns on a terminal, the last one cut to fit; tab-separated values elsewhere."""
    for text in table_lines(header, rows, right=right, indent=indent, path=path):
        line(text)


def table_lines(
    header: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Iterable[int] = (),
    indent: str = "",
    path: bool = False,
) -> list[str]:
    """The lines of `table`. `path`: the last column is cut in its middle, since the ends of paths differ."""
    everything = [list(header), *(list(r) for r in rows)]
    if not sys.stdout.isatty():
        return ["\t".join(row) for row in everything]
    sizes = [max(columns.width(r[i]) for r in everything) for i in range(len(header))]
    room = max(8, width() - len(indent) - sum(sizes[:-1]) - 2 * (len(sizes) - 1))
    sizes[-1] = min(room, sizes[-1])
    numbers = set(right)
    lines = []
    for row in everything:
        row[-1] = columns.cut_middle(row[-1], room) if path else columns.cut(row[-1], room)
        cells = [columns.pad(c, sizes[i], right=i in numbers) for i, c in enumerate(row)]
        lines.append(columns.cut(indent + "  ".join(cells).rstrip(), max(width(), 20)))
    return [colored(lines[0], "dim"), *lines[1:]]


def tilde(path: str) -> str:
    """`~` for the home directory, on a terminal only: what is copied from a pipe must be usable as it is."""
    home = os.path.expanduser("~")
    if sys.stdout.isatty() and home != "/" and (path == home or path.startswith(home + "/")):
        return "~" + path[len(home) :]
    return path


def tilde_words(command: str) -> str:
    """The same for every word of a command that begins with it, as a shell reads it."""
    return " ".join(tilde(word) for word in command.split(" "))


def ago(ms: int | None, now_ms: int | None = None) -> str:
    """How long ago, in one short unit."""
    if ms is None:
        return "-"
    seconds = max(0, ((now_ms or time.time_ns() // 1_000_000) - ms) // 1000)
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (86400 * 60, 86400, "d")):
        if seconds < limit:
            return f"{seconds // size} {unit} ago"
    return f"{seconds // (86400 * 30)} mo ago"


def plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def size(count: int) -> str:
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{count} B"
