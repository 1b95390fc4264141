"""The history on real directories: tables, laws, crashes, races."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convsync_agent
from convsync_agent import kept as kept_module
from convsync_agent import kernel
from convsync_agent import objects as objects_module
from convsync_agent.digest import content_digest
from convsync_agent.errors import ConvsyncError, NotFound, StorageProblem, UsageProblem
from convsync_agent.history import README, History, Kept
from convsync_agent.model import Unit
from convsync_agent.rules import DAY_MS

WS, ID, ROOT = "otvo8", 17457886043, "/home/me/project/.jp"
STREAM = [("base_config.json", b"{}", 1_700_000_000_123_456_789), ("events.json", b'[{"type":"x"}]', 17)]
LOOSE = {"keep_days": 90, "keep_versions": 50, "max_bytes": 2 << 30}
STEPS = ("open", "mkdir", "chmod", "fchmod", "fsync", "rename", "utime")


@pytest.fixture
def history(tmp_path):
    return History(str(tmp_path / "data"))


def keep(history, files=STREAM, *, unit=Unit.STREAM, at_ms=1000, conversation=ID, workspace=WS):
    if isinstance(files, bytes):
        files = [("base_config.json", b"{}", 5), ("events.json", files, 6)]
    facts = {"root": ROOT, "why": "replaced", "valid": True, "events": 1}
    return history.keep(workspace, conversation, unit, files, at_ms=at_ms, **facts)


def place(history, workspace=WS, conversation=ID):
    return Path(history.base, workspace, f"jp-c{conversation}")


def objects(history, conversation=ID):
    return {p.name.removesuffix(".gz") for p in place(history, conversation=conversation).glob("objects/*.gz")}


def hexes(*raw):
    return [content_digest(r).hex() for r in raw]


def contents(history):
    """The events of every version, newest first; reading checks every digest."""
    return [dict(f[:2] for f in history.read(WS, ID, m.version))["events.json"] for m in history.versions(WS, ID)]


def dot_names(history):
    return [p for p in Path(history.base).rglob("*") if p.name.startswith(".")]


# -- what is kept -------------------------------------------------------------


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


# -- asking -------------------------------------------------------------------


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


# -- damage -------------------------------------------------------------------

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


# -- clearing -----------------------------------------------------------------


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


# -- races --------------------------------------------------------------------


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


def child(script, *args, **options):
    code = f"import sys; sys.path.insert(0, {os.path.dirname(convsync_agent.__path__[0])!r})\n{script}"
    return subprocess.Popen([sys.executable, "-c", code, *map(str, args)], **options)


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
    assert [p.wait(60) for p in running] == [0, 0, 0]
    assert sorted(contents(history)) == sorted(b"%c %d" % (name, n) for name in b"abc" for n in range(20))


def test_pruning_beside_keeping_leaves_whole_versions(history):
    """While two processes keep and one prunes, no version is ever left without its content."""
    running = [child(WRITER, history.data_dir, name, 60) for name in "ab"]
    while any(p.poll() is None for p in running):
        history.prune(None, 10, **(LOOSE | {"keep_versions": 2}))
    assert [p.returncode for p in running] == [0, 0]
    assert contents(history)
    assert history.problems(WS, ID) == []


# -- crashes ------------------------------------------------------------------


class Fault:
    """Lets `left` file system steps happen, then fails once."""

    def __init__(self, monkeypatch, left):
        self.left = left
        for name in STEPS:
            monkeypatch.setattr(os, name, self.wrap(name, getattr(os, name)))

    def wrap(self, name, real):
        def step(*args, **kwargs):
            reads = name == "open" and not args[1] & (os.O_CREAT | os.O_DIRECTORY)
            self.left -= not reads  # to read takes no space
            if self.left == -1 and not reads:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        return step


@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_a_fault_at_each_step_leaves_the_old_or_the_new(tmp_path, monkeypatch, first):
    """Whichever step fails, the versions are the old or the new ones, whole, no temporary name stays, a retry works.

    Each fault is heard but one: an object that was there and cannot be synced is written anew.
    """
    unheard = 0
    for n in range(1000):
        history = History(str(tmp_path / f"{n}"))
        old = [] if first else [b"old"]
        for raw in old:
            keep(history, raw)
        failed = False
        with monkeypatch.context() as patch:
            fault = Fault(patch, n)
            try:
                keep(History(history.data_dir), b"new")
            except OSError:
                failed = True
        assert contents(history) in ([[b"new", *old], old] if failed else [[b"new", *old]])
        assert dot_names(history) == []
        if fault.left >= 0:
            break
        unheard += not failed
        keep(history, b"new")
        assert contents(history) == [b"new", *old]
    assert unheard == len(old)
    assert n > 20


KILLED = """
import os, signal
from convsync_agent.history import History
from convsync_agent.model import Unit
left = int(sys.argv[2])
def wrap(real):
    def step(*args, **kwargs):
        global left
        left -= 1
        if left == -1:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return step
for name in sys.argv[3].split():
    setattr(os, name, wrap(getattr(os, name)))
files = [("base_config.json", b"{}", 5), ("events.json", b"new", 6)]
History(sys.argv[1]).keep("otvo8", 17457886043, Unit.STREAM, files, root="/r", at_ms=2, why="w", valid=True, events=1)
"""


def test_a_kill_at_each_step_leaves_the_old_or_the_new(tmp_path):
    """SIGKILL before any step: old or new, whole; sweep clears the rest; the same keep then succeeds."""
    for n in range(1000):
        history = History(str(tmp_path / f"{n}"))
        keep(history, b"old")
        code = child(KILLED, history.data_dir, n, " ".join(STEPS)).wait(60)
        assert contents(history) in ([b"new", b"old"], [b"old"])
        assert code in (0, -signal.SIGKILL)
        assert code or contents(history) == [b"new", b"old"]
        history = History(history.data_dir)
        history.sweep()
        assert dot_names(history) == []
        assert objects(history) == {f.digest for m in history.versions(WS, ID) for f in m.files}
        keep(history, b"new")
        assert contents(history) == [b"new", b"old"]
        if code == 0:
            break
    assert n > 15


def test_a_kill_in_pruning_leaves_whole_versions(tmp_path):
    """SIGKILL before any step of a prune: every version that is left reads back, and the next prune finishes."""
    script = KILLED[: KILLED.index("files =")] + (
        "History(sys.argv[1]).prune(None, 9, keep_days=9, keep_versions=1, max_bytes=1 << 40)"
    )
    for n in range(1000):
        history = History(str(tmp_path / f"{n}"))
        for raw in (b"1", b"2", b"3"):
            keep(history, raw)
        code = child(script, history.data_dir, n, f"{' '.join(STEPS)} unlink rmdir").wait(60)
        assert contents(history)[:1] == [b"3"]
        assert code in (0, -signal.SIGKILL)
        history.sweep()
        history.prune(None, 9, keep_days=9, keep_versions=1, max_bytes=1 << 40)
        assert contents(history) == [b"3"]
        assert objects(history) == set(hexes(b"{}", b"3"))
        assert dot_names(history) == []
        if code == 0:
            break
    assert n > 5


def key(path):
    """A directory entry, as `Disk` knows it."""
    return os.stat(os.path.dirname(path)).st_ino, os.path.basename(path)


class Disk:
    """What a power failure could still take back, names and content, from the real calls as they happen."""

    def __init__(self, monkeypatch):
        self.loose = {}  # (directory inode, name) -> inode of what was made or renamed there
        self.dirty = {}  # inode -> name of a file whose content was not synced
        self.synced = set()
        self.early = []  # renames of something whose own content was not synced
        self.fsyncs = 0
        self.barriers = []  # inodes
        real = {n: getattr(os, n) for n in ("open", "fsync", "rename", "mkdir", "unlink")}
        sync_file_system = kernel.sync_file_system

        def open_(path, flags, *args, **kwargs):
            fd = real["open"](path, flags, *args, **kwargs)
            if flags & os.O_CREAT:
                self.loose[key(path)] = inode = os.fstat(fd).st_ino
                self.dirty[inode] = os.path.basename(path)
                self.synced.discard(inode)
            return fd

        def fsync(fd):
            real["fsync"](fd)
            self.fsyncs += 1
            inode = os.fstat(fd).st_ino
            self.synced.add(inode)
            self.dirty.pop(inode, None)
            self.loose = {k: v for k, v in self.loose.items() if k[0] != inode}

        def barrier(fd):
            sync_file_system(fd)
            self.barriers.append(os.fstat(fd).st_ino)
            self.forget()

        def rename(old, new):
            inode = os.stat(old).st_ino
            inner = [k for k in self.loose if k[0] == inode]
            if inode not in self.synced or inner:
                self.early.append(new)
            if objects_module.OBJECTS not in new and any(k[1].endswith(".gz") for k in self.loose):
                self.early.append(new)
            if os.path.exists(new):
                self.dirty.pop(os.stat(new).st_ino, None)
            real["rename"](old, new)
            self.loose.pop(key(old), None)
            self.loose[key(new)] = inode
            if inode in self.dirty:
                self.dirty[inode] = os.path.basename(new)

        def mkdir(path, mode=0o777):
            real["mkdir"](path, mode)
            self.loose[key(path)] = os.stat(path).st_ino

        def unlink(path, *, dir_fd=None):
            inode = os.stat(path, dir_fd=dir_fd).st_ino
            real["unlink"](path, dir_fd=dir_fd)
            self.dirty.pop(inode, None)
            if dir_fd is None:
                self.loose.pop(key(path), None)

        for fake in (open_, fsync, rename, mkdir, unlink):
            monkeypatch.setattr(os, fake.__name__.rstrip("_"), fake)
        monkeypatch.setattr(kernel, "sync_file_system", barrier)

    def forget(self):
        self.loose.clear()
        self.dirty.clear()

    def exposed(self):
        return [name for name in [*(n for _, n in self.loose), *self.dirty.values()] if name != README]


def test_all_is_durable_when_keep_returns(history, monkeypatch):
    """R4: content before name, objects before the manifest, and every new name synced when keep returns."""
    disk = Disk(monkeypatch)
    for raw in (b"a", b"b"):
        keep(history, raw)
        assert disk.early == []
        assert disk.exposed() == []


@pytest.mark.parametrize("fresh", [True, False], ids=["later", "at once"])
@pytest.mark.parametrize("ask", ["keep", "holds", "has_content"])
def test_what_an_earlier_fault_left_is_made_durable_before_it_counts(tmp_path, monkeypatch, ask, fresh):
    """A version whose last sync did not happen is synced before anyone is told that it is there."""
    disk = Disk(monkeypatch)
    for n in range(1000):
        history = History(str(tmp_path / f"{n}"))
        with monkeypatch.context() as patch:
            Fault(patch, n)
            with contextlib.suppress(OSError):
                keep(history, b"a")
                break
        history = History(history.data_dir) if fresh else history
        answer = {
            "keep": lambda h: keep(h, b"a"),
            "holds": lambda h: h.holds(WS, ID, Unit.STREAM, hexes(b"{}", b"a")),
            "has_content": lambda h: h.has_content(WS, ID, *hexes(b"a")),
        }[ask](history)
        assert not answer or disk.exposed() == []
        disk.forget()
    assert n > 20


@pytest.mark.parametrize(
    ("raw", "expected"),
    [(b"new", 5), (b"old", 1)],
    ids=["an object, its name, a manifest, its name, the version's name", "the new age"],
)
def test_what_was_synced_here_is_not_synced_again(history, monkeypatch, raw, expected):
    """In a conversation that is known, a keep syncs what it made and nothing else."""
    keep(history, b"old")
    disk = Disk(monkeypatch)
    keep(history, raw)
    assert disk.fsyncs == expected
    assert disk.exposed() == []
    disk.fsyncs = 0
    assert history.holds(WS, ID, Unit.STREAM, hexes(b"{}", raw))
    assert disk.fsyncs == 0


@pytest.mark.parametrize("ask", ["holds", "has_content"])
def test_an_object_whose_sync_failed_is_not_trusted_again(history, monkeypatch, ask):
    """A failed sync is told once only: the object does not count, and the next keep of it makes a new one."""
    keep(history, b"a")
    [digest] = hexes(b"a")
    path = place(history) / "objects" / f"{digest}.gz"
    before = path.stat().st_ino
    other = History(history.data_dir)
    with monkeypatch.context() as patch:
        real = os.fsync

        def fsync(fd):
            if os.fstat(fd).st_ino == before:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(fd)

        patch.setattr(os, "fsync", fsync)
        asked = {
            "holds": lambda: other.holds(WS, ID, Unit.STREAM, hexes(b"{}", b"a")),
            "has_content": lambda: other.has_content(WS, ID, digest),
        }[ask]
        assert not asked()
    assert not asked()
    keep(other, b"a")
    assert path.stat().st_ino != before
    assert asked()


# -- bursts -------------------------------------------------------------------

with_syncfs = pytest.mark.skipif(not kernel.has_syncfs(), reason="no syncfs here: a batch is a row of single keeps")


@with_syncfs
@pytest.mark.parametrize("known", [True, False])
def test_a_batch_waits_for_the_disk_once(history, monkeypatch, known):
    """No fsync inside, one syncfs of the data directory at the end, and then all of it is durable."""
    if known:
        keep(history, b"before")
    disk = Disk(monkeypatch)
    with history.batch():
        for n in range(12):
            assert keep(history, b"%d" % n, conversation=ID + n % 3, at_ms=n).new
            assert not keep(history, b"%d" % n, conversation=ID + n % 3, at_ms=n).new
        assert (disk.fsyncs, disk.barriers) == (0, [])
        assert disk.exposed() != []
    assert disk.barriers == [os.stat(history.data_dir).st_ino]
    assert (disk.fsyncs, disk.exposed()) == (0, [])
    keep(history, b"9")
    assert disk.fsyncs == 1, "what the batch made is known to be durable"
    with history.batch():
        pass
    assert len(disk.barriers) == 1, "nothing was kept"


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"ab"]), st.integers(0, 4), st.integers(0, 2)), max_size=10))
@settings(max_examples=30, deadline=None)
def test_law_a_batch_keeps_what_single_keeps_do(steps):
    """In one batch, in batches within a batch, or one by one: the same answers and the same versions."""

    def run(top, batched):
        history = History(top)
        answers = []
        with history.batch() if batched else contextlib.nullcontext():
            for raw, at_ms, depth in steps:
                with history.batch() if batched and depth else contextlib.nullcontext():
                    answers.append(keep(history, raw, at_ms=at_ms))
        return answers, history.versions(WS, ID), contents(history), objects(history), history.problems(WS, ID)

    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        assert run(one, batched=True) == run(two, batched=False)


def test_without_syncfs_each_keep_is_durable_when_it_returns(history, monkeypatch):
    """Where one call cannot sync a file system, a batch changes nothing."""
    disk = Disk(monkeypatch)
    monkeypatch.setattr(kernel, "has_syncfs", lambda: False)
    with history.batch():
        for raw in (b"a", b"b"):
            keep(history, raw)
            assert (disk.early, disk.exposed(), disk.barriers) == ([], [], [])


@with_syncfs
@pytest.mark.parametrize("end", ["the barrier", "an exception"])
def test_a_batch_that_did_not_end_well_made_nothing_durable(history, monkeypatch, end):
    """Its error comes out, and whatever it made, directories too, is synced before a later keep counts."""
    disk = Disk(monkeypatch)
    path = place(history) / "objects" / f"{hexes(b'a')[0]}.gz"
    error = OSError(errno.ENOSPC, "no space")

    def burst():
        with history.batch():
            keep(history, b"a")
            if end == "an exception":
                raise error

    def barrier(_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(kernel, "sync_file_system", barrier)
        with pytest.raises(OSError, match="no space"):
            burst()
    assert disk.fsyncs == 0
    before = path.stat().st_ino
    again = keep(history, b"a")
    # After a failed sync a second one of the same file would say nothing: that version and its objects are made anew.
    assert again.new is (path.stat().st_ino != before) is (end == "the barrier")
    assert set(disk.exposed()) == ({"manifest.json"} if again.new else set())
    assert contents(history)[0] == b"a"


@with_syncfs
@pytest.mark.parametrize("ask", ["keep", "more", "holds", "has_content"])
def test_what_a_running_batch_made_is_synced_by_who_relies_on_it(history, monkeypatch, ask):
    """Another process that finds content of an unfinished batch makes it durable before it says so."""
    disk = Disk(monkeypatch)
    other = History(history.data_dir)
    with history.batch():
        keep(history, b"a")
        answer = {
            "keep": lambda: not keep(other, b"a").new,
            "more": lambda: keep(other, [("events.json", b"a", 5)]).new,
            "holds": lambda: other.holds(WS, ID, Unit.STREAM, hexes(b"{}", b"a")),
            "has_content": lambda: other.has_content(WS, ID, *hexes(b"a")),
        }[ask]()
        assert answer
        base = f"{hexes(b'{}')[0]}.gz"
        unused = {"more": {"manifest.json", base}, "has_content": {base}}
        assert set(disk.exposed()) <= unused.get(ask, set())


@with_syncfs
def test_in_a_batch_an_answer_is_still_durable(history, monkeypatch):
    """What a batch is asked about is durable when it says yes, without waiting for its end."""
    disk = Disk(monkeypatch)
    keep(history, b"before")
    with history.batch():
        keep(history, b"a")
        assert history.holds(WS, ID, Unit.STREAM, hexes(b"{}", b"a"))
        assert disk.exposed() == []


@with_syncfs
def test_a_batch_mends_with_durable_content(history, monkeypatch):
    """An object that older versions need is replaced by content that is durable already, in a batch too."""
    keep(history, b"a")
    (place(history) / "objects" / f"{hexes(b'a')[0]}.gz").write_bytes(b"")
    disk = Disk(monkeypatch)
    with history.batch():
        keep(history, b"a")
        assert (disk.fsyncs, disk.early) == (1, [])
    assert contents(history) == [b"a"]


@with_syncfs
def test_a_batch_syncs_each_file_system_it_wrote_to(history, monkeypatch):
    """Where the history of a workspace lies on another disk, that one is synced as well."""
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == os.stat(os.path.dirname(history.data_dir)).st_dev:
        pytest.skip("no second file system here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as far:
        os.makedirs(history.base)
        os.symlink(far, os.path.join(history.base, WS))
        disk = Disk(monkeypatch)
        with history.batch():
            keep(history, b"a")
        here, there = disk.barriers
        assert (here, there) == (os.stat(history.data_dir).st_ino, os.stat(place(history) / "objects").st_ino)


def test_a_kill_at_each_step_of_a_batch_leaves_whole_versions(tmp_path):
    """SIGKILL before any step of a burst: each version is whole, sweep clears the rest, the content then is kept."""
    script = KILLED[: KILLED.index("files =")] + (
        "history = History(sys.argv[1])\n"
        "with history.batch():\n"
        "    for raw in (b'1', b'2'):\n"
        "        history.keep('otvo8', 17457886043, Unit.STREAM, [('events.json', raw, 6)],"
        " root='/r', at_ms=2, why='w', valid=True, events=1)\n"
    )
    for n in range(1000):
        history = History(str(tmp_path / f"{n}"))
        keep(history, b"old")
        code = child(script, history.data_dir, n, " ".join(STEPS)).wait(60)
        assert contents(history) in ([b"old"], [b"1", b"old"], [b"2", b"1", b"old"])
        assert code in (0, -signal.SIGKILL)
        history = History(history.data_dir)
        history.sweep()
        assert dot_names(history) == []
        assert history.problems(WS, ID) == []
        assert objects(history) == {f.digest for m in history.versions(WS, ID) for f in m.files}
        keep(history, [("events.json", b"2", 6)])
        assert contents(history)[0] == b"2"
        if code == 0:
            break
    assert n > 15


FULL = """
import errno, os, resource, signal
from convsync_agent.history import History
from convsync_agent.model import Unit
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
files = [("base_config.json", b"{}", 5), ("events.json", os.urandom(3_000_000), 6)]
try:
    History(sys.argv[1]).keep("otvo8", 1, Unit.STREAM, files, root="/r", at_ms=2, why="w", valid=True, events=1)
except OSError as error:
    sys.exit(error.errno == errno.EFBIG)
"""


def test_a_file_that_does_not_fit_leaves_nothing_half_done(history):
    """A real refusal by the OS in mid-write comes out as the OSError it is, and the half file is gone."""
    assert child(FULL, history.data_dir).wait(60) == 1
    assert dot_names(history) == []
    assert objects(history, conversation=1) == set(hexes(b"{}"))
    assert history.versions(WS, 1) == []


# -- privacy and manners ------------------------------------------------------


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
