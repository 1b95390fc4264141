"""What each row may be: ceilings, as ratios to what is measured beside it wherever there is something beside it."""

from __future__ import annotations

from benchmarks.report import Budget

TO_BE_DURABLE = Budget(ratio=5, p99=20)  # of inotify + copy + fsync + rename in C; design, section 8, for the p99
TO_BE_SEEN = Budget(p50=8)
MANY = 500  # conversations; a burst of fewer measures how long the agent takes to answer
WHOLE = 10_000  # conversations for which the restart is set beside the walk; below that, starting Python is all of it

_ANY_SIZE = {
    "import": Budget(ratio=1.5),
    "append": TO_BE_DURABLE,
    "turn": TO_BE_DURABLE,
    "edit": TO_BE_DURABLE,
    "life": TO_BE_DURABLE,
    "append-projected": TO_BE_SEEN,
    "turn-projected": TO_BE_SEEN,
    "edit-projected": TO_BE_SEEN,
    "life-projected": TO_BE_SEEN,
    "idle-cpu": Budget(p50=0.2),
    "idle-rss": Budget(p50=60),
    "idle-writes": Budget(p50=0),
    "status-agent": Budget(ratio=2.5),
    "peer-watchman": Budget(ratio=1 / 4),
    "peer-unison": Budget(ratio=1 / 150),
    "peer-unison-watch": Budget(ratio=1 / 150),
    "peer-syncthing": Budget(ratio=1 / 150),
}


def budget_of(name: str, conversations: int) -> Budget | None:
    """The limits of one row on a machine of that size; None: it is measured and not judged."""
    if name == "restart":
        return Budget(ratio=4) if conversations >= WHOLE else Budget(p50=1.4)
    if name == "status-alone":
        return Budget(p50=100 + 60 * conversations / 1000)
    if name.startswith("burst-"):
        return Budget(ratio=2) if conversations >= MANY else None
    return _ANY_SIZE.get(name)
