"""What a disappearance means: every row by name, then the laws (docs/design.md, Deciding)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync_agent.model import SECOND, Unit
from convsync_agent.safety import (
    BRAKE_NS,
    CERTAIN_NS,
    TOGETHER_NS,
    Fate,
    Projection,
    Tombstone,
    Trace,
    Vanished,
    judge,
    lifts,
)
from notation import NOW, W, X

HOLDS, NEVER, UNKNOWN = (Projection(W, t) for t in (Trace.HOLDS, Trace.NEVER, Trace.UNKNOWN))


def going(trace, after=0, root=W):
    return Projection(root, trace, NOW + after)


def vanished(conversation=1, *projections, missed=NOW, seen=None, looked=CERTAIN_NS, **facts):
    """Certain unless told otherwise; last seen 1 ms before it was missed."""
    seen = missed - SECOND // 1000 if seen is None else seen
    return Vanished(conversation, seen, missed, missed + looked, projections, **facts)


GONE = going(Trace.VANISHED)

ROWS = [
    # what, projections, facts, fate, why, again
    ("our own command is a removal", [HOLDS], {"commanded": True}, Fate.REMOVED, "by command"),
    ("our own command needs no second listing", [], {"commanded": True, "looked": 0}, Fate.REMOVED, "by command"),
    ("one listing proves nothing", [GONE], {"looked": 0}, Fate.WAIT, "missed by one listing"),
    ("not even under the lock", [], {"looked": CERTAIN_NS - 1, "locked": True}, Fate.WAIT, "missed by one listing"),
    ("JP removed it under its lock", [HOLDS], {"locked": True}, Fate.REMOVED, "under its lock"),
    ("a projection went with it", [GONE, Projection(X, Trace.HOLDS)], {}, Fate.REMOVED, "with its projection"),
    ("JP removes the projection first", [going(Trace.VANISHED, -TOGETHER_NS)], {}, Fate.REMOVED, "with its projection"),
    (
        "a projection that went long before is another matter",
        [going(Trace.VANISHED, -TOGETHER_NS - 1), Projection(X, Trace.HOLDS)],
        {},
        Fate.LOST,
        "other copies remain",
    ),
    (
        "a projection that went long after is another matter",
        [going(Trace.VANISHED, TOGETHER_NS + 1), Projection(X, Trace.HOLDS)],
        {},
        Fate.LOST,
        "other copies remain",
    ),
    (
        "a projection that may be going is waited for",
        [going(Trace.MISSING)],
        {},
        Fate.WAIT,
        "its projection may be going",
    ),
    (
        "the lock says enough while a projection may be going",
        [going(Trace.MISSING)],
        {"locked": True},
        Fate.REMOVED,
        "under its lock",
    ),
    ("nobody holds another copy", [NEVER], {}, Fate.REMOVED, "no other copy"),
    ("a local conversation has no other copy", [], {}, Fate.REMOVED, "no other copy"),
    ("a worktree that cannot be read holds none that counts", [UNKNOWN], {}, Fate.REMOVED, "no other copy"),
    (
        "a worktree that is gone shows no vanished projection",
        [UNKNOWN, Projection(X, Trace.HOLDS)],
        {},
        Fate.LOST,
        "other copies remain",
    ),
    ("another copy remains and nobody meant it", [HOLDS], {}, Fate.LOST, "other copies remain"),
    ("JP's sanitizer moved it away", [], {"trashed": True}, Fate.LOST, "moved to JP's trash"),
    ("JP's sanitizer moved both away", [GONE], {"trashed": True}, Fate.LOST, "moved to JP's trash"),
    ("a stale copy expired and JP deleted both", [GONE], {"expired": True}, Fate.LOST, "expired elsewhere"),
    ("its own time was up, and JP takes no lock", [HOLDS], {"due": True}, Fate.REMOVED, "expired"),
    (
        "its own time was up, and the sanitizer was first",
        [HOLDS],
        {"due": True, "trashed": True},
        Fate.LOST,
        "moved to JP's trash",
    ),
    (
        "our own command may remove what expired",
        [GONE],
        {"expired": True, "commanded": True},
        Fate.REMOVED,
        "by command",
    ),
]


@pytest.mark.parametrize(("projections", "facts", "fate", "why"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_one_disappearance(projections, facts, fate, why):
    """The first row that applies, for a conversation that went alone."""
    [verdict] = judge([vanished(1, *projections, **facts)], 10)
    assert (verdict.fate, verdict.why) == (fate, why)
    assert (verdict.again_ns > 0) is (fate is Fate.WAIT)
    assert verdict.leftovers == tuple(p.root for p in projections if p.trace is Trace.HOLDS)


def test_the_second_listing_is_asked_for_when_it_can_prove_something():
    """What is missing to the two seconds; at least a moment where the projection's listing is due."""
    again = [judge([vanished(looked=at)], 9)[0].again_ns for at in (0, CERTAIN_NS - 5)]
    assert again == [CERTAIN_NS, 5]
    late = [judge([vanished(1, going(Trace.MISSING, at))], 9)[0].again_ns for at in (-SECOND, 0, SECOND)]
    assert late == [1, 1, SECOND]


# -- the brake ------------------------------------------------------------------------


def crowd(count, *projections, apart=0, **facts):
    return [vanished(n, *projections, missed=NOW + n * apart, **facts) for n in range(count)]


BRAKES = [
    # what, vanished, durable, how many are braked
    ("five of ten at once", crowd(5, HOLDS), 10, 5),
    ("five of eleven are less than half", crowd(5, HOLDS), 11, 0),
    ("four are few, even if they are all", crowd(4, HOLDS), 4, 0),
    ("all of a thousand", crowd(1000), 1000, 1000),
    ("without any other copy too", crowd(6), 6, 6),
    ("one by one within ten seconds", crowd(5, HOLDS, apart=BRAKE_NS // 4), 5, 5),
    ("one by one, slower", crowd(5, HOLDS, apart=BRAKE_NS // 4 + SECOND), 5, 0),
    ("under JP's lock", crowd(8, HOLDS, locked=True), 8, 0),
    ("what was to go by then", crowd(8, HOLDS, due=True), 8, 0),
    ("by our command", crowd(8, HOLDS, commanded=True), 8, 0),
    ("those under the lock do not count", [*crowd(4), *(vanished(9 + n, locked=True) for n in range(4))], 8, 0),
    ("those the sanitizer took count", [*crowd(4), *(vanished(9 + n, trashed=True) for n in range(4))], 8, 8),
    ("with their projections they stay removed", crowd(8, GONE), 8, 0),
    (
        "those with projections count, and stay removed",
        [*crowd(4), *(vanished(9 + n, GONE) for n in range(4))],
        8,
        4,
    ),
    ("a straggler is judged by itself", [*crowd(5), vanished(9, missed=NOW + BRAKE_NS + SECOND)], 10, 5),
    (
        "nobody looked for a minute, so it may have been at once",
        [vanished(n, missed=NOW + n * 30 * SECOND, seen=NOW - 60 * SECOND) for n in range(5)],
        5,
        5,
    ),
    ("not yet certain counts for the others", [*crowd(4), *(vanished(9 + n, looked=0) for n in range(4))], 8, 4),
]


@pytest.mark.parametrize(("gone", "durable", "braked"), [r[1:] for r in BRAKES], ids=[r[0] for r in BRAKES])
def test_many_at_once(gone, durable, braked):
    """At least five and at least half within ten seconds is no person's choice, unless lock or command say so."""
    assert sum(v.fate is Fate.BRAKED for v in judge(gone, durable)) == braked


def test_a_later_brake_overrules_an_early_removal():
    """The first of a crowd is judged alone; given again with the rest, it is braked as they are."""
    first, *rest = crowd(5, apart=2 * SECOND)
    assert judge([first], 5)[0].fate is Fate.REMOVED
    assert {v.fate for v in judge([first, *rest], 5)} == {Fate.BRAKED}


# -- laws -----------------------------------------------------------------------------

moments = st.integers(-90, 90).map(lambda s: NOW + s * SECOND)
projections = st.lists(st.builds(Projection, st.sampled_from([W, X]), st.sampled_from(Trace), moments), max_size=2)
one = st.builds(
    lambda c, missed, before, looked, ps, *facts: Vanished(
        c, missed - before, missed, missed + looked, tuple(ps), *facts
    ),
    st.integers(1, 40),
    moments,
    st.integers(0, 60 * SECOND),
    st.integers(0, 2 * CERTAIN_NS),
    projections,
    *[st.booleans()] * 4,
)
several = st.lists(one, max_size=14, unique_by=lambda v: v.conversation)
totals = st.integers(0, 30)


@given(several, totals)
def test_law_one_verdict_each(gone, durable):
    """Every conversation is judged once, in order, and who waits is told how long."""
    verdicts = judge(gone, durable)
    assert [v.conversation for v in verdicts] == sorted(v.conversation for v in gone)
    assert all((v.again_ns > 0) is (v.fate is Fate.WAIT) for v in verdicts)


@given(several, totals)
def test_law_absence_alone_removes_nothing(gone, durable):
    """Held by a readable worktree, with neither lock nor vanished projection nor command: never a removal (R1)."""
    fates = {v.conversation: v.fate for v in judge(gone, durable)}
    for v in gone:
        traces = {p.trace for p in v.projections}
        if Trace.HOLDS in traces and not (v.locked or v.commanded or Trace.VANISHED in traces):
            assert fates[v.conversation] is not Fate.REMOVED


@given(several, totals)
def test_law_nothing_is_certain_before_the_second_listing(gone, durable):
    """Less than two seconds apart, only our own command speaks."""
    fates = {v.conversation: v.fate for v in judge(gone, durable)}
    for v in gone:
        if v.looked_ns - v.missed_ns < CERTAIN_NS:
            assert fates[v.conversation] is (Fate.REMOVED if v.commanded else Fate.WAIT)


@given(several, totals)
def test_law_the_brake_buries_nothing_by_absence(gone, durable):
    """Where many may have gone at once, absence of other copies removes none of them."""
    quiet = [
        replace(v, locked=False, commanded=False, seen_ns=NOW, missed_ns=NOW, looked_ns=NOW + CERTAIN_NS) for v in gone
    ]
    if len(quiet) >= 5 and 2 * len(quiet) >= durable:
        for v, verdict in zip(sorted(quiet, key=lambda v: v.conversation), judge(quiet, durable), strict=True):
            with_projection = any(p.trace is Trace.VANISHED for p in v.projections)
            assert verdict.fate is not Fate.REMOVED or with_projection


@given(several, totals)
def test_law_a_larger_silo_brakes_less(gone, durable):
    """The same disappearances among more copies brake no more of them."""
    few, many = ({v.conversation for v in judge(gone, n) if v.fate is Fate.BRAKED} for n in (durable, durable + 5))
    assert many <= few


@given(several, totals, st.randoms(use_true_random=False))
def test_law_order_does_not_matter(gone, durable, random):
    """The same disappearances in any order, projections too, give the same verdicts."""
    mixed = [replace(v, projections=tuple(random.sample(v.projections, len(v.projections)))) for v in gone]
    random.shuffle(mixed)
    assert judge(mixed, durable) == judge(gone, durable)


@given(several, totals, st.integers(-(10**15), 10**15))
def test_law_only_distances_in_time_matter(gone, durable, shift):
    """The clock's own value decides nothing."""
    moved = [
        replace(
            v,
            seen_ns=v.seen_ns + shift,
            missed_ns=v.missed_ns + shift,
            looked_ns=v.looked_ns + shift,
            projections=tuple(p._replace(missed_ns=p.missed_ns + shift) for p in v.projections),
        )
        for v in gone
    ]
    assert judge(moved, durable) == judge(gone, durable)


def by_hand(gone, durable):
    """The brake as the design says it, slowly: every window that begins or ends at some moment."""
    crowd = [v for v in gone if not v.locked and not v.commanded]
    begins = {t + d for v in crowd for t in (v.seen_ns, v.missed_ns) for d in (0, -BRAKE_NS)}
    windows = [{v.conversation for v in crowd if v.seen_ns <= b + BRAKE_NS and v.missed_ns >= b} for b in begins]
    return set().union(*[w for w in windows if len(w) >= 5 and 2 * len(w) >= durable])


@given(several, totals)
def test_law_the_brake_is_the_one_of_the_design(gone, durable):
    """Braked are those of a window with enough in it, less who has a reason of his own."""
    sure = [replace(v, looked_ns=v.missed_ns + CERTAIN_NS, projections=()) for v in gone]
    braked = {v.conversation for v in judge(sure, durable) if v.fate is Fate.BRAKED}
    assert braked == by_hand(sure, durable)


# -- tombstones -----------------------------------------------------------------------

A, B = (b"a" * 16, b"e" * 16), (None, b"f" * 16)
M = (b"m" * 16,)
STONE = Tombstone("abcde", 1, 5, "by command", {Unit.STREAM: frozenset([A]), Unit.METADATA: frozenset([M])})
DAMAGED = Tombstone("abcde", 1, damaged=True)

LIFTS = [
    # what, tombstone, unit, digest, facts, lifts
    ("bytes the lineage had", STONE, Unit.STREAM, A, {}, False),
    ("bytes it never had", STONE, Unit.STREAM, B, {}, True),
    ("bytes it never had, written by git", STONE, Unit.STREAM, B, {"written_by_git": True}, False),
    ("metadata it had", STONE, Unit.METADATA, M, {}, False),
    ("metadata it never had", STONE, Unit.METADATA, (b"n" * 16,), {}, True),
    ("bytes of another unit", STONE, Unit.METADATA, (b"a" * 16,), {}, True),
    ("nothing there", STONE, Unit.STREAM, (None, None), {}, False),
    ("a durable copy that reappears", STONE, Unit.STREAM, A, {"durable": True}, True),
    ("a durable copy that git wrote", STONE, Unit.STREAM, A, {"durable": True, "written_by_git": True}, True),
    ("nobody knows what a damaged one had", DAMAGED, Unit.STREAM, B, {}, False),
    ("a durable copy lifts a damaged one", DAMAGED, Unit.STREAM, A, {"durable": True}, True),
    ("a unit of which nothing is known", replace(STONE, digests={}), Unit.STREAM, A, {}, True),
]


@pytest.mark.parametrize(
    ("stone", "unit", "digest", "facts", "lifted"), [r[1:] for r in LIFTS], ids=[r[0] for r in LIFTS]
)
def test_what_lifts_a_tombstone(stone, unit, digest, facts, lifted):
    """Only bytes that are new and not git's bring a conversation back, or the durable copy itself."""
    assert lifts(stone, unit, digest, **facts) is lifted
