"""Every setting of convsync: its default, and one table that says what each key means and allows.

The table is the only source: validation, `config schema`, `config show` and the docs are made from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Literal

from convsync_agent.model import Guard, ImportPolicy

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
MAX_DAYS = 36_500
MAX_VERSIONS = 1_000_000
MAX_BYTES = 1 << 60

TARGET_ID = r"(jp-c)?[0-9]{1,19}|jp-c[0-9]{1,19}-[0-9a-z]{5}"
"""A conversation id where a target is configured."""

SIZE = r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([KMGTkmgt]i?[Bb]|[Bb]|)"
"""A size where it is written as text: KB is 1000 bytes, KiB is 1024."""

NOT_SETTINGS = frozenset(
    {"CONVSYNC_CONFIG", "CONVSYNC_STATE_DIR", "CONVSYNC_DATA_DIR", "CONVSYNC_CONVERSATION", "CONVSYNC_DEMO_DATA"}
)
"""Variables with our prefix that say where things are, not how to behave."""


class Reproject(StrEnum):
    """What happens to the projections of a worktree that went away and came back."""

    AUTO = "auto"
    ASK = "ask"
    NEVER = "never"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Settings:
    """How convsync behaves. `None` means: not wanted."""

    policy: Guard = Guard.GUARDED
    import_policy: ImportPolicy = ImportPolicy.AUTO
    reproject: Reproject = Reproject.AUTO
    trash_keep_days: int = 30
    history_keep_days: int = 90
    history_keep_versions: int = 50
    history_max_bytes: int = 2 * GIB
    target_default: str = "ask"
    notify_desktop: bool = True
    notify_command: str | None = None
    metrics_textfile: str | None = None
    log_level: LogLevel = LogLevel.INFO


def bytes_of(value: object) -> object:
    """A size written as text, in bytes; anything else as it came."""
    import re  # noqa: PLC0415

    told = re.fullmatch(SIZE, value.strip()) if isinstance(value, str) else None
    if told is None:
        return value
    scale = "bkmgt".index(told[2][:1].lower() or "b")
    return int(float(told[1]) * (1024 if "i" in told[2].lower() else 1000) ** scale)


KeyKind = Literal["choice", "int", "size", "bool", "target", "text", "path"]


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: its field in `Settings`, what it is for, and what it takes (both ends included)."""

    field: str
    description: str
    kind: KeyKind
    choices: tuple[str, ...] = ()
    minimum: int = 0
    maximum: int = 0

    @property
    def default(self) -> object:
        return getattr(DEFAULTS, self.field)

    @property
    def allowed(self) -> str:
        """What it takes, in words that follow "allowed: "."""
        match self.kind:
            case "choice":
                return ", ".join(self.choices)
            case "target":
                return ", ".join(self.choices) + ", or a conversation id such as jp-c17457886043"
            case "int":
                return f"a whole number from {self.minimum} to {self.maximum}"
            case "size":
                return "a number of bytes above 0, or text such as '2 GiB' or '500 MB'"
            case "bool":
                return "true, false (1 or 0 in the environment and in --set)"
            case "path":
                return "an absolute path, or one that starts with ~/; empty for none"
            case "text":
                return "text; empty for none"

    def from_text(self, text: str) -> object:
        """What `text` says in the type of this key; what says nothing of the kind stays text, to be refused."""
        if self.kind in ("int", "size"):
            digits = text.strip()
            whole = digits.isascii() and digits.removeprefix("-").isdigit() and len(digits) < 20
            return int(digits) if whole else text
        if self.kind == "bool":
            return {"true": True, "1": True, "false": False, "0": False}.get(text.strip().lower(), text)
        return text


DEFAULTS = Settings()

KEYS: Mapping[str, Key] = MappingProxyType(
    {
        "policy": Key(
            "policy",
            "How a newer copy wins: `guarded` keeps what would be lost and asks, `mtime` is JP's bare rule.",
            "choice",
            tuple(Guard),
        ),
        "import.policy": Key(
            "import_policy",
            "When a conversation that only a worktree holds becomes durable.",
            "choice",
            tuple(ImportPolicy),
        ),
        "recovery.reproject": Key(
            "reproject",
            "Whether a worktree that came back gets the projections it held: at once, after `recover`, never.",
            "choice",
            tuple(Reproject),
        ),
        "trash.keep_days": Key(
            "trash_keep_days",
            "How many days the last durable content of a removed conversation stays restorable; 0 turns it off.",
            "int",
            maximum=MAX_DAYS,
        ),
        "history.keep_days": Key(
            "history_keep_days", "How many days a version stays in the history.", "int", minimum=1, maximum=MAX_DAYS
        ),
        "history.keep_versions": Key(
            "history_keep_versions",
            "How many versions of one unit stay in the history; the newest always does.",
            "int",
            minimum=1,
            maximum=MAX_VERSIONS,
        ),
        "history.max_bytes": Key(
            "history_max_bytes",
            "How large the history may grow in all; the oldest versions go first.",
            "size",
            minimum=1,
            maximum=MAX_BYTES,
        ),
        "target.default": Key(
            "target_default",
            "Which conversation is meant when a command names none and the session has none.",
            "target",
            ("ask", "last", "last-activated", "recent", "newest", "last-created", "prev", "previous", "session"),
        ),
        "notify.desktop": Key("notify_desktop", "Tell the desktop when something needs attention.", "bool"),
        "notify.command": Key("notify_command", "A command to run when something needs attention.", "text"),
        "metrics.textfile": Key("metrics_textfile", "Write metrics for a Prometheus textfile collector here.", "path"),
        "log.level": Key("log_level", "The least important log line that is written.", "choice", tuple(LogLevel)),
    }
)
