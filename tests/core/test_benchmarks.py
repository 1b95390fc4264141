"""The parts of the benchmark that measure nothing: what is written, counted, judged and drawn."""

from __future__ import annotations

import json
import math
import random
import re
import xml.etree.ElementTree as ET
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import machines, plot, svg
from benchmarks.__main__ import version_number
from benchmarks.budgets import budget_of
from benchmarks.latency import MODES, chosen
from benchmarks.peers import PEERS
from benchmarks.report import WIDE, Budget, Row, document, multiple, quantile, summary, table
from benchmarks.scenarios import AT_THE_END, ONCE, SCENARIOS
from benchmarks.workload import EVENTS, METADATA, Workload, appended, edited, files_of, retimed, retitled, rewritten
from convsync_agent.content import check_events, metadata_contains, stream_contains, title_of
from convsync_agent.names import dirname, parse_dirname
from convsync_agent.sample import faults

SAMPLES = st.lists(st.floats(0, 1e6), min_size=1, max_size=50)

# -- figures ------------------------------------------------------------------


@given(SAMPLES, st.integers(1, 100))
def test_a_quantile_is_the_nearest_rank(samples, percent):
    """It is one of the samples; so many percent are not above it, and fewer would be not above any smaller one."""
    found = quantile(samples, percent)

    assert found in samples
    assert sum(s <= found for s in samples) * 100 >= percent * len(samples)
    assert sum(s < found for s in samples) * 100 < percent * len(samples)


def test_of_few_samples_the_high_ones_are_the_slowest():
    """Ten samples have no ninety-ninth of a hundred."""
    assert summary([5.0, *map(float, range(1, 10))]) == {"n": 10, "p50": 5.0, "p95": 9.0, "p99": 9.0, "max": 9.0}


def test_a_budget_is_judged_by_every_limit_it_has():
    """A median, a high quantile and a ratio: one that is missed is `over`; a ratio to nothing is not judged."""
    row = Row("x", "x", "ms", [10.0] * 99 + [50.0], [4.0])

    def verdict(**limits):
        row.budget = Budget(**limits)
        return row.verdict

    assert [verdict(p50=10), verdict(p50=9.9), verdict(p50=10, p99=10), verdict(p99=9)] == ["ok", "over", "ok", "over"]
    assert [verdict(ratio=2.5), verdict(ratio=2.4), verdict(ratio=2.5, p50=1)] == ["ok", "over", "over"]
    assert [verdict()] == [""]
    row.beside = []
    assert [verdict(ratio=2.4)] == [""]


def test_the_ratio_is_ours_to_theirs():
    """A row holds our figures or those of another program; what is far below one is good in both."""
    mine, theirs = Row("x", "x", "ms", [2.0], [100.0]), Row("y", "y", "ms", [100.0], [2.0], theirs=True)

    assert mine.ratio == theirs.ratio == pytest.approx(0.02)
    assert Row("x", "x", "ms", [2.0], [0.0]).ratio is None


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [(5, "5.0"), (4.96, "5.0"), (12.3, "12"), (150, "150"), (0.25, "1/4.0"), (1 / 150, "1/150"), (0, "0"), (1, "1.0")],
)
def test_a_ratio_is_shown(ratio, shown):
    """Two digits; below one as a fraction, so that 1/150 can be read beside 1/150."""
    assert multiple(ratio) == shown


@pytest.mark.parametrize(
    ("name", "conversations", "text"),
    [
        ("append", 100, "5 x, p99 20 ms"),
        ("append-projected", 100, "8 ms"),
        ("append-busy", 100, None),
        ("import", 10, "1.5 x"),
        ("restart", 10_000, "4 x"),
        ("restart", 1000, "1.4 ms"),
        ("burst-append", 1000, "2 x"),
        ("burst-append", 100, None),
        ("status-agent", 1000, "2.5 x"),
        ("status-alone", 1000, "160 ms"),
        ("idle-cpu", 10_000, "0.2 ms"),
        ("peer-watchman", 1000, "1/4 x"),
        ("peer-syncthing", 1000, "1/150 x"),
        ("peer-lsyncd", 1000, None),
    ],
)
def test_budgets_are_the_written_ones(name, conversations, text):
    """As ratios wherever something stands beside them."""
    budget = budget_of(name, conversations)

    assert (budget and budget.text("ms")) == text


def test_the_table_shows_what_was_missed():
    """Each row is under its size with its worktrees, quantiles, neighbour, ratio and budget; `over` ends it."""
    rows = [
        Row("append", "append", "ms", [6.0, 8.0], [1.0], budget=Budget(ratio=5), conversations=1000, worktrees=2),
        Row("rss", "RSS", "MB", [34.2], budget=Budget(p50=60), conversations=1000),
        Row("rss", "RSS", "MB", [50.0], conversations=10_000),
    ]
    lines = table(rows).splitlines()

    assert lines[0].split() == ["trees", "p50", "p95", "p99", "max", "beside", "ratio", "budget"]
    assert [x for x in lines if x.endswith("conversations")] == ["1,000 conversations", "10,000 conversations"]
    assert re.split(r"  +", lines[3].strip()) == [
        *("append", "2", "6.00 ms", "8.00 ms", "8.00 ms", "8.00 ms", "1.00 ms", "6.0", "5 x over"),
    ]
    assert lines[4].split() == ["RSS", "1", "34.2", "MB", "60", "MB", "ok"]
    assert max(map(len, lines)) <= WIDE


def test_the_document_has_every_sample():
    """What a picture or another run needs is in it, and nothing that is not JSON."""
    row = Row("peer-x", "x", "ms", [2.0, 4.0], [1.0], "convsync", {"lost": 1}, Budget(ratio=0.25), theirs=True)
    said = json.loads(document({"machine": {}}, [row]))["results"][0]

    assert said["samples"] == [2.0, 4.0]
    assert (said["n"], said["p50"], said["ratio"], said["verdict"]) == (2, 2.0, 0.5, "over")
    assert said["beside"] == {"what": "convsync", "n": 1, "p50": 1.0, "p95": 1.0, "p99": 1.0, "max": 1.0}
    assert said["budget"] == {"ratio": 0.25}


# -- the workload -------------------------------------------------------------


def test_the_same_bytes_in_every_run(tmp_path):
    """Two runs write the same trees."""
    one, two = Workload(12, real=False), Workload(12, real=False)

    assert one.write(str(tmp_path / "one")) == two.write(str(tmp_path / "two"))
    assert one.names == two.names
    for name in one.names:
        assert files_of(f"{tmp_path}/one/{name}") == files_of(f"{tmp_path}/two/{name}")


def test_what_is_written_is_valid_and_has_the_given_size():
    """Each generated conversation could be JP's, and is as long as was drawn, but for less than a turn."""
    work = Workload(60, real=False)
    for number in (0, work.few - 1, work.few, 40, 59):
        files = work.files(number)
        assert faults(files) == []
        assert work.size(number) <= len(files[EVENTS]) <= work.size(number) + 64_000


def test_sizes_are_as_in_life():
    """Log-normal: half are below the median, one in twenty above the ninety-fifth, whatever the number."""
    work = Workload(4000, real=False)
    sizes = [work.size(n) for n in range(work.few, work.count)]

    assert quantile(sizes, 50) == pytest.approx(work.median, rel=0.1)
    assert quantile(sizes, 95) == pytest.approx(work.p95, rel=0.2)


@pytest.mark.parametrize("count", [1, 2, 20, 100, 1000])
def test_a_quarter_is_small_at_most(count):
    """There is always one for the latencies, and there are others as soon as there are two."""
    work = Workload(count, real=False)

    assert 1 <= work.few <= 40
    assert work.few < count or count == 1
    assert len(set(work.names)) == count


def test_without_the_program_they_are_generated(tmp_path, monkeypatch):
    """A checkout that stands alone measures as well, and says of what kind its conversations are."""
    monkeypatch.setattr(machines, "PROGRAM", tmp_path / "nothing.py")
    work = Workload(8)
    work.write(str(tmp_path / "tree"))

    assert work.source == "generated"
    assert sorted(p.name for p in (tmp_path / "tree").iterdir()) == sorted(work.names)


@pytest.mark.real
@pytest.mark.skipif(not machines.PROGRAM.is_file(), reason=f"no {machines.PROGRAM}")
def test_real_ones_can_be_edited(tmp_path):
    """Every kind of edit leaves a real conversation valid, whatever its age and layout."""
    work = Workload(24)
    work.write(str(tmp_path / "tree"))

    assert work.source == "real"
    assert len(set(work.names)) == 24
    for name in work.names:
        files = files_of(f"{tmp_path}/tree/{name}")
        for change in (appended, rewritten):
            assert check_events(change(files[EVENTS], 3), packed="base_config.json" not in files) == ""


def test_an_append_holds_what_was_there_and_an_edit_does_not():
    """So that an append keeps nothing and each edit has to keep its loser; twice the same edit grows by a turn only."""
    files = Workload(4, real=False).files(1)
    base, raw = files["base_config.json"], files[EVENTS]

    assert stream_contains((base, appended(raw, 1)), (base, raw))
    assert not stream_contains((base, edited(raw, 1)), (base, raw))
    assert not stream_contains((base, rewritten(raw, 1)), (base, raw))
    assert rewritten(rewritten(raw, 1), 2).count(b'"edited"') == 1
    assert metadata_contains(retimed(files[METADATA], 1), files[METADATA])


def test_a_new_title_has_its_directory():
    """As JP names it."""
    work = Workload(4, real=False)
    new, raw = retitled(work.names[1], work.files(1)[METADATA], 7)

    assert new == dirname(parse_dirname(work.names[1]), title_of(raw)) != work.names[1]


@given(st.integers(1, 30), st.integers(1, 90))
def test_edits_are_spread_evenly(names, count):
    """None is edited twice before all have been once, in order or at random."""
    every = [str(n) for n in range(names)]
    for shuffled in (False, True):
        times = Counter(chosen(every, count, random.Random(1), shuffled=shuffled))
        assert sum(times.values()) == count
        assert max(times.values()) - min(times.get(n, 0) for n in every) <= 1


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("rsync version 3.2.7 protocol version 32", "3.2.7"),
        ('syncthing v1.19.2-ds1 "Fermium Flea" (go1.19.8)', "v1.19.2-ds1"),
        ("unison version 2.52.1 (ocaml 4.13.1)", "2.52.1"),
        ("4.9.0", "4.9.0"),
        ("nightly", "nightly"),
    ],
)
def test_a_version_is_its_number(said, shown):
    """As each program tells it, in one line for all of them."""
    assert version_number(said) == shown


def test_scenarios_are_known():
    """What is done once or last is one of them, and so is each program that can be beside."""
    assert set(SCENARIOS) > ONCE | AT_THE_END
    assert all(name == kind.name and kind.label and kind.needs for name, kind in PEERS.items())
    assert len({(mode, busy) for mode, _, busy in MODES}) == len(MODES)


# -- the picture ---------------------------------------------------------------


@given(st.lists(st.floats(svg.TOP, svg.HIGH - svg.BOTTOM), max_size=12))
def test_names_of_lines_do_not_overlap(wanted):
    """Each has its own line of text, in the order of the lines' ends."""
    placed = svg.apart(wanted, svg.LETTER)
    order = sorted(range(len(wanted)), key=lambda n: wanted[n])

    assert all(b - a >= svg.LETTER - 1e-6 for a, b in pairwise(placed[n] for n in order))
    assert all(p <= svg.HIGH - svg.BOTTOM for p in placed)


@given(st.lists(st.floats(1e-3, 1e6), min_size=1), st.booleans())
def test_an_axis_has_numbers_and_room(values, log):
    """Every value lies on it, and it has between one and a dozen numbers, all of them on it."""
    scale = svg._scale(values, log, 0, 100)
    marks = svg.ticks(scale)

    assert all(-1e-6 <= scale.at(v) <= 100 + 1e-6 for v in values)
    assert 1 <= len(marks) <= 12
    assert all(-1e-6 <= scale.at(m) <= 100 + 1e-6 for m in marks)


def results():
    said = []
    for size in (100, 1000, 10_000):
        for name, at in (("append", 4.0), ("life", 9.0), ("append-projected", 6.0), ("restart", 0.3), ("idle-cpu", 0)):
            said.append(Row(name, name, "ms", [at * math.log10(size)], [1.0], conversations=size).as_json())
        names = ("peer-convsync", "peer-unison", "peer-unison-rss", "idle-rss")
        said += [Row(name, name, "ms", [40.0], conversations=size).as_json() for name in names]
    return said


def test_a_picture_is_drawn_from_several_files(tmp_path):
    """Sizes from different runs are one line; axes name their units; light and dark are both in it."""
    rows = results()
    for number, size in enumerate((100, 1000, 10_000)):
        some = [r for r in rows if r["conversations"] == size]
        (tmp_path / f"{number}.json").write_text(json.dumps({"schema": 2, "results": some}))
    files = [str(tmp_path / f"{n}.json") for n in range(3)]

    assert plot.main([*files, "--into", str(tmp_path / "img")]) == 0
    for name, words in (
        ("latency", ["append, p50", "Unison", "milliseconds (logarithmic)", "conversations (logarithmic)", "10,000"]),
        ("cost", ["MB (logarithmic)", "seconds (logarithmic)", "find -printf", "Unison"]),
    ):
        text = (tmp_path / "img" / f"{name}.svg").read_text()
        shown = [e.text for e in ET.fromstring(text).iter("{http://www.w3.org/2000/svg}text")]
        assert [w for w in words if w not in shown] == []
        assert "prefers-color-scheme:dark" in text
        paths = re.findall(r'<path class="c\d" d="([^"]+)"', text)
        assert paths
        assert all(path.count(",") == 3 for path in paths)


def test_nothing_of_a_logarithm_of_zero():
    """What is nothing is drawn at the least that the axis says; what was not measured is not drawn."""
    idle = plot.cost(results())[2]

    assert [y for line in idle.lines for _, y in line.points] == [plot.LEAST] * 3
    assert "not measured" in svg.picture(plot.latency([]))


def test_results_of_another_version_are_refused(tmp_path, capsys):
    """A picture of figures that mean something else is none."""
    (tmp_path / "old.json").write_text('{"schema": 1, "results": []}')
    with pytest.raises(SystemExit):
        plot.main([str(tmp_path / "old.json")])

    assert "not a result of this version" in capsys.readouterr().err
