"""A directory in memory, where this machine has room for it: as real as one on a disk, and it waits for none.

Tests that make every step fail, thousands of times, live there. What survives a power failure is tested on a disk of
its own (tests/system/test_power.py), and real agents run where temporary directories are.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PLACE = "/dev/shm"
ENOUGH = 2 << 30


def room() -> str | None:
    """Where it can be; None: where temporary directories are."""
    try:
        there = os.statvfs(PLACE)
    except OSError:
        return None
    return PLACE if os.access(PLACE, os.W_OK) and there.f_bavail * there.f_frsize > ENOUGH else None


@contextmanager
def directory() -> Iterator[Path]:
    made = tempfile.mkdtemp(prefix="convsync-test-", dir=room())
    try:
        yield Path(os.path.realpath(made))
    finally:
        shutil.rmtree(made, ignore_errors=True)
