"""Lock files that a crash left."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from convsync_agent import locks
from holder import NAME, C, held

OURS = '{"pid":4194304,"session":"convsync","acquired_at":"2025-01-01T00:00:00+00:00"}'
LEFTOVERS = {
    "ours": (NAME, OURS, True),
    "ours-cut": (NAME, OURS[:30], False),
    "jp": (NAME, OURS.replace("convsync", "getsid-1"), False),
    "no-session": (NAME, '{"pid":1,"acquired_at":"x"}', False),
    "list": (NAME, '["convsync"]', False),
    "empty": (NAME, "", False),
    "not-an-id": ("jp-cabc.lock", OURS, False),
    "no-number": ("jp-c.lock", OURS, False),
    "other-name": ("something.lock", OURS, False),
    "no-suffix": (f"jp-c{C}", OURS, False),
    "temp": (f"jp-c{C}.lock.tmp", OURS, False),
}


@pytest.mark.parametrize(("name", "content", "goes"), LEFTOVERS.values(), ids=LEFTOVERS)
def test_only_our_own_free_leftover_is_removed(silo, name, content, goes):
    """Free, named as JP names locks, and our session in it; everything else stays."""
    (silo / "locks").mkdir()
    path = silo / "locks" / name
    path.write_text(content)
    assert locks.remove_own_leftovers(str(silo)) == int(goes)
    assert path.exists() is not goes


def test_a_leftover_that_somebody_holds_stays(lock):
    """A JP that found our old file and locked it has not written yet."""
    lock.write_text(OURS)
    with held(lock):
        assert 0 == locks.remove_own_leftovers(str(lock.parent.parent))
        assert lock.exists()
    assert 1 == locks.remove_own_leftovers(str(lock.parent.parent))


def test_no_silo_no_leftovers(tmp_path):
    """A silo that is gone has none, and is not made."""
    assert 0 == locks.remove_own_leftovers(str(tmp_path / "gone"))
    assert [] == list(tmp_path.iterdir())


def test_a_fifo_among_the_locks_stops_nobody(lock):
    """Whatever lies there, asking who holds it comes back."""
    os.mkfifo(lock)
    script = f"from convsync_agent import locks; print(locks.remove_own_leftovers({str(lock.parent.parent)!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert "0" == done.stdout.strip(), done.stderr
