"""Listings and stats of a root: what counts, what is found changed, what is never followed (contract 3.4)."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import time

import pytest

from convsync_agent import records
from convsync_agent.model import Kind, Root
from convsync_agent.observe import Eye
from convsync_agent.scan import Listing, Place, View, find_places, list_root, sweep
from machine import as_jp, event, put

C = 17_000_000_001
FILES = ("base_config.json", "events.json", "metadata.json")
LATE = 10**9 * 3600


@pytest.fixture
def root(tmp_path):
    (tmp_path / "conversations/.archive").mkdir(parents=True)
    return tmp_path


def make(root, name=str(C), *, archived=False):
    top = root / "conversations" / (".archive" if archived else "") / name
    top.mkdir(parents=True)
    for file, value in zip(FILES, ({}, [event()], {"last_activated_at": "x"}), strict=True):
        put(top / file, as_jp(value), 10**18)
    return top


def names(listing):
    return dict(listing.live), dict(listing.archived)


# -- what counts ----------------------------------------------------------------------

ENTRIES = {
    "number": (str(C), "dir", "live"),
    "slug": (f"{C}-a-b", "dir", "live"),
    "dash": (f"{C}-", "dir", "live"),
    "unicode": (f"{C}-日本", "dir", "live"),
    "tmp-name": (f"{C}-x.tmp", "dir", "live"),
    "no-dash": (f"{C}x", "dir", None),
    "text": ("notes", "dir", None),
    "dot": (f".{C}", "dir", None),
    "trash": (".trash", "dir", None),
    "staging": (".convsync", "dir", None),
    "negative": (f"-{C}", "dir", None),
    "largest": ("92233720368", "dir", "live"),
    "too-large": ("92233720369", "dir", None),
    "zeros": (f"0{C}", "dir", "odd"),
    "plus": (f"+{C}", "dir", "odd"),
    "file": (str(C), "file", "odd"),
    "file-slug": (f"{C}-x", "file", "odd"),
    "symlink": (str(C), "link", "odd"),
    "fifo": (str(C), "fifo", "odd"),
    "file-text": ("notes", "file", None),
    "file-zeros": (f"0{C}", "file", None),
}


@pytest.mark.parametrize("where", ["live", "archived"])
@pytest.mark.parametrize(("name", "kind", "expected"), ENTRIES.values(), ids=ENTRIES)
def test_which_entries_are_conversations(root, name, kind, expected, where):
    """Directories that are no symlinks, without a leading dot, whose name JP parses and finds again."""
    other = root / "elsewhere"
    other.mkdir()
    path = root / "conversations" / (".archive" if where == "archived" else "") / name
    if kind == "dir":
        path.mkdir(exist_ok=True)
    elif kind == "file":
        path.touch()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(other)
    listing = list_root(str(root))
    found = {n for table in names(listing) for n in table.values()}
    assert found == ({name} if expected == "live" else set())
    assert bool(listing.odd) is (expected == "odd")
    assert bool(listing.live) is (expected == "live" and where == "live")


@pytest.mark.parametrize("there", [[], [str(C)]], ids=["none", "live-only"])
def test_missing_parts_are_empty(tmp_path, there):
    """No `conversations/`, no `.archive/`: nothing there. A root that is gone is an error, not empty (contract 2.6)."""
    for name in there:
        (tmp_path / "conversations" / name).mkdir(parents=True)
    assert [int(n) for n in there] == list(list_root(str(tmp_path)).live)
    with pytest.raises(FileNotFoundError):
        list_root(str(tmp_path / "gone"))


@pytest.mark.parametrize("part", ["conversations", "conversations/.archive"])
@pytest.mark.parametrize("what", ["symlink", "file"])
def test_a_partition_that_is_no_directory_is_not_followed(root, part, what):
    """Whatever lies behind a symlink is in no listing."""
    make(root / "other")
    path = root / part
    shutil.rmtree(path)
    path.symlink_to(root / "other/conversations") if what == "symlink" else path.touch()
    try:
        listing = list_root(str(root))
    except OSError:
        return
    assert ({}, {}) == names(listing)


DOUBLED = {
    "two-live": [(f"{C}-a", False), (f"{C}-b", False)],
    "two-archived": [(f"{C}-a", True), (f"{C}-b", True)],
    "both": [(str(C), False), (str(C), True)],
    "three": [(f"{C}-a", False), (f"{C}-b", False), (f"{C}-b", True)],
}


@pytest.mark.parametrize("places", DOUBLED.values(), ids=DOUBLED)
def test_several_directories_of_one_id_are_all_told(root, places):
    """JP deletes one of them by name: none may be overlooked (contract 3.5)."""
    for name, archived in places:
        make(root, name, archived=archived)
    make(root, str(C + 1))
    listing = list_root(str(root))
    assert listing.places(C) == tuple(sorted(Place(n, archived=a) for n, a in places))
    assert listing.places(C + 1) == (Place(str(C + 1), archived=False),)
    assert {C, C + 1} == listing.conversations()
    assert {C} == set(listing.doubled)


def test_a_listing_is_brought_up_to_date_for_one_conversation():
    """Doubled and single, live and archived, there and gone."""
    listing = Listing()
    one, two, three = Place("1-a", archived=False), Place("1-b", archived=False), Place("1", archived=True)
    for places in ((one,), (one, two), (three,), (one, three), (), (two,)):
        listing.put(1, places)
        assert listing.places(1) == places
        assert (1 in listing.conversations()) is bool(places)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("part", [".", "conversations", "conversations/.archive"])
def test_what_may_not_be_read_is_an_error_and_not_absent(root, part):
    """EACCES says nothing about what is there (contract 2.6)."""
    make(root)
    (root / part).chmod(0)
    try:
        with pytest.raises(PermissionError):
            list_root(str(root))
    finally:
        (root / part).chmod(0o700)


# -- what changed -----------------------------------------------------------------------


def late():
    return time.time_ns() + LATE


def view_of(root, clock=late):
    """A view with records of everything, read long after it was written."""
    view = View(Root(Kind.WORKTREE, str(root)), list_root(str(root)))

    eye = Eye(clock, lambda *_: 10**10, lambda *_: True)
    for conversation in view.listing.conversations():
        for place in view.listing.places(conversation):
            copy, dir_mtime = eye.look(view.root, conversation, place, None)
            view.records[conversation] = records.pack(copy, dir_mtime, clock())
    return view


def dirty(view, **how):
    return set(sweep(view, list_root(view.root.path), **how))


def same_stamps(path, change):
    """Change it without leaving a trace in mtime."""
    before = path.stat()
    change()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def swapped(path):
    """Another inode with the same bytes and the same mtime."""
    copy = path.with_name("copy")
    shutil.copy2(path, copy)
    before = path.parent.stat()
    copy.rename(path)
    os.utime(path.parent, ns=(before.st_atime_ns, before.st_mtime_ns))


def inside(top, change):
    """Change an entry, and give the directory its time back."""
    before = top.stat()
    change()
    os.utime(top, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = {
    "mtime": lambda t: os.utime(t / "events.json", ns=(1, 10**18 + 1)),
    "size": lambda t: same_stamps(t / "events.json", lambda: (t / "events.json").write_bytes(b"[]")),
    "inode": lambda t: swapped(t / "base_config.json"),
    "ctime": lambda t: (t / "metadata.json").chmod(0o600),
    "bytes": lambda t: same_stamps(t / "metadata.json", lambda: (t / "metadata.json").write_bytes(b"X" * 33)),
    "name": lambda t: t.rename(t.with_name(f"{C}-other")),
    "directory": lambda t: os.utime(t, ns=(1, 1)),
    "new-file": lambda t: (t / "NOTE.md").touch(),
    "removed": lambda t: inside(t, (t / "events.json").unlink),
    "gone": shutil.rmtree,
    "archived": lambda t: t.rename(t.parent / ".archive" / t.name),
    "doubled": lambda t: t.with_name(f"{C}-b").mkdir(),
    "other-inode": lambda t: (t.rename(t.parent.parent / "old"), shutil.copytree(t.parent.parent / "old", t)),
    "symlink": lambda t: (t.rename(t.parent.parent / "old"), t.symlink_to(t.parent.parent / "old")),
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_every_single_change_is_found_by_stats_alone(root, change, strict):
    """mtime, size, inode, ctime, name, the directory, a file more or less: each one by itself."""
    top = make(root)
    make(root, str(C + 1))
    make(root, str(C + 2), archived=True)
    view = view_of(root)
    assert set() == dirty(view, strict=strict)
    CHANGES[change](top)
    assert {C} == dirty(view, strict=strict)


def test_a_new_conversation_is_found(root):
    """Without a record everything is new."""
    view = view_of(root)
    make(root)
    make(root, str(C + 1), archived=True)
    assert {C, C + 1} == dirty(view)


def test_what_was_written_just_before_it_was_read_is_looked_at_once_more(root):
    """A second write in the same tick of the clock would leave this very stamp."""
    top = make(root)
    written = max(p.stat().st_ctime_ns for p in (top, *top.iterdir()))
    view = view_of(root, lambda: written)
    assert {C} == dirty(view)
    assert set() == dirty(view, strict=False)


def test_a_copy_that_is_not_sound_is_looked_at_in_every_scan(root):
    """A record of a broken file vouches for nothing."""
    top = make(root)
    (top / "events.json").write_bytes(b"broken")
    assert {C} == dirty(view_of(root))


def test_reading_a_fifo_never_waits(root):
    """A FIFO for a managed file is a change like any other."""
    top = make(root)
    view = view_of(root)
    (top / "events.json").unlink()
    os.mkfifo(top / "events.json")
    assert {C} == dirty(view)


# -- one conversation by its names ----------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "hinted", "known", "expected"),
    [
        ([f"{C}-a"], [f"{C}-a"], [], [f"{C}-a"]),
        ([f"{C}-a"], [], [f"{C}-a"], [f"{C}-a"]),
        ([f"{C}-b"], [f"{C}-a", f"{C}-b"], [], [f"{C}-b"]),
        ([f"{C}-b"], [f"{C}-b"], [f"{C}-a"], None),
        ([], [f"{C}-a"], [], []),
        ([f"{C + 1}"], [f"{C + 1}"], [], []),
        ([f"{C}-a", f"{C}-b"], [f"{C}-b"], [f"{C}-a"], [f"{C}-a", f"{C}-b"]),
    ],
)
def test_places_by_stats_alone(root, there, hinted, known, expected):
    """What events named and what was known, checked; None where a known one is gone: then the root is listed."""
    for name in there:
        make(root, name)
    places = tuple(Place(n, archived=False) for n in known)
    found = find_places(str(root), C, tuple(hinted), places)
    assert found == (None if expected is None else tuple(Place(n, archived=False) for n in expected))


@pytest.mark.parametrize("kind", ["symlink", "file"])
def test_a_name_that_is_no_directory_is_no_place(root, kind):
    """Not followed."""
    path = root / "conversations" / str(C)
    path.symlink_to(root) if kind == "symlink" else path.touch()
    assert () == find_places(str(root), C, (str(C),), ())


def test_a_root_that_is_gone_is_an_error(tmp_path):
    """Never "no places"."""
    with pytest.raises(FileNotFoundError):
        find_places(str(tmp_path / "gone"), C, (), ())


def test_a_scan_writes_nothing_not_even_access_times_of_directories_it_need_not_open(root):
    """Twenty conversations in step: stats only, no file is opened."""
    for number in range(20):
        make(root, str(C + number))
    view = view_of(root)
    script = """
import os, pickle, sys
from convsync_agent import scan
view = pickle.load(sys.stdin.buffer)
real, opened = os.open, []
os.open = lambda *a, **k: (opened.append(a[0]), real(*a, **k))[1]
assert set() == set(scan.sweep(view, scan.list_root(view.root.path)))
print(len(opened))
"""

    done = subprocess.run([sys.executable, "-c", script], input=pickle.dumps(view), capture_output=True, check=False)
    assert 0 == done.returncode, done.stderr
    assert int(done.stdout) <= 6
