"""The watching edge: one contract for every watcher, then what only inotify can do."""

import contextlib
import inspect
import os
import queue
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convsync_agent import mounts
from convsync_agent.hints import Change, Hint, Verb, Watched, hint_of, locate, meaning
from convsync_agent.inotify import InotifyWatcher
from convsync_agent.poll import PollingWatcher
from convsync_agent.watch import choose_watcher, observer_watcher

AGENT = str(Path(__file__).parents[2] / "agent")
ROOM = "17636257528-some-title"
FAST = 0.05
MAKERS = {
    "inotify": InotifyWatcher,
    "observer": lambda put: observer_watcher(put, interval=FAST),
    "polling": lambda put: PollingWatcher(put, interval=FAST),
}


class Ear:
    """Collects hints and waits for one, with a deadline instead of a sleep."""

    def __init__(self):
        self.queue = queue.SimpleQueue()
        self.seen = []

    def until(self, *wanted, seconds=20.0, **fields):
        """The first hint from now on with one of these changes and these fields."""
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(queue.Empty):
                hint = self.queue.get(timeout=max(0.0, end - time.monotonic()))
                self.seen.append(hint)
                if hint.change in wanted and all(getattr(hint, k) == v for k, v in fields.items()):
                    return hint
                continue
            pytest.fail(f"no {wanted} {fields} among {self.seen[-20:]}")

    def forget(self):
        with contextlib.suppress(queue.Empty):
            while True:
                self.queue.get_nowait()
        self.seen.clear()


class Root:
    """A silo on disk, with one conversation."""

    def __init__(self, path):
        self.path = str(path)
        self.make()

    def make(self):
        os.makedirs(self.at("conversations", ".archive"))
        os.makedirs(self.at("locks"))
        Path(self.at(".id")).write_text("otvo8\n")
        os.mkdir(self.room())
        Path(self.room("events.json")).write_text("[]")

    def at(self, *parts):
        return os.path.join(self.path, *parts)

    def room(self, *parts):
        return self.at("conversations", ROOM, *parts)

    def rename_in(self, text, name="events.json"):
        temporary = self.room(name + ".tmp")
        Path(temporary).write_text(text)
        os.replace(temporary, self.room(name))


IN_ROOM = (Change.WRITTEN, Change.TOUCHED, Change.GONE)


def silence(ear, root):
    """Two passes of every watcher are over: two changes, one after the other, were heard."""
    for name in ("1-first", "2-second"):
        os.mkdir(root.at("conversations", name))
        ear.until(Change.LISTING, conversation_dir=name)
    return [h for h in ear.seen if h.conversation_dir not in ("1-first", "2-second")]


@pytest.fixture
def root(tmp_path):
    return Root(tmp_path / "ws" / "silo")


@pytest.fixture
def ear():
    return Ear()


@pytest.fixture(params=MAKERS)
def watcher(request, ear):
    made = MAKERS[request.param](ear.queue.put)
    yield made
    made.close()
    assert made.watches == 0
    assert not made.healthy()


@pytest.fixture
def armed(watcher, root):
    assert watcher.arm(root.path, silo=True).failed == ()
    return watcher


@pytest.fixture
def inotify(ear):
    made = InotifyWatcher(ear.queue.put)
    yield made
    made.close()


# --- the contract ----------------------------------------------------------------------------------


def test_atomic_rename(armed, root, ear):
    """A temp file renamed over `events.json` is a hint for that conversation, and the temp file is none."""
    root.rename_in('["x"]')

    hint = ear.until(Change.WRITTEN, Change.TOUCHED, conversation_dir=ROOM)

    assert (hint.root, hint.detail) == (root.path, "")
    assert {h.file for h in ear.seen} <= {"events.json", ""}


def test_in_place_write(armed, root, ear):
    """An in-place write is a hint for that conversation."""
    with open(root.room("events.json"), "a") as file:
        file.write("more")

    ear.until(*IN_ROOM, conversation_dir=ROOM)


def test_new_conversations_from_another_process(armed, root, ear):
    """Of 200 directories made by another process, with files written at once, each gets a hint."""
    code = (
        "import os, sys\n"
        "for n in range(200):\n"
        "    os.mkdir(d := f'{sys.argv[1]}/{n}-new')\n"
        "    for f in ('base_config.json', 'events.json'): open(f'{d}/{f}', 'w').write('[]')\n"
    )
    subprocess.run([sys.executable, "-c", code, root.at("conversations")], check=True)
    missing = {f"{n}-new" for n in range(200)}

    while missing:
        missing.discard(ear.until(Change.LISTING, *IN_ROOM).conversation_dir)

    Path(root.at("conversations", "199-new", "metadata.json")).write_text("{}")
    ear.until(*IN_ROOM, conversation_dir="199-new")


def test_conversation_renamed(armed, root, ear):
    """A renamed conversation is a hint for both names, and what is written later has the new one."""
    new = root.at("conversations", "17636257528-other-title")
    os.rename(root.room(), new)
    names = {ROOM, "17636257528-other-title"}
    while names:
        names.discard(ear.until(Change.LISTING).conversation_dir)

    Path(new, "events.json").write_text("[1]")

    ear.until(*IN_ROOM, conversation_dir="17636257528-other-title")


def test_conversation_removed(armed, root, ear):
    """A removed conversation is a `LISTING` with its name."""
    shutil.rmtree(root.room())

    ear.until(Change.LISTING, conversation_dir=ROOM)


def test_root_deleted_and_made_again(armed, root, ear):
    """A root that goes is a `ROOT`, one that comes back is another; armed again, writes in it are heard."""
    shutil.rmtree(root.path)
    ear.until(Change.ROOT, root=root.path)
    armed.arm(root.path, silo=True)
    silent_from = armed.watches
    root.make()
    ear.until(Change.ROOT, root=root.path)

    assert armed.arm(root.path, silo=True).failed == ()
    assert armed.watches >= silent_from
    ear.forget()
    root.rename_in('["again"]')
    ear.until(*IN_ROOM, conversation_dir=ROOM)
    assert armed.healthy()


def test_root_below_nothing(watcher, root, ear):
    """A root of which three parents are missing too is a `ROOT` when it comes."""
    deep = root.at("a", "b", "c")
    watcher.arm(deep, silo=False)

    os.makedirs(os.path.join(deep, "conversations"))
    ear.until(Change.ROOT, root=deep)
    watcher.arm(deep, silo=False)
    os.mkdir(os.path.join(deep, "conversations", ROOM))

    ear.until(Change.LISTING, root=deep, conversation_dir=ROOM)


def test_root_renamed_away_and_back(armed, root, ear):
    """A renamed root is a `ROOT`; nothing written under its other name is a hint; back again is a `ROOT`."""
    os.rename(root.path, root.path + "-moved")
    ear.until(Change.ROOT, root=root.path)
    armed.arm(root.path, silo=True)
    ear.forget()
    Path(root.path + "-moved", "conversations", ROOM, "events.json").write_text("[7]")
    os.rename(root.path + "-moved", root.path)
    ear.until(Change.ROOT, root=root.path)

    assert not [h for h in ear.seen if h.change in IN_ROOM]
    armed.arm(root.path, silo=True)
    root.rename_in('["back"]')
    ear.until(*IN_ROOM, conversation_dir=ROOM)


def test_parent_of_root_renamed(armed, root, ear):
    """The directory above a root being renamed is a `ROOT` too."""
    os.rename(os.path.dirname(root.path), os.path.dirname(root.path) + "-moved")

    ear.until(Change.ROOT, root=root.path)


def test_conversations_and_archive_made_later(watcher, root, ear):
    """`conversations/`, `.archive/` and `locks/` that come after the arming are each a `ROOT`, then heard."""
    shutil.rmtree(root.path)
    os.mkdir(root.path)
    watcher.arm(root.path, silo=True)
    for part in ("conversations", "conversations/.archive"):
        os.mkdir(root.at(part))
        ear.until(Change.ROOT, root=root.path)
    os.mkdir(root.at("locks"))
    watcher.arm(root.path, silo=True)

    os.mkdir(root.at("conversations", ".archive", "9-old"))
    ear.until(Change.LISTING, conversation_dir="9-old", detail=".archive")


def test_identity(armed, root, ear):
    """A changed `.id` is a `ROOT`."""
    Path(root.at(".id")).write_text("zzzzz\n")

    ear.until(Change.ROOT, root=root.path)


def test_archived(armed, root, ear):
    """A conversation moved into `.archive/` is a `LISTING` there."""
    os.rename(root.room(), root.at("conversations", ".archive", ROOM))

    ear.until(Change.LISTING, root=root.path, conversation_dir=ROOM, detail=".archive")


def test_not_ours(watcher, root, ear):
    """Dot directories, `.trash`, files inside archived conversations and other files in the root are no hints."""
    for name in (".trash", ".staging-7", ".archive/3-old"):
        os.makedirs(root.at("conversations", name))
    watcher.arm(root.path, silo=True)

    for name in (".trash/x", ".staging-7/events.json", ".archive/3-old/events.json", ".archive/.convsync-1"):
        Path(root.at("conversations", name)).write_text("x")
    os.mkdir(root.at("conversations", ".staging-8"))
    os.mkdir(root.at("conversations", ".trash", "5-bad"))
    Path(root.at("conversations", ".staging-8", "events.json")).write_text("x")
    Path(root.at("config.toml")).write_text("x")
    Path(root.at("locks", "jp-c1.lock")).write_text("x")

    assert silence(ear, root) == []


def test_lock_released(armed, root, ear):
    """A lock file that goes away is `LOCKS`, with its name; that it came is nothing."""
    for name in ("jp-c1.lock", "jp-c2.lock"):
        Path(root.at("locks", name)).write_text("{}")
    assert silence(ear, root) == []
    os.unlink(root.at("locks", "jp-c2.lock"))

    assert ear.until(Change.LOCKS) == Hint(Change.LOCKS, root.path, "", "jp-c2.lock")


def test_signals(watcher, tmp_path, ear):
    """A file renamed into the signal directory, or written there, is a `SIGNAL` with its name."""
    os.mkdir(tmp_path / "signals")
    assert watcher.watch_signals(str(tmp_path / "signals")).failed == ()
    (tmp_path / "tmp").write_text("x")

    os.rename(tmp_path / "tmp", tmp_path / "signals" / "canary")
    assert ear.until(Change.SIGNAL, file="canary").root == ""
    (tmp_path / "signals" / "wake").write_text("x")
    ear.until(Change.SIGNAL, file="wake")
    watcher.disarm(str(tmp_path / "signals"))
    assert watcher.watches == 0


def test_signal_directory_gone(watcher, tmp_path, ear):
    """A signal directory that goes is a `DEAF`: what was to come by it will not."""
    os.mkdir(tmp_path / "signals")
    watcher.watch_signals(str(tmp_path / "signals"))
    os.rmdir(tmp_path / "signals")

    assert ear.until(Change.DEAF) == Hint(Change.DEAF, detail="ENOENT")


def test_root_by_a_symlink(watcher, root, tmp_path, ear):
    """A root armed by a path with a symlink is heard, under the path it was armed by."""
    os.symlink(root.path, tmp_path / "link")
    watcher.arm(str(tmp_path / "link"), silo=True)
    root.rename_in("[1]")

    assert ear.until(*IN_ROOM, conversation_dir=ROOM).root == str(tmp_path / "link")


def test_parent_of_silos(watcher, tmp_path, ear):
    """A directory that comes or goes in a watched parent is a `ROOT` without root, with its name."""
    os.mkdir(tmp_path / "workspace")
    watcher.watch_parent(str(tmp_path / "workspace"))

    os.mkdir(tmp_path / "workspace" / "my-otvo8")
    ear.until(Change.ROOT, root="", file="my-otvo8")
    ear.forget()
    os.rename(tmp_path / "workspace" / "my-otvo8", tmp_path / "gone")
    ear.until(Change.ROOT, root="", file="my-otvo8")


def test_disarm_is_silent(armed, root, tmp_path, ear):
    """After `disarm` nothing in that root is a hint and no watch is left; another root is heard as before."""
    other = Root(tmp_path / "other" / ".jp")
    armed.arm(other.path, silo=False)
    armed.disarm(root.path)
    ear.forget()
    root.rename_in('["unheard"]')
    os.mkdir(root.at("conversations", "8-unheard"))

    assert [h for h in silence(ear, other) if h.root == root.path] == []
    armed.disarm(other.path)
    assert armed.watches == 0


def test_arm_twice(armed, root, ear):
    """Arming again changes no count, and one change is not heard twice as much."""
    before = armed.watches
    assert armed.arm(root.path, silo=True).failed == ()

    assert armed.watches == before
    os.unlink(root.room("events.json"))
    ear.until(*IN_ROOM, conversation_dir=ROOM)
    silence(ear, root)
    assert len([h for h in ear.seen if h.conversation_dir == ROOM]) == 1


def test_odd_names(armed, root, ear):
    """A name that is not UTF-8 comes through as Python's own functions know it."""
    name = os.fsdecode(b"7-\xff\xfe")
    try:
        os.mkdir(root.at("conversations", name))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")

    ear.until(Change.LISTING, conversation_dir=name)


# --- inotify only ----------------------------------------------------------------------------------


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
            stalled.append(time.sleep(0.5))
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


UNMOUNTED = """
import os, queue, subprocess, sys
from convsync_agent.hints import Change
from convsync_agent.inotify import InotifyWatcher
root = sys.argv[1]
subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', root], check=True)
os.makedirs(root + '/conversations/1-x')
q = queue.SimpleQueue(); w = InotifyWatcher(q.put); w.arm(root, silo=False)
subprocess.run(['umount', root], check=True)
while q.get(timeout=20).change is not Change.ROOT: pass
print('heard')
"""


def test_unmount(tmp_path):
    """A root whose file system is unmounted is a `ROOT`."""
    if _python("unshare", "-Urm", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)).returncode:
        pytest.skip("no private mounts here")

    done = _python("unshare", "-Urm", sys.executable, "-c", UNMOUNTED, str(tmp_path))

    assert (done.stdout, done.stderr) == ("heard\n", "")


LIMITED = """
import os, queue, sys
from convsync_agent.inotify import InotifyWatcher
open('/proc/sys/user/max_inotify_watches', 'w').write('20')
for n in range(40): os.makedirs(f'{sys.argv[1]}/conversations/{n}-x')
q = queue.SimpleQueue(); w = InotifyWatcher(q.put)
r = w.arm(sys.argv[1], silo=False)
print(r.failed, r.watches, [tuple(q.get())[::4] for _ in range(q.qsize())])
"""


def _python(*argv, **kwargs):
    environment = {**os.environ, "PYTHONPATH": AGENT, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, **kwargs)


def test_out_of_watches(tmp_path):
    """No watch left: arming stops, says ENOSPC once in its result and in one `DEAF`, and keeps what it has."""
    if _python("unshare", "-Ur", "sh", "-c", "echo 20 >/proc/sys/user/max_inotify_watches").returncode:
        pytest.skip("no private user namespace here")

    done = _python("unshare", "-Ur", sys.executable, "-c", LIMITED, str(tmp_path / "jp"))

    assert done.stderr == ""
    assert done.stdout == "('ENOSPC',) 20 [(<Change.DEAF: 'deaf'>, 'ENOSPC')]\n"


DENIED = """
import os, queue, tempfile
from convsync_agent.inotify import InotifyWatcher
with tempfile.TemporaryDirectory() as base:
    for n in range(3): os.makedirs(f'{base}/conversations/{n}-x')
    os.chmod(f'{base}/conversations/1-x', 0)
    q = queue.SimpleQueue(); w = InotifyWatcher(q.put)
    r = w.arm(base, silo=False)
    print(r.failed, len(w._table.rooms), [(h.conversation_dir, h.detail) for h in (q.get() for _ in range(q.qsize()))])
"""
DENIED_POLL = """
import os, queue, tempfile
from convsync_agent.poll import PollingWatcher
with tempfile.TemporaryDirectory() as base:
    os.makedirs(f'{base}/conversations/1-x')
    q = queue.SimpleQueue(); w = PollingWatcher(q.put, interval=0.02)
    w.arm(base, silo=False)
    os.chmod(f'{base}/conversations', 0)
    first = q.get(timeout=20)
    os.chmod(f'{base}/conversations', 0o700)
    os.mkdir(f'{base}/conversations/2-x')
    listed = []
    while '2-x' not in listed:
        hint = q.get(timeout=20)
        if hint.change == 'listing': listed.append(hint.conversation_dir)
    print(first.detail, listed)
"""


@pytest.fixture
def denied():
    """A Python that obeys permissions, also where the tests run as root."""
    drop = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    try:
        able = not _python(*drop, "true").returncode
    except FileNotFoundError:
        able = False
    if not able:
        pytest.skip("root here cannot give up its right to read everything")
    return lambda code: _python(*drop, sys.executable, "-c", code)


def test_denied(denied):
    """A conversation that may not be read is an EACCES in the result and a `DEAF`; the others are watched."""
    done = denied(DENIED)

    assert (done.stdout, done.stderr) == ("('EACCES',) 2 [('1-x', 'EACCES')]\n", "")


def test_denied_to_polling(denied):
    """A listing that may not be read is a `DEAF` and says nothing of its conversations: none went, none came."""
    done = denied(DENIED_POLL)

    assert (done.stdout, done.stderr) == ("EACCES ['2-x']\n", "")


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


def test_symlinks_are_not_followed(inotify, root, tmp_path, ear):
    """A symlinked conversation is not watched; a symlinked `conversations/` is a failure, not a silence."""
    os.symlink(tmp_path, root.at("conversations", "5-link"))
    assert inotify.arm(root.path, silo=True).failed == ()
    assert len(inotify._table.rooms) == 1
    os.rename(root.at("conversations"), root.at("real"))
    os.symlink("real", root.at("conversations"))

    assert inotify.arm(root.path, silo=True).failed == ("ENOTDIR",)
    ear.until(Change.DEAF, detail="ENOTDIR")


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
    """Only `watch` and `inotify` import watchdog."""
    users = {
        path.stem
        for path in Path(AGENT, "convsync_agent").glob("*.py")
        if any(
            line.split()[:1] in (["from"], ["import"]) and "watchdog" in line for line in path.read_text().splitlines()
        )
    }

    assert users == {"watch", "inotify"}


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


# --- meaning, choice, mounts -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "verb", "name", "expected"),
    [
        (Watched.ROOM, Verb.ARRIVED, "events.json", Change.WRITTEN),
        (Watched.ROOM, Verb.CREATED, "events.json", Change.TOUCHED),
        (Watched.ROOM, Verb.LEFT, "QUERY_MESSAGE.md", Change.GONE),
        (Watched.ROOM, Verb.WRITTEN, "events.json.tmp", None),
        (Watched.ROOM, Verb.WRITTEN, ".hidden", None),
        (Watched.CONVERSATIONS, Verb.LEFT, ".trash", None),
        (Watched.CONVERSATIONS, Verb.LEFT, ".archive", Change.ROOT),
        (Watched.CONVERSATIONS, Verb.MODIFIED, "stray", None),
        (Watched.ARCHIVE, Verb.ARRIVED, "1-x", Change.LISTING),
        (Watched.ROOT, Verb.WRITTEN, ".id", Change.ROOT),
        (Watched.ROOT, Verb.CREATED, "locks", None),
        (Watched.SILO, Verb.CREATED, "locks", Change.ROOT),
        (Watched.LOCKS, Verb.WRITTEN, "jp-c1.lock", None),
        (Watched.ABOVE, Verb.ARRIVED, ".jp", Change.ROOT),
        (Watched.ABOVE, Verb.MODIFIED, ".jp", None),
        (Watched.SIGNALS, Verb.LEFT, "wake", None),
    ],
)
def test_meaning(place, verb, name, expected):
    """Each place and verb means one change, or nothing."""
    assert meaning(place, verb, name) == expected


def test_hint_for_archive():
    """A hint from `.archive/` says so and names the conversation."""
    assert locate(("conversations", ".archive", "1-x"), silo=False) == (Watched.ARCHIVE, "", "1-x")
    assert hint_of(Watched.ARCHIVE, Verb.LEFT, "/r", "1-x") == Hint(Change.LISTING, "/r", "1-x", "", ".archive")


@pytest.mark.parametrize(
    ("prefer", "kind"),
    [
        ("auto", "InotifyWatcher"),
        ("inotify", "InotifyWatcher"),
        ("observer", "ObserverWatcher"),
        ("polling", "PollingWatcher"),
    ],
)
def test_choice(prefer, kind, ear):
    """The wanted watcher is made where it works."""
    chosen = choose_watcher(ear.queue.put, prefer=prefer)

    assert type(chosen).__name__ == kind
    assert chosen.healthy()
    chosen.close()


def test_choice_without_instances():
    """Where no inotify instance is left the choice falls to polling, and one `DEAF` a failure says why."""
    code = (
        "open('/proc/sys/user/max_inotify_instances', 'w').write('0')\n"
        "import queue; from convsync_agent.watch import choose_watcher\n"
        "q = queue.SimpleQueue(); w = choose_watcher(q.put)\n"
        "print(type(w).__name__, {q.get().detail for _ in range(q.qsize())})\n"
    )
    done = _python("unshare", "-Ur", sys.executable, "-c", code)
    if "unshare:" in done.stderr or "PermissionError" in done.stderr:
        pytest.skip("no private user namespace here")

    assert (done.stdout, done.stderr) == ("PollingWatcher {'EMFILE'}\n", "")


def test_a_better_watcher_takes_over_when_there_is_one_again(tmp_path):
    """Out of instances at the start, polling: not for ever. What was watched has to be armed anew, which is said."""
    code = (
        "import sys; limit = '/proc/sys/user/max_inotify_instances'; open(limit, 'w').write('0')\n"
        "from convsync_agent.lookout import Lookout\n"
        "one = Lookout(lambda hint: None, sys.argv[1]); print(one.improve())\n"
        "open(limit, 'w').write('9'); print(one.improve(), one.improve()); one.close()\n"
    )
    done = _python("unshare", "-Ur", sys.executable, "-c", code, str(tmp_path))
    if "unshare:" in done.stderr or "PermissionError" in done.stderr:
        pytest.skip("no private user namespace here")

    assert (done.stdout, done.stderr) == ("False\nTrue False\n", "")


MOUNTS = rb"""22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:40 / /home rw,relatime shared:5 - nfs4 server:/home rw
31 30 0:41 / /home/me/local\040disk rw - xfs /dev/vdb rw
32 22 0:42 / /mnt/s rw - fuse.sshfs me@host: rw
33 22 0:43 / /mnt/ntfs rw - fuseblk /dev/vdc rw
34 22 0:44 / /mnt/s rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "silent"),
    [
        ("/srv/x", "ext4", False),
        ("/home", "nfs4", True),
        ("/home/me/p", "nfs4", True),
        ("/homes", "ext4", False),
        ("/home/me/local disk/p", "xfs", False),
        ("/mnt/ntfs/p", "fuseblk", False),
        ("/mnt/s/p", "tmpfs", False),
    ],
)
def test_file_system(path, kind, silent):
    """The longest mount point that holds a path decides, of two on one place the later; names are unescaped."""
    assert mounts.file_system_of(path, MOUNTS) == kind
    assert mounts.is_silent(kind) is silent


def test_limits(inotify, root):
    """The limits name the sysctl, and our own watches are among those in use."""
    if not os.path.exists("/proc/sys/fs/inotify"):
        pytest.skip("no inotify here")
    held = inotify.arm(root.path, silo=True).watches
    limits = mounts.watch_limits()

    assert held <= limits.used_hint <= limits.maximum
    assert limits.sysctl == "fs.inotify.max_user_watches"
    assert not mounts.needs_polling("/proc")
