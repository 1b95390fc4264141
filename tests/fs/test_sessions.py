"""Session files on disk, shared with JP: what it reads of ours, what we leave alone. Real files and processes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time

import pytest

from convsync_agent.errors import Refused, StorageProblem
from convsync_agent.model import Partition
from convsync_agent.session import ENV, GETSID, Session
from convsync_agent.sessions import Mappings, identify
from machine import as_jp

A, B, C = 17_000_000_001, 17_000_000_002, 17_000_000_003
LIVE = {A: Partition.LIVE, B: Partition.LIVE}
WORK = Session(ENV, "work", "JP_SESSION")
NOW = 1_735_787_045_120_000_000


@pytest.fixture
def silo(tmp_path):
    path = tmp_path / "silo"
    path.mkdir()
    return path


def sessions(silo):
    return Mappings(str(silo))


def name_for_jp(kind, value, variable=""):
    """The name JP looks under (contract 8.2)."""
    clean = "".join(c if c.isascii() and (c.isalnum() or c == "_") else "_" for c in (variable or value))
    return f"{kind}-{clean}" + (f"-{hashlib.sha256(value.encode()).hexdigest()[:16]}" if variable else "")


def jp_reads(silo, kind, value, variable=""):
    """The history JP reads, [] where it would ignore the file: every field is there and has its type."""
    path = silo / "sessions" / f"{name_for_jp(kind, value, variable)}.json"
    try:
        raw = path.read_bytes()
        body = json.loads(raw)
    except (FileNotFoundError, ValueError):
        return []
    whose = {"type": kind} | ({"key": variable} if variable else {})
    if body["id"] != value or body["source"] != whose:
        return []
    assert all(type(e["id"]) is int and e["activated_at"].endswith("Z") for e in body["history"])
    assert raw == as_jp(body)
    assert list(body) == ["history", "id", "source"]
    return [e["id"] for e in body["history"]]


def put(silo, key, body):
    path = silo / "sessions" / f"{key}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(body if isinstance(body, bytes) else as_jp(body))
    return path


def body(*conversations, value="work", source=None, **more):
    history = [{"id": c, "activated_at": "2025-01-02T03:04:05Z"} for c in conversations]
    return {"history": history, "id": value, "source": source or {"type": "env", "key": "JP_SESSION"}} | more


def left_over(silo):
    return [n for n in os.listdir(silo / "sessions") if not n.endswith(".json")]


# -- shared with JP -----------------------------------------------------------------


def test_jp_reads_what_we_write(silo):
    """The name, the order, integer ids, a Z: JP finds our activation, and nothing else lies there."""
    for conversation in (A, B, A):
        sessions(silo).activate(WORK, conversation, NOW)
    sessions(silo).activate(Session(GETSID, "4711"), C, NOW)

    assert jp_reads(silo, "env", "work", "JP_SESSION") == [A, B]
    assert jp_reads(silo, "getsid", "4711") == [C]
    assert left_over(silo) == []


def test_we_read_what_jp_writes(silo):
    """Active and previous come from JP's file, and our activation keeps the rest of it."""
    path = put(silo, WORK.key, body(A, 99, B, theme="dark"))

    assert (sessions(silo).active(WORK, LIVE), sessions(silo).previous(WORK, LIVE)) == (A, B)

    sessions(silo).activate(WORK, B, NOW)
    found = json.loads(path.read_bytes())
    assert [e["id"] for e in found["history"]] == [B, A, 99]
    assert found["history"][1:] == body(A, 99)["history"]
    assert found["theme"] == "dark"


def test_a_session_without_a_file_has_nothing_active(silo):
    """Contract 11.4, 143: and asking makes nothing."""
    assert sessions(silo).active(WORK, LIVE) is None
    assert sessions(silo).previous(WORK, LIVE) is None
    assert os.listdir(silo) == []


def test_two_values_and_two_sources_never_mix(silo):
    """The same value of another variable, or of the session leader, is another session (contract 11.4, 162)."""
    for session, conversation in (
        (WORK, A),
        (Session(ENV, "work", "TMUX_PANE"), B),
        (Session(ENV, "77", "JP_SESSION"), C),
        (Session(GETSID, "77"), A),
    ):
        sessions(silo).activate(session, conversation, NOW)

    assert len(os.listdir(silo / "sessions")) == 4
    assert sessions(silo).active(WORK, LIVE) == A
    assert sessions(silo).active(Session(ENV, "work", "TMUX_PANE"), LIVE) == B


def test_an_old_file_is_used_where_it_lies(silo):
    """Contract 8.2: named after the bare value, without an id; JP's clean-up gives it its new name, not this."""
    old = body(A, B)
    del old["id"]
    path = put(silo, "work", old)

    assert sessions(silo).active(WORK, LIVE) == A
    sessions(silo).activate(WORK, B, NOW)

    assert [e["id"] for e in json.loads(path.read_bytes())["history"]] == [B, A]
    assert os.listdir(silo / "sessions") == ["work.json"]


def test_an_old_file_of_another_source_is_not_ours(silo):
    """Contract 11.4, 164: the content says whose it is, not the name."""
    old = body(A, source={"type": "getsid"})
    del old["id"]
    path = put(silo, "work", old)
    before = path.read_bytes()

    assert sessions(silo).active(WORK, LIVE) is None
    sessions(silo).activate(WORK, B, NOW)
    assert path.read_bytes() == before


def test_a_value_that_is_a_path_stays_inside(silo, tmp_path):
    """Contract 11.4, 165: nothing outside `sessions/` is read or written."""
    (tmp_path / "outside.json").write_bytes(as_jp(body(A, value="x/../../outside")))
    session = Session(ENV, "x/../../outside", "JP_SESSION")

    assert sessions(silo).active(session, LIVE) is None
    sessions(silo).activate(session, B, NOW)

    assert sorted(os.listdir(tmp_path)) == ["outside.json", "silo"]
    assert sessions(silo).active(session, LIVE) == B


# -- what is none -------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]\n", b'{"tabs": [1, 2]}', as_jp(body(A, value="somebody else"))],
    ids=["empty", "torn", "list", "of another tool", "of another session"],
)
def test_what_is_no_session_file_is_said_and_stays(silo, content):
    """Never written over, whoever made it; the message holds nothing of it."""
    path = put(silo, WORK.key, content)

    for act in (lambda: sessions(silo).active(WORK, LIVE), lambda: sessions(silo).activate(WORK, A, NOW)):
        with pytest.raises(Refused) as caught:
            act()
        assert str(path) in str(caught.value)
        assert "somebody" not in str(caught.value)
    assert path.read_bytes() == content
    assert left_over(silo) == []


@pytest.mark.parametrize("kind", ["directory", "symlink", "dangling", "fifo"])
def test_what_is_no_file_is_said_and_stays(silo, tmp_path, kind):
    """A symlink is not followed, a FIFO is not waited for."""
    path = put(silo, WORK.key, b"")
    path.unlink()
    aim = tmp_path / "aim.json"
    {
        "directory": path.mkdir,
        "symlink": lambda: (aim.write_bytes(as_jp(body(A))), path.symlink_to(aim)),
        "dangling": lambda: path.symlink_to(tmp_path / "nothing"),
        "fifo": lambda: os.mkfifo(path),
    }[kind]()
    before = os.lstat(path)

    with pytest.raises(Refused):
        sessions(silo).activate(WORK, B, NOW)

    assert os.lstat(path) == before
    assert not (tmp_path / "nothing").exists()
    assert not aim.exists() or aim.read_bytes() == as_jp(body(A))


@pytest.mark.parametrize("kind", ["file", "symlink"])
def test_sessions_that_is_no_directory(silo, tmp_path, kind):
    """Said, and nothing is written through it."""
    if kind == "file":
        (silo / "sessions").write_text("x")
    else:
        (tmp_path / "elsewhere").mkdir()
        (silo / "sessions").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(Refused, match="not a directory"):
        sessions(silo).activate(WORK, A, NOW)
    with pytest.raises(Refused, match="not a directory"):
        sessions(silo).active(WORK, LIVE)

    assert not (tmp_path / "elsewhere").exists() or os.listdir(tmp_path / "elsewhere") == []


def test_a_silo_that_is_gone_does_not_come_back(silo):
    """Asking gives nothing; writing is a storage problem, and no skeleton is made."""
    silo.rmdir()

    assert sessions(silo).active(WORK, LIVE) is None
    with pytest.raises(StorageProblem):
        sessions(silo).activate(WORK, A, NOW)
    assert not silo.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_a_storage_problem(silo):
    """Not taken for a session that has nothing."""
    put(silo, WORK.key, body(A)).chmod(0)

    with pytest.raises(StorageProblem):
        sessions(silo).active(WORK, LIVE)


# -- several at once ------------------------------------------------------------------


def test_two_terminals_at_once(silo):
    """Each process has its own session file; a reader never sees half of one."""
    code = (
        "import sys, time\n"
        "from convsync_agent.session import ENV, Session\n"
        "from convsync_agent.sessions import Mappings\n"
        "me = Session(ENV, sys.argv[2], 'JP_SESSION')\n"
        "for n in range(200):\n"
        "    Mappings(sys.argv[1]).activate(me, 17_000_000_000 + n, time.time_ns())\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(silo), name]) for name in ("one", "two")]
    try:
        while any(p.poll() is None for p in running):
            for name in ("one", "two"):
                jp_reads(silo, "env", name, "JP_SESSION")
    finally:
        codes = [p.wait(120) for p in running]

    assert codes == [0, 0]
    for name in ("one", "two"):
        assert jp_reads(silo, "env", name, "JP_SESSION") == [17_000_000_000 + n for n in reversed(range(200))]
    assert left_over(silo) == []


def test_one_session_in_two_processes_loses_none(silo):
    """Both write the same file: whoever comes second looks again."""
    numbers = [range(100), range(100, 200)]

    def activate(some):
        for n in some:
            sessions(silo).activate(WORK, 17_000_000_000 + n, time.time_ns())

    threads = [threading.Thread(target=activate, args=(some,)) for some in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(jp_reads(silo, "env", "work", "JP_SESSION")) == [17_000_000_000 + n for n in range(200)]


def test_who_we_are():
    """Without an override the session leader, as `ps` names it; JP says the same of the same terminal."""
    assert identify({}) == Session(GETSID, str(os.getsid(0)))
    assert identify({"JP_SESSION": "x"}) == Session(ENV, "x", "JP_SESSION")
