"""What counts as evidence that git wrote a file: the stat in the index, the HEAD log, the age of an object."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync_agent.gitevidence import (
    EDIT,
    WROTE,
    HeadLog,
    Logged,
    Seen,
    born_after,
    committed,
    held,
    judge,
    moved,
    parse_log,
)
from convsync_agent.gitindex import Entry
from convsync_agent.model import SECOND

AT = 1_700_000_000  # seconds
FILE = Seen(b"a", AT * SECOND + 5, 100, 77)


def noted(mtime_s=AT, mtime_ns=5, inode=77, size=100):
    return Entry(mtime_s, mtime_ns, inode, size, b"")


HELD = [
    ("exactly", noted(), FILE, True),
    ("another second", noted(mtime_s=AT + 1), FILE, False),
    ("another nanosecond", noted(mtime_ns=6), FILE, False),
    ("another size", noted(size=101), FILE, False),
    ("another file", noted(inode=78), FILE, False),
    ("no nanoseconds noted", noted(mtime_ns=0), FILE, True),
    ("no inode noted", noted(inode=0), FILE, True),
    ("no size noted", noted(size=0), FILE, True),
    ("only seconds noted", noted(mtime_ns=0, inode=0, size=0), FILE, True),
    ("nothing noted", noted(0, 0, 0, 0), FILE, False),
    ("no time noted", noted(mtime_s=0, mtime_ns=0), FILE, False),
    ("not in the index", None, FILE, False),
    ("nanoseconds noted, the file has none", noted(), FILE._replace(mtime_ns=AT * SECOND), False),
    ("an inode beyond 32 bits", noted(inode=5), FILE._replace(inode=2**32 + 5), True),
    ("an inode of only high bits", noted(inode=0), FILE._replace(inode=2**40), True),
    ("a size beyond 32 bits", noted(size=9), FILE._replace(size=2**33 + 9), True),
    ("before 1970", noted(mtime_s=2**32 - 2, mtime_ns=1), FILE._replace(mtime_ns=-2 * SECOND + 1), True),
    ("after 2106", noted(mtime_s=3, mtime_ns=1), FILE._replace(mtime_ns=(2**32 + 3) * SECOND + 1), True),
]


@pytest.mark.parametrize(("entry", "file", "same"), [row[1:] for row in HELD], ids=[row[0] for row in HELD])
def test_the_stat_in_the_index_is_the_files(entry, file, same):
    """Every noted field is equal modulo 2**32; what is 0 is not compared, but without seconds nothing was noted."""
    assert held(entry, file) is same


LINE = b"%040d %040d A U Thor <a@example.com> %d +0100%s\n"


def log(*entries):
    """(seconds from AT, text)"""
    return parse_log(
        b"".join(LINE % (0, 0, AT + at, b"\t" + text if text is not None else b"") for at, text in entries)
    )


TEXTS = [
    (b"commit: x", True),
    (b"commit (amend): x", True),
    (b"commit (initial): x: y", True),
    (b"commit: commit (merge): x", True),
    (b"commit (merge): x", False),
    (b"commit (cherry-pick): x", False),
    (b"checkout: moving from a to commit", False),
    (b"commits: x", False),
    (b"rebase (pick): commit: x", False),
    (b"", False),
    (None, False),
]


@pytest.mark.parametrize(("text", "commit"), TEXTS)
def test_three_kinds_of_entry_are_commits(text, commit):
    """`commit`, `commit (amend)` and `commit (initial)`; all else, an empty text or none too, is git at work."""
    assert list(log((7, text)).since(0)) == [Logged(AT + 7, commit)]


ODD = [
    ("nothing", b"", 0),
    ("a name with brackets and digits", LINE.replace(b"A U Thor", b"> 5 +0000 <") % (0, 0, AT, b"\tx"), 1),
    ("cut at the front", (LINE % (0, 0, AT, b"\tx"))[70:], 1),
    ("cut at the end", (LINE % (0, 0, AT, b"\tx"))[:90], 0),
    ("no line feed", (LINE % (0, 0, AT, b"\tx"))[:-1], 1),
    ("not UTF-8", LINE.replace(b"Thor", b"\xff") % (0, 0, AT, b"\t\xff"), 1),
    ("something else", b"a\0b\n\n> x +0000\n", 0),
]


@pytest.mark.parametrize(("raw", "entries"), [row[1:] for row in ODD], ids=[row[0] for row in ODD])
def test_lines_that_are_no_entry_are_passed_over(raw, entries):
    """A log that was cut or written by something else is read as far as it goes."""
    assert len(parse_log(raw)) == entries


FIRST = [
    ("no log", (), False),
    ("a commit later", ((500, b"commit: x"),), True),
    ("a commit 2 s before", ((-2, b"commit: x"),), False),
    ("a commit 1 s before", ((-1, b"commit: x"),), True),
    ("a checkout later, then a commit", ((5, b"checkout: x"), (6, b"commit: x")), False),
    ("a commit, then a checkout", ((5, b"commit: x"), (6, b"checkout: x")), True),
    ("a checkout long before, then a commit", ((-3, b"checkout: x"), (6, b"commit: x")), True),
    ("a clone just before, then a commit", ((-1, b"clone: x"), (6, b"commit: x")), False),
    ("the clock was set back", ((5, b"commit: x"), (-500, b"checkout: x")), True),
]


@pytest.mark.parametrize(("entries", "is_commit"), [row[1:] for row in FIRST], ids=[row[0] for row in FIRST])
def test_the_first_entry_from_two_seconds_before_decides(entries, is_commit):
    """Whether an edit was committed is read from the first entry from 2 s before the mtime on, in the log's order."""
    assert committed(log(*entries), FILE.mtime_ns) is is_commit


WINDOW = [(-4, False), (-3, False), (-2, True), (0, True), (30, True), (31, False)]


@pytest.mark.parametrize(("at", "inside"), WINDOW)
def test_the_window_of_the_log(at, inside):
    """Without an index: an entry that is no commit, from 3 s before to 30 s after the mtime (AT and 5 ns)."""
    assert moved(log((at, b"pull: x")), FILE.mtime_ns) is inside
    assert moved(log((at, None)), FILE.mtime_ns) is inside
    assert not moved(log((at, b"commit: x")), FILE.mtime_ns)


@given(st.lists(st.integers(0, 12), max_size=8), st.integers(-1, 13), st.integers(0, 1))
def test_since_is_the_first_in_the_order_of_the_log(times, second, ns):
    """From the first entry on that is not earlier, whether or not the times are in order."""
    entries = [Logged(at, commit=False) for at in times]
    first = next((n for n, e in enumerate(entries) if e.at_s * SECOND >= second * SECOND + ns), len(entries))

    assert list(HeadLog(entries).since(second * SECOND + ns)) == entries[first:]


@given(st.binary(max_size=200))
def test_any_log_is_read(raw):
    """No bytes break it."""
    parse_log(raw)
    parse_log(b"a> 1 +0000\t" + raw)


class Held(dict):
    """An index in the small."""

    def entry(self, path):
        return self.get(path)


OTHER = Seen(b"b", AT * SECOND, 5, 78)
BOTH = Held({b"a": noted(), b"b": Entry(AT, 0, 78, 5, b"")})
CHECKOUT, COMMIT = log((0, b"checkout: x")), log((3, b"commit: x"))
JUDGED = [
    ("the index has every file", BOTH, CHECKOUT, (FILE, OTHER), WROTE),
    ("no log", BOTH, HeadLog(), (FILE, OTHER), WROTE),
    ("one file is not in it", Held({b"a": noted()}), CHECKOUT, (FILE, OTHER), EDIT),
    ("committed", BOTH, COMMIT, (FILE, OTHER), EDIT),
    ("no file", BOTH, CHECKOUT, (), EDIT),
    ("not readable, and git was at work", None, CHECKOUT, (FILE, OTHER), WROTE),
    ("not readable, one file is older", None, CHECKOUT, (FILE, OTHER._replace(mtime_ns=5)), EDIT),
    ("not readable, committed", None, COMMIT, (FILE,), EDIT),
    ("not readable, committed, then a checkout", None, log((1, b"commit: x"), (9, b"checkout: x")), (FILE,), EDIT),
    ("not readable, no log", None, HeadLog(), (FILE,), EDIT),
]


@pytest.mark.parametrize(("index", "told", "files", "said"), [r[1:] for r in JUDGED], ids=[r[0] for r in JUDGED])
def test_git_wrote_all_of_it_or_it_is_an_edit(index, told, files, said):
    """Every file needs its evidence; the index alone counts where it can be read; a committed edit is an edit."""
    assert judge(index, told, files) == said


BORN = [(None, None), (-1, False), (0, None), (2 * SECOND, None), (2 * SECOND + 1, True)]


@pytest.mark.parametrize(("after", "from_file"), BORN)
def test_the_age_of_the_object_tells_who_was_first(after, from_file):
    """An older object: git wrote the file. A clearly younger one was made from it. Else, or packed: not told."""
    born = None if after is None else FILE.mtime_ns + after

    assert born_after(born, FILE.mtime_ns) is from_file


AGED = [
    ("younger", 3, CHECKOUT, EDIT),
    ("younger, and no log", 3, HeadLog(), EDIT),
    ("older", -3, CHECKOUT, WROTE),
    ("older, in the second of a commit", -3, log((0, b"commit: x"), (0, b"checkout: x")), WROTE),
    ("of the same moment, committed", 0, COMMIT, EDIT),
    ("of the same moment, an am", 0, log((0, b"am: x")), WROTE),
]


@pytest.mark.parametrize(("seconds", "told", "said"), [r[1:] for r in AGED], ids=[r[0] for r in AGED])
def test_where_the_age_of_an_object_is_known_it_counts_before_the_log(seconds, told, said):
    """Where it tells nothing, the log does; without the stat in the index nothing is git's."""
    born = {b"a": FILE.mtime_ns + seconds * SECOND}

    assert judge(BOTH, told, (FILE,), born) == said
    assert judge(Held(), told, (FILE,), born) == EDIT
