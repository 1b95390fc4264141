"""The file of `metrics.textfile` on a real disk."""

from __future__ import annotations

import os
import stat

import pytest

from convsync_agent import textfile
from convsync_agent.gauges import BUSY_SECONDS, IDLE_SECONDS, due_at

OURS = "# HELP convsync_queue x\n"


def test_a_collector_can_read_it_whatever_the_umask(tmp_path):
    """0644, nothing left beside it, replaced in one step by another inode."""
    path = tmp_path / "convsync.prom"
    before = os.umask(0o077)
    try:
        textfile.write(str(path), OURS)
        first = path.stat()
        textfile.write(str(path), OURS * 2)
    finally:
        os.umask(before)

    assert path.read_text() == OURS * 2
    assert stat.S_IMODE(first.st_mode) == stat.S_IMODE(path.stat().st_mode) == 0o644
    assert os.listdir(tmp_path) == ["convsync.prom"]


@pytest.mark.parametrize("kind", ["text", "link", "directory", "dangling", "fifo"])
def test_what_is_not_ours_stays(tmp_path, kind):
    """A setting that names the wrong file must not cost that file."""
    path, other = tmp_path / "notes.txt", tmp_path / "other"
    other.write_text("mine")
    match kind:
        case "text":
            path.write_text("mine")
        case "link":
            path.symlink_to(other)
        case "directory":
            path.mkdir()
        case "dangling":
            path.symlink_to(tmp_path / "nowhere")
        case "fifo":
            os.mkfifo(path)
    before = os.lstat(path)
    with pytest.raises(FileExistsError):
        textfile.write(str(path), OURS)
    textfile.remove(str(path))

    assert os.lstat(path).st_ino == before.st_ino
    assert other.read_text() == "mine"


def test_removed_when_it_is_ours(tmp_path):
    """And twice is no error."""
    path = tmp_path / "convsync.prom"
    textfile.write(str(path), OURS)
    textfile.remove(str(path))
    textfile.remove(str(path))

    assert not path.exists()


def test_a_directory_that_is_not_there(tmp_path):
    """An error of the OS, and nothing is made."""
    with pytest.raises(FileNotFoundError):
        textfile.write(str(tmp_path / "no" / "x.prom"), OURS)
    assert os.listdir(tmp_path) == []


def test_when():
    """Soon after something changed, else once a minute: a collector tells an idle agent from a dead one."""
    assert (due_at(100.0, changed=True), due_at(100.0, changed=False)) == (100 + BUSY_SECONDS, 100 + IDLE_SECONDS)
    assert BUSY_SECONDS < IDLE_SECONDS <= 60
