"""Ages are taken as they are, and an age alone moves nothing."""

from __future__ import annotations

import os
import time

from agents import in_step
from machine import as_jp, event, put

A = 17_000_000_001
OLD_NS = time.time_ns() - 60_000_000_000


def test_1970_loses_and_2099_wins(single):
    """Mtimes are taken as they are: an edit dated 1970 loses and is kept, one dated 2099 wins and is said."""
    tree = single.base / "a"
    put(single.directory(tree, A) / "events.json", as_jp([event("old")]), 0)
    os.utime(single.directory(tree, A) / "base_config.json", ns=(0, 0))
    single.ok("sync")
    assert ["one"] == single.questions(tree, A)
    assert any(v["unit"] == "stream" for v in single.ok("history", A, "--json").json["versions"])
    put(single.directory(tree, A) / "events.json", as_jp([event("future")]), 4_070_908_800_000_000_000)
    told = single.ok("sync", "--json").json

    assert ["future"] == single.questions(single.silo(), A)
    assert "future" in {h["kind"] for h in told["held"]}


def test_a_clock_set_back_only_delays(single):
    """Files that seem to come from the future are taken once they hold still (quiet is measured by watching)."""
    tree = single.base / "a"
    ahead = time.time_ns() + 3_600_000_000_000
    put(single.directory(tree, A) / "events.json", as_jp([event("one"), event("two")]), ahead)
    single.ok("sync")

    assert in_step(single, A, tree, single.silo())


def test_a_change_of_nothing_but_the_age_moves_nothing(single):
    """Equal bytes with different mtimes cause no write."""
    tree = single.directory(single.base / "a", A)
    silo = single.directory(single.silo(), A)
    os.utime(tree / "events.json", ns=(OLD_NS, OLD_NS))
    before = [(p.name, p.stat().st_ino, p.stat().st_mtime_ns, p.stat().st_ctime_ns) for p in silo.iterdir()]

    assert 0 == single.ok("sync", "--json").json["written"]
    assert before == [(p.name, p.stat().st_ino, p.stat().st_mtime_ns, p.stat().st_ctime_ns) for p in silo.iterdir()]


def test_a_second_sync_writes_nothing(single):
    """Inode, mtime and ctime of every file below both roots stay."""
    put(single.directory(single.base / "a", A) / "base_config.json", as_jp({"x": 1}), OLD_NS)
    single.ok("sync")
    files = [p for r in (single.base / "a", single.silo()) for p in sorted(r.rglob("*"))]
    before = [(str(p), p.lstat().st_ino, p.lstat().st_mtime_ns, p.lstat().st_ctime_ns) for p in files if p.is_file()]
    told = single.ok("sync", "--json").json
    files = [p for r in (single.base / "a", single.silo()) for p in sorted(r.rglob("*"))]

    assert (0, []) == (told["written"], told["actions"])
    assert before == [
        (str(p), p.lstat().st_ino, p.lstat().st_mtime_ns, p.lstat().st_ctime_ns) for p in files if p.is_file()
    ]
