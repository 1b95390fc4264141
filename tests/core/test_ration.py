"""Who gets a watch where there are not enough."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from convsync_agent.ration import SPOTS, ages, rooms_for, shared

AGES = st.dictionaries(
    st.sampled_from(["/a", "/b", "/c"]), st.dictionaries(st.text("xyz", min_size=1, max_size=2), st.integers(0, 9))
)


@given(AGES, st.integers(0, 20))
def test_those_that_changed_last_are_chosen(ages_of, number):
    """As many as there are watches for, and none of them is older than one that was left out."""
    chosen = shared(ages_of, number)
    picked = [ages_of[root][name] for root, names in chosen.items() for name in names]
    left = [age for root, rooms in ages_of.items() for name, age in rooms.items() if name not in chosen[root]]

    assert chosen.keys() == ages_of.keys()
    assert len(picked) == min(number, sum(map(len, ages_of.values())))
    assert min(picked, default=99) >= max(left, default=0)


@given(st.integers(0, 10**6), st.integers(1, 300))
def test_what_is_above_conversations_comes_first(watches, roots):
    """Roots are watched before conversations, and some watches stay free for what is made next."""
    number = rooms_for(watches, roots)

    assert number >= 0
    assert not number or number + SPOTS * roots < watches


def test_the_age_is_that_of_the_newest_file(tmp_path):
    """As JP decides: by mtime; a directory without files is the oldest, what is no conversation is not there."""
    live = tmp_path / "conversations"
    for name, times in {"1-a": (5, 9), "2-b": (7,), "3-empty": ()}.items():
        (live / name).mkdir(parents=True)
        for file, mtime in zip(("events.json", "metadata.json"), times, strict=False):
            (live / name / file).touch()
            os.utime(live / name / file, ns=(mtime, mtime))
    (live / ".archive").mkdir()
    (live / "4-file").touch()

    assert ages(str(tmp_path)) == {"1-a": 9, "2-b": 7, "3-empty": 0}
    assert ages(str(tmp_path / "none")) == {}
