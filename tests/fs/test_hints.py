"""What a hint means, which watcher is chosen, and which file systems tell of changes."""

import os
import sys

import pytest

from convsync_agent import mounts
from convsync_agent.hints import Change, Hint, Verb, Watched, hint_of, locate, meaning
from convsync_agent.watch import choose_watcher
from watching import _python


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
    use = mounts.inotify_use()

    assert held <= use.watches <= use.most_watches
    assert 1 <= use.instances
    assert {"fs.inotify.max_user_watches", "user.max_inotify_watches"} >= {use.sysctl_watches}
    assert not mounts.needs_polling("/proc")
