"""What differs between two contents of one unit: by event and by key; by line where one cannot be read.

*Old* is the kept version, *new* what is current; contents are bytes by file name. Compared is what JP would
load: a stream with its config packed into the events (contract 4.6) equals the same one in two files, and the
order of keys means nothing. Nothing raises, whatever the bytes. The texts in the result are for the screen
only (R9).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from convsync_agent.alignment import gaps, pairs
from convsync_agent.digest import content_digest
from convsync_agent.excerpt import both_lines, compact, harmless, one_line, text_of
from convsync_agent.model import BASE_CONFIG, EVENTS, METADATA, MS, Unit
from convsync_agent.strict_json import NotJson, parse, same_json
from convsync_agent.summary import parse_timestamp

Files = Mapping[str, bytes]
"""Content by name; a file that does not exist is left out."""

_PLAIN_KEY = re.compile(r"[\w-]+")
_CONFIG = "config_delta"


class Change(StrEnum):
    """Seen from the kept version to what is current."""

    REMOVED = "removed"  # only the kept version has it
    ADDED = "added"  # only what is current has it
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Event:
    """One event on one side. `index` counts the elements of its own `events.json` from 0; `size` is compact JSON's."""

    index: int
    kind: str
    timestamp: str
    at_ms: int | None
    size: int
    text: str


@dataclass(frozen=True, slots=True)
class EventChange:
    """`old` or `new` is None where that side has no such event. `keys` of a changed one: where it differs."""

    change: Change
    old: Event | None
    new: Event | None
    keys: tuple[str, ...] = ()


class KeyChange(NamedTuple):
    """One value of a config or of metadata, by the path of its keys; '' stands for all of it."""

    change: Change
    file: str
    path: str
    old: str
    new: str


class LineChange(NamedTuple):
    """One line that only one side has, counted from 1 there; `size` in bytes without the line feed."""

    change: Change
    file: str
    line: int
    size: int
    text: str


@dataclass(frozen=True, slots=True)
class Difference:
    """`old_events` and `new_events` are counts of elements, None where the stream is not one or cannot be read."""

    events: tuple[EventChange, ...] = ()
    keys: tuple[KeyChange, ...] = ()
    lines: tuple[LineChange, ...] = ()
    old_events: int | None = None
    new_events: int | None = None

    @property
    def same(self) -> bool:
        """The two mean the same to JP, whatever their bytes."""
        return not (self.events or self.keys or self.lines)


def difference(unit: Unit, old: Files, new: Files) -> Difference:
    """What to show of two contents of one unit."""
    if unit is Unit.STREAM:
        return _of_streams(old, new)
    if unit is Unit.METADATA:
        keys, lines = _of_json(METADATA, old, new)
        return Difference(keys=keys, lines=lines)
    return Difference(lines=tuple(c for name in sorted({*old, *new}) for c in _lines(name, old, new)))


# -- streams ----------------------------------------------------------------------


class _Stream(NamedTuple):
    """One side as JP reads it. `events` None: unreadable. `first` is the index of `events[0]` in its file."""

    config: Any
    readable_config: bool
    events: list[Any] | None
    first: int


def _read(files: Files) -> _Stream:
    events: list[Any] | None = []
    if EVENTS in files:
        found = _parsed(files[EVENTS])
        events = found if isinstance(found, list) else None
    if BASE_CONFIG in files:
        config = _parsed(files[BASE_CONFIG])
        return _Stream(config, not isinstance(config, _Broken), events, 0)
    head = events[0] if events else None
    if events and isinstance(head, dict) and head.get("type") == _CONFIG:
        return _Stream(head.get("delta"), True, events[1:], 1)
    return _Stream({}, events is not None, events, 0)


def _of_streams(old: Files, new: Files) -> Difference:
    mine, theirs = _read(old), _read(new)
    keys, lines = tuple[KeyChange, ...](), tuple[LineChange, ...]()
    if mine.readable_config and theirs.readable_config:
        keys = tuple(_keys(BASE_CONFIG, "", mine.config, theirs.config))
    elif BASE_CONFIG in old or BASE_CONFIG in new:
        lines = tuple(_lines(BASE_CONFIG, old, new))
    if mine.events is None or theirs.events is None:
        return Difference((), keys, (*lines, *_lines(EVENTS, old, new)), _count(mine), _count(theirs))
    mine, theirs = _with_heads(mine, theirs, old, new)
    return Difference(tuple(_events(mine, theirs)), keys, lines, _count(mine), _count(theirs))


def _count(stream: _Stream) -> int | None:
    return None if stream.events is None else len(stream.events) + stream.first


def _with_heads(mine: _Stream, theirs: _Stream, old: Files, new: Files) -> tuple[_Stream, _Stream]:
    """An upgrade that was interrupted leaves the packed element behind in the split events: then both have it."""
    if mine.first == theirs.first:
        return mine, theirs
    packed, split = (mine, theirs) if mine.first else (theirs, mine)
    head = parse((old if mine.first else new)[EVENTS])[0]
    if not split.events or not same_json(head, split.events[0]):
        return mine, theirs
    whole = packed._replace(events=[head, *(packed.events or [])], first=0)
    return (whole, theirs) if mine.first else (mine, whole)


def _events(mine: _Stream, theirs: _Stream) -> Iterator[EventChange]:
    old, new = mine.events or [], theirs.events or []
    marks = [content_digest(_canonical(e)) for e in old], [content_digest(_canonical(e)) for e in new]
    apart = list(gaps(len(old), len(new), pairs(*marks)))
    # One alignment for all gaps, each with a number of its own: what it may cost is bounded as a whole.
    left = [(n, i) for n, gap in enumerate(apart) for i in range(gap.i1, gap.i2)]
    right = [(n, j) for n, gap in enumerate(apart) for j in range(gap.j1, gap.j2)]
    kin = pairs([(n, *_identity(old[i])) for n, i in left], [(n, *_identity(new[j])) for n, j in right])
    a = b = 0
    for at_left, at_right in (*kin, (len(left), len(right))):
        between = [(n, 0, i) for n, i in left[a:at_left]] + [(n, 1, j) for n, j in right[b:at_right]]
        for _, is_new, at in sorted(between):
            if is_new:
                yield EventChange(Change.ADDED, None, _event(theirs, at, text_of(new[at])))
            else:
                yield EventChange(Change.REMOVED, _event(mine, at, text_of(old[at])), None)
        if at_left < len(left):
            yield _changed(mine, left[at_left][1], theirs, right[at_right][1])
        a, b = at_left + 1, at_right + 1


def _changed(mine: _Stream, i: int, theirs: _Stream, j: int) -> EventChange:
    old, new = (mine.events or [])[i], (theirs.events or [])[j]
    texts = both_lines(text_of(old), text_of(new))
    keys = tuple(k.path for k in _keys("", "", old, new))
    return EventChange(Change.CHANGED, _event(mine, i, texts[0]), _event(theirs, j, texts[1]), keys)


def _event(stream: _Stream, at: int, text: str) -> Event:
    event = (stream.events or [])[at]
    kind, timestamp = (event.get(k) if isinstance(event, dict) else None for k in ("type", "timestamp"))
    ns = parse_timestamp(timestamp) if isinstance(timestamp, str) else None
    return Event(
        index=at + stream.first,
        kind=one_line(kind, 40) if isinstance(kind, str) else "",
        timestamp=one_line(timestamp, 40) if isinstance(timestamp, str) else "",
        at_ms=None if ns is None else ns // MS,
        size=len(_canonical(event)),
        text=one_line(text),
    )


def _identity(event: Any) -> tuple[bytes, ...]:
    """What stays of an event that was edited: its kind, time and id."""
    if not isinstance(event, dict):
        return ()
    return tuple(_canonical(event.get(k)) for k in ("type", "timestamp", "id"))


# -- keys -------------------------------------------------------------------------


def _of_json(file: str, old: Files, new: Files) -> tuple[tuple[KeyChange, ...], tuple[LineChange, ...]]:
    mine, theirs = (_parsed(files[file]) if file in files else {} for files in (old, new))
    if isinstance(mine, _Broken) or isinstance(theirs, _Broken):
        return (), tuple(_lines(file, old, new))
    return tuple(_keys(file, "", mine, theirs)), ()


def _keys(file: str, path: str, old: Any, new: Any) -> Iterator[KeyChange]:
    """Values that differ, by path. Lists are compared place by place. JSON is at most 127 deep."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            below = f"{path}.{_key(key)}" if path else _key(key)
            yield from _value(file, below, (old, key, key in old), (new, key, key in new))
    elif isinstance(old, list) and isinstance(new, list):
        for at in range(max(len(old), len(new))):
            yield from _value(file, f"{path}[{at}]", (old, at, at < len(old)), (new, at, at < len(new)))
    elif not same_json(old, new):
        texts = both_lines(compact(old), compact(new))
        yield KeyChange(Change.CHANGED, file, path, *texts)


_At = tuple[Any, Any, bool]


def _value(file: str, path: str, old: _At, new: _At) -> Iterator[KeyChange]:
    """One place on both sides: (where it is in, its key, whether it is there)."""
    if old[2] and new[2]:
        yield from _keys(file, path, old[0][old[1]], new[0][new[1]])
    elif old[2]:
        yield KeyChange(Change.REMOVED, file, path, one_line(compact(old[0][old[1]])), "")
    else:
        yield KeyChange(Change.ADDED, file, path, "", one_line(compact(new[0][new[1]])))


def _key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) else harmless(json.dumps(key, ensure_ascii=False))


# -- lines ------------------------------------------------------------------------


def _lines(file: str, old: Files, new: Files) -> Iterator[LineChange]:
    mine, theirs = (files[file].split(b"\n") if files.get(file) else [] for files in (old, new))
    for gap in gaps(len(mine), len(theirs), pairs(mine, theirs)):
        yield from (_line(Change.REMOVED, file, mine, i) for i in range(gap.i1, gap.i2))
        yield from (_line(Change.ADDED, file, theirs, j) for j in range(gap.j1, gap.j2))


def _line(change: Change, file: str, lines: Sequence[bytes], at: int) -> LineChange:
    text = one_line(lines[at][:4096].decode("utf-8", "replace"))
    return LineChange(change, file, at + 1, len(lines[at]), text)


# -- values -----------------------------------------------------------------------


class _Broken:
    """Bytes that are no JSON."""


def _parsed(raw: bytes) -> Any:
    try:
        return parse(raw)
    except NotJson:
        return _Broken()


def _canonical(value: Any) -> bytes:
    """One text for everything that is the same as JSON (`strict_json.same_json`)."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
