"""Phase 3: processes race for one lock file. JP releases it first and unlinks it then (contract 7.3, K6)."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from convsync_agent.locks import BusyError, conversation_lock
from convsync_agent.sample import locked_as_jp

A, SECONDS = 17_000_000_001, 3.0


def ours(silo: str, turns: int, log: str) -> None:
    _race(silo, turns, log, lambda: conversation_lock(silo, A))


def jp(silo: str, turns: int, log: str) -> None:
    _race(silo, turns, log, lambda: locked_as_jp(silo, A))


def _race(silo, turns, log, lock):
    """Whoever is inside writes a mark and takes it away again; two at once find each other's."""
    mark, deadline = Path(silo) / "mark", time.monotonic() + SECONDS
    with open(log, "a", buffering=1) as out:
        for _ in range(turns):
            try:
                with lock() as held:
                    try:
                        fd = os.open(mark, os.O_CREAT | os.O_EXCL)
                    except FileExistsError:
                        out.write("two\n")
                        continue
                    if held is not None and not held.still_ours():
                        out.write("lost\n")
                    os.close(fd)
                    os.unlink(mark)
                    out.write("one\n")
            except (BusyError, BlockingIOError):
                pass
            if time.monotonic() > deadline:
                break


@pytest.mark.parametrize("kinds", [(ours, ours, ours), (ours, jp)], ids=["ours", "ours and jp"])
def test_phase3_racing_for_one_lock_file(tmp_path, kinds):
    """Among ours there are never two inside, for the file goes while it is held.

    A JP's release has a gap of its own, in which it unlinks a file that is ours by then: we see it, go on and get
    the lock again, and neither keeps the other out for good.
    """
    (tmp_path / "locks").mkdir()
    log = str(tmp_path / "log")
    racing = [multiprocessing.get_context("fork").Process(target=k, args=(str(tmp_path), 3000, log)) for k in kinds]
    for one in racing:
        one.start()
    for one in racing:
        one.join(120)
    assert [one.exitcode for one in racing] == [0] * len(kinds)
    said = Path(log).read_text().split()
    assert said.count("one") > 5
    if jp not in kinds:
        assert set(said) == {"one"}
