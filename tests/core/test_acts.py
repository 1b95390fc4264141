"""Which versions `undo` takes: a table of what the history holds, then the law that twice is once back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync_agent.acts import ACT_MS, Candidate, newest_act
from convsync_agent.model import Unit

S, M, X = Unit.STREAM, Unit.METADATA, Unit.EXTRAS


def kept(name, unit, at, *, current=False, valid=True):
    return Candidate(name, unit, at, current, valid)


TABLE = [
    ("nothing kept", [], []),
    ("one version", [kept("a", S, 5)], ["a"]),
    ("what is current already is no way back", [kept("a", S, 5, current=True)], []),
    ("the next older one then", [kept("b", S, 9, current=True), kept("a", S, 5)], ["a"]),
    ("both units of one act", [kept("s", S, 1000), kept("m", M, 1003)], ["m", "s"]),
    ("an earlier act of the other unit stays", [kept("s", S, 1000), kept("m", M, 1001 + ACT_MS)], ["m"]),
    ("at the edge", [kept("s", S, 1000), kept("m", M, 1000 + ACT_MS)], ["m", "s"]),
    ("unmanaged files go along", [kept("x", X, 10), kept("s", S, 9), kept("m", M, 8)], ["x", "m", "s"]),
    ("an invalid newest one is the answer, to be refused", [kept("a", S, 9, valid=False), kept("m", M, 3)], ["a", "m"]),
    ("an invalid companion stays where it is", [kept("s", S, 9), kept("m", M, 8, valid=False)], ["s"]),
    ("a companion that is current has nothing to do", [kept("s", S, 9), kept("m", M, 8, current=True)], ["s"]),
]


@pytest.mark.parametrize(("candidates", "versions"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_what_is_undone(candidates, versions):
    """The newest version that is not current, first, and the newest of each other unit of its act."""
    assert versions == [c.version for c in newest_act(candidates)]


@given(st.lists(st.tuples(st.sampled_from([S, M, X]), st.integers(0, 3), st.integers(0, 900)), max_size=12), st.data())
def test_twice_is_once_back(keeps, data):
    """After an act was undone, undoing again takes what that kept: whatever the history, every unit is as before."""
    history = [(unit, content, at) for at, (unit, content, _) in zip(_rising(keeps), keeps, strict=True)]
    now = {u: data.draw(st.integers(0, 3), label=u) for u in (S, M, X)}

    first, history_then = _undone(now, history, 10_000)
    second, _ = _undone(first, history_then, 10_000 + data.draw(st.integers(0, 2000), label="pause"))

    assert second == (now if first != now else first)


def _rising(keeps):
    at = 0
    for _, _, pause in keeps:
        at += pause
        yield min(at, 9_999)


def _undone(now, history, at):
    """What is current and kept after an undo at that time, as the history keeps: no content twice in a row."""
    newest_first = sorted(enumerate(history), key=lambda row: (row[1][2], row[0]), reverse=True)
    candidates = [Candidate(str(n), u, t, now[u] == content) for n, (u, content, t) in newest_first]
    act = newest_act(candidates)
    then, kept_then = dict(now), list(history)
    for one in act:
        unit, content, _ = history[int(one.version)]
        then[unit] = content
        last = next((n for n, row in newest_first if row[0] is unit), None)
        if last is not None and history[last][1] == now[unit]:
            kept_then[last] = (unit, now[unit], at)  # its age starts anew
        else:
            kept_then.append((unit, now[unit], at))
    return then, kept_then
