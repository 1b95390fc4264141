"""What only the watcher on Linux does: few watches, few hints, and limits that are reached."""

import inspect
import os
import sys
import time
from pathlib import Path

import pytest

from convsync_agent.hints import Change, Hint
from convsync_agent.inotify import InotifyWatcher
from convsync_agent.poll import PollingWatcher
from convsync_agent.watch import observer_watcher
from watching import AGENT, IN_ROOM, ROOM, Root, silence


@pytest.mark.parametrize("kind", ["WRITTEN", "TOUCHED", "GONE"])
def test_what_was_done(inotify, root, ear, kind):
    """A rename is complete at once, an open file is touched then written, a move out is gone."""
    inotify.arm(root.path, silo=True)
    if kind == "WRITTEN":
        root.rename_in("[]")
    elif kind == "TOUCHED":
        with open(root.room("events.json"), "a") as file:
            file.write("x")
            file.flush()
            ear.until(Change.TOUCHED, file="events.json")
        ear.until(Change.WRITTEN, file="events.json")
    else:
        os.rename(root.room("events.json"), root.at("elsewhere"))

    if kind != "TOUCHED":
        ear.until(Change[kind], conversation_dir=ROOM, file="events.json")
        assert len(ear.seen) == 1


def test_way_to_a_root(inotify, root, ear):
    """Each directory on the way to a missing root is a `ROOT` when it comes, and when it goes."""
    deep = root.at("a", "b", "c")
    inotify.arm(deep, silo=False)
    way = [root.at("a"), root.at("a", "b"), deep]
    for change, paths in ((os.mkdir, way), (os.rmdir, way[::-1])):
        for path in paths:
            change(path)
            ear.until(Change.ROOT, root=deep)
            inotify.arm(deep, silo=False)
            ear.forget()


def test_moved_conversation_is_not_heard(inotify, root, ear):
    """A conversation moved out of `conversations/` is not watched any more, wherever it went."""
    before = inotify.arm(root.path, silo=True).watches
    os.rename(root.room(), root.at("conversations", ".archive", ROOM))
    Path(root.at("conversations", ".archive", ROOM, "events.json")).write_text("[5]")

    assert [h for h in silence(ear, root) if h.change in IN_ROOM] == []
    assert inotify.watches == before - 1 + 2


def test_swapped_conversations(inotify, root, ear):
    """Two conversations that change names by a third keep one watch each, under their new names."""
    inotify.arm(root.path, silo=True)
    os.mkdir(root.at("conversations", "2-b"))
    ear.until(Change.LISTING, conversation_dir="2-b")
    before = inotify.watches
    names = [root.room(), root.at("conversations", "3-c"), root.at("conversations", "2-b")]
    for old, new in ((0, 1), (2, 0), (1, 2)):
        os.rename(names[old], names[new])
    silence(ear, root)

    assert inotify.watches == before + 2
    for name in (ROOM, "2-b"):
        Path(root.at("conversations", name, "metadata.json")).write_text("{}")
        ear.until(Change.WRITTEN, conversation_dir=name)


def test_overflow(inotify, root, ear):
    """Lost events are one `LOST` and are counted; after arming again writes are heard."""
    inotify.arm(root.path, silo=True)
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    with inotify._kernel.lock:
        for _ in range(limit):
            os.rename(root.room("events.json"), root.room("other.json"))
            os.rename(root.room("other.json"), root.room("events.json"))

    ear.until(Change.LOST)
    assert inotify.overflows >= 1
    inotify.arm(root.path, silo=True)
    os.mkdir(root.at("conversations", "4-after"))
    ear.until(Change.LISTING, conversation_dir="4-after")


def test_disarm_of_many_overflows_nothing(inotify, root, tmp_path, ear):
    """More watches than the queue holds are given back no faster than a stalled reader reads."""
    for n in range(24_000):
        os.mkdir(root.at("conversations", f"{n}-x"))
    inotify.arm(root.path, silo=True)
    on_event, stalled = inotify._kernel._on_event, []

    def stall_once(*event):
        if not stalled:
            stalled.append(time.sleep(0.5))  # the stall is what is tested: who does not wait for it is done before
        on_event(*event)

    inotify._kernel._on_event = stall_once
    inotify.disarm(root.path)
    inotify._kernel.wait_for_reader()

    assert stalled
    assert inotify.watches == 0
    inotify.arm(Root(tmp_path / "other").path, silo=True)
    os.mkdir(tmp_path / "other" / "conversations" / "1-last")
    ear.until(Change.LISTING, conversation_dir="1-last")  # the queue is read to its end
    assert inotify.overflows == 0


def test_parent_made_while_arming(inotify, root, ear):
    """A parent made after it was looked for, and before what is above it is watched, is watched all the same."""
    deep = root.at("a", "b")
    add_spot = inotify._add_spot

    def late(armed, place, path, *args, **kwargs):
        if path == root.path:
            os.makedirs(root.at("a"), exist_ok=True)
        return add_spot(armed, place, path, *args, **kwargs)

    inotify._add_spot = late
    inotify.arm(deep, silo=False)
    os.mkdir(deep)

    ear.until(Change.ROOT, root=deep)


def test_disarmed_during_a_look(root, ear):
    """A look that was under way when its root was disarmed ends in nothing."""
    made = PollingWatcher(ear.queue.put, interval=3600)
    made.arm(root.path, silo=True)
    ((key, old),) = made._looks.items()
    made.disarm(root.path)
    root.rename_in("[3]")
    made._compare(key, old)

    assert (ear.queue.qsize(), made.watches) == (0, 0)
    made.close()


def test_below_a_conversation(root, ear):
    """Where a tree is seen whole, what happens deep in a conversation touches its entry and never removes it."""
    os.mkdir(root.room("extras"))
    Path(root.room("extras", "a.txt")).write_text("x")
    made = observer_watcher(ear.queue.put)
    made.arm(root.path, silo=True)
    os.unlink(root.room("extras", "a.txt"))

    assert ear.until(*IN_ROOM, conversation_dir=ROOM) == Hint(Change.TOUCHED, root.path, ROOM, "extras")
    made.close()


def test_symlinks_are_not_followed(inotify, root, tmp_path):
    """A symlinked conversation is not watched; a symlinked `conversations/` is a failure, not a silence."""
    os.symlink(tmp_path, root.at("conversations", "5-link"))
    assert inotify.arm(root.path, silo=True).failed == ()
    assert len(inotify._table.rooms) == 1
    os.rename(root.at("conversations"), root.at("real"))
    os.symlink("real", root.at("conversations"))

    assert inotify.arm(root.path, silo=True).failed == ("ENOTDIR",)


def test_reader_survives_anything(root, ear):
    """A `put` that raises costs that hint only: the reader lives, says `DEAF` and hears the next change."""
    bad = [True]

    def put(hint):
        if bad and hint.change is Change.WRITTEN:
            raise ValueError(bad.pop())
        ear.queue.put(hint)

    made = InotifyWatcher(put)
    made.arm(root.path, silo=True)
    root.rename_in("[1]")
    ear.until(Change.DEAF, detail="ValueError")
    root.rename_in("[2]")
    ear.until(Change.WRITTEN, conversation_dir=ROOM)
    made.close()


def test_resources(ear):
    """The descriptor is not inherited by children, and `close` gives everything back."""
    before = sorted(os.listdir("/proc/self/fd"))
    made = InotifyWatcher(ear.queue.put)

    assert not os.get_inheritable(made._kernel._inotify_fd)
    made.close()
    made.close()
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert made.arm("/", silo=False).failed == ("EBADF",)


def test_latency(inotify, root, ear, capsys):
    """How long a rename takes to be a hint; printed, since a number from a shared machine proves nothing."""
    inotify.arm(root.path, silo=True)
    took = []
    for n in range(500):
        started = time.perf_counter()
        root.rename_in(str(n))
        ear.until(Change.WRITTEN, file="events.json")
        took.append((time.perf_counter() - started) * 1000)
    took.sort()
    with capsys.disabled():
        sys.stdout.write(f"\nrename to hint: p50 {took[250]:.2f} ms, p99 {took[495]:.2f} ms, max {took[-1]:.2f} ms\n")


def count_events(inotify):
    """A list that gets (mask, name) of every event that is read from now on."""
    read, on_event = [], inotify._kernel._on_event

    def counting(wd, mask, name):
        read.append((mask, name))
        on_event(wd, mask, name)

    inotify._kernel._on_event = counting
    return read


def test_a_build_beside_a_root_is_not_read(inotify, root, ear):
    """Writes to files in what is above a root bring no event at all; that an entry comes or goes does."""
    above = os.path.dirname(root.path)
    noisy = os.path.join(above, "build.log")
    Path(noisy).write_text("")
    inotify.arm(root.path, silo=True)
    read = count_events(inotify)
    for n in range(100):
        with open(noisy, "a") as file:
            file.write(str(n))
    os.rename(root.path, root.path + "-moved")
    ear.until(Change.ROOT, root=root.path)

    assert [event for event in read if event[1] == b"build.log"] == []
    assert any(name == os.path.basename(root.path).encode() for _, name in read)


@pytest.mark.parametrize("order", ["outer first", "inner first", "outer again"])
def test_a_root_above_another_root_keeps_its_hints(inotify, root, ear, order):
    """A directory that is a root's conversation, and above another root, tells of writes in whatever order armed."""
    inner = Root(root.room("deep") + "/.jp")
    paths = {"outer first": [root, inner], "inner first": [inner, root], "outer again": [inner, root, inner]}[order]
    for each in paths:
        assert inotify.arm(each.path, silo=True).failed == ()

    with open(root.room("events.json"), "a") as file:
        file.write("x")
        file.flush()
        ear.until(Change.TOUCHED, root=root.path, conversation_dir=ROOM, file="events.json")
    ear.until(Change.WRITTEN, root=root.path, conversation_dir=ROOM, file="events.json")
    Path(root.at(".id")).write_text("zzzzz\n")
    ear.until(Change.ROOT, root=root.path, file=".id")
    os.rename(inner.path, inner.path + "-moved")
    ear.until(Change.ROOT, root=inner.path)


def test_watchdog_is_known_in_two_places():
    """Only `watch` and `instance` import watchdog."""
    users = {
        path.stem
        for path in Path(AGENT, "convsync_agent").glob("*.py")
        if any(
            line.split()[:1] in (["from"], ["import"]) and "watchdog" in line for line in path.read_text().splitlines()
        )
    }

    assert users == {"watch", "instance"}


def test_watchdog_names():
    """The semi-public names of watchdog 7.1 that we build on have the parameters we rely on."""
    from watchdog.observers import inotify_c

    fd = inotify_c.InotifyFD
    expected = {
        fd.add_callback: ["self", "path", "mask", "callback", "id_"],
        fd.remove_callbacks: ["self", "callbacks"],
        fd.handle_event: ["self", "event"],
        fd._create_inotify_fd: [],
        fd.run: ["self"],
        fd.stop: ["self"],
        fd.close: ["self"],
        fd.on_thread_stop: ["self"],
        fd.should_keep_running: ["self"],
        inotify_c.WatchCallback.on_event: ["self", "event"],
        inotify_c.WatchCallback.on_watch_deleted: ["self", "wd"],
        inotify_c.WatchCallback.on_queue_overflow: ["self"],
        inotify_c.InotifyEvent: ["wd", "mask", "cookie", "name"],
    }

    assert {f: list(inspect.signature(f).parameters) for f in expected} == expected
    assert callable(inotify_c.inotify_add_watch)
    assert callable(inotify_c.inotify_rm_watch)
    source = inspect.getsource(fd)
    for attribute in ("self._lock", "self._closed", "self._inotify_fd", "self.handle_event(event)"):
        assert attribute in source
