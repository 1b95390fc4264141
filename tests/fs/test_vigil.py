"""What the service manager is told, on a real socket: when, in which order, and what silences it."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

import pytest

from convsync_agent import health
from convsync_agent.agenda import Agenda
from convsync_agent.health import Health
from convsync_agent.publish import SIGNALS
from convsync_agent.sdnotify import Notifier
from convsync_agent.vigil import Vigil


@pytest.fixture
def manager(tmp_path):
    """The end of the service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(str(tmp_path / "notify"))
        ours.setblocking(False)
        yield ours


@pytest.fixture
def opened(monkeypatch):
    """Everything that speaks is silenced in the end."""
    made = []
    keep = Notifier.__init__
    monkeypatch.setattr(Notifier, "__init__", lambda self, env: (made.append(self), keep(self, env))[1])
    yield
    for one in made:
        one.close()


@pytest.fixture
def environment(opened, manager, tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "90000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))


def heard(manager) -> list[str]:
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode())
        except BlockingIOError:
            return found


class Watching:
    """As much of a watcher as `Health` asks."""

    alive = True
    hears_closing = False

    def healthy(self):
        return self.alive


@pytest.fixture
def net(tmp_path, monkeypatch):
    """Time passes when a test says so: minutes, and what is late must be late however fast this machine is."""
    (tmp_path / SIGNALS).mkdir()
    passed = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: passed[0])
    monkeypatch.setattr(health, "_slept", lambda: 0.0)
    made = Health(Watching(), str(tmp_path))
    made.passed = passed
    return made


def test_nobody_asks_nothing_is_said(monkeypatch, net):
    """Run by hand there is no manager, and nothing of this costs anything."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    vigil = Vigil()
    vigil.ready()
    net.seen("canary0")
    vigil.alive(net)
    assert vigil.canary_seconds == health.SHORTEST


def test_what_we_start_does_not_speak_for_us(environment):
    """The variables are taken out, so no child of ours inherits them."""
    Vigil()
    assert not [name for name in os.environ if name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")]


def test_alive_is_said_once_for_each_canary_that_came_back(environment, manager, net):
    """A loop that only turns is not alive; neither is one whose watcher is deaf or dead."""
    vigil = Vigil()
    vigil.ready()
    assert heard(manager) == ["READY=1\nWATCHDOG=1"]
    vigil.alive(net)
    assert heard(manager) == []
    net.seen("canary1")
    vigil.alive(net)
    vigil.alive(net)
    assert heard(manager) == ["WATCHDOG=1"]
    net.passed[0] += health.SHORTEST
    vigil.busy(Agenda(), net)  # in the middle of long work the canary is sent all the same
    assert os.listdir(os.path.dirname(net._signals) + "/" + SIGNALS) == ["canary1"]
    vigil.alive(net)
    assert heard(manager) == []
    net.seen("canary1")
    net._watcher.alive = False
    vigil.alive(net)
    assert heard(manager) == []
    net._watcher.alive = True
    vigil.alive(net)
    assert heard(manager) == ["WATCHDOG=1"]


def test_canaries_follow_the_patience_of_the_manager(environment, manager, monkeypatch):
    """Heard of at least twice within it; never oftener than without one."""
    monkeypatch.setenv("WATCHDOG_USEC", "6000000")
    assert Vigil().canary_seconds == 2.0
    monkeypatch.setenv("NOTIFY_SOCKET", "@x")
    monkeypatch.setenv("WATCHDOG_USEC", "600000000")
    assert Vigil().canary_seconds == health.SHORTEST


@pytest.mark.parametrize(
    ("variable", "value"), [("WATCHDOG_PID", "1"), ("WATCHDOG_USEC", "soon"), ("WATCHDOG_USEC", "")]
)
def test_a_watchdog_of_somebody_else(environment, monkeypatch, variable, value):
    """Meant for another process, or not understood: there is none."""
    monkeypatch.setenv(variable, value)
    assert Notifier(os.environ).watchdog == 0.0


def test_a_long_start_asks_for_time_and_says_how_far(environment, manager, net):
    """As long as it gets on, now and then; from ready on no more."""
    vigil, agenda = Vigil(), Agenda()
    vigil.starting()
    agenda.add_all("abcde", {1, 2, 3})
    vigil.busy(agenda, net)
    net.passed[0] += 10
    vigil.busy(agenda, net)
    said = heard(manager)
    assert [line.partition("=")[0] for line in said] == [
        "EXTEND_TIMEOUT_USEC", "STATUS", "STATUS", "EXTEND_TIMEOUT_USEC",
    ]  # fmt: skip
    assert said[2] == "STATUS=starting: 3 conversations to look at"
    vigil.ready()
    heard(manager)
    vigil.busy(agenda, net)
    assert heard(manager) == ["STATUS=catching up: 3 conversations to look at"]


def test_a_reload_has_a_beginning_and_an_end(environment, manager):
    """Also when it fails: the manager must not wait for ever."""
    vigil = Vigil()
    with suppress(OSError), vigil.reloading():
        (began,) = heard(manager)
        raise OSError("disk")
    assert began.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert heard(manager) == ["READY=1"]


def test_an_abstract_address(opened):
    """`@` means a name that is no file."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        name = f"convsync-test-{os.getpid()}-{time.monotonic_ns()}"
        ours.bind("\0" + name)
        Notifier({"NOTIFY_SOCKET": "@" + name}).send(STATUS="x")
        assert ours.recv(100) == b"STATUS=x"


@pytest.mark.parametrize("address", ["/nowhere/at/all", "relative", "", "@"])
def test_an_address_that_leads_nowhere(opened, address):
    """Work never waits for who only watches it."""
    Notifier({"NOTIFY_SOCKET": address}).send(READY="1")


def test_a_manager_that_does_not_read(environment, manager):
    """A full socket is dropped into the void instead of waited for."""
    notifier = Notifier(os.environ)
    for _ in range(2000):
        notifier.send(STATUS="x" * 100)
    assert 0 < len(heard(manager)) < 2000
