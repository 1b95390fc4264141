"""Objects are stored as they are while somebody waits, and made small later: the content never changes."""

from __future__ import annotations

import os
import subprocess
import threading

import pytest

from agents import until
from convsync_agent import objects
from convsync_agent.history import History
from convsync_agent.pressing import Pressing, press
from keeping import ID, WS, contents, dot_names, hexes, keep, place

LONG = b"the same words again " * 20_000


@pytest.fixture
def history(tmp_path):
    return History(str(tmp_path / "data"))


def stored(history, raw):
    return str(place(history) / "objects" / f"{hexes(raw)[0]}.gz")


def test_what_was_just_kept_is_stored_and_gunzip_reads_it(history):
    """No compression is waited for, and nobody needs convsync to read it."""
    keep(history, LONG)
    path = stored(history, LONG)

    assert objects.is_stored(path)
    assert subprocess.run(["gunzip", "-c", path], capture_output=True, check=True).stdout == LONG


def test_pressing_changes_the_size_and_nothing_else(history):
    """The same name, the same content, no temporary name; a second time there is nothing to do."""
    keep(history, LONG)
    path = stored(history, LONG)
    before = os.stat(path).st_size

    assert press(path)
    assert not objects.is_stored(path)
    assert os.stat(path).st_size * 10 < before
    assert contents(history) == [LONG]
    assert dot_names(history) == []
    assert not press(path)
    assert not keep(history, LONG).new


def test_what_does_not_get_smaller_stays(history):
    """Random bytes are kept as they were stored."""
    raw = os.urandom(100_000)
    keep(history, raw)
    inode = os.stat(stored(history, raw)).st_ino

    assert not press(stored(history, raw))
    assert os.stat(stored(history, raw)).st_ino == inode


@pytest.mark.parametrize("harm", [lambda raw: raw[:-9], lambda raw: raw[:50] + b"!" + raw[51:], lambda _: b""])
def test_what_is_damaged_is_left_as_it_is(history, harm):
    """A damaged object is evidence: it is never written anew under a digest that it has not."""
    keep(history, LONG)
    path = stored(history, LONG)
    with open(path, "r+b") as file:
        bad = harm(file.read())
        file.seek(0)
        file.truncate()
        file.write(bad)

    assert not press(path)
    with open(path, "rb") as file:
        assert file.read() == bad
    assert dot_names(history) == []


def test_one_that_is_gone_does_not_come_back(history):
    """What retention removed is not there afterwards."""
    keep(history, LONG)
    os.unlink(stored(history, LONG))

    assert not press(stored(history, LONG))
    assert not os.path.exists(stored(history, LONG))


def test_it_stops_in_the_middle(history):
    """Asked to stop, the object stays as it was stored."""
    keep(history, LONG)
    stop = threading.Event()
    stop.set()

    assert not press(stored(history, LONG), stop)
    assert objects.is_stored(stored(history, LONG))
    assert dot_names(history) == []


def test_the_work_goes_on_after_a_disturbance(history):
    """What was given up is taken up again, in its own time, until nothing is due."""
    for number in range(8):
        keep(history, LONG + b"%d" % number, at_ms=number)
    pressing = history.pressing
    assert len(pressing) >= 8
    pressing.disturbed()
    assert 0 < pressing.wait() <= 1
    paths = [stored(history, LONG + b"%d" % n) for n in range(8)]
    until(lambda: (pressing.step(), not any(map(objects.is_stored, paths)))[1], "all is pressed")
    pressing.close()

    assert contents(history) == [LONG + b"%d" % n for n in reversed(range(8))]


def test_what_is_remembered_is_bounded():
    """A burst that is larger than the list forgets its oldest."""
    pressing = Pressing()
    for number in range(20_000):
        pressing.note(str(number))
    assert len(pressing) == 10_000


def test_versions_of_another_process_are_pressed_once_a_day(history):
    """What a command stored is found by who looks through the history."""
    keep(history, LONG)
    other = History(history.data_dir)
    assert other.note_stored() == len(other.pressing) == 2
    assert WS in stored(history, LONG)
    assert str(ID) in stored(history, LONG)
