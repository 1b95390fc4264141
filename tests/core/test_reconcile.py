"""Every row of the decision table, one sentence each (docs/design.md, Deciding)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from convsync_agent.model import SECOND, SPLIT_NS, Extra, Guard, ImportPolicy, Policy, Readable, Stamp, Unit
from convsync_agent.reconcile import reconcile
from notation import ID, NOW, S, W, X, base, said, snapshots

ALL = {S: "a m", W: "a m", X: "a m"}

ROWS = [
    # what, silo, w, x, base, plan
    ("equal bytes are in step whatever their ages", "a@1 m@1", "a@9 m@9", "a@5 m@5", ALL, []),
    ("nothing anywhere is nothing to do", "", "", "", {}, []),
    ("a durable copy alone stays alone", "a@5 m@5", "", "", {}, []),
    ("a newer worktree updates the silo", "a@5 m@5", "ab@9 m@5", "", {S: "a m", W: "a m"}, ["update stream W>S"]),
    (
        "a newer worktree updates the silo, then the other projections",
        "a@5 m@5",
        "ab@9 m@5",
        "a@5 m@5",
        ALL,
        ["update stream W>S", "update stream W>X"],
    ),
    (
        "a newer silo updates every projection that exists",
        "ab@9 m@5",
        "a@5 m@5",
        "a@5 m@5",
        ALL,
        ["update stream S>W", "update stream S>X"],
    ),
    ("a tie between different bytes goes to the silo", "b@5 m@5", "a@5 m@5", "", {}, ["update stream S>W keep"]),
    (
        "stream and metadata decide apart",
        "ab@9 m@5",
        "a@5 n@9",
        "",
        {},
        ["update stream S>W", "update metadata W>S keep"],
    ),
    ("what the winner does not contain is kept first", "c@5 m@5", "a@9 m@5", "", {}, ["update stream W>S keep"]),
    ("without a base a loser is history only", "c@5 m@5", "d@9 m@5", "", {}, ["update stream W>S keep"]),
    (
        "both sides changed: newest wins, the loser is kept, a conflict is raised",
        "c@5 m@5",
        "d@9 m@5",
        "",
        {S: "a m", W: "a m"},
        ["update stream W>S keep conflict"],
    ),
    (
        "a loser that changed but is contained is no conflict",
        "ab@5 m@5",
        "abc@9 m@5",
        "",
        {S: "a m", W: "a m"},
        ["update stream W>S"],
    ),
    (
        "a metadata winner with another directory name renames the other directory after it",
        "a@5 m@5 t",
        "a@5 n@9 u",
        "",
        {S: "a m", W: "a m"},
        ["update metadata W>S keep", "rename S"],
    ),
    ("names alone may differ", "a@5 m@5 t", "a@5 m@5 u", "", {}, []),
    # -- R3
    ("a broken newest copy is held and stays", "a@5 m@5", "b@9! m@5", "", ALL, ["keep stream W", "held W"]),
    ("a broken young newest copy is deferred", "a@5 m@5", "b@9!^ m@5", "", ALL, ["defer unstable"]),
    ("a copy that is being written is deferred", "a@5 m@5", "b@9~ m@5", "", ALL, ["defer unstable"]),
    (
        "the rest reconcile among themselves",
        "a@5 m@5",
        "b@9! m@5",
        "ab@7 m@5",
        ALL,
        ["keep stream W", "update stream X>S", "held W"],
    ),
    ("a broken older copy is a loser like any other", "b@3! m@5", "a@5 m@5", "", {}, ["update stream W>S keep"]),
    (
        "broken metadata does not hold the stream",
        "a@5 m@5",
        "ab@9 n@9!",
        "",
        ALL,
        ["keep metadata W", "update stream W>S", "held W"],
    ),
    ("an unreadable worktree copy is neither source nor target", "a@5 m@5", "b@1? m@5", "", ALL, ["denied W"]),
    ("an unreadable durable copy is never replaced", "a@5? m@5", "b@9 m@5", "", {}, ["keep stream W", "denied S"]),
    ("a partial projection is neither source nor target", "a@5 m@5", "- m@9", "", ALL, ["held W"]),
    ("a partial durable copy is repaired", "- m@5", "a@9 m@5", "", {}, ["update stream W>S"]),
    ("a loser that is being written is left alone", "ab@9 m@5", "c@5~ m@5", "", ALL, ["defer unstable"]),
    # -- import
    ("what only a worktree has is imported", "", "a@5 m@5", "", {}, ["import W>S"]),
    ("an import takes the copy that contains the others", "", "ab@5 m@5", "a@9 m@5", {}, ["import W>S"]),
    ("each unit is imported from its own winner", "", "b@5 m@9", "c@9 n@5", {}, ["import W+X>S"]),
    ("a broken copy is not imported, but kept", "", "a@5! m@5", "", {}, ["keep stream W", "keep metadata W", "held W"]),
    ("a directory without all files is not imported", "", "- m@5", "", {}, ["keep metadata W", "held W"]),
    # -- partitions
    ("an archived copy is imported when missing", "", "a@5 m@5 archived", "", {}, ["import W>S"]),
    ("a newer archived copy goes to the silo", "a@5 m@5 archived", "ab@9 m@5 archived", "", {}, ["update stream W>S"]),
    ("an archived projection is never written", "ab@9 m@5 archived", "a@5 m@5 archived", "", {}, []),
    ("live here and archived there is in transition first", "a@5 m@5 archived", "a@5 m@5", "", {}, ["defer unstable"]),
    # -- two directories
    (
        "two directories for one id are held, both contents kept at once",
        "a@5 m@5",
        "a@5 m@5 t|c@9 n@9 u",
        "",
        ALL,
        ["keep stream W", "keep stream W", "keep metadata W", "keep metadata W", "held W"],
    ),
]


@pytest.mark.parametrize(("silo", "w", "x", "agreed", "plan"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_a_picture_has_one_plan(silo, w, x, agreed, plan):
    """The row's sentence."""
    shots = snapshots(silo, w, x)

    assert plan == said(reconcile(base(shots, agreed), shots, Policy()))


def test_a_newest_copy_from_the_future_that_never_changed_loses_to_an_edit():
    """Ahead of the clock and unchanged since base: the changed copy wins, the other is made older first."""
    ahead = NOW // SECOND + 400
    shots = snapshots(f"a@{ahead} m@5", "ab@9 m@5")

    assert ["update stream W>S younger", "future S"] == said(
        reconcile(base(shots, {S: "a m", W: "a m"}), shots, Policy())
    )


def test_an_edit_beside_a_future_copy_that_may_not_be_written_does_not_become_the_base():
    """Else the copy from the future, unchanged still, would take the edit back in the next cycle."""
    ahead = NOW // SECOND + 400
    shots = snapshots("ab@9 m@5", f"a@{ahead} m@5", no_refresh=(W,))
    plan = reconcile(base(shots, {S: "a m", W: "a m"}), shots, Policy())

    assert ["future W"] == said(plan)
    assert plan.again == ((ID, 400 * SECOND),)


def test_an_edit_older_than_what_both_had_last_does_not_beat_the_future():
    """Edited since means: from these very bytes. Another base is another story, and JP's rule decides."""
    ahead = NOW // SECOND + 400
    shots = snapshots(f"ab@{ahead} m@5", "c@9 m@5")

    assert ["update stream S>W keep conflict", "future S"] == said(
        reconcile(base(shots, {S: "ab m", W: "a m"}), shots, Policy())
    )


def test_an_edit_from_the_future_wins_and_is_reported():
    """2099 wins, as JP takes it, and a person hears of it."""
    ahead = NOW // SECOND + 400
    shots = snapshots("a@5 m@5", f"ab@{ahead} m@5")

    assert ["update stream W>S", "future W"] == said(reconcile(base(shots, {S: "a m", W: "a m"}), shots, Policy()))


def test_split_needs_a_person_after_half_a_minute():
    """Live in one root and archived in another: nothing is touched, and after 30 s it is said."""
    shots = snapshots("a@5 m@5 archived", "a@5 m@5")
    known = base(shots, {}, split_since={ID: NOW - SPLIT_NS})

    assert ["split W"] == said(reconcile(known, shots, Policy()))


@pytest.mark.parametrize(
    ("policy", "agreed", "plan"),
    [
        (ImportPolicy.MANUAL, {}, ["keep stream W", "keep metadata W"]),
        (ImportPolicy.ON_WRITE, {}, ["keep stream W", "keep metadata W"]),
        (ImportPolicy.ON_WRITE, {W: "a m"}, ["import W>S"]),
        (ImportPolicy.ON_WRITE, {W: "ab m"}, ["keep stream W", "keep metadata W"]),
        (ImportPolicy.AUTO, {}, ["import W>S"]),
    ],
)
def test_policies_of_import(policy, agreed, plan):
    """`manual` never, `on-write` once it changed after first sight, `auto` at once; what stays out is kept (R4)."""
    shots = snapshots("", "ab@5 m@5")

    assert plan == said(reconcile(base(shots, agreed), shots, Policy(policy, Guard.GUARDED)))


def test_no_refresh_worktrees_are_sources_and_never_targets():
    """A worktree registered with --no-refresh is read, never written."""
    shots = snapshots("ab@9 m@5", "a@5 n@9", no_refresh=(W,))

    assert ["update metadata W>S keep"] == said(reconcile(base(shots, {}), shots, Policy()))


@pytest.mark.parametrize("state", [Readable.MISSING, Readable.UNREADABLE])
def test_a_silo_that_cannot_be_read_decides_nothing(state):
    """The silo gone or unreadable: nothing is planned (R1), and it is said."""
    shots = snapshots("", "a@5 m@5")
    shots[0] = replace(shots[0], readable=state, fault="io")
    plan = reconcile(base(shots, {}), shots, Policy())

    assert plan.empty
    assert [p.root for p in plan.problems] == [S]


def test_a_missing_worktree_proves_nothing():
    """A worktree that is not there neither deletes nor projects anything (R1)."""
    shots = snapshots("ab@9 m@5", "", "a@5 m@5")
    shots[1] = replace(shots[1], readable=Readable.MISSING)

    assert ["update stream S>X"] == said(reconcile(base(shots, ALL), shots, Policy()))


def test_what_the_history_has_is_not_kept_again():
    """A held content goes into the history once."""
    shots = snapshots("a@5 m@5", "b@9! m@5")
    digest = shots[1].copies[ID][0].stream.digest
    known = base(shots, ALL, kept=frozenset({(ID, Unit.STREAM, digest)}))

    assert ["held W"] == said(reconcile(known, shots, Policy()))


def test_a_directory_that_jp_is_building_is_waited_for():
    """Incomplete and its lock held: deferred as building, never held."""
    shots = snapshots("- m@5", "")

    assert ["defer building"] == said(reconcile(base(shots, {}, busy=frozenset({ID})), shots, Policy()))


def test_a_durable_copy_that_lost_a_file_just_now_is_not_repaired():
    """It may be just being taken away, file by file: it has to rest first."""
    shots = snapshots("- m@5", "a@9 m@5")
    [copy] = shots[0].copies[ID]
    moving = replace(copy, stream=replace(copy.stream, age_ns=SECOND))
    shots[0] = replace(shots[0], copies={ID: (moving,)})

    assert ["keep stream W", "defer building"] == said(reconcile(base(shots, {}), shots, Policy()))


def test_unmanaged_files_in_one_of_two_directories_are_kept():
    """JP deletes one of the directories with all that is in it; once they are in the history, nothing is to do."""
    shots = snapshots("a@5 m@5", "a@5 m@5 t|a@5 m@5 u")
    one, two = shots[1].copies[ID]
    two = replace(two, extras=(_extra("n", 5),))
    shots[1] = replace(shots[1], copies={ID: (one, two)})
    kept = frozenset({(ID, u, one.unit(u).digest) for u in (Unit.STREAM, Unit.METADATA)})

    assert ["keep extras W", "held W"] == said(reconcile(base(shots, ALL, kept=kept), shots, Policy()))
    kept |= {(ID, Unit.EXTRAS, two.identity(Unit.EXTRAS))}
    assert ["held W"] == said(reconcile(base(shots, ALL, kept=kept), shots, Policy()))


def _extra(path: str, age: int, content: str | None = None) -> Extra:
    return Extra(path, Stamp(age * SECOND, 1, 1, 1), content.encode() if content else None)


@pytest.mark.parametrize(
    ("durable", "here", "there", "copied"),
    [
        ((), (_extra("n", 5),), (), ["W n"]),
        ((_extra("n", 5),), (_extra("n", 5),), (), []),
        ((_extra("n", 9),), (_extra("n", 5),), (), []),
        ((_extra("n", 1),), (_extra("n", 5),), (_extra("n", 7),), ["X n"]),
        ((_extra("n", 1, "same"),), (_extra("n", 5, "same"),), (), []),
        ((_extra("n", 5),), (), (), []),
    ],
    ids=["missing", "equal", "older", "newest of two", "equal bytes", "never back"],
)
def test_unmanaged_files_travel_to_the_silo_only(durable, here, there, copied):
    """Worktree to silo, newest per file, never deleted, never the other way."""
    shots = snapshots("a@5 m@5", "a@5 m@5", "a@5 m@5")
    for number, extras in enumerate((durable, here, there)):
        one = shots[number].copies[ID][0]
        shots[number] = replace(shots[number], copies={ID: (replace(one, extras=extras),)})
    plan = reconcile(base(shots, ALL), shots, Policy())
    names = {S: "S", W: "W", X: "X"}

    assert copied == [f"{names[a.source.root]} {f.path}" for a in plan.actions for f in a.files]


@pytest.mark.parametrize(
    ("silo", "w", "no_refresh", "plan"),
    [
        ("a@9 m@9", "a@5 n@5", (W,), ["held W"]),
        ("a@5 m@5", "a@5 n@9", (), ["update metadata W>S keep"]),
        ("a@9 m@9", "a@5 n@5", (), ["update metadata S>W keep"]),
        ("a@5 m@5 archived", "a@5 n@5 archived", (), ["keep metadata W"]),
    ],
    ids=["it stays", "it becomes durable", "it is replaced", "jp never looks into the archive"],
)
def test_a_copy_that_expires_alone_is_reported(silo, w, no_refresh, plan):
    """JP would delete both for it: said at once where the plan does not end it."""
    shots = snapshots(silo, w, no_refresh=no_refresh)
    known = base(shots, {}, expired=frozenset({(ID, W)}))

    found = [x for x in said(reconcile(known, shots, Policy())) if not x.startswith("keep metadata W") or plan == [x]]
    assert plan == found
