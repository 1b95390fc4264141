"""What a worktree held, and whether it may be put back: every row, then the laws (docs/design.md, 7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync_agent.homecoming import (
    NO_GIT,
    RECENT_NS,
    Reason,
    Sight,
    Sorted,
    held_by,
    judge,
    made_anew,
    sort_out,
)

WENT = 10**18
B, OTHER = "ref: refs/heads/b", "ref: refs/heads/other"


@pytest.mark.parametrize(
    ("missed", "unprojected", "held"),
    [
        ({}, (), {1, 2, 3}),
        ({1: WENT}, (), {1, 2, 3}),
        ({1: WENT - RECENT_NS}, (), {1, 2, 3}),
        ({1: WENT - RECENT_NS - 1}, (), {2, 3}),
        ({1: WENT + 5}, (), {1, 2, 3}),
        ({9: 0}, (), {1, 2, 3}),
        ({}, (2,), {1, 3}),
        ({2: WENT}, (2,), {1, 3}),
        ({1: 0, 2: 0, 3: 0}, (), set()),
    ],
)
def test_what_was_seen_in_the_last_minute_went_along(missed, unprojected, held):
    """A removal takes its time: conversation by conversation, the id last. What went long before was not held."""
    assert held_by({1, 2, 3}, missed, WENT, unprojected) == held


@pytest.mark.parametrize(
    ("now", "anew"),
    [
        (Sight(5, 7), False),
        (Sight(6, 7), True),  # a restored backup keeps the time
        (Sight(5, 8), True),  # a number that was free is used again
    ],
)
def test_another_directory_at_the_same_path_is_another_worktree(now, anew):
    """Either half tells."""
    assert made_anew(Sight(5, 7), now) is anew


SORTING = [
    # held, here, durable, head, found, due, elsewhere, waiting
    ({1: B}, set(), {1}, B, set(), {1}, set(), set()),
    ({1: B}, {1}, {1}, B, {1}, set(), set(), set()),
    ({1: B}, set(), set(), B, set(), set(), set(), {1}),
    ({1: B}, set(), {1}, OTHER, set(), set(), {1}, set()),
    ({1: B}, set(), {1}, None, set(), set(), {1}, set()),
    ({1: B}, set(), {1}, NO_GIT, set(), set(), {1}, set()),
    ({1: NO_GIT}, set(), {1}, NO_GIT, set(), {1}, set(), set()),
    ({1: NO_GIT}, set(), {1}, B, set(), set(), {1}, set()),
    ({1: None}, set(), {1}, None, set(), set(), {1}, set()),
    ({1: B, 2: OTHER, 3: B}, {3}, {1, 2, 3, 4}, B, {3}, {1}, {2}, set()),
    ({}, {1}, {1, 2}, B, set(), set(), set(), set()),
]


@pytest.mark.parametrize(("held", "here", "durable", "head", "found", "due", "elsewhere", "waiting"), SORTING)
def test_only_what_was_held_on_this_branch_is_due(held, here, durable, head, found, due, elsewhere, waiting):
    """A HEAD that is not known is never the same; only what is absent here and durable can be put back."""
    assert sort_out(held, here, durable, head) == Sorted(*map(frozenset, (found, due, elsewhere, waiting)))


DUE, BRANCH, NOTHING = (
    Sorted(*map(frozenset, sets)) for sets in (((), {1}, (), ()), ((), (), {1}, ()), ((), (), (), ()))
)
JUDGED = [
    ("auto", DUE, True, True, Reason.NOW),
    ("auto", DUE, True, False, Reason.SETTLING),
    ("auto", BRANCH, True, True, Reason.BRANCH),
    ("auto", NOTHING, True, True, Reason.BRANCH),
    ("ask", DUE, True, True, Reason.ASK),
    ("ask", BRANCH, True, True, Reason.ASK),
    ("never", DUE, True, True, Reason.NEVER),
    ("auto", DUE, False, True, Reason.NO_REFRESH),
    ("never", DUE, False, True, Reason.NO_REFRESH),
]


@pytest.mark.parametrize(("setting", "known", "refresh", "rests", "reason"), JUDGED)
def test_when_it_is_put_back(setting, known, refresh, rests, reason):
    """Only by the setting `auto`, on its branch, at rest, where we may write at all."""
    assert judge(setting, known, refresh=refresh, rests=rests) is reason


heads = st.sampled_from([B, OTHER, NO_GIT, None])
ids = st.sets(st.integers(1, 6))


@given(st.dictionaries(st.integers(1, 6), heads), ids, ids, heads)
def test_every_held_one_is_in_one_place(held, here, durable, head):
    """R1: nothing is due that was not held, is there, or is not durable; nothing held is forgotten silently."""
    parts = sort_out(held, here, durable, head)
    assert sorted(c for part in parts for c in part) == sorted(held)
    assert not parts.restorable & here
    assert parts.restorable <= durable
    assert all(held[c] == head for c in parts.due)
