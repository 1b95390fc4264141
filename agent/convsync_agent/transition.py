"""Live in one root, archived in another: who moved there, and who follows. Pure.

JP's own archive and unarchive rename a directory in each of two roots (contract 10.5), so they look like this
for moments; where other worktrees hold the conversation, or JP died in between, it stays so. A rename of the
very directory that the record had in the other partition is a person's word, and the other roots follow. A new
directory was written by git or copied, which is nobody's word: a person decides. A worktree that was away while the
others moved finds itself where it was, untouched: it follows the silo.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from convsync_agent.model import SPLIT_NS, Base, Copy, Partition, Root
from convsync_agent.plan import Deferred, Draft, Move, Problem


def plan_split(base: Base, copies: Sequence[Copy], read_only: Container[Root], now: int, draft: Draft) -> bool:
    """Wait, follow or report; False where all copies lie in one partition. `copies`: silo first."""
    if len({c.partition for c in copies}) < 2:
        return False
    first = copies[0]
    waited = now - base.split_since.get(first.conversation, now)
    if waited < SPLIT_NS:
        draft.deferred.append(Deferred(first.conversation, "unstable", None, SPLIT_NS - waited))
        return True
    there = whither(base, copies)
    for copy in copies:
        if there is not None and copy.partition is not there and copy.root not in read_only:
            draft.actions.append(Move(copy.conversation, copy, there))
        elif copy.partition is not (there or first.partition):
            detail = f"{there or first.partition} in the {first.root.kind}, {copy.partition} here"
            draft.problems.append(Problem("split", copy.conversation, copy.root, detail))
    return True


def whither(base: Base, copies: Sequence[Copy]) -> Partition | None:
    """The partition that all copies belong in, or None: nobody can tell, or there is no durable copy to follow.

    Somebody moved there, and whoever is not there has stayed where the record has it. Copies that git wrote
    there agree with the one that moved; against it they are another word, and so are copies nobody knows.
    """
    if not copies[0].root.is_silo or not all(c.whole for c in copies):
        return None
    ends = {c.partition for c in copies if recorded_in(base, c) not in (None, c.partition) and same_directory(base, c)}
    if not ends and all(recorded_in(base, c) is c.partition and same_directory(base, c) for c in copies):
        # Records are made together, of copies that lie together. These were not: whoever is not with the silo was
        # not there when it moved.
        return copies[0].partition
    if len(ends) != 1:
        return None
    there = ends.pop()
    return there if all(c.partition in (there, recorded_in(base, c)) for c in copies) else None


def recorded_in(base: Base, copy: Copy) -> Partition | None:
    known = base.agreed.get((copy.conversation, copy.root))
    return known.partition if known else None


def same_directory(base: Base, copy: Copy) -> bool:
    """The directory is the one of the record, renamed: its inode, and a file in it with every stamp it had.

    The inode alone proves little: git removes one directory and makes another, and file systems give free
    inodes out again. A rename of the directory changes no stamp of a file in it.
    """
    known = base.agreed[copy.conversation, copy.root]
    seen = {f.stamp for f in (*copy.stream.files, *copy.metadata.files) if f.stamp}
    return known.inode == copy.inode and not seen.isdisjoint(known.stamps)
