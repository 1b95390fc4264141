"""Look at several things at once, and do not wait for ever for what does not answer.

A dead network mount hangs in `stat`, and no signal and no timeout ends that: each look has a thread of its own, which
alone hangs. The process ends without it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


@dataclass(slots=True)
class Answer(Generic[_V]):
    """What became of one look: it came to an end or not, with a value or with an exception."""

    done: bool = False
    value: _V | None = None
    failure: Exception | None = None


def looked(looks: Mapping[_K, Callable[[], _V]], seconds: float) -> dict[_K, Answer[_V]]:
    """Every look in a thread of its own; after `seconds` what is not done is left behind."""
    answers: dict[_K, Answer[_V]] = {}
    threads = []
    for key, look in looks.items():
        private: Answer[_V] = Answer()
        answers[key] = private
        thread = threading.Thread(target=_run, args=(look, private), name="convsync-look", daemon=True)
        thread.start()
        threads.append(thread)
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    # What is late must not change under who reads it.
    return {k: Answer(a.done, a.value, a.failure) if a.done else Answer() for k, a in answers.items()}


def _run(look: Callable[[], _V], answer: Answer[_V]) -> None:
    try:
        answer.value = look()
    except Exception as error:  # noqa: BLE001  # it is told by whoever asked
        answer.failure = error
    answer.done = True
