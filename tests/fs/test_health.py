"""The net under the watcher: what makes it look at everything, and what makes it replace the watcher."""

from __future__ import annotations

import errno
import os
import queue
import time

import pytest

from convsync_agent import health
from convsync_agent.errors import kind_of
from convsync_agent.health import LONGEST, SHORTEST, Health
from convsync_agent.publish import SIGNALS
from convsync_agent.watch import choose_watcher


class Watching:
    """As much of a watcher as `Health` asks."""

    hears_closing = False

    def __init__(self):
        self.alive = True

    def healthy(self):
        return self.alive


@pytest.fixture
def clock(monkeypatch):
    """Time passes when a test says so: [awake, asleep], in seconds. Nobody puts the machine to sleep for a test."""
    passed = [1000.0, 0.0]
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])
    monkeypatch.setattr(health, "_slept", lambda: passed[1])
    return passed


@pytest.fixture
def net(clock, tmp_path):
    (tmp_path / SIGNALS).mkdir()
    return Health(Watching(), str(tmp_path))


def test_a_machine_that_slept_is_looked_at_whole_once(net, clock):
    """A laptop that was suspended: events of other machines, a clock that jumped, a disk that was exchanged."""
    assert not net.due().rescan
    clock[1] += 3600
    assert net.due() == (True, "")
    assert not net.due().rescan
    clock[1] += 1
    assert not net.due().rescan


def test_a_canary_that_nobody_hears_ends_the_watcher(net, clock, tmp_path):
    """It is sent every 30 s as a rename; one that was heard is forgotten."""
    clock[0] += SHORTEST
    assert net.due().dead == ""
    (name,) = os.listdir(tmp_path / SIGNALS)
    net.seen(name)
    clock[0] += SHORTEST
    assert net.due().dead == ""
    clock[0] += SHORTEST
    assert net.due().dead == "its canary was not seen"


def test_a_signal_directory_that_went_is_made_anew_and_watched_anew(net, clock, tmp_path):
    """A service manager may clear up where commands ask us; nobody hears what is put there then."""
    (tmp_path / SIGNALS).rmdir()
    clock[0] += SHORTEST
    assert net.due().dead == ""
    assert (tmp_path / SIGNALS).is_dir()
    clock[0] += SHORTEST
    assert net.due().dead == "its canary was not seen"


def test_a_watcher_whose_thread_died_is_dead(clock, tmp_path):
    """Whatever became of the canary."""
    watching = Watching()
    net = Health(watching, str(tmp_path))
    watching.alive = False
    clock[0] += SHORTEST
    assert net.due().dead == "its thread died"


def test_a_canary_that_is_closed_is_heard_and_changes_nothing(clock, tmp_path):
    """Every one, and from the second on neither the file nor its directory is another one: an idle disk sleeps."""
    heard = queue.SimpleQueue()
    signals = tmp_path / SIGNALS
    signals.mkdir()
    watching = choose_watcher(heard.put)
    if not watching.hears_closing:
        watching.close()
        pytest.skip("this system does not tell of it")
    watching.watch_signals(str(signals))
    net = Health(watching, str(tmp_path))
    assert os.listdir(signals) == ["canary"]  # made at the start, and not when there is nothing to do
    seen = []
    for _ in range(3):
        clock[0] += SHORTEST
        assert net.due().dead == ""
        while not net.good():
            net.seen(heard.get(timeout=60).file)
        stats = [os.stat(path) for path in (signals, *signals.iterdir())]
        seen.append([(s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for s in stats])
    watching.close()
    assert seen[0] == seen[1] == seen[2]
    assert len(seen[0]) == 2


@pytest.mark.parametrize(("cost", "pause"), [(0.0, SHORTEST), (0.2, 200.0), (60.0, LONGEST)])
def test_the_next_rescan_follows_the_cost_of_the_last(net, clock, cost, pause):
    """At most 0.1 % of a core, never oftener than every 30 s, never more rarely than every 10 min."""
    net.scanned(cost)
    clock[0] += pause - 0.01
    assert not net.due().rescan
    clock[0] += 0.02
    assert net.due().rescan


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_over_quota_is_no_space(code):
    """A person does the same about both."""
    assert kind_of(OSError(code, os.strerror(code))) == "no-space"
