"""What a listing shows of a conversation. Lenient: what cannot be read is None, nothing raises."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from convsync_agent.model import MS, SECOND
from convsync_agent.strict_json import NotJson, parse

_CLOCK = r"([0-9]{4})-([0-9]{2})-([0-9]{2})%s([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
_NAIVE = re.compile(_CLOCK % " ")
_RFC3339 = re.compile(_CLOCK % "[Tt ]" + r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))")
_EPOCH = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class Summary:
    """Contract 4.8: elements of any kind, the time of the last one (not the latest), the first question."""

    events: int = 0
    last_activity_ms: int | None = None
    first_request: str | None = None


@dataclass(frozen=True, slots=True)
class Metadata:
    title: str | None = None
    last_activated_ms: int | None = None
    pinned_ms: int | None = None
    archived_ms: int | None = None
    expires_ms: int | None = None
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def parse_timestamp(text: str) -> int | None:
    """Nanoseconds since the epoch (contract 4.2): JP's form without a zone, which is UTC, or RFC 3339."""
    match = _NAIVE.fullmatch(text)
    sign, zone_hours, zone_minutes = None, "0", "0"
    if match is None:
        match = _RFC3339.fullmatch(text)
        if match is None:
            return None
        sign, zone_hours, zone_minutes = match.group(8, 9, 10)
    hours, minutes, seconds = (int(part) for part in match.group(4, 5, 6))
    offset = (int(zone_hours or 0) * 60 + int(zone_minutes or 0)) * (-1 if sign == "-" else 1)
    # Second 60 is a leap second; JP's parser takes it, and it counts on into the next minute.
    if hours > 23 or minutes > 59 or seconds > 60 or abs(offset) >= 1440 or int(zone_minutes or 0) > 59:
        return None
    try:
        days = date(int(match[1]), int(match[2]), int(match[3])).toordinal() - _EPOCH
    except ValueError:
        return None
    fraction = int((match[7] or "0")[:9].ljust(9, "0"))
    return (days * 86400 + hours * 3600 + (minutes - offset) * 60 + seconds) * SECOND + fraction


def format_timestamp(ns: int) -> str:
    """The form JP writes: UTC without a zone, nine digits less their trailing zeros (contract 4.2)."""
    seconds, fraction = divmod(ns, SECOND)
    days, rest = divmod(seconds, 86400)
    day = date.fromordinal(days + _EPOCH)
    clock = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{day.isoformat()} {clock}.{f'{fraction:09}'.rstrip('0') or '0'}"


def parse_metadata(raw: bytes) -> Metadata:
    try:
        fields = parse(raw)
    except NotJson:
        return Metadata()
    if not isinstance(fields, dict):
        return Metadata()
    title = fields.get("title")
    return Metadata(
        title=title if isinstance(title, str) else None,
        last_activated_ms=_ms(fields.get("last_activated_at")),
        pinned_ms=_ms(fields.get("pinned_at")),
        archived_ms=_ms(fields.get("archived_at")),
        expires_ms=_ms(fields.get("expires_at")),
        labels=_labels(fields.get("labels")),
    )


def _labels(value: Any) -> dict[str, tuple[str, ...]]:
    """Values by key. JP writes one string a key, a later JP a list of them (contract 12.4)."""
    if not isinstance(value, dict):
        return {}
    lists = {key: said if isinstance(said, list) else [said] for key, said in value.items()}
    return {key: tuple(v for v in said if isinstance(v, str)) for key, said in sorted(lists.items())}


def summarise_events(raw: bytes) -> Summary:
    """JP counts nothing at all as soon as one element has no `timestamp`."""
    try:
        events = parse(raw)
    except NotJson:
        return Summary()
    if not isinstance(events, list) or not all(isinstance(e, dict) and "timestamp" in e for e in events):
        return Summary()
    requests = (e.get("content") for e in events if e.get("type") == "chat_request")
    return Summary(
        events=len(events),
        last_activity_ms=_ms(events[-1]["timestamp"]) if events else None,
        first_request=next((r for r in requests if isinstance(r, str)), None),
    )


def _ms(value: Any) -> int | None:
    ns = parse_timestamp(value) if isinstance(value, str) else None
    return None if ns is None else ns // MS


def count_events(raw: bytes) -> int:
    """Elements of an event stream: by its lines in JP's own layout, where no string holds a line feed, else parsed."""
    if raw.startswith(b"[\n  {") and raw.endswith(b"\n  }\n]\n"):
        return raw.count(b"\n  {")
    return summarise_events(raw).events
