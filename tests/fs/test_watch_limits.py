"""Watchers where something gives out: a root that is unmounted, no more watches, no right to look."""

import os
import sys

import pytest

from watching import _python

UNMOUNTED = """
import os, queue, subprocess, sys
from convsync_agent.hints import Change
from convsync_agent.inotify import InotifyWatcher
root = sys.argv[1]
subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', root], check=True)
os.makedirs(root + '/conversations/1-x')
q = queue.SimpleQueue(); w = InotifyWatcher(q.put); w.arm(root, silo=False)
subprocess.run(['umount', root], check=True)
while q.get(timeout=120).change is not Change.ROOT: pass
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
    first = q.get(timeout=120)
    os.chmod(f'{base}/conversations', 0o700)
    os.mkdir(f'{base}/conversations/2-x')
    listed = []
    while '2-x' not in listed:
        hint = q.get(timeout=120)
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
