"""The history when things went wrong in it: damage, strangers, clearing, and several processes at once."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import pytest

from convsync_agent import kept as kept_module
from convsync_agent import objects as objects_module
from convsync_agent.errors import StorageProblem
from convsync_agent.history import History, Kept
from convsync_agent.model import Unit
from convsync_agent.rules import DAY_MS
from keeping import ID, LOOSE, WS, child, contents, dot_names, hexes, keep, objects, place


@pytest.fixture
def history(tmp_path):
    return History(str(tmp_path / "data"))


# -- damage --------------------------------------------------------------------------


DAMAGE = {
    "gone": lambda p: p.unlink(),
    "empty": lambda p: p.write_bytes(b""),
    "cut": lambda p: p.write_bytes(p.read_bytes()[:-3]),
    "zeros": lambda p: p.write_bytes(bytes(len(p.read_bytes()))),
    "flipped": lambda p: p.write_bytes(p.read_bytes()[:12] + b"\x55" + p.read_bytes()[13:]),
    "shorter": lambda p: p.write_bytes(gzip.compress(b"the content")),
    "other": lambda p: p.write_bytes(gzip.compress(b"not this content at all")),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_mended(history, kind):
    """A damaged object is never handed out, never counts as kept, and is replaced by the next keep of it."""
    kept = keep(history, b"the content" * 10)
    [digest] = hexes(b"the content" * 10)
    DAMAGE[kind](place(history) / "objects" / f"{digest}.gz")
    with pytest.raises(StorageProblem) as caught:
        history.read(WS, ID, kept.version)
    assert caught.value.code == "io"
    assert not history.has_content(WS, ID, digest)
    assert not history.holds(WS, ID, Unit.STREAM, hexes(b"{}", b"the content" * 10))
    if kind != "flipped":  # a cheap look does not see it
        assert history.versions(WS, ID) == []
        [problem] = history.problems(WS, ID)
        assert kept.version in problem.detail
    assert keep(history, b"the content" * 10) == Kept(kept.version, new=False)
    assert contents(history) == [b"the content" * 10]
    assert history.problems(WS, ID) == []


def test_a_version_that_lost_content_neither_goes_nor_makes_another_go(history):
    """It is told, its other content stays, and the newest whole version counts as the newest."""
    keep(history, b"whole", at_ms=1)
    kept = keep(history, b"lost", at_ms=2)
    [base, whole, lost] = hexes(b"{}", b"whole", b"lost")
    (place(history) / "objects" / f"{lost}.gz").unlink()
    assert history.prune(None, 99 * DAY_MS, keep_days=0, keep_versions=1, max_bytes=0) == (0, 0)
    history.sweep()
    assert contents(history) == [b"whole"]
    assert objects(history) == {base, whole}
    assert kept.version in os.listdir(place(history))
    (place(history) / "objects" / f"{'0' * 32}.gz").write_bytes(b"unasked")
    assert history.sweep() == 1


def edited(**changes):
    def edit(path):
        data = json.loads(path.read_bytes())
        path.write_text(json.dumps({k: v for k, v in (data | changes).items() if v is not Ellipsis}))

    return edit


BROKEN = {
    "no file": lambda p: p.unlink(),
    "empty": lambda p: p.write_bytes(b""),
    "no JSON": lambda p: p.write_bytes(b'{"why": "secret \xff'),
    "deep": lambda p: p.write_bytes(b"[" * 200_000),
    "a list": lambda p: p.write_bytes(b"[1]"),
    "newer": edited(schema=2),
    "bool schema": edited(schema=True),
    "no schema": edited(schema=...),
    "no files": edited(files=[]),
    "odd files": edited(files=["secret"]),
    "odd name": edited(files=[{"name": "../secret", "digest": "0" * 32, "size": 1, "mtime_ns": 1}]),
    "odd digest": edited(files=[{"name": "a", "digest": "../../secret", "size": 1, "mtime_ns": 1}]),
    "other unit": edited(unit="metadata"),
    "odd unit": edited(unit="secret"),
    "other time": edited(at=7),
    "other conversation": edited(conversation="jp-c1"),
    "other workspace": edited(workspace="secret"),
    "odd events": edited(events="secret"),
    "odd valid": edited(valid=1),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_manifest_that_is_not_understood_is_reported_and_left(history, kind):
    """It is skipped and named without its text; the others work; nothing it may need is ever cleared."""
    lost = keep(history, b"lost", at_ms=1)
    keep(history, b"good", at_ms=2)
    BROKEN[kind](place(history) / lost.version / "manifest.json")
    before = sorted(os.listdir(place(history) / lost.version))
    assert contents(history) == [b"good"]
    [problem] = history.problems(WS, ID)
    assert (problem.kind, problem.conversation) == ("io", ID)
    assert lost.version in problem.detail
    assert "secret" not in problem.detail
    with pytest.raises(StorageProblem):
        history.read(WS, ID, lost.version)
    keep(history, b"more", at_ms=3)
    history.prune(None, 99 * DAY_MS, keep_days=0, keep_versions=0, max_bytes=0)
    history.sweep()
    assert sorted(os.listdir(place(history) / lost.version)) == before
    assert objects(history) == set(hexes(b"{}", b"lost", b"good", b"more"))
    assert contents(history) == [b"more"]


def test_a_stranger_among_the_versions_is_left(history):
    """A name that is not ours is reported without saying it, and stops the clearing of objects."""
    keep(history)
    (place(history) / "my secret title").mkdir()
    [problem] = history.problems(WS, ID)
    assert "secret" not in problem.detail
    assert len(history.versions(WS, ID)) == 1


# -- clearing ------------------------------------------------------------------------


def test_prune_frees_what_no_version_needs(history):
    """Retention removes versions, then objects only they needed, and reports what became free."""
    for n, raw in enumerate((b"old", b"shared", b"middle", b"shared")):
        keep(history, raw, at_ms=n * DAY_MS)
    before = history.size()
    pruned = history.prune(WS, 4 * DAY_MS, **(LOOSE | {"keep_versions": 1}))
    assert pruned.versions == 3
    assert pruned.bytes == before - history.size() > 0
    assert contents(history) == [b"shared"]
    assert objects(history) == set(hexes(b"{}", b"shared"))
    assert dot_names(history) == []
    assert history.prune(None, 4 * DAY_MS, **(LOOSE | {"keep_versions": 1})) == (0, 0)


def test_prune_reaches_the_limit_in_one_go(history):
    """With a limit on bytes, what is left fits, though versions share content, and no more goes than needed."""
    rows = [os.urandom(5000) for _ in range(4)]
    for n, raw in enumerate((*rows, rows[0])):
        keep(history, raw, at_ms=n)
    per_row = 5000 + 600
    history.prune(None, 10, **(LOOSE | {"max_bytes": 3 * per_row}))
    assert contents(history) == [rows[0], rows[3]] or contents(history) == [rows[0], rows[3], rows[2]]
    assert history.size() - os.path.getsize(Path(history.base, "README")) <= 3 * per_row


def test_prune_spares_the_protected(history):
    """A version under an open entry stays, with its objects."""
    first = keep(history, b"first", at_ms=1)
    keep(history, b"second", at_ms=2)
    keep(history, b"third", at_ms=3)
    history.prune(None, 999 * DAY_MS, **(LOOSE | {"keep_versions": 1}), protected=lambda m: m.version == first.version)
    assert contents(history) == [b"third", b"first"]


def test_prune_keeps_to_its_workspace(history):
    """Other workspaces are not looked at; the same conversation id in two of them is two conversations."""
    for space in ("aaaaa", "bbbbb"):
        keep(history, b"1", workspace=space, at_ms=1)
        keep(history, b"2", workspace=space, at_ms=2)
    tight = LOOSE | {"keep_versions": 1}
    assert history.prune("aaaaa", 5, **tight).versions == 1
    assert len(history.versions("bbbbb", ID)) == 2
    assert history.prune(None, 5, **tight).versions == 1


def test_the_age_counts_from_the_last_time(history):
    """What was kept long ago and again yesterday is a day old: a newer version does not make it go."""
    kept = keep(history, b"again", at_ms=0)
    keep(history, b"again", at_ms=200 * DAY_MS)
    keep(history, b"newer", at_ms=201 * DAY_MS)
    assert [m.at_ms for m in history.versions(WS, ID)] == [201 * DAY_MS, 0]
    history.prune(None, 202 * DAY_MS, **LOOSE)
    assert contents(history) == [b"newer", b"again"]
    history.prune(None, 291 * DAY_MS, **LOOSE)
    assert contents(history) == [b"newer"]
    assert kept.version not in os.listdir(place(history))


def test_sweep_clears_only_garbage(history):
    """Unfinished files, versions and unasked objects go; what a version needs comes back; strangers stay."""
    keep(history, b"a")
    [a, b] = hexes(b"a", b"b")
    folder = place(history)
    (folder / "objects" / ".tmp-1").write_bytes(b"half")
    (folder / ".tmp-2").mkdir()
    (folder / ".tmp-2" / "manifest.json").write_bytes(b"half")
    (folder / "objects" / f".out-{b}.gz").write_bytes(b"unasked")
    (folder / "objects" / f"{b}.gz").write_bytes(b"unasked")
    (folder / "objects" / f"{a}.gz").rename(folder / "objects" / f".out-{a}.gz")
    Path(history.base, ".tmp-3").write_bytes(b"half")
    (folder / ".DS_Store").write_bytes(b"a stranger")
    assert history.sweep() >= 4
    assert [p.name for p in dot_names(history)] == [".DS_Store"]
    assert objects(history) == set(hexes(b"{}", b"a"))
    assert contents(history) == [b"a"]
    assert history.sweep() == 0


# -- races ---------------------------------------------------------------------------


def test_race_objects_are_cleared_before_the_manifest_comes(history, monkeypatch):
    """A clearing between a keep's objects and its manifest costs nothing: the keep looks again."""
    keep(history, b"old")
    publish = kept_module.publish

    def late(*args, **kwargs):
        other = History(history.data_dir)
        assert other.sweep() == 1
        return publish(*args, **kwargs)

    monkeypatch.setattr(kept_module, "publish", late)
    keep(history, b"new")
    assert contents(history) == [b"new", b"old"]


def test_race_a_manifest_comes_while_objects_are_cleared(history, monkeypatch):
    """A keep after a clearing made its list costs nothing: the clearing looks again before it removes."""
    keep(history, b"old")
    [digest] = hexes(b"late")
    (place(history) / "objects" / f"{digest}.gz").write_bytes(gzip.compress(b"late"))
    rename, done = os.rename, []

    def slow(old, new):
        if digest in old and not done:
            done.append(1)
            monkeypatch.setattr(objects_module, "intact", lambda *_: True)  # the keep saw the object just before
            keep(History(history.data_dir), b"late")
        rename(old, new)

    monkeypatch.setattr(os, "rename", slow)
    history.sweep()
    assert done
    assert contents(history) == [b"late", b"old"]
    assert dot_names(history) == []


def test_race_somebody_else_takes_the_name(history, monkeypatch):
    """Of two keeps of the same content at the same ms that do not see each other, neither loses its version."""
    first = keep(history, b"a")
    with monkeypatch.context() as patch:
        patch.setattr(kept_module, "load_newest", lambda *_: (None, -1))
        second = keep(history, b"a")
    assert second.new
    assert [m.version for m in history.versions(WS, ID)] == [second.version, first.version]
    assert [m.at_ms for m in history.versions(WS, ID)] == [1001, 1000]
    assert contents(history) == [b"a", b"a"]
    assert dot_names(history) == []


WRITER = f"""
from convsync_agent.history import History
from convsync_agent.model import Unit
history = History(sys.argv[1])
for n in range(int(sys.argv[3])):
    files = [("events.json", b"%s %d" % (sys.argv[2].encode(), n), 1)]
    kept = history.keep({WS!r}, {ID}, Unit.STREAM, files, root="/r", at_ms=n, why="w", valid=True, events=None)
    assert kept.new
"""


def test_several_processes_keep_at_once(history):
    """Nobody's version is lost or overwritten when several processes keep the same conversation at the same ms."""
    running = [child(WRITER, history.data_dir, name, 20) for name in "abc"]
    assert [p.wait(120) for p in running] == [0, 0, 0]
    assert sorted(contents(history)) == sorted(b"%c %d" % (name, n) for name in b"abc" for n in range(20))


def test_pruning_beside_keeping_leaves_whole_versions(history):
    """While two processes keep and one prunes, no version is ever left without its content."""
    running = [child(WRITER, history.data_dir, name, 60) for name in "ab"]
    while any(p.poll() is None for p in running):
        history.prune(None, 10, **(LOOSE | {"keep_versions": 2}))
    assert [p.returncode for p in running] == [0, 0]
    assert contents(history)
    assert history.problems(WS, ID) == []
