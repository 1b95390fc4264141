"""How long a command waits for JP's lock: `$JP_LOCK_DURATION`, written as JP writes durations."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from convsync_agent.errors import UsageProblem

VARIABLE = "JP_LOCK_DURATION"
DEFAULT_SECONDS = 30.0

_PART = re.compile(r"\s*([0-9]{1,9})\s*([a-zA-Z]+)\s*")
_UNITS = {
    1e-9: ("ns", "nsec", "nanos"),
    1e-6: ("us", "usec", "micros"),
    1e-3: ("ms", "msec", "millis"),
    1.0: ("s", "sec", "secs", "second", "seconds"),
    60.0: ("m", "min", "mins", "minute", "minutes"),
    3600.0: ("h", "hr", "hrs", "hour", "hours"),
    86400.0: ("d", "day", "days"),
    604800.0: ("w", "wk", "wks", "week", "weeks"),
    2630016.0: ("M", "month", "months"),
    31557600.0: ("y", "yr", "yrs", "year", "years"),
}
_SECONDS = {name: seconds for seconds, names in _UNITS.items() for name in names}


def lock_patience(env: Mapping[str, str] | None = None, *, wait: str | None = None) -> float:
    """Seconds to wait for a held lock; `wait` is the flag, which wins. Raises UsageProblem for what is no duration."""
    if wait is not None:
        seconds = parse_duration(wait.strip())
        if seconds is None:
            raise UsageProblem(f"not a duration: {wait[:20]!r}", where="--wait", hint="--wait 10s (or 2m, or 0)")
        return seconds
    text = (os.environ if env is None else env).get(VARIABLE, "").strip()
    if not text:
        return DEFAULT_SECONDS
    seconds = parse_duration(text)
    if seconds is None:
        raise UsageProblem(f"not a duration: {text[:20]!r}", where=VARIABLE, hint=f"{VARIABLE}=10s (or 2m, or 0)")
    return seconds


def parse_duration(text: str) -> float | None:
    """`0`, `10s`, `2m`, `1m 30s`: seconds, or None."""
    if text == "0":
        return 0.0
    total, at = 0.0, 0
    while at < len(text):
        part = _PART.match(text, at)
        if part is None or part[2] not in _SECONDS:
            return None
        total += int(part[1]) * _SECONDS[part[2]]
        at = part.end()
    return total if at else None
