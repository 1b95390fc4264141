"""Live in one root, archived in another: who moved, and who follows (docs/design.md, Deciding)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convsync_agent.model import SPLIT_NS, Agreed, Partition, Policy, Unit
from convsync_agent.plan import Keep, Move, after
from convsync_agent.reconcile import reconcile
from notation import ID, NOW, W, base, containment, said, snapshots

LONG_SINCE = {ID: NOW - SPLIT_NS}
OTHER = {Partition.LIVE: Partition.ARCHIVED, Partition.ARCHIVED: Partition.LIVE}
LIVE, ARCHIVED = "a@5 m@5", "a@5 m@5 archived"


def recorded(copy, how):
    """What the record has of a copy: `moved` it was in the other partition, `stays` here; None: never settled.

    `anew`: in the other partition, and another directory. `reused`: the inode was given out again, the files are
    others. `rewritten`: JP wrote the metadata before it moved the directory.
    """
    files = [*copy.stream.files, *copy.metadata.files]
    stamps = tuple(f.stamp for f in files)
    agreed = Agreed(copy.stream.digest, copy.metadata.digest, copy.partition, copy.inode, stamps)
    if how in {"moved", "anew", "reused", "rewritten"}:
        agreed = agreed._replace(partition=OTHER[copy.partition])
    if how == "anew":
        agreed = agreed._replace(inode=copy.inode + 1)
    if how == "reused":
        agreed = agreed._replace(stamps=tuple(s and s._replace(ctime_ns=s.ctime_ns - 1) for s in stamps))
    if how == "rewritten":
        agreed = agreed._replace(stamps=(*stamps[:2], stamps[2]._replace(inode=1, mtime_ns=1)))
    return agreed


def known(shots, hows, since=LONG_SINCE):
    copies = [c for s in shots for c in s.copies.get(ID, ())]
    agreed = {(ID, c.root): recorded(c, how) for c, how in zip(copies, hows, strict=True) if how}
    return replace(base(shots), agreed=agreed, split_since=since)


KEEPS = [f"keep {u} {w}" for u in ("stream", "metadata") for w in "WX"]

ROWS = [
    # what, silo, w, x, how each is recorded, plan
    (
        "JP archived in one worktree: the other follows",
        ARCHIVED,
        ARCHIVED,
        LIVE,
        ("moved", "moved", "stays"),
        ["archive X"],
    ),
    (
        "JP unarchived in one worktree: the other follows",
        LIVE,
        LIVE,
        ARCHIVED,
        ("moved", "moved", "stays"),
        ["unarchive X"],
    ),
    (
        "JP died between its two renames: silo, then the others",
        LIVE,
        ARCHIVED,
        LIVE,
        ("stays", "moved", "stays"),
        ["archive S", "archive X"],
    ),
    ("only the silo was moved", ARCHIVED, LIVE, LIVE, ("moved", "stays", "stays"), ["archive W", "archive X"]),
    ("moved back by hand", ARCHIVED, LIVE, ARCHIVED, ("stays", "moved", "stays"), ["unarchive S", "unarchive X"]),
    ("the metadata was written before the rename", LIVE, ARCHIVED, "", ("stays", "rewritten"), ["archive S"]),
    ("content waits until all lie together", "ab@9 m@5 archived", LIVE, "", ("moved", "stays"), ["archive W"]),
    ("git wrote a new directory", LIVE, ARCHIVED, "", ("stays", "anew"), ["split W"]),
    ("git wrote a new directory and got the old inode", LIVE, ARCHIVED, "", ("stays", "reused"), ["split W"]),
    (
        "a person moved one where git had put another",
        ARCHIVED,
        ARCHIVED,
        LIVE,
        ("moved", "anew", "stays"),
        ["archive X"],
    ),
    ("git put one where nobody moved any", ARCHIVED, LIVE, LIVE, ("moved", "anew", "stays"), ["split W", "split X"]),
    ("one was archived, the other unarchived", ARCHIVED, LIVE, "", ("moved", "moved"), ["split W"]),
    ("one that nobody knows agrees", ARCHIVED, ARCHIVED, LIVE, ("moved", None, "stays"), ["archive X"]),
    ("nothing is known of one of them", ARCHIVED, LIVE, ARCHIVED, ("moved", None, "moved"), ["split W"]),
    ("nothing is known at all: the state was lost", ARCHIVED, LIVE, "", (None, None), ["split W"]),
    ("it was away while the others moved", ARCHIVED, LIVE, "", ("stays", "stays"), ["archive W"]),
    ("two were away", LIVE, ARCHIVED, ARCHIVED, ("stays", "stays", "stays"), ["unarchive W", "unarchive X"]),
    (
        "git put one there while another was away",
        ARCHIVED,
        LIVE,
        LIVE,
        ("stays", "stays", None),
        ["split W", "split X"],
    ),
    ("being built or taken away", ARCHIVED, "a@5 -", "", ("moved", "stays"), ["split W"]),
    ("no durable copy to follow", "", ARCHIVED, LIVE, ("moved", "stays"), [*KEEPS, "split X"]),
    (
        "what the silo has not is kept meanwhile",
        LIVE,
        "b@9 m@5 archived",
        "",
        ("stays", "anew"),
        ["keep stream W", "split W"],
    ),
]


@pytest.mark.parametrize(("silo", "w", "x", "hows", "plan"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_who_moved_is_followed(silo, w, x, hows, plan):
    """The row's sentence."""
    shots = snapshots(silo, w, x)

    assert plan == said(reconcile(known(shots, hows), shots, Policy()))


def test_for_half_a_minute_it_is_jp_at_work():
    """Even where the record says who moved."""
    shots = snapshots(ARCHIVED, LIVE)

    assert ["defer unstable"] == said(
        reconcile(known(shots, ("moved", "stays"), {ID: NOW - SPLIT_NS + 1}), shots, Policy())
    )


def test_a_no_refresh_worktree_is_followed_and_does_not_follow():
    """It is a source and never a target: it stays split, and a person hears of it."""
    shots = snapshots(LIVE, ARCHIVED, "", no_refresh=(W,))
    assert ["archive S"] == said(reconcile(known(shots, ("stays", "moved")), shots, Policy()))

    shots = snapshots(ARCHIVED, LIVE, ARCHIVED, no_refresh=(W,))
    assert ["split W"] == said(reconcile(known(shots, ("moved", "stays", "moved")), shots, Policy()))


# -- laws -----------------------------------------------------------------------

ages = st.integers(1, 6)
a_copy = st.builds(
    lambda content, m, one, two, archived: f"{content}@{one} {m}@{two}" + (" archived" if archived else ""),
    st.sampled_from(["a", "ab", "b"]), st.sampled_from("mn"), ages, ages, st.booleans(),
)  # fmt: skip
HOW = st.sampled_from(["moved", "moved", "stays", "stays", "stays", "anew", "reused", "rewritten", None])


@given(st.tuples(a_copy, a_copy, a_copy), st.tuples(HOW, HOW, HOW))
@settings(max_examples=400, deadline=None)
def test_law_a_split_moves_or_stays_and_loses_nothing(picture, hows):
    """Moves change partitions alone, end the split, and are the same in any order of roots; else nothing changes."""
    shots = snapshots(*picture)
    facts = known(shots, hows)
    copies = [c for s in shots for c in s.copies[ID]]
    if len({c.partition for c in copies}) < 2:
        return
    plan = reconcile(facts, shots, Policy())
    moves = [a for a in plan.actions if isinstance(a, Move)]

    assert plan == reconcile(facts, shots[::-1], Policy())
    assert all(isinstance(a, Move | Keep) for a in plan.actions)
    assert bool(moves) is not bool(plan.problems)
    end = [c for s in after(shots, plan) for c in s.copies[ID]]
    assert [c.inode for c in copies] == [c.inode for c in end]
    assert [c.stream for c in copies] == [c.stream for c in end]
    if moves:
        assert len({c.partition for c in end}) == 1
        assert not any(a.target.partition is a.partition for a in moves)
    kept = {(a.unit, a.source.unit(a.unit).digest) for a in plan.actions if isinstance(a, Keep)}
    durable = copies[0]
    contains = containment(shots)
    for copy in copies[1:]:
        for unit in (Unit.STREAM, Unit.METADATA):
            mine, theirs = copy.unit(unit).digest, durable.unit(unit).digest
            assert mine == theirs or (unit, mine, theirs) in contains or (unit, mine) in kept
