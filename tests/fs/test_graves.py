"""Tombstones on real directories: what is written, what is read of damage, what survives (docs/design.md, Deciding)."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from convsync_agent.graves import TOMBSTONE, Graves
from convsync_agent.model import Unit
from convsync_agent.safety import Tombstone
from deaths import dying
from faults import Faults

WS, C = "abcde", 17_000_000_001
A, B = (b"a" * 16, b"e" * 16), (None, b"f" * 16)
M = (b"m" * 16,)
LINEAGE = {Unit.STREAM: [A, B], Unit.METADATA: [M]}


@pytest.fixture
def graves(tmp_path):
    return Graves(str(tmp_path / "data"))


def path(graves, conversation=C):
    return Path(graves.data_dir, "trash", WS, f"jp-c{conversation}", TOMBSTONE)


def bury(graves, digests=LINEAGE, **facts):
    return graves.bury(WS, C, digests, **({"at_ms": 5, "why": "by command"} | facts))


def test_what_was_buried_is_found(graves):
    """By whom, when, why, and every content of the lineage, by another process too."""
    wanted = Tombstone(
        WS, C, 5, "by command", {Unit.STREAM: frozenset(LINEAGE[Unit.STREAM]), Unit.METADATA: frozenset([M])}
    )
    assert bury(graves) == wanted
    assert Graves(graves.data_dir).find(WS, C) == wanted
    assert graves.stands(WS, C)
    assert graves.ls() == graves.ls(WS) == ([wanted], [])
    assert graves.ls("other") == ([], [])


def test_it_describes_itself(graves):
    """Schema, ids, when, why and hex digests per unit and file; nothing else."""
    bury(graves)
    assert json.loads(path(graves).read_bytes()) == {
        "schema": 1,
        "workspace": WS,
        "conversation": f"jp-c{C}",
        "at": 5,
        "why": "by command",
        "digests": {
            "stream": [["61" * 16, "65" * 16], [None, "66" * 16]],
            "metadata": [["6d" * 16]],
        },
    }


def test_nothing_is_found_where_nothing_is(graves):
    """Asking makes no directory."""
    assert graves.find(WS, C) is None
    assert not graves.stands(WS, C)
    assert graves.ls() == ([], [])
    assert not graves.add(WS, C, LINEAGE)
    assert not graves.lift(WS, C)
    assert not Path(graves.data_dir).exists()


def test_digests_are_added_and_none_is_forgotten(graves):
    """A second burial keeps the first time and reason; an absent unit has no content."""
    bury(graves, {Unit.STREAM: [A]})
    assert graves.add(WS, C, {Unit.STREAM: [B, A], Unit.METADATA: [(None,)]})
    bury(graves, {Unit.METADATA: [M]}, at_ms=99, why="no other copy")
    found = graves.find(WS, C)
    assert (found.at_ms, found.why) == (5, "by command")
    assert found.digests == {Unit.STREAM: {A, B}, Unit.METADATA: {M}}


def test_adding_what_is_known_writes_nothing(graves):
    """An idle agent that meets the same left-over again costs the disk nothing."""
    bury(graves)
    before = path(graves).stat()
    assert graves.add(WS, C, LINEAGE)
    assert path(graves).stat() == before


def test_lifting_takes_the_place_away(graves):
    """Unless something else is in it: the kept copy stays."""
    bury(graves)
    assert graves.lift(WS, C)
    assert not path(graves).parent.exists()
    bury(graves)
    path(graves).with_name("manifest.json").touch()
    assert graves.lift(WS, C)
    assert [p.name for p in path(graves).parent.iterdir()] == ["manifest.json"]
    assert graves.find(WS, C) is None


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
def test_only_the_owner_may_look(graves, umask):
    """0700 and 0600 whatever the umask."""
    old = os.umask(umask)
    try:
        bury(graves)
    finally:
        os.umask(old)
    for top in (path(graves), *list(path(graves).parents)[:3]):
        assert stat.S_IMODE(top.stat().st_mode) == (0o600 if top.is_file() else 0o700)


DAMAGE = {
    "empty": b"",
    "nul": b"\0" * 300,
    "cut": None,
    "text": b"removed",
    "list": b"[]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "schema": {"schema": 2},
    "workspace": {"workspace": "other"},
    "conversation": {"conversation": "jp-c1"},
    "time": {"at": "yesterday"},
    "digest": {"digests": {"stream": [["zz", None]]}},
    "files": {"digests": {"stream": [[None]]}},
    "unit": {"digests": {"text": []}},
    "number": {"digests": {"stream": [3]}},
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_one_stands(graves, kind):
    """What a person removed is not brought back by a bad file: it is told, and counts."""
    bury(graves)
    raw, how = path(graves).read_bytes(), DAMAGE[kind]
    path(graves).write_bytes(raw[:-9] if how is None else how if isinstance(how, bytes) else edited(raw, how))
    damaged = Tombstone(WS, C, damaged=True)
    assert graves.find(WS, C) == damaged
    assert graves.stands(WS, C)
    found, [problem] = graves.ls()
    assert found == [damaged]
    assert (problem.conversation, problem.detail) == (C, "its tombstone is damaged")
    assert not graves.add(WS, C, LINEAGE)
    assert bury(graves, at_ms=7).at_ms == 7
    assert graves.ls()[1] == []


def edited(raw, changes):
    return json.dumps(json.loads(raw) | changes).encode()


@pytest.mark.parametrize("kind", ["symlink", "directory", "fifo"])
def test_a_stranger_in_its_place_stands(graves, kind):
    """Neither followed nor waited for; whatever it is, nothing is brought back."""
    bury(graves)
    path(graves).unlink()
    {"symlink": lambda p: p.symlink_to("/nowhere"), "directory": Path.mkdir, "fifo": os.mkfifo}[kind](path(graves))
    assert graves.find(WS, C).damaged
    assert graves.stands(WS, C)


@pytest.mark.parametrize("workspace", ["", "..", "a/b", "My-Title"])
def test_a_path_is_made_of_ids_only(graves, workspace):
    """Nothing else can become a directory (R9)."""
    with pytest.raises(ValueError, match="workspace"):
        graves.bury(workspace, C, LINEAGE, at_ms=5, why="x")


# -- crashes --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [errno.EIO, errno.ENOSPC, "full", "die"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_a_fault_at_each_step_leaves_the_old_or_the_new(tmp_path, monkeypatch, kind, first):
    """Whatever fails, the tombstone is whole: none or the new, the old or the new; the next try ends well."""
    faults = Faults(monkeypatch, kind, 0)
    for at in range(1, 200):
        graves = Graves(str(tmp_path / "data"))
        old = None if first else bury(graves, {Unit.STREAM: [A]})
        faults.at, faults.count, faults.hit = at, 0, ""
        trouble = None
        try:
            with faults.watching():
                bury(graves)
        except OSError as error:
            trouble = error
        again = Graves(graves.data_dir)
        assert again.find(WS, C) in (old, bury(Graves(str(tmp_path / "other"))))
        assert trouble is None or faults.hit
        bury(again)
        assert set(again.find(WS, C).digests[Unit.STREAM]) == {A, B}
        shutil.rmtree(tmp_path / "data")
        if not faults.hit:
            break
    assert at > 3


KILLED = dying(
    "from convsync_agent.graves import Graves\nfrom convsync_agent.model import Unit",
    ("open", "mkdir", "write", "fsync", "rename", "fchmod"),
    "Graves(sys.argv[1]).add('abcde', 17000000001, {Unit.STREAM: [(None, b'f' * 16)]})",
)


def test_a_kill_at_each_step_forgets_nothing(graves):
    """SIGKILL before any step of an addition: what was known stays known, and the lock does not."""
    bury(graves, {Unit.STREAM: [A]})
    for at in range(100):
        code = subprocess.run(
            [sys.executable, "-c", KILLED, graves.data_dir, str(at)], check=False, timeout=120
        ).returncode
        assert code in (0, -signal.SIGKILL)
        assert A in graves.find(WS, C).digests[Unit.STREAM]
        if code == 0:
            break
    assert at > 3
    assert graves.find(WS, C).digests[Unit.STREAM] == {A, B}


def test_several_processes_add_at_once(graves):
    """Nobody's digests are lost: who changes a place is alone there."""
    bury(graves, {})
    script = (
        "import sys\nfrom convsync_agent.graves import Graves\nfrom convsync_agent.model import Unit\n"
        "me = int(sys.argv[2])\nfor n in range(20):\n"
        "    Graves(sys.argv[1]).add('abcde', 17000000001, {Unit.METADATA: [(bytes([me, n]) * 8,)]})\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, graves.data_dir, str(n)]) for n in range(4)]
    assert [p.wait(120) for p in running] == [0] * 4
    assert len(graves.find(WS, C).digests[Unit.METADATA]) == 80
