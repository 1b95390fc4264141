"""Names of conversations, locks, workspaces and silos: parse and format, as JP does (contract 1.2, 2.3, 3)."""

from __future__ import annotations

import re

from convsync_agent.alnum import is_alphanumeric

LARGEST_ID = 92_233_720_368  # a decisecond beyond does not fit JP's nanoseconds in 64 bits
TITLE_LIMIT = 60  # characters that are kept, and bytes from which on the last word is cut off

_NUMBER = r"(0|[1-9][0-9]{0,10})"
_ID = re.compile(rf"(?:jp-c{_NUMBER}(?:-[0-9a-z]+)?|{_NUMBER})")
_DIRNAME = re.compile(rf"{_NUMBER}(?:-.*)?", re.DOTALL)
_LENIENT = re.compile(r"\+?0*([0-9]{1,11})(?:-.*)?", re.DOTALL)
_WORKSPACE_ID = re.compile(r"[0-9a-z]{5}")

# Unicode White_Space, which is what Rust trims. Python's strip() would take U+001C-001F too.
_WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)


def id_text(n: int) -> str:
    return f"jp-c{n}"


def lock_name(n: int) -> str:
    return f"jp-c{n}.lock"


def created_ms(n: int) -> int:
    """An id is the instant of creation in tenths of a second."""
    return n * 100


def parse_id(text: str) -> int | None:
    """The number of `jp-c<n>`, `jp-c<n>-<workspace>` or `<n>`, written as JP writes it."""
    match = _ID.fullmatch(text)
    return _in_range(match[1] or match[2]) if match else None


def parse_dirname(name: str) -> int | None:
    """The id of a directory that JP finds again: `<n>` or `<n>-<rest>`, no sign, no leading zero."""
    match = _DIRNAME.fullmatch(name)
    return _in_range(match[1]) if match else None


def lookalike_id(name: str) -> int | None:
    """The id JP lists for a name that is not canonical and that it does not find again, else None.

    Such a directory is nobody's copy, but it is not to be touched or written over either.
    """
    match = _LENIENT.fullmatch(name)
    return _in_range(match[1]) if match and parse_dirname(name) is None else None


def dirname(n: int, title: str | None) -> str:
    """The name JP gives to a new directory (contract 3.3). Where one exists already, reuse that instead.

    `lower` knows Python's Unicode version, JP's is newer: 55 characters that got a small letter since
    stay capital here. That is a harmless difference, because JP finds a directory by its number alone.
    """
    text = title or ""
    slug = "".join(c if is_alphanumeric(c) else "-" for c in text.strip(_WHITE_SPACE)[:TITLE_LIMIT])
    slug = slug.rstrip("-").lower()
    name = f"{n}-{slug}" if slug else str(n)
    if len(text.encode("utf-8", "surrogatepass")) > TITLE_LIMIT and slug:
        name = name[: name.rindex("-")]
    return name


def parse_workspace_id(raw: bytes) -> str | None:
    """The last line of `.jp/.id`, or None: then the workspace is left alone, for JP may mint a new id."""
    try:
        lines = raw.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        return None
    if len(lines) > 1 and lines[-1] == "":
        lines.pop()
        lines[-1] = lines[-1].removesuffix("\r")
    return lines[-1] if _WORKSPACE_ID.fullmatch(lines[-1]) else None


def silo_matches(name: str, ws_id: str) -> bool:
    """`name` is a silo of the workspace: `<id>` or `<anything>-<id>`."""
    return name == ws_id or name.endswith(f"-{ws_id}")


def _in_range(digits: str) -> int | None:
    number = int(digits)
    return number if number <= LARGEST_ID else None
