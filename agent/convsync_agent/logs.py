"""Logging: one line per event to stderr, JSON unless a person reads it, without secrets and without chat text.

The only module that knows structlog, from `setup` on. A logger from `get` may be made at import; until
`setup` it is silent, so commands that do not log pay nothing. A log that cannot be written stops nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3}

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_HANDLER = "convsync"
_FIRST = ("ts", "level", "event", "logger")

_Sink = Callable[[str, str, dict[str, Any]], None]
_sink: _Sink | None = None


class Logger(Protocol):
    """What the engine needs of a logger. `event` is a fixed phrase; ids and counts go into `facts`."""

    def debug(self, event: str, **facts: object) -> None: ...
    def info(self, event: str, **facts: object) -> None: ...
    def warning(self, event: str, **facts: object) -> None: ...
    def error(self, event: str, **facts: object) -> None: ...
    def exception(self, event: str, **facts: object) -> None:
        """`error`, with the traceback of the exception being handled."""

    def bind(self, **facts: object) -> Self:
        """A logger that adds `facts` to every line."""


class _Named:
    __slots__ = ("_facts",)

    def __init__(self, facts: Mapping[str, object]) -> None:
        self._facts = facts

    def debug(self, event: str, **facts: object) -> None:
        self._say("debug", event, facts)

    def info(self, event: str, **facts: object) -> None:
        self._say("info", event, facts)

    def warning(self, event: str, **facts: object) -> None:
        self._say("warning", event, facts)

    def error(self, event: str, **facts: object) -> None:
        self._say("error", event, facts)

    def exception(self, event: str, **facts: object) -> None:
        self._say("error", event, {"exc_info": True, **facts})

    def bind(self, **facts: object) -> Self:
        return type(self)({**self._facts, **facts})

    def _say(self, level: str, event: str, facts: Mapping[str, object]) -> None:
        if _sink is not None:
            _sink(level, event, {**self._facts, **facts})


def get(name: str) -> Logger:
    """The logger of one part of convsync, usable at any time."""
    return _Named({"logger": name})


def setup(level: str, *, stream: TextIO | None = None, tty: bool | None = None, color: bool = True) -> None:
    """Start writing to `stream` (stderr): from now on, and for every logger there is.

    `tty` None asks the stream. Called again, it replaces what was set up before.
    """
    global _sink  # noqa: PLW0603
    import logging  # noqa: PLC0415

    import structlog  # noqa: PLC0415

    from convsync_agent.redact import scrub  # noqa: PLC0415

    stream = sys.stderr if stream is None else stream
    tty = stream.isatty() if tty is None else tty
    processors: list[Processor] = [structlog.processors.add_log_level, _add_time]
    render: Processor
    if tty:
        processors.append(structlog.processors.format_exc_info)
        render = structlog.dev.ConsoleRenderer(
            colors=color and "NO_COLOR" not in os.environ,
            timestamp_key="ts",
            exception_formatter=structlog.dev.plain_traceback,
        )
    else:
        plain = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, use_rich=False)
        processors.append(structlog.processors.ExceptionRenderer(plain))
        render = structlog.processors.JSONRenderer()

    def clean(_logger: object, _method: str, event: EventDict) -> EventDict:
        return {key: scrub(value, key) for key, value in event.items()}

    processors += [clean, render]  # nothing may come between: what clean lets through is what is written
    if _is_journal(stream):
        processors.append(_prefix)
    bound = structlog.wrap_logger(
        _Lines(stream), processors, wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level])
    )

    def sink(level: str, event: str, facts: dict[str, Any]) -> None:
        getattr(bound, level)(event, **facts)

    class Forward(logging.Handler):
        """Records of the standard library's logging, from watchdog for one, through the same pipe."""

        def emit(self, record: logging.LogRecord) -> None:
            try:
                event = record.getMessage()
            except (TypeError, ValueError):
                event = str(record.msg)
            facts: dict[str, Any] = {"logger": record.name}
            if record.exc_info:
                facts["exc_info"] = record.exc_info
            sink(_name_of(record.levelno), event, facts)

    root = logging.getLogger()
    for old in [handler for handler in root.handlers if handler.get_name() == _HANDLER]:
        root.removeHandler(old)
    forward = Forward()
    forward.set_name(_HANDLER)
    root.addHandler(forward)
    # Below a warning, watchdog tells every event, many a second.
    root.setLevel(max(_LEVELS[level], logging.WARNING))
    _sink = sink


def _name_of(number: int) -> str:
    return next((name for name, least in sorted(_LEVELS.items(), key=lambda i: -i[1]) if number >= least), "debug")


def _add_time(_logger: object, _method: str, event: EventDict) -> EventDict:
    from datetime import UTC, datetime  # noqa: PLC0415

    event["ts"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {**{key: event[key] for key in _FIRST if key in event}, **event}


def _prefix(_logger: object, method: str, line: Any) -> str:
    """The priority, in the way journald reads it from stderr, before each line."""
    mark = f"<{PRIORITY[method]}>"
    return "\n".join(mark + part for part in str(line).split("\n"))


def _is_journal(stream: TextIO) -> bool:
    """JOURNAL_STREAM names the journal's own socket; programs started from a service inherit the variable only."""
    named = os.environ.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        seen = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{seen.st_dev}:{seen.st_ino}"


class _Lines:
    """Writes each line whole. A closed or full stream is no reason to stop working."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def _write(self, line: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        try:
            self._stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = _write
