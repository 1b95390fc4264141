"""What is said of a worktree that is paused: until when, and what that means."""

from __future__ import annotations

import time

from convsync_cli import output


def until(ms: int | None) -> str:
    """`until 14:05`, with the day when it is not today's; without an end how to end it."""
    if ms is None:
        return "until you resume it"
    end, now = time.localtime(ms / 1000), time.localtime()
    day = "" if end[:3] == now[:3] else "%Y-%m-%d "
    return "until " + time.strftime(day + "%H:%M", end)


def reminder(path: str, until_ms: int | None) -> str:
    """One line of `status`."""
    said = "paused, not saved until" if until_ms is None else f"paused {until(until_ms)}, not saved"
    return f"  {said}: convsync resume {output.tilde(path)}"
