"""A terminal session as JP knows it: who it is, under which name its file lies, what it worked on (contract 8).

Pure. A `Trail` is what one session file holds: the conversations that were activated in it, most recent first.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any, NamedTuple

from convsync_agent.model import SECOND, Partition
from convsync_agent.names import LARGEST_ID
from convsync_agent.strict_json import NotJson, parse
from convsync_agent.summary import parse_timestamp

OVERRIDE = "JP_SESSION"
FALLBACKS = ("TMUX_PANE", "WEZTERM_PANE", "TERM_SESSION_ID", "ITERM_SESSION_ID")
"""One for each tab or pane. Those that several tabs share (WT_SESSION, KITTY_WINDOW_ID) name no session."""

GETSID, HWND, ENV = "getsid", "hwnd", "env"
_OTHER = re.compile(r"[^A-Za-z0-9_]")
_EPOCH = date(1970, 1, 1).toordinal()


class BrokenTrail(ValueError):
    """A session file that JP would not take for one, in words that hold nothing of it."""


class Session(NamedTuple):
    """Who it is. `variable` is the environment's, for the kind `env` only."""

    kind: str
    id: str
    variable: str = ""

    @property
    def source(self) -> str:
        return f"{ENV}:{self.variable}" if self.kind == ENV else self.kind

    @property
    def key(self) -> str:
        """The name of its file, without the ending. Never a path: what is no letter or digit becomes `_`."""
        if self.kind == ENV:
            return f"{ENV}-{_OTHER.sub('_', self.variable)}-{hashlib.sha256(self.id.encode()).hexdigest()[:16]}"
        return f"{self.kind}-{_OTHER.sub('_', self.id)}"

    @property
    def legacy_key(self) -> str | None:
        """The name that older versions of JP gave it: the bare value, where that is a name at all."""
        unsafe = not self.id or self.id in {".", ".."} or any(c in self.id for c in "/\\\0")
        return None if unsafe or self.id == self.key else self.id

    @property
    def pid(self) -> int | None:
        """The process that leads it, where there is one to be asked about."""
        number = int(self.id) if self.kind == GETSID and re.fullmatch(r"-?[0-9]{1,10}", self.id) else None
        return number if number is not None and -(1 << 31) <= number < 1 << 31 else None


class Visit(NamedTuple):
    """One entry of a history. `at` as it was written, `rest` what a newer JP may add."""

    conversation: int
    at: str
    rest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Trail:
    """One session file. `rest` and `source_rest` are fields that are not known here and stay."""

    session: Session
    history: tuple[Visit, ...] = ()
    rest: Mapping[str, Any] = field(default_factory=dict)
    source_rest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def conversations(self) -> tuple[int, ...]:
        return tuple(v.conversation for v in self.history)


# -- who ----------------------------------------------------------------------


def resolve(env: Mapping[str, str], leader: int | None) -> Session | None:
    """The first that is there of `$JP_SESSION`, the session leader, a variable of the terminal (contract 8.1)."""
    if _value(env, OVERRIDE):
        return Session(ENV, env[OVERRIDE], OVERRIDE)
    if leader is not None and leader >= 0:
        return Session(GETSID, str(leader))
    return next((Session(ENV, env[name], name) for name in FALLBACKS if _value(env, name)), None)


def _value(env: Mapping[str, str], name: str) -> bool:
    """Set, and text: to JP a variable that is no UTF-8 is not set."""
    value = env.get(name, "")
    return bool(value) and _is_text(value)


def _is_text(value: str) -> bool:
    """No bytes that are no UTF-8, as Python shows those of names and of the environment."""
    return not any("\ud800" <= c <= "\udfff" for c in value)


# -- what it worked on ----------------------------------------------------------


def activated(trail: Trail, conversation: int, at_ns: int) -> Trail:
    """The same with this conversation in front; each is in it once."""
    others = (v for v in trail.history if v.conversation != conversation)
    return replace(trail, history=(Visit(conversation, rfc3339(at_ns), {}), *others))


def walk(trail: Trail, known: Mapping[int, Partition]) -> list[int]:
    """Active, previous and so on: what is not known is skipped, what is archived ends it (contract 8.3)."""
    found = []
    for conversation in trail.conversations:
        partition = known.get(conversation)
        if partition is Partition.ARCHIVED:
            break
        if partition is Partition.LIVE:
            found.append(conversation)
    return found


def cleaned(trail: Trail, exists: Callable[[int], bool], *, alive: bool | None) -> Trail | None:
    """What is left of it (contract 8.4), None when it may go. `alive` None: there is no process to ask about.

    With a process it goes when that is dead for certain; without, when no conversation of it exists.
    """
    left = tuple(v for v in trail.history if exists(v.conversation))
    if alive is False or (alive is None and trail.session.kind != HWND and not left):
        return None
    return replace(trail, history=left)


# -- bytes ------------------------------------------------------------------------


def read_trail(raw: bytes, stem: str) -> Trail:
    """What a session file says. One of an older JP has no id; its name `stem` is that. Raises BrokenTrail."""
    try:
        fields = parse(raw)
    except NotJson as error:
        raise BrokenTrail(str(error)) from None
    if not isinstance(fields, dict):
        raise BrokenTrail("not an object")
    history, source, name = fields.pop("history", None), fields.pop("source", None), fields.pop("id", stem)
    if not isinstance(history, list):
        raise BrokenTrail("no history")
    if not isinstance(name, str) or not isinstance(source, dict):
        raise BrokenTrail("no id or no source")
    if not _is_text(name):
        raise BrokenTrail("its name is no text")
    kind, variable = source.pop("type", None), ""
    if kind == ENV:
        variable = source.pop("key", None)
    if kind not in (GETSID, HWND, ENV) or not isinstance(variable, str):
        raise BrokenTrail("an unknown source")
    return Trail(Session(kind, name, variable), tuple(_visit(v) for v in history), fields, source)


def _visit(element: object) -> Visit:
    rest = dict(element) if isinstance(element, dict) else {}
    conversation, at = rest.pop("id", None), rest.pop("activated_at", None)
    if type(conversation) is not int or not 0 <= conversation <= LARGEST_ID:
        raise BrokenTrail("an entry without a conversation")
    if not isinstance(at, str) or parse_timestamp(at) is None:
        raise BrokenTrail("an entry without a time")
    return Visit(conversation, at, rest)


def as_json(trail: Trail) -> bytes:
    """The file as JP writes it: its fields in its order, then what is not known here."""
    who = trail.session
    source = {"type": who.kind} | ({"key": who.variable} if who.kind == ENV else {}) | dict(trail.source_rest)
    history = [{"id": v.conversation, "activated_at": v.at} | dict(v.rest) for v in trail.history]
    body = {"history": history, "id": who.id, "source": source} | dict(trail.rest)
    return (json.dumps(body, indent=2, ensure_ascii=False) + "\n").encode()


def rfc3339(ns: int) -> str:
    """A time as JP writes it into session files: UTC with a Z, and 0, 3, 6 or 9 digits of a second."""
    seconds, fraction = divmod(ns, SECOND)
    days, rest = divmod(seconds, 86400)
    digits = f"{fraction:09}"
    shown = next(digits[:n] for n in (0, 3, 6, 9) if not digits[n:].strip("0"))
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{date.fromordinal(days + _EPOCH).isoformat()}T{clock}{'.' if shown else ''}{shown}Z"
