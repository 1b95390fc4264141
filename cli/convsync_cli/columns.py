"""How wide text is on a terminal, and cutting it to fit: East Asian characters take two columns, accents none."""

from __future__ import annotations

import re
import unicodedata

CUT = "…"
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
_JOINER, _EMOJI_STYLE = "\u200d", "\ufe0f"


def width(text: str) -> int:
    """Columns on a terminal, colours not counted."""
    if text.isascii() and "\x1b" not in text:
        return len(text)
    return sum(_columns(c) for c in _COLOR.sub("", text))


def _columns(character: str) -> int:
    if unicodedata.combining(character) or character in (_JOINER, _EMOJI_STYLE, "\u200b"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def pad(text: str, columns: int, *, right: bool = False) -> str:
    blank = " " * max(0, columns - width(text))
    return blank + text if right else text + blank


def cut(text: str, columns: int) -> str:
    """As much of the beginning as fits; a colour in it is ended."""
    if width(text) <= columns:
        return text
    kept, room = [], columns - 1
    colored = False
    for piece in re.split(rf"({_COLOR.pattern})", text):
        if _COLOR.fullmatch(piece):
            kept.append(piece)
            colored = piece != "\x1b[0m"
            continue
        part = _fitting(piece, room)
        kept.append(part)
        room -= width(part)
        if part != piece:
            break
    return "".join(kept) + (CUT if columns > 0 else "") + ("\x1b[0m" if colored else "")


def cut_middle(text: str, columns: int) -> str:
    """Beginning and end, what is between left out: the ends of paths are what tells them apart."""
    if width(text) <= columns:
        return text
    front = _fitting(text, max(0, (columns - 1) // 3))
    back = _fitting(text[::-1], max(0, columns - 1 - width(front)))[::-1]
    return front + CUT + back.lstrip("\u0300\u0301\u0302\u0303\u0308")


def _fitting(text: str, columns: int) -> str:
    used = 0
    for number, character in enumerate(text):
        used += _columns(character)
        if used > columns:
            return text[:number]
    return text
