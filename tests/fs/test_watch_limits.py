"""Watchers where something gives out: a root that is unmounted, no more watches, no right to look."""

import json
import os
import sys

import pytest

from convsync_agent.ration import rooms_for
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
print(r.failed, r.watches, q.qsize())
some = frozenset(f'{n}-x' for n in range(30, 36))
r = w.arm(sys.argv[1], silo=False, rooms=some)
print(r.failed, {w._table.room(wd)[1] for wd in w._table.rooms} == some)
open(f'{sys.argv[1]}/conversations/33-x/events.json', 'w').close()
while (hint := q.get(timeout=120)).change != 'written': pass
print(hint.conversation_dir)
os.mkdir(f'{sys.argv[1]}/conversations/99-new')
while (hint := q.get(timeout=120)).change != 'listing': pass
open(f'{sys.argv[1]}/conversations/99-new/events.json', 'w').close()
while (hint := q.get(timeout=120)).change != 'written': pass
print(hint.conversation_dir)
"""


def test_out_of_watches(tmp_path):
    """No watch left: arming says ENOSPC once, in its result and in no hint, and keeps what it has.

    Told which ones, it lets the others go and has what it needs; what is made next is watched, too.
    """
    if _python("unshare", "-Ur", "sh", "-c", "echo 20 >/proc/sys/user/max_inotify_watches").returncode:
        pytest.skip("no private user namespace here")

    done = _python("unshare", "-Ur", sys.executable, "-c", LIMITED, str(tmp_path / "jp"))

    assert done.stderr == ""
    assert done.stdout == "('ENOSPC',) 20 0\n() True\n33-x\n99-new\n"


RAISED = """
import json, os, queue, sys
from convsync_agent.lookout import Lookout
def limit(number): open('/proc/sys/user/max_inotify_watches', 'w').write(str(number))
base = sys.argv[1]
for root in 'ab':
    for n in range(40): os.makedirs(f'{base}/{root}/conversations/{n}-x')
os.makedirs(f'{base}/run/signals')
def arm_both():
    for root in 'ab': lookout.arm(f'{base}/{root}', silo=False)
    return [one['unwatched'] for one in lookout.health.deaf_roots()], lookout._poller.watches
limit(60)
lookout = Lookout(queue.SimpleQueue().put, f'{base}/run')
print(json.dumps({'first': arm_both(), 'second': arm_both()}))
limit(500)
print(json.dumps({
    'before': arm_both(), 'improved': lookout.improve(), 'after': arm_both(), 'again': lookout.improve()
}))
"""


def test_a_raised_limit_is_taken_up(tmp_path):
    """Who is out of watches stays with what was shared out, and finds out at the next net that there are more."""
    if _python("unshare", "-Ur", "sh", "-c", "echo 20 >/proc/sys/user/max_inotify_watches").returncode:
        pytest.skip("no private user namespace here")

    done = _python("unshare", "-Ur", sys.executable, "-c", RAISED, str(tmp_path))

    assert done.stderr == ""
    short, raised = (json.loads(line) for line in done.stdout.splitlines())
    assert short["first"] == short["second"] == raised["before"]
    assert (sum(short["first"][0]), short["first"][1]) == (80 - rooms_for(60, 2), 2)
    assert (raised["improved"], raised["after"], raised["again"]) == (True, [[], 0], False)


DENIED = """
import os, queue, tempfile
from convsync_agent.inotify import InotifyWatcher
with tempfile.TemporaryDirectory() as base:
    for n in range(3): os.makedirs(f'{base}/conversations/{n}-x')
    os.chmod(f'{base}/conversations/1-x', 0)
    q = queue.SimpleQueue(); w = InotifyWatcher(q.put)
    r = w.arm(base, silo=False)
    print(r.failed, len(w._table.rooms), q.qsize())
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
    """A conversation that may not be read is an EACCES in the result; the others are watched."""
    done = denied(DENIED)

    assert (done.stdout, done.stderr) == ("('EACCES',) 2 0\n", "")


def test_denied_to_polling(denied):
    """A listing that may not be read is a `DEAF` and says nothing of its conversations: none went, none came."""
    done = denied(DENIED_POLL)

    assert (done.stdout, done.stderr) == ("EACCES ['2-x']\n", "")
