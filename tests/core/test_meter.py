"""Counting, quantiles, and the text that Prometheus reads."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync_agent.exposition import histogram, labelled, number, render, single
from convsync_agent.meter import BUCKETS, Histogram, Meter, name_of
from convsync_agent.plan import Keep, PutBack
from exposition import parse


def filled(*seconds):
    made = Histogram()
    for one in seconds:
        made.observe(one)
    return made


@pytest.mark.parametrize(
    ("seconds", "share", "expected"),
    [
        ([], 0.5, None),
        ([0.0005], 0.5, 0.0005),
        ([0.003, 0.003], 0.5, 0.00375),
        ([0.003, 0.003], 1.0, 0.005),
        ([0.0005] * 19 + [1.5], 0.95, 0.001),
        ([0.0005] * 9 + [1.5], 0.95, 1.75),
        ([90.0], 0.5, 60.0),
    ],
)
def test_quantiles(seconds, share, expected):
    """As Prometheus estimates them: evenly spread in a bucket, and never above the last end."""
    found = filled(*seconds).quantile(share)

    assert found == expected or (found is not None and expected is not None and math.isclose(found, expected))


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_bucket_of_what_it_estimates(seconds, share):
    """Never off by more than the bucket is wide."""
    found = filled(*seconds).quantile(share)
    true = sorted(seconds)[max(0, math.ceil(share * len(seconds)) - 1)]
    ends = (0.0, *BUCKETS)
    low = max((e for e in ends if e < true), default=0.0)
    high = min((e for e in BUCKETS if e >= true), default=BUCKETS[-1])

    assert found is not None
    assert low <= found <= high * (1 + 1e-9)


@given(st.lists(st.floats(0, 1000)))
def test_every_observation_is_counted_once(seconds):
    """The last bucket holds them all, and the sum is theirs."""
    made = filled(*seconds)

    assert made.count == len(seconds) == made.cumulative()[-1][1]
    assert math.isclose(made.total, sum(seconds))


def test_names_of_actions():
    """Words with an underscore between them."""
    assert (name_of(object.__new__(Keep)), name_of(object.__new__(PutBack))) == ("keep", "put_back")


def test_the_document_of_status():
    """Keys that are promised, before anything happened and after."""
    meter = Meter()
    assert meter.as_json(0, 0) == {
        "rescans": 0,
        "overflows": 0,
        "replacements": 0,
        "actions": {},
        "errors": {},
        "files_written": 0,
        "bytes_written": 0,
        "latency_ms": {"count": 0, "p50": None, "p95": None},
    }
    before = meter.version
    meter.did([(object.__new__(Keep), 2, 100), (object.__new__(Keep), 1, 1)], [0.003])
    meter.failed("no-space")
    meter.rescanned("start")
    found = meter.as_json(1, 2)

    assert meter.version > before
    assert (found["actions"], found["files_written"], found["bytes_written"]) == ({"keep": 2}, 3, 101)
    assert (found["errors"], found["rescans"], found["overflows"], found["replacements"]) == ({"no-space": 1}, 1, 1, 2)
    assert found["latency_ms"] == {"count": 1, "p50": 3.8, "p95": 4.9}


LABEL = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(
    st.dictionaries(LABEL, st.floats(allow_nan=False, allow_infinity=False), max_size=4),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.lists(st.floats(0, 100)),
)
def test_whatever_a_label_holds_the_text_is_read_back(values, text, seconds):
    """A strict reader understands every line, and finds the values that were written."""
    told = render(
        [
            labelled("convsync_x_total", "counter", f"about {text}", "kind", values),
            single("convsync_y", "gauge", "one", 1.5, version='1"2\\'),
            histogram("convsync_z_seconds", "took", filled(*seconds)),
        ]
    )
    types, samples = parse(told)

    assert ("convsync_x_total" in types) == bool(values)
    assert types["convsync_z_seconds"] == "histogram"
    back = {labels[0][1]: v for (name, labels), v in samples.items() if name == "convsync_x_total"}
    escaped = {k.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"): v for k, v in values.items()}
    assert back == escaped
    assert samples["convsync_z_seconds_count", ()] == len(seconds)


@pytest.mark.parametrize(
    ("value", "text"), [(1.0, "1"), (0.005, "0.005"), (float("inf"), "+Inf"), (-2.0, "-2"), (1e300, "1e+300")]
)
def test_numbers(value, text):
    """Whole numbers without a point; the end of the last bucket as the format wants it."""
    assert number(value) == text
