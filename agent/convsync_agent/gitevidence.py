"""Did git write these files? Judged from its index and its HEAD log (design 3, "Stale"); pure.

Git notes in the index the stat of every file that it wrote, and of every file that it was given by
`git add` or `git commit`. So an entry with exactly a file's stat proves that git has seen this file as
it is, not who wrote it. What was given by a commit is recognised by the HEAD log, in whole seconds: an edit
that was added and not yet committed looks like git's own work, and what git writes within 2 s of a commit
like an edit. `born_after` knows better; it is not asked by default.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice
from typing import NamedTuple

from convsync_agent.gitindex import Entry, Index
from convsync_agent.model import MS, SECOND, Evidence, Verdict

LOCK_OLD_NS = 300 * SECOND  # an index.lock older than this was left behind
AFTER_LOCK_NS = 2 * SECOND  # the HEAD log of an action may follow its index.lock by this much
COMMIT_BEFORE_NS = 2 * SECOND
LOG_BEFORE_NS, LOG_AFTER_NS = 3 * SECOND, 30 * SECOND
BORN_NS = 2 * SECOND
LOOK_AGAIN_NS = 250 * MS

_COMMITS = frozenset({b"commit", b"commit (amend)", b"commit (initial)"})
_LOG_LINE = re.compile(rb"^[^\t\n]*> (\d{1,12}) [+-]\d{4}(?:\t([^:\n]*).*)?$", re.MULTILINE)
_WRAP = 2**32

WROTE, EDIT = Evidence(Verdict.WROTE), Evidence(Verdict.EDIT)
OLD_LOCK = Evidence(Verdict.WROTE, old_lock=True)


class Seen(NamedTuple):
    """One file of a unit that differs from the durable one. `path` is relative to the top of the worktree."""

    path: bytes
    mtime_ns: int
    size: int
    inode: int


class Logged(NamedTuple):
    """One entry of the HEAD log, in whole seconds as git writes them. `commit`: one of the three that commit."""

    at_s: int
    commit: bool


class HeadLog:
    """The entries of a HEAD log, in their order. Their times may go back: clocks are set, dates are given."""

    __slots__ = ("_entries", "_highest")

    def __init__(self, entries: Iterable[Logged] = ()) -> None:
        self._entries = tuple(entries)
        self._highest = list(accumulate((e.at_s for e in self._entries), max))

    def __len__(self) -> int:
        return len(self._entries)

    def since(self, at_ns: int) -> Iterator[Logged]:
        """From the first entry on that is not before this time."""
        return islice(self._entries, bisect_left(self._highest, -(-at_ns // SECOND)), None)


def parse_log(raw: bytes) -> HeadLog:
    """The log in these bytes. A line that is no entry, a first one cut off say, is passed over.

    `git worktree add PATH COMMIT` writes an entry without a tab or text: an entry like any other.
    """
    return HeadLog(Logged(int(m[1]), m[2] in _COMMITS) for m in _LOG_LINE.finditer(raw))


def held(entry: Entry | None, file: Seen) -> bool:
    """The index entry has exactly this file's stat: mtime, size and inode, modulo 2**32 as git keeps them.

    A field that is 0 was not noted and is not compared; but without seconds nothing was noted at all
    (`git reset`, `git stash pop`: git knows a content and has not looked at the file), and that is no proof.
    """
    if entry is None or not entry.mtime_s:
        return False
    seconds, ns = divmod(file.mtime_ns, SECOND)
    pairs = (entry.mtime_s, seconds), (entry.mtime_ns, ns), (entry.size, file.size), (entry.inode, file.inode)
    return all(noted in {0, real % _WRAP} for noted, real in pairs)


def committed(log: HeadLog, mtime_ns: int) -> bool:
    """The first entry from 2 s before the mtime on is a commit: an edit was committed as it was."""
    first = next(log.since(mtime_ns - COMMIT_BEFORE_NS), None)
    return first is not None and first.commit


def moved(log: HeadLog, mtime_ns: int) -> bool:
    """Git did something other than a commit between 3 s before and 30 s after the mtime."""
    begin, end = mtime_ns - LOG_BEFORE_NS, mtime_ns + LOG_AFTER_NS
    return any(begin <= e.at_s * SECOND <= end and not e.commit for e in log.since(begin))


def born_after(born_ns: int | None, mtime_ns: int) -> bool | None:
    """Was the loose object of the content made from the file? None: that cannot be told.

    Git writes files from objects that exist. `git add` and `git commit -a` make the object from the file, or
    give a new time to one that exists. So an older object shows that git wrote the file, whatever was committed
    just before; one that is younger shows an edit, wherever the HEAD log was when it was committed. Between the
    two lies a margin: `git am` and `git rebase --apply` make each object a moment after its file.
    `born_ns` None: packed or not known.
    """
    if born_ns is None or 0 <= born_ns - mtime_ns <= BORN_NS:
        return None
    return born_ns > mtime_ns


def judge(
    index: Index | None, log: HeadLog, files: Sequence[Seen], born: Mapping[bytes, int] | None = None
) -> Evidence:
    """WROTE if git wrote every one of the files, else EDIT.

    `index` None: it cannot be read, and the HEAD log alone is the evidence. An empty log (off, or no
    repository) excepts nothing and proves nothing. `born`: times of loose objects by path, for `born_after`.
    """
    return WROTE if files and all(_wrote(index, log, f, (born or {}).get(f.path)) for f in files) else EDIT


def _wrote(index: Index | None, log: HeadLog, file: Seen, born_ns: int | None) -> bool:
    if index is None:
        return moved(log, file.mtime_ns) and not committed(log, file.mtime_ns)
    from_file = born_after(born_ns, file.mtime_ns)
    if from_file is None:
        from_file = committed(log, file.mtime_ns)
    return not from_file and held(index.entry(file.path), file)
