"""The history on real directories: what is kept comes back, is found, and is nobody else's to read."""

from __future__ import annotations

import gzip
import json
import os
import re
import stat
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convsync_agent.digest import content_digest
from convsync_agent.errors import ConvsyncError, NotFound, UsageProblem
from convsync_agent.history import History, Kept
from convsync_agent.model import Unit
from keeping import ID, LOOSE, ROOT, STREAM, WS, contents, hexes, keep, objects, place


@pytest.fixture
def history(tmp_path):
    return History(str(tmp_path / "data"))


# -- what is kept --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "files"),
    [
        (Unit.STREAM, STREAM),
        (Unit.STREAM, [("events.json", b"legacy", 1)]),
        (Unit.METADATA, [("metadata.json", b"{}", 0)]),
        (Unit.METADATA, [("metadata.json", b"", 3)]),
        (Unit.EXTRAS, [("a", b"\0" * 70_000, 1), ("sub/b \udcff\n", bytes(range(256)), -5)]),
        (Unit.EXTRAS, [("big", os.urandom(3_000_001), 1), ("same", b"x", 1), ("twin", b"x", 2)]),
    ],
)
def test_what_was_kept_comes_back(history, unit, files):
    """Names, bytes and mtimes of every kind of unit come back as they were, also by another instance."""
    kept = keep(history, files, unit=unit)
    assert kept.new
    other = History(history.data_dir)
    assert other.read(WS, ID, kept.version) == files
    [manifest] = other.versions(WS, ID)
    assert (manifest.version, manifest.unit, manifest.size) == (kept.version, unit, sum(len(f[1]) for f in files))
    assert other.problems(WS, ID) == []


def test_the_manifest_describes_itself(history):
    """The manifest has the documented fields, so that it can be read without convsync."""
    kept = keep(history)
    folder = place(history) / kept.version
    base, events = hexes(b"{}", b'[{"type":"x"}]')
    assert json.loads((folder / "manifest.json").read_bytes()) == {
        "schema": 1,
        "workspace": WS,
        "conversation": f"jp-c{ID}",
        "unit": "stream",
        "from": ROOT,
        "at": 1000,
        "why": "replaced",
        "valid": True,
        "events": 1,
        "files": [
            {"name": "base_config.json", "digest": base, "size": 2, "mtime_ns": 1_700_000_000_123_456_789},
            {"name": "events.json", "digest": events, "size": 14, "mtime_ns": 17},
        ],
    }
    assert [p.name for p in folder.iterdir()] == ["manifest.json"]
    assert re.fullmatch(r"1000-stream-[0-9a-f]{8}", kept.version)
    assert objects(history) == {base, events}
    stored = (place(history) / "objects" / f"{events}.gz").read_bytes()
    assert gzip.decompress(stored) == b'[{"type":"x"}]'
    assert stored[4:8] == b"\0\0\0\0"


def test_the_digest_fits_the_one_of_a_copy(history):
    """A manifest's digest is in the fixed order of the unit, None for an absent file."""
    keep(history, [("events.json", b"legacy", 1)])
    [manifest] = history.versions(WS, ID)
    assert manifest.digest == (None, content_digest(b"legacy"))


def test_content_equal_to_the_newest_is_not_kept_twice(history):
    """A version is made when something changed, not when somebody asks; a change back is a change."""
    first = keep(history, b"a", at_ms=1)
    assert keep(history, b"a", at_ms=2) == Kept(first.version, new=False)
    assert keep(history, [("events.json", b"a", 9)], at_ms=3).new
    assert keep(history, b"a", at_ms=4).new
    assert not keep(history, [(n, raw, 99) for n, raw in (("base_config.json", b"{}"), ("events.json", b"a"))]).new
    assert contents(history) == [b"a", b"a", b"a"]
    assert objects(history) == set(hexes(b"{}", b"a"))


def test_units_are_compared_with_their_own_kind(history):
    """The same bytes as another unit are a version of their own."""
    assert keep(history, [("metadata.json", b"{}", 1)], unit=Unit.METADATA).new
    assert keep(history, [("metadata.json", b"{}", 1)], unit=Unit.EXTRAS).new


@pytest.mark.parametrize("times", [[5, 5, 5], [5, 4, 3], [10**13, 1, 2], [-3, -3, -9]])
def test_the_order_is_the_order_of_keeping(history, times):
    """Versions of a unit are in the order of keeping, with equal times and a clock set back too."""
    for n, at_ms in enumerate(times):
        keep(history, b"%d" % n, at_ms=max(at_ms, 0))
    assert contents(history) == [b"2", b"1", b"0"]
    assert len({m.at_ms for m in history.versions(WS, ID)}) == 3


def test_a_version_kept_again_counts_from_then(history):
    """What comes after it with a clock set back is younger all the same, whatever its files are."""
    keep(history, b"a", at_ms=5)
    assert not keep(history, b"a", at_ms=50_000).new
    keep(history, b"b", at_ms=7)
    assert contents(history) == [b"b", b"a"]
    assert [m.at_ms for m in history.versions(WS, ID)] == [50_001, 5]


def test_an_object_that_was_touched_is_read_again(history):
    """That it was whole a moment ago, by the same process, proves nothing once somebody wrote to it."""
    keep(history, b"a")
    [base] = hexes(b"{}")
    (place(history) / "objects" / f"{base}.gz").write_bytes(b"damaged")
    keep(history, b"b")
    assert contents(history) == [b"b", b"a"]


@pytest.mark.parametrize(
    ("unit", "names"),
    [
        (Unit.ALL, ["a"]),
        (Unit.EXTRAS, []),
        (Unit.EXTRAS, ["a", "a"]),
        *((Unit.EXTRAS, [n]) for n in ("", "/etc/x", "../x", "a/../b", "a//b", ".", "a\0b")),
    ],
)
def test_what_could_not_be_put_back_is_refused(history, unit, names):
    """Only one unit, at least one file, only names below the conversation's directory; nothing is written else."""
    with pytest.raises(ValueError, match="one unit"):
        keep(history, [(n, b"", 1) for n in names], unit=unit)
    assert not os.path.exists(history.data_dir)


@pytest.mark.parametrize("workspace", ["", ".", "..", "a/b", "my-title", "OTVO8"])
def test_a_path_is_made_of_ids_only(history, workspace):
    """What is no workspace id never becomes part of a path."""
    with pytest.raises(UsageProblem):
        keep(history, workspace=workspace)


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"ab"]), st.integers(0, 5)), max_size=12))
@settings(max_examples=40, deadline=None)
def test_law_every_content_kept_is_there(steps):
    """Whatever is kept in whatever order and time, each change is a version and each version reads back."""
    with tempfile.TemporaryDirectory() as top:
        history = History(top)
        expected = []
        for raw, at_ms in steps:
            if keep(history, raw, at_ms=at_ms).new:
                expected.append(raw)
            assert expected[-1] == raw
            assert history.holds(WS, ID, Unit.STREAM, hexes(b"{}", raw))
        assert contents(history) == expected[::-1]


# -- asking --------------------------------------------------------------------------


def test_holds_means_one_whole_version(history):
    """Held is the content of one version of that unit, in hex or raw, in any order; a part or a mixture is not."""
    keep(history, b"a")
    keep(history, b"b")
    one, a, b = hexes(b"{}", b"a", b"b")
    table = [([one, a], True), ([b, one], True), ([a], False), ([], False), ([a, b], False), ([one, a, b], False)]
    for digests, expected in table:
        assert history.holds(WS, ID, Unit.STREAM, digests) is expected
        assert history.holds(WS, ID, Unit.STREAM, [bytes.fromhex(d) for d in digests]) is expected
        assert not history.holds(WS, ID, Unit.METADATA, digests)
        assert not history.holds(WS, ID + 1, Unit.STREAM, digests)


def test_has_content_needs_a_version(history):
    """Content that no version asks for is about to be cleared, so it is not there."""
    keep(history, b"a")
    a, b = hexes(b"a", b"b")
    (place(history) / "objects" / f"{b}.gz").write_bytes(gzip.compress(b"b"))
    assert history.has_content(WS, ID, a)
    assert history.has_content(WS, ID, bytes.fromhex(a))
    assert not history.has_content(WS, ID, b)
    assert not history.has_content(WS, ID + 1, a)


def test_asking_writes_nothing(history):
    """Every question to an empty history has an answer and leaves no directory behind."""
    assert history.versions(WS, ID) == history.problems(WS, ID) == []
    assert not history.holds(WS, ID, Unit.STREAM, hexes(b"a"))
    assert not history.has_content(WS, ID, *hexes(b"a"))
    assert history.size() == history.sweep() == 0
    assert history.prune(None, 0, **LOOSE) == (0, 0)
    assert not os.path.exists(history.data_dir)


@pytest.mark.parametrize("version", ["1-stream-00000000", "../x", "objects", ".", "", "README"])
def test_no_such_version(history, version):
    """What is no version of this conversation is not found, whatever it says."""
    keep(history)
    with pytest.raises(NotFound):
        history.read(WS, ID, version)


# -- privacy and manners -------------------------------------------------------------


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
def test_only_the_owner_may_look(history, umask):
    """Directories are 0700 and files 0600 whatever the umask is, and one that was opened up is closed again."""
    before = os.umask(umask)
    try:
        keep(history, b"a")
        os.chmod(place(history), 0o755)
        keep(History(history.data_dir), b"b")
    finally:
        os.umask(before)
    found = [Path(history.data_dir), *Path(history.data_dir).rglob("*")]
    assert len(found) > 8
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_a_directory_that_was_there_keeps_its_mode(tmp_path):
    """The data directory itself belongs to whoever made it."""
    os.chmod(tmp_path, 0o755)
    keep(History(str(tmp_path)))
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_no_text_of_a_conversation_in_paths_or_messages(history):
    """R9: content, titles and names of extras are in objects and the files list only, never in a path or message."""
    raw = b'{"title":"my-secret-title"}'
    kept = [
        keep(history, [("metadata.json", raw, 1)], unit=Unit.METADATA),
        keep(history, [("my-secret-title.txt", raw + b" ", 1)], unit=Unit.EXTRAS),
    ]
    for path in Path(history.base).rglob("*"):
        assert "secret" not in str(path)
    for m in history.versions(WS, ID):
        data = json.loads((place(history) / m.version / "manifest.json").read_bytes())
        del data["files"]
        assert "secret" not in json.dumps(data)
    for digest in objects(history):
        (place(history) / "objects" / f"{digest}.gz").unlink()
    for version in [k.version for k in kept] + ["my-secret-title"]:
        with pytest.raises(ConvsyncError) as caught:
            history.read(WS, ID, version)
        assert "secret" not in f"{caught.value} {caught.value.where} {caught.value.hint}"


def test_a_person_who_finds_it_can_read_it(history):
    """A README is written once, and never over what a person made of it."""
    keep(history, b"a")
    readme = Path(history.base, "README")
    assert "gzip" in readme.read_text()
    readme.write_text("mine")
    keep(History(history.data_dir), b"b")
    assert readme.read_text() == "mine"


def test_large_content_is_not_copied(history):
    """Keeping needs a few buffers beside the content; reading needs the content once."""
    mib = 1 << 20
    raw = os.urandom(mib) * 32
    keep(history, [("events.json", b"", 1)])
    tracemalloc.start()
    try:
        kept = keep(history, [("events.json", raw, 1)])
        assert tracemalloc.get_traced_memory()[1] < 4 * mib
        assert not keep(history, [("events.json", raw, 1)]).new
        assert tracemalloc.get_traced_memory()[1] < 4 * mib
        tracemalloc.reset_peak()
        [(_, read, _)] = history.read(WS, ID, kept.version)
        assert tracemalloc.get_traced_memory()[1] < 44 * mib
    finally:
        tracemalloc.stop()
    assert read == raw
