"""A machine that misbehaves under a running agent: full and read-only disks, no descriptors left."""

from __future__ import annotations

import os
import resource
import shutil
import time

import pytest

from agents import FILES, in_step, jp_loads, status, until
from convsync_agent.history import History
from convsync_agent.pulse import FRESH_SECONDS
from disks import Disk, Memory, no_disks
from machine import WS, as_jp, event, put

A, NEW, OTHER = 17_000_000_001, 17_000_000_002, 17_000_000_003
ELSEWHERE = "fghij"
OLD_NS = time.time_ns() - 60_000_000_000
TEXT = "what was said " * 1000


@pytest.fixture
def two(machine):
    """Two workspaces, each with a worktree and one conversation in step."""
    for name, workspace, conversation in (("a", WS, A), ("o", ELSEWHERE, OTHER)):
        tree = machine.worktree(name, workspace, register=False)
        machine.write(tree, conversation, "one")
        machine.ok("register", tree)
    return machine


def edit(machine, root, conversation, text, number=0):
    """Both units, dated a minute ago: they win over what was there and over a lower number."""
    top = machine.directory(root, conversation)
    put(top / "base_config.json", as_jp({"assistant": text[:20]}), OLD_NS + number)
    put(
        top / "metadata.json",
        as_jp({"title": f"t{number}", "last_activated_at": "2025-01-01 00:00:00.0"}),
        OLD_NS + number,
    )
    put(top / "events.json", as_jp([event(text)]), OLD_NS + number)


def contents(directory):
    return {f: (directory / f).read_bytes() for f in FILES}


def staged(silo):
    return [p.name for p in (silo / "conversations").glob(".convsync/*")]


def kept(machine, conversation):
    history = History(str(machine.base / "data/convsync"))
    found = history.versions(WS, conversation)
    return {raw for v in found for _, raw, _ in history.read(WS, conversation, v.version)}


def all_is_well(machine):
    said = status(machine)
    return said["verdict"] == "in-sync" and [] == said["attention"]


BREAKS = {"bytes": (Memory.no_bytes, "no-space"), "inodes": (Memory.no_inodes, "no-space"),
          "read-only": (Memory.no_writing, "denied")}  # fmt: skip


@pytest.mark.slow
@pytest.mark.privileged
@pytest.mark.skipif(bool(no_disks()), reason=no_disks())
@pytest.mark.parametrize("how", BREAKS)
def test_a_disk_that_takes_nothing_is_said_waited_for_and_gone_on_with(two, agent, how):
    """The disk of one silo takes nothing: `status` is degraded and names what waits and where it is safe.

    The other workspace goes on, nothing half-written stays, JP loads whole units, what waits is in the history; and
    when the disk takes something again, everything is made durable with nobody asking.
    """
    machine, silo, elsewhere = two, two.silo(), two.silo(ELSEWHERE)
    a, other = machine.base / "a", machine.base / "o"
    disk, (broken, kind) = Memory(silo), BREAKS[how]
    try:
        one = agent()
        until(lambda: all_is_well(machine), "in sync")
        old = contents(machine.directory(silo, A))
        broken(disk)
        edit(machine, a, A, TEXT)
        machine.write(a, NEW, TEXT)
        edit(machine, other, OTHER, TEXT)
        new = contents(machine.directory(a, A))
        until(lambda: in_step(machine, OTHER, other, elsewhere), "the other workspace goes on")
        said = until(lambda: degraded(machine, kind), "degraded")

        assert "degraded" == said["verdict"]
        for entry in said["attention"]:
            assert kind == entry["kind"]
            assert entry["detail"].endswith(f"safe in {a}")
        assert 6 == machine.run("status", "--check").code
        assert old == contents(machine.directory(silo, A))
        assert new == contents(machine.directory(a, A)) == jp_loads(machine.directory(silo, A), machine.directory(a, A))
        until(lambda: set(new.values()) <= kept(machine, A), "what waits is in the history")
        until(lambda: {*staged(silo)} <= {".gitignore"}, "nothing half-written stays")
        assert machine.directory(silo, NEW) is None

        disk.mend()
        until(lambda: all(in_step(machine, c, a, silo) for c in (A, NEW)), "it resumes by itself")
        until(lambda: all_is_well(machine), "in sync again")
        assert one.process.poll() is None
        until(lambda: [] == staged(silo), "nothing is left in staging")
    finally:
        one.stop()
        disk.remove()


def degraded(machine, kind):
    """Both conversations are named."""
    said = status(machine)
    named = {e["conversation"] for e in said["attention"] if e["kind"] == kind}
    return said if named >= {f"jp-c{A}", f"jp-c{NEW}"} else None


@pytest.mark.slow
def test_a_silo_that_may_not_be_written_is_said_and_resumed(two, agent, tmp_path):
    """EACCES: degraded, the other workspace goes on, and mended permissions are enough to go on."""
    (tmp_path / "closed").mkdir(mode=0o500)
    if os.access(tmp_path / "closed", os.W_OK):
        pytest.skip("root may write anywhere")
    machine, silo, a = two, two.silo(), two.base / "a"
    agent()
    places = [silo / "conversations", machine.directory(silo, A), silo / "locks", silo]
    (silo / "locks").mkdir(exist_ok=True)
    for place in places:
        place.chmod(0o500)
    try:
        edit(machine, a, A, TEXT)
        machine.write(a, NEW, TEXT)
        edit(machine, machine.base / "o", OTHER, TEXT)
        until(lambda: in_step(machine, OTHER, machine.base / "o", machine.silo(ELSEWHERE)), "the other goes on")
        until(lambda: degraded(machine, "denied"), "degraded")
        assert "degraded" == status(machine)["verdict"]
    finally:
        for place in reversed(places):
            place.chmod(0o700)
    until(lambda: all(in_step(machine, c, a, silo) for c in (A, NEW)), "it resumes by itself")
    until(lambda: all_is_well(machine), "in sync again")


@pytest.mark.slow
def test_an_agent_without_file_descriptors_loses_nothing_and_recovers(two, agent):
    """EMFILE at everything it does: nothing is taken for removed, and it goes on by itself when some are free.

    Few are enough: a burst takes no more locks at once than there are descriptors for.
    """
    machine, a, silo = two, two.base / "a", two.silo()
    one = agent()
    pid = one.process.pid
    until(lambda: all_is_well(machine), "in sync")
    in_use = min((descriptors(pid) for _ in range(20)), key=len)  # without what is open for a moment only
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min({*range(len(in_use) + 1)} - in_use), hard))
    edit(machine, a, A, TEXT)
    many = [NEW + 100 + n for n in range(60)]
    for conversation in many:
        machine.write(a, conversation, TEXT)
    until(lambda: any(line.get("reason") == "trouble" for line in one.lines()), "it looks again after a pause")
    assert one.process.poll() is None
    assert ["one"] == machine.questions(silo, A)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(in_use) + 24, hard))
    until(lambda: all(in_step(machine, c, a, silo) for c in (A, *many)), "it goes on by itself")
    until(lambda: all_is_well(machine), "in sync again")


def descriptors(pid):
    return {int(n) for n in os.listdir(f"/proc/{pid}/fd")}


def on_a_disk(tmp_path, at):
    """The directory `at`, with all that is in it, is a file system of its own from now on."""
    with_content = tmp_path / "with-content"
    at.rename(with_content)
    at.mkdir()
    disk = Disk(tmp_path / "image", at, size=16 << 20)
    shutil.copytree(with_content, at, symlinks=True, dirs_exist_ok=True)
    return disk


@pytest.mark.slow
@pytest.mark.privileged
@pytest.mark.skipif(bool(no_disks()), reason=no_disks())
@pytest.mark.parametrize("root", ["silo", "worktree"])
def test_a_root_that_hangs_does_not_stop_the_others(two, agent, tmp_path, root):
    """A file system is frozen: whoever writes to it hangs. Its workspace waits and `status` says so, the other goes on.

    When it answers again, everything is brought in step with nobody asking.
    """
    machine, silo, a, other = two, two.silo(), two.base / "a", two.base / "o"
    at = silo if root == "silo" else a / ".jp"
    disk = on_a_disk(tmp_path, at)
    one = agent()
    try:
        until(lambda: all_is_well(machine), "in sync")
        disk.freeze()
        time.sleep(FRESH_SECONDS)  # that long it goes by an answer
        edit(machine, a if root == "silo" else silo, A, TEXT)
        for number in range(3):
            edit(machine, other, OTHER, f"{TEXT} {number}", number)
            until(lambda: in_step(machine, OTHER, other, machine.silo(ELSEWHERE)), "the other workspace goes on")
        said = until(lambda: hanging(machine), "it is said")
        assert "degraded" == said["verdict"]
        assert 2 == len(said["workspaces"])
        disk.thaw()
        until(lambda: in_step(machine, A, a, silo), "it resumes by itself")
        until(lambda: all_is_well(machine), "in sync again")
        assert one.process.poll() is None
    finally:
        disk.thaw()
        one.stop()
        disk.remove()


@pytest.mark.privileged
@pytest.mark.skipif(bool(no_disks()), reason=no_disks())
def test_a_root_that_hangs_at_the_start_does_not_stop_the_others(two, agent, tmp_path):
    """Frozen before the agent is there, with work to be done: the other workspace is served, and then this one."""
    machine, silo, a, other = two, two.silo(), two.base / "a", two.base / "o"
    disk = on_a_disk(tmp_path, silo)
    machine.quiet()
    edit(machine, a, A, TEXT)
    disk.freeze()
    try:
        one = agent()
        edit(machine, other, OTHER, TEXT)
        until(lambda: in_step(machine, OTHER, other, machine.silo(ELSEWHERE)), "the other workspace goes on")
        until(lambda: hanging(machine), "it is said")
        disk.thaw()
        until(lambda: in_step(machine, A, a, silo), "it resumes by itself")
        one.stop()
    finally:
        disk.thaw()
        disk.remove()


@pytest.mark.privileged
@pytest.mark.skipif(bool(no_disks()), reason=no_disks())
@pytest.mark.parametrize("root", ["silo", "worktree"])
def test_a_root_that_is_unmounted_proves_nothing(two, agent, tmp_path, root):
    """An empty mount point is no removal, and nothing is written below it; mounted again all of it is in step."""
    machine, silo, a = two, two.silo(), two.base / "a"
    at, other = (silo, a) if root == "silo" else (a / ".jp", silo)
    disk = on_a_disk(tmp_path, at)
    one = agent()
    try:
        until(lambda: all_is_well(machine), "in sync")
        before = contents(machine.directory(other, A))
        disk.unmount()
        if root == "silo":
            until(lambda: status(machine)["verdict"] == "degraded", "it is said")
        else:
            until(lambda: [e for e in status(machine)["attention"] if e["kind"] == "missing"], "it is said")
        time.sleep(2.5)  # two listings would have been enough to judge
        assert contents(machine.directory(other, A)) == before
        assert os.listdir(at) == []
        disk.mount()
        until(lambda: all_is_well(machine), "in sync again")
        assert in_step(machine, A, a, silo)
    finally:
        one.stop()
        disk.remove()


def hanging(machine):
    said = status(machine)
    return said if [e["kind"] for e in said["attention"] if "does not answer" in e["detail"]] == ["io"] else None
