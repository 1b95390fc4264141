"""`content.check_events` for a stream that is read by pieces: the same verdict, in the same words.

In memory are one piece and what was made of it, or the largest element. A fault in what comes first may be outdone by
one in what comes last (bytes that are no UTF-8 come before everything), so a stream with a fault is read to its end.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

from convsync_agent import bulk
from convsync_agent.bulk import Content, Piece
from convsync_agent.content import fault_of, has_config, no_config
from convsync_agent.model import EVENTS
from convsync_agent.strict_json import DECODER, DEEP, DEPTH, HALF, MARKERS, NotJson, depth, encodes
from convsync_agent.summary import count_events

_T = TypeVar("_T")
_MARGIN = 16  # characters: what is wrong nearer to the end of a window may be a word, a number or an escape cut in two
_NUMBER = "0123456789+-.eE"
_space = re.compile(r"[ \t\n\r]*").match
_comma = re.compile(r"[ \t\n\r]*,[ \t\n\r]*").match
_scan = DECODER.scan_once  # type: ignore[attr-defined]  # what `raw_decode` calls


class Judged(NamedTuple):
    """`fault`: '' or what is wrong; `events`: as `summary.summarise_events` counts them."""

    fault: str
    events: int


def judge(pieces: Iterable[Piece], packed: bool, *, begun: bool = False) -> Judged:  # noqa: FBT001 - as check_events
    """How good an event stream is. `begun`: what is read goes on behind an element, which is not counted."""
    window = _Window(pieces)
    try:
        fault, events = _events(window, packed=packed, begun=begun)
    except NotJson as error:
        fault, events = _all_of(window) or str(error), 0
    return Judged(f"{EVENTS}: {fault}" if fault else "", events)


def count(content: Content) -> int:
    """`summary.count_events`, of any size."""
    if not isinstance(content, bulk.Bulk):
        return count_events(content)
    head = last = b""
    lines = 0
    for piece in content.pieces():
        raw = bytes(piece)
        head = head if len(head) >= 5 else head + raw[:5]
        lines += raw.count(b"\n  {") + (last[-3:] + raw[:3]).count(b"\n  {")
        last = (last + raw if len(raw) < 8 else raw)[-8:]
    if head.startswith(b"[\n  {") and last.endswith(b"\n  }\n]\n"):
        return lines
    return judge(content.pieces(), packed=False).events


class _NotUtf8Error(NotJson):
    """Outdoes whatever else is wrong."""


class _TooLargeError(Exception):
    """A value that is no array, and that nobody needs to know more of."""


class _Window:
    """The text that is not judged yet, from `at` on: as much as the element at hand needs."""

    def __init__(self, pieces: Iterable[Piece]) -> None:
        self._pieces = iter(pieces)
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._lines = 0  # before `text`
        self._begun = False
        self.text = ""
        self.at = 0
        self.ended = False
        self.blank = self.nul = True  # nothing but that so far
        self.mark = False
        self.escapes = False  # there were some that may be half a pair

    def more(self) -> bool:
        """Let go of what was judged, and read as much as there is left, or a piece. False: there is no more."""
        if self.ended:
            return False
        self._lines += self.text.count("\n", 0, self.at)
        parts = [self.text[self.at :]]
        self.at, read = 0, 0
        while read <= len(parts[0]):
            parts.append(self._next(parts))
            read += len(parts[-1])
            if self.ended:
                break
        self.text = "".join(parts)
        if not self._begun and self.text:
            self._begun, self.mark = True, self.text[0] == "\ufeff"
        self.escapes = self.escapes or ("\\u" in self.text and ("\\ud" in self.text or "\\uD" in self.text))
        return True

    def _next(self, parts: list[str]) -> str:
        raw = next(self._pieces, None)
        self.ended = raw is None
        if raw is not None and (self.blank or self.nul) and len(raw):
            self.blank = self.blank and bytes(raw).isspace()
            self.nul = self.nul and not bytes(raw).strip(b"\0")
        try:
            return self._decode(raw or b"", self.ended)
        except UnicodeDecodeError as error:
            lines = sum(part.count("\n") for part in parts) + error.object.count(b"\n", 0, error.start)
            cut = " (cut off?)" if error.reason == "unexpected end of data" else ""
            raise _NotUtf8Error(f"line {self._lines + lines + 1}: not UTF-8{cut}") from None

    def sure(self, at: int) -> bool:
        """What the parser says of the text before this is what it would say with all of it."""
        return self.ended or at + _MARGIN < len(self.text)

    def line(self, at: int) -> int:
        return self._lines + self.text.count("\n", 0, at) + 1

    def rest(self) -> Iterator[None]:
        """To the end: each time `text`, from `at` on, is another part."""
        yield
        self.at = len(self.text)
        while self.more():
            yield
            self.at = len(self.text)


def _all_of(window: _Window) -> str:
    """What a content that is no JSON is as a whole, where there is a word for it."""
    if window.blank:
        return "empty"
    return "filled with NUL bytes" if window.nul else ""


def _events(window: _Window, *, packed: bool, begun: bool) -> tuple[str, int]:
    """What is wrong with the elements, and how many there are. Raises NotJson."""
    deep = half = False
    fault, number, timed, config = "", 0, True, False
    try:
        for batch in _batches(window, begun=begun):
            deep = deep or depth(batch) > DEPTH
            half = half or (window.escapes and not deep and not encodes(batch))
            window.escapes = False
            if not fault:
                fault = next((f"element {n}: {f}" for n, e in enumerate(batch, number) if (f := fault_of(e))), "")
                config = config or (not number and not fault and has_config(batch[0]))
            timed = timed and (not fault or all(isinstance(e, dict) and "timestamp" in e for e in batch))
            number += len(batch)
    except json.JSONDecodeError as error:
        raise NotJson(_where(window, error)) from None
    except RecursionError:
        deep = True
        _exhaust(window)
    except _NotUtf8Error:
        raise
    except NotJson:
        _exhaust(window)
        raise
    if deep or half:
        raise NotJson(DEEP if deep else HALF)
    if packed and not fault and not config:
        fault = no_config(number)
    return fault, number if timed else 0


def _batches(window: _Window, *, begun: bool) -> Iterator[list[Any]]:
    """The elements, some at a time. Raises as the parser does."""
    going_on = _certain(window, _delimiter) if begun else _opened(window)
    while going_on:
        batch = _run(window)
        value, going_on = _certain(window, _element)
        batch.append(value)
        yield batch
        del batch, value
    _require_end(window)


def _opened(window: _Window) -> bool:
    """Whether the array has an element, which is next. Raises NotJson where it is none."""
    bracket = _certain(window, _opening)
    if not bracket:
        _other(window)
    return _certain(window, _first)


def _run(window: _Window) -> list[Any]:
    """The elements that are in the window beyond doubt."""
    batch: list[Any] = []
    text, at = window.text, window.at
    sure = len(text) - _MARGIN
    try:
        while True:
            value, end = _scan(text, at)
            comma = _comma(text, end)
            if comma is None or comma.end() >= sure:
                return batch
            batch.append(value)
            window.at = at = comma.end()
    except (StopIteration, ValueError):  # cut in two or wrong: who looks more closely will say
        return batch


def _certain(window: _Window, step: Callable[[str, int], tuple[_T, int]]) -> _T:
    """What `step` finds, and where it ends, with as much of the text as it needs."""
    while True:
        try:
            found, end = step(window.text, window.at)
            if window.sure(end):
                window.at = end
                return found
        except StopIteration as stop:
            if window.sure(stop.value):
                raise json.JSONDecodeError("Expecting value", window.text, stop.value) from None
        except json.JSONDecodeError as error:
            if window.ended or (window.sure(error.pos) and not error.msg.startswith("Unterminated string")):
                raise
        except NotJson:
            if window.ended or window.text[-1:] not in _NUMBER:
                raise
        window.more()


def _opening(text: str, at: int) -> tuple[bool, int]:
    at = _space(text, at).end()  # type: ignore[union-attr]  # matches anything
    return (True, at + 1) if text.startswith("[", at) else (False, at)


def _first(text: str, at: int) -> tuple[bool, int]:
    at = _space(text, at).end()  # type: ignore[union-attr]
    return (False, at + 1) if text.startswith("]", at) else (True, at)


def _delimiter(text: str, at: int) -> tuple[bool, int]:
    """Behind an element: whether there is another one, and where."""
    at = _space(text, at).end()  # type: ignore[union-attr]
    if text.startswith("]", at):
        return False, at + 1
    if not text.startswith(",", at):
        raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
    return True, _space(text, at + 1).end()  # type: ignore[union-attr]


def _element(text: str, at: int) -> tuple[tuple[Any, bool], int]:
    value, end = _scan(text, at)
    going_on, end = _delimiter(text, end)
    return (value, going_on), end


def _require_end(window: _Window) -> None:
    """Raises JSONDecodeError where there is more than space."""
    for _ in window.rest():
        at = _space(window.text, window.at).end()  # type: ignore[union-attr]
        if at < len(window.text):
            raise json.JSONDecodeError("Extra data", window.text, at)


def _other(window: _Window) -> None:
    """Raises NotJson for what is no array: that it is none, if it is JSON at all. Beyond `bulk.MOST` nobody asks."""

    def value(text: str, at: int) -> tuple[Any, int]:
        if len(text) - at > bulk.MOST:
            raise _TooLargeError
        return _scan(text, at)  # type: ignore[no-any-return]

    try:
        found = _certain(window, value)
    except _TooLargeError:
        _exhaust(window)
        raise NotJson("not an array") from None
    _require_end(window)
    if depth(found) > DEPTH:
        raise NotJson(DEEP)
    raise NotJson(HALF if window.escapes and not encodes(found) else "not an array")


def _where(window: _Window, error: json.JSONDecodeError) -> str:
    """As `strict_json` says it; to that end the rest is read, too."""
    window.at = error.pos
    while len(window.text) - window.at < len(MARKERS[0]) and window.more():
        pass
    marker, line, nul = window.text.startswith(MARKERS, window.at), window.line(window.at), 0
    cut, blank = error.msg.startswith("Unterminated string"), True
    for _ in window.rest():
        if not nul and (found := window.text.find("\0", window.at)) >= 0:
            nul = window.line(found)
        blank = blank and not window.text[window.at :].strip()
    if window.mark:
        return "starts with a byte order mark"
    if nul:
        return f"line {nul}: NUL bytes"
    if marker:
        return f"line {line}: a merge conflict marker"
    return f"line {line}: not JSON" + (" (cut off?)" if cut or blank else "")


def _exhaust(window: _Window) -> None:
    """To the end, because of bytes that are no UTF-8."""
    for _ in window.rest():
        pass
