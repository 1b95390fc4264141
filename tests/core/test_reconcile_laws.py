"""Laws that hold for every picture: what apply does ends it, order does not matter, nothing is lost."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from convsync_agent.model import Agreed, Base, Policy, Snapshot, Unit
from convsync_agent.plan import Import, Keep, Update, after
from convsync_agent.reconcile import reconcile
from notation import ID, S, W, X, base, containment, copy, snapshots

CONTENT = st.sampled_from(["a", "ab", "abc", "b", "c"])
META = st.sampled_from(["m", "n", "p"])
BROKEN = st.sampled_from([False, False, False, False, True])  # whether bytes are valid is a fact of the bytes
NAME = st.sampled_from(["t", "u"])


@st.composite
def copies(draw):
    """One copy, or none."""
    if not draw(st.booleans()):
        return ""
    ages = st.integers(1, 6)
    stream = f"d@{draw(ages)}!" if draw(BROKEN) else f"{draw(CONTENT)}@{draw(ages)}"
    metadata = f"d@{draw(ages)}!" if draw(BROKEN) else f"{draw(META)}@{draw(ages)}"
    return f"{stream} {metadata} {draw(NAME)}"


PICTURES = st.tuples(copies(), copies(), copies())
AGREED = st.dictionaries(st.sampled_from([S, W, X]), st.tuples(CONTENT, META).map(" ".join))


def settled(shots: list[Snapshot], known: Base) -> Base:
    """The base after everything was done: what each copy holds now, and what was kept."""
    agreed = {
        (ID, s.root): Agreed(c.stream.digest, c.metadata.digest, c.partition, c.inode)
        for s in shots
        for group in s.copies.values()
        for c in group
    }
    return Base(agreed, containment(shots), known.split_since, known.kept)


def run(shots: list[Snapshot], known: Base) -> tuple[list[Snapshot], set[tuple[Unit, object]], int]:
    """Reconcile until nothing is planned. Returns the end, the history, and how many plans it took."""
    history: set[tuple[Unit, object]] = set()
    for number in range(6):
        plan = reconcile(known, shots, Policy())
        if plan.empty:
            return shots, history, number
        for action in plan.actions:
            if isinstance(action, Keep):
                history.add((action.unit, action.source.unit(action.unit).digest))
            if isinstance(action, Update) and action.keep:
                history.add((action.unit, action.target.unit(action.unit).digest))
        kept = known.kept | {(ID, u, d) for u, d in history}
        shots = list(after(shots, plan))
        known = settled(shots, Base(known.agreed, known.contains, known.split_since, kept))  # type: ignore[arg-type]
    raise AssertionError("does not come to rest")


@given(PICTURES, AGREED)
@settings(max_examples=400, deadline=None)
def test_after_apply_the_next_plan_is_empty(picture, agreed):
    """One plan does it. An import may be followed by updates; a held copy of the winner's very age becomes a loser."""
    shots = snapshots(*picture)
    first = reconcile(base(shots, agreed), shots, Policy())
    _, _, plans = run(shots, base(shots, agreed))

    again = any(isinstance(a, Import) for a in first.actions) or any(p.kind == "held" for p in first.problems)

    assert plans <= (3 if again else 1)


@given(PICTURES, AGREED)
@settings(max_examples=400, deadline=None)
def test_no_content_disappears(picture, agreed):
    """Every quiet content of before is in a root, contained in one, or in the history."""
    shots = snapshots(*picture)
    end, history, _ = run(shots, base(shots, agreed))
    final = [c for s in end for group in s.copies.values() for c in group]
    contains = containment([*shots, *end])
    for old in (c for s in shots for group in s.copies.values() for c in group):
        for unit in (Unit.STREAM, Unit.METADATA):
            digest = old.unit(unit).digest
            safe = (unit, digest) in history or any(
                c.unit(unit).digest == digest or (unit, digest, c.unit(unit).digest) in contains for c in final
            )

            assert safe, (unit, old.root)


@given(PICTURES, AGREED)
@settings(max_examples=300, deadline=None)
def test_the_order_of_roots_does_not_matter(picture, agreed):
    """Snapshots in any order give the same plan."""
    shots = snapshots(*picture)
    known = base(shots, agreed)

    assert reconcile(known, shots, Policy()) == reconcile(known, shots[::-1], Policy())


@given(PICTURES)
@settings(max_examples=300, deadline=None)
def test_jps_rule_on_the_result_loads_the_winner(picture):
    """Where the newest copy was fit, JP loads its content from every root in the end."""
    shots = snapshots(*picture)
    before = [c for s in shots for group in s.copies.values() for c in group]
    end, _, _ = run(shots, base(shots, {}))
    after_all = [c for s in end for group in s.copies.values() for c in group]
    if not any(c.root.is_silo for c in before):
        return
    for unit in (Unit.STREAM, Unit.METADATA):
        newest = min(before, key=lambda c: (-c.unit(unit).mtime_ns, c.root.order))
        if newest.unit(unit).grade == "valid":
            assert {newest.unit(unit).digest} == {c.unit(unit).digest for c in after_all}


@given(PICTURES, AGREED)
@settings(max_examples=200, deadline=None)
def test_no_copy_appears_where_none_was_but_in_the_silo(picture, agreed):
    """Projections are never created (R1); only an import makes a copy, in the silo."""
    shots = snapshots(*picture)
    end, _, _ = run(shots, base(shots, agreed))

    assert [bool(s.copies) for s in shots[1:]] == [bool(s.copies) for s in end[1:]]


def test_a_copy_in_notation_is_what_it_says():
    """The notation itself: `ab@7` is valid, whole and 7 s old."""
    one = copy(W, "ab@7 m@3")

    assert (7 * 10**9, 3 * 10**9, True) == (one.stream.mtime_ns, one.metadata.mtime_ns, one.whole)
