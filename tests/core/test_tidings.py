"""What is told and when: tables, then laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync_agent.tidings import DEGRADED, GATHER_MS, HOUR_MS, Told, message, tidings

T = 1_800_000_000_000
OLD = T - GATHER_MS


def key(kind="held", conversation=1, root="/a"):
    return (kind, "abcde", conversation, root)


H1, H2, H3, C1 = key(), key(conversation=2), key(conversation=3), key("conflict")


@pytest.mark.parametrize(
    ("open_now", "told", "tell", "again"),
    [
        pytest.param({}, Told(), (), None, id="nothing is open"),
        pytest.param({H1: OLD}, Told(), (H1,), None, id="a new one"),
        pytest.param({H1: OLD, H2: OLD, C1: OLD}, Told(), (C1, H1, H2), None, id="all of a burst at once"),
        pytest.param({H1: T - 500}, Told(), (), T - 500 + GATHER_MS, id="what may go by itself waits a moment"),
        pytest.param({H1: OLD, H2: T}, Told(), (H1, H2), None, id="what came just now goes along with its kind"),
        pytest.param({H1: OLD}, Told(frozenset({H1})), (), None, id="told already"),
        pytest.param(
            {H1: OLD, H2: OLD}, Told(frozenset({H1}), {"held": T - 60_000}), (), T - 60_000 + HOUR_MS, id="hour"
        ),
        pytest.param(
            {H1: OLD, C1: OLD}, Told(frozenset({H1}), {"held": T - 60_000}), (C1,), None, id="another kind has its own"
        ),
        pytest.param({H1: OLD, H2: OLD}, Told(frozenset({H1}), {"held": T - HOUR_MS}), (H2,), None, id="an hour later"),
        pytest.param(
            {H1: OLD}, Told(frozenset(), {"held": T - 1}), (), T - 1 + HOUR_MS, id="it was closed and is back"
        ),
        pytest.param({H1: OLD}, Told(frozenset(), {"held": T + 9 * HOUR_MS}), (), T + HOUR_MS, id="clock was put back"),
    ],
)
def test_what_to_tell(open_now, told, tell, again):
    """New entries, once; a kind at most once an hour; what has to wait says until when."""
    found = tidings(open_now, told, T)

    assert (found.tell, found.again_ms) == (tell, again)
    assert found.told.keys == (told.keys & open_now.keys()) | set(tell)
    assert {k: found.told.at_ms[k] for k in {t[0] for t in tell}} == dict.fromkeys({t[0] for t in tell}, T)


KEYS = st.builds(key, st.sampled_from(["held", "conflict", "io"]), st.integers(1, 4))


@given(st.lists(st.tuples(st.integers(0, 1_000_000), st.frozensets(KEYS))))
def test_no_kind_twice_an_hour_and_nothing_twice_while_it_is_open(story):
    """Whatever opens and closes whenever: between two messages of a kind there is an hour."""
    now, told, since = T, Told(), {}
    last: dict[str, int] = {}
    known: set = set()
    for pause, entries in story:
        now += pause
        since = {k: since.get(k, now) for k in entries}
        found = tidings(since, told, now)
        known &= entries
        assert not known & set(found.tell)
        known |= set(found.tell)
        for kind in {k[0] for k in found.tell}:
            assert now - last.get(kind, 0) >= HOUR_MS
            last[kind] = now
        assert found.again_ms is None or found.again_ms > now
        told = found.told


@given(st.frozensets(KEYS, min_size=1))
def test_everything_is_told_in_the_end(entries):
    """Who asks again when it is said to, hears of each entry that stays open."""
    now, told, heard = T, Told(frozenset(), {"held": T - 5, "io": T - 7}), set()
    since = dict.fromkeys(entries, now)
    for _ in range(10):
        found = tidings(since, told, now)
        heard |= set(found.tell)
        told = found.told
        if found.again_ms is None:
            break
        now = found.again_ms

    assert heard == set(entries)


def test_a_message_holds_ids_kinds_and_counts():
    """No path, no title, and not more ids than one can read."""
    many = [key(conversation=c) for c in (5, 4, 3, 2)]
    title, text = message([*many, key("conflict", 9), key("denied", 0, "/home/me/secret-project")])

    assert title == "convsync: something needs you"
    assert text.splitlines() == [
        "4 held: jp-c2, jp-c3, jp-c4, ...",
        "1 conflict: jp-c9",
        "1 denied",
        "Type: convsync status",
    ]
    assert message([(DEGRADED, "", 0, ""), key("no-space", 9)]) == (
        "convsync: something could not be written",
        "1 no-space: jp-c9\nType: convsync status",
    )
