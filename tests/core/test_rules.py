"""Retention: tables, then laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync_agent.model import Unit
from convsync_agent.rules import DAY_MS, Version, to_remove

NOW = 1_000 * DAY_MS
LOOSE = {"keep_days": 90, "keep_versions": 50, "max_bytes": 2 << 30}


def version(day, *, conversation="otvo8/jp-c1", unit=Unit.STREAM, size=10, protected=False):
    """A version kept `day` days ago."""
    at_ms = NOW - int(day * DAY_MS)
    return Version(conversation, unit, f"{at_ms}-{unit}-00000000", at_ms, size, protected)


def days(removed):
    return [(NOW - v.at_ms) / DAY_MS for v in removed]


@pytest.mark.parametrize(
    ("ages", "limits", "gone"),
    [
        ([], {}, []),
        ([5], {}, []),
        ([5], {"keep_days": 0, "keep_versions": 0, "max_bytes": 0}, []),
        ([1, 89, 90], {}, []),
        ([1, 90, 90.5, 400], {}, [400, 90.5]),
        ([400, 500], {}, [500]),
        ([1, 2, 3, 4], {"keep_versions": 2}, [4, 3]),
        ([1, 2, 3], {"keep_versions": 0}, [3, 2]),
        ([1, 2, 3], {"keep_days": 0}, [3, 2]),
        ([-5, 0, 1], {"keep_days": 0}, [1]),
        ([1, 2, 3, 4], {"max_bytes": 25}, [4, 3]),
        ([1, 2, 3, 4], {"max_bytes": 30}, [4]),
        ([1, 2, 3], {"max_bytes": 0}, [3, 2]),
        ([1, 2, 100], {"max_bytes": 20}, [100]),
    ],
)
def test_one_unit(ages, limits, gone):
    """Too old or too many goes, then the oldest until the rest fits; the newest stays whatever the limits are."""
    assert days(to_remove([version(a) for a in ages], NOW, **(LOOSE | limits))) == gone


def test_each_unit_of_each_conversation_counts_alone():
    """The number to keep and the newest are per conversation and unit, never shared."""
    kept = [
        version(d, conversation=c, unit=u) for d in (1, 2) for c in ("a", "b") for u in (Unit.STREAM, Unit.METADATA)
    ]
    removed = to_remove(kept, NOW, **(LOOSE | {"keep_versions": 1}))
    assert days(removed) == [2, 2, 2, 2]
    assert {(v.conversation, v.unit) for v in removed} == {(v.conversation, v.unit) for v in kept}


def test_a_protected_version_stays_and_still_counts():
    """An open attention entry outlives every limit; the versions beside it are judged as before."""
    kept = [version(1), version(2, protected=True), version(3), version(400, protected=True), version(401)]
    assert days(to_remove(kept, NOW, **(LOOSE | {"keep_versions": 2}))) == [401, 3]
    assert days(to_remove(kept, NOW, keep_days=0, keep_versions=0, max_bytes=0)) == [401, 3]


def test_the_size_is_counted_over_everything():
    """Where all is too large the oldest of any conversation goes first."""
    kept = [version(d, conversation=c) for c, d in (("a", 1), ("a", 5), ("b", 2), ("b", 4), ("b", 6))]
    removed = to_remove(kept, NOW, **(LOOSE | {"max_bytes": 30}))
    assert [v.conversation for v in removed] == ["b", "a"]
    assert days(removed) == [6, 5]


versions = st.lists(
    st.builds(
        lambda c, u, day, size, protected, n: version(
            day, conversation=c, unit=u, size=size, protected=protected
        )._replace(version=f"v{n}"),
        st.sampled_from("abc"),
        st.sampled_from([Unit.STREAM, Unit.METADATA, Unit.EXTRAS]),
        st.integers(-2, 12),
        st.integers(0, 50),
        st.booleans(),
        st.integers(0, 10_000),
    ),
    max_size=30,
    unique_by=lambda v: v[:3],
)
limits = st.fixed_dictionaries(
    {"keep_days": st.integers(0, 12), "keep_versions": st.integers(0, 6), "max_bytes": st.integers(0, 600)}
)


def untouchable(kept):
    newest = {}
    for v in sorted(kept, key=lambda v: (v.at_ms, v.version)):
        newest[v.conversation, v.unit] = v
    return set(newest.values()) | {v for v in kept if v.protected}


@given(versions, limits)
def test_law_newest_and_protected_stay(kept, limits):
    """Only given versions go, each once; never the newest of a unit, never a protected one."""
    removed = to_remove(kept, NOW, **limits)
    assert len(set(removed)) == len(removed)
    assert set(removed) <= set(kept) - untouchable(kept)


@given(versions, limits)
def test_law_what_stays_is_within_the_limits(kept, limits):
    """What stays and may go is young enough and few enough, and fits or there is nothing left to take."""
    rest = set(kept) - set(to_remove(kept, NOW, **limits))
    loose = rest - untouchable(kept)
    assert all(NOW - v.at_ms <= limits["keep_days"] * DAY_MS for v in loose)
    for v in loose:
        same = [o for o in kept if (o.conversation, o.unit) == (v.conversation, v.unit)]
        assert sum((o.at_ms, o.version) > (v.at_ms, v.version) for o in same) < limits["keep_versions"]
    assert not loose or sum(v.size for v in rest) <= limits["max_bytes"]


@given(versions, limits)
def test_law_nothing_goes_without_a_reason(kept, limits):
    """Size takes only what age and number left, oldest first, and not one more than needed."""
    removed = to_remove(kept, NOW, **limits)
    by_limit = set(to_remove(kept, NOW, **(limits | {"max_bytes": 1 << 40})))
    by_size = [v for v in removed if v not in by_limit]
    assert by_limit <= set(removed)
    if by_size:
        rest = set(kept) - set(removed)
        assert sum(v.size for v in rest) + by_size[-1].size > limits["max_bytes"]
        assert all(v.at_ms >= by_size[-1].at_ms for v in rest - untouchable(kept))


@given(versions, limits, st.randoms(use_true_random=False))
def test_law_order_of_the_input_does_not_matter(kept, limits, random):
    """The same versions in any order give the same answer in the same order."""
    mixed = list(kept)
    random.shuffle(mixed)
    assert to_remove(mixed, NOW, **limits) == to_remove(kept, NOW, **limits)


@given(versions, limits)
def test_law_a_second_run_removes_nothing(kept, limits):
    """Removal is finished in one go."""
    removed = set(to_remove(kept, NOW, **limits))
    assert to_remove([v for v in kept if v not in removed], NOW, **limits) == ()


@given(versions, limits, st.integers(0, 20))
def test_law_time_only_adds(kept, limits, later):
    """What goes today goes tomorrow too."""
    assert set(to_remove(kept, NOW, **limits)) <= set(to_remove(kept, NOW + later * DAY_MS, **limits))
