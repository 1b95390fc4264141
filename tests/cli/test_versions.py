"""`history`, `restore`, `undo` and `accept` on real directories, with real locks, beside real edits."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents import in_step, status, until
from convsync_agent.acts import ACT_MS
from convsync_cli.patience import lock_patience, parse_duration
from machine import LONG_AGO, SECOND, WS, Machine, as_jp, event, put

ID = 17000000001
HOUR = 3600 * SECOND


def project(machine, source, *worktrees):
    """Give other worktrees a copy of the conversation, times included."""
    for worktree in worktrees:
        place = machine.directory(source, ID)
        shutil.copytree(place, Path(worktree) / ".jp" / "conversations" / place.name)


@pytest.fixture
def two(machine):
    """Worktrees a and b with one conversation in step, `old`; then a is rewritten as `new` and synced."""
    a = machine.worktree("a", register=False)
    b = machine.worktree("b", register=False)
    machine.write(a, ID, "old", slug="talk", title="Old title")
    project(machine, a, b)
    machine.ok("register", a)
    machine.ok("register", b)
    put(machine.directory(a, ID) / "events.json", as_jp([event("new"), event("newer")]), LONG_AGO + HOUR)
    machine.ok("sync")
    assert everywhere(machine) == [["new", "newer"]] * 3
    return machine


def roots(machine):
    return [machine.silo(), machine.base / "a", machine.base / "b"]


def everywhere(machine, **where):
    return [machine.questions(r, ID, **where) for r in roots(machine) if machine.directory(r, ID, **where)]


def versions(machine):
    return machine.ok("history", str(ID), "--json").json["versions"]


def kept_questions(machine):
    """What was asked in each kept stream, newest first, as `restore --into` gives it."""
    found = []
    for number, version in enumerate(v["version"] for v in versions(machine) if v["unit"] == "stream"):
        into = machine.base / f"look-{time.time_ns()}-{number}"
        machine.ok("restore", str(ID), "--version", version, "--into", into)
        raw = (into / f"jp-c{ID}" / "events.json").read_bytes()
        found.append([e["content"] for e in json.loads(raw)])
    return found


# -- history --------------------------------------------------------------------


def test_history(two):
    """What the sync replaced is listed once, newest first, with where it was, why and how much."""
    document = two.ok("history", str(ID), "--json").json
    only = document["versions"][0]

    assert (document["schema"], document["conversation"], len(document["versions"])) == (1, f"jp-c{ID}", 1)
    assert (only["unit"], only["events"], only["why"], only["valid"]) == ("stream", 1, "replaced", True)
    assert only["from"] in {str(two.silo()), str(two.base / "b")}  # both held these bytes
    assert only["bytes"] == len(as_jp([event("old")])) + len(as_jp({}))
    assert {"version", "unit", "at", "from", "why", "events", "bytes"} <= set(only)
    assert only["version"] in two.ok("history", str(ID)).out


def test_history_without_the_state(two):
    """The history needs no state: by its full id a conversation is found in it where nothing is registered."""
    before = two.ok("history", str(ID), "--json").json
    shutil.rmtree(two.base / "state")

    assert two.ok("history", str(ID), "--json").json == before
    assert two.ok("history", f"jp-c{ID}-{WS}", "--json").json == before
    assert two.run("history", str(ID)[:6]).code == 3
    assert two.run("history", str(ID + 1)).code == 3
    two.ok("restore", str(ID), "--into", two.base / "out")
    for command in ("restore", "undo", "diff"):
        ran = two.run(command, str(ID))
        assert ran.code == 3
        assert "convsync register" in ran.err


def test_restore_after_the_state_was_lost(two):
    """After `register` the versions are there to be restored."""
    shutil.rmtree(two.base / "state")
    two.ok("register", two.base / "a")
    two.ok("register", two.base / "b")

    two.ok("restore", str(ID))

    assert everywhere(two) == [["old"]] * 3


def test_history_of_nothing(machine):
    """A conversation that never lost anything has an empty history, and that is good."""
    machine.write(machine.worktree(register=False), ID, "only")
    machine.ok("register", machine.base / "a")

    assert versions(machine) == []
    assert machine.ok("history", str(ID)).out


# -- restore --------------------------------------------------------------------


def test_restore_makes_a_version_current_everywhere(two):
    """The newest version is what every copy has afterwards, dated now, the same to the last byte."""
    before = time.time_ns()

    done = two.ok("restore", str(ID), "--json").json

    assert everywhere(two) == [["old"]] * 3
    assert done["written"] == [str(r) for r in roots(two)]
    for root in roots(two):
        files = [two.directory(root, ID) / f for f in ("events.json", "base_config.json")]
        assert max(f.stat().st_mtime_ns for f in files) >= before
    assert len({(two.directory(r, ID) / "events.json").stat().st_mtime_ns for r in roots(two)}) == 1


def test_restore_keeps_what_it_replaces(two):
    """A second `restore` swaps back: what the first one replaced became the newest version."""
    two.ok("restore", "last")
    assert kept_questions(two)[0] == ["new", "newer"]

    two.ok("restore", "last")

    assert everywhere(two) == [["new", "newer"]] * 3


def test_restore_is_settled(two):
    """After a restore a sync finds nothing to do, and no conflict is left open."""
    two.ok("restore", str(ID))

    document = two.ok("sync", "--json").json

    assert (document["actions"], document["held"], document["deferred"]) == ([], [], [])
    assert two.ok("status", "--json").json["verdict"] == "in-sync"
    assert two.ok("verify", "--json").json["ok"] is True


def test_restore_by_name(two):
    """`--version` takes a version or the unique beginning of one; an unknown one is exit 3."""
    name = versions(two)[0]["version"]
    two.ok("restore", str(ID), "--version", name[:16])

    assert everywhere(two) == [["old"]] * 3
    assert two.run("restore", str(ID), "--version", "1-stream-00000000").code == 3


def test_restore_touches_one_unit(two):
    """A version of the stream leaves the metadata alone, and the other way round."""
    put(
        two.directory(two.base / "a", ID) / "metadata.json",
        as_jp({"title": "New title", "last_activated_at": "2024-01-01 00:00:00.0"}),
        LONG_AGO + 2 * HOUR,
    )
    two.ok("sync")

    two.ok("restore", str(ID))  # the newest version is the old metadata

    assert two.ok("show", str(ID), "--json").json["title"] == "Old title"
    assert everywhere(two) == [["new", "newer"]] * 3


def test_restore_against_a_future_copy(two):
    """A copy dated ahead of the clock does not win against what a person restored, now or at the next sync."""
    ahead = time.time_ns() + 10 * HOUR
    put(two.directory(two.base / "b", ID) / "events.json", as_jp([event("from 2099")]), ahead)
    two.ok("sync")
    oldest = versions(two)[-1]["version"]

    two.ok("restore", str(ID), "--version", oldest)
    two.ok("sync")

    assert everywhere(two) == [["old"]] * 3


def test_restore_replaces_a_held_copy(two):
    """A broken newest copy is replaced too, and its bytes are kept."""
    broken = two.directory(two.base / "b", ID) / "events.json"
    put(broken, b"<<<<<<< ours\n", LONG_AGO + 5 * HOUR)
    version = versions(two)[0]["version"]

    two.ok("restore", str(ID), "--version", version)

    assert everywhere(two) == [["old"]] * 3
    invalid = [v for v in versions(two) if not v["valid"]]
    assert len(invalid) == 1
    assert invalid[0]["from"] == str(two.base / "b")


def test_no_refresh_is_not_written(two):
    """A worktree registered with --no-refresh keeps what it has."""
    two.ok("register", two.base / "b", "--no-refresh")

    two.ok("restore", str(ID))

    assert everywhere(two) == [["old"], ["old"], ["new", "newer"]]


def test_restore_of_what_is_current_writes_nothing(two):
    """Restoring the content that is there already changes no file."""
    two.ok("restore", str(ID))
    version = versions(two)[1]["version"]
    before = two.inventory(two.base / "a", two.base / "b", two.silo())

    assert two.ok("restore", str(ID), "--version", version, "--json").json["written"] == []

    assert two.inventory(two.base / "a", two.base / "b", two.silo()) == before


def test_restore_of_what_is_gone(two):
    """Where only worktrees are left, the durable copy is made again, under the name it has there."""
    shutil.rmtree(two.directory(two.silo(), ID))

    two.ok("restore", str(ID))

    assert everywhere(two) == [["old"]] * 3
    assert two.directory(two.silo(), ID).name == f"{ID}-talk"


def test_restore_of_what_is_gone_everywhere(two):
    """With no copy left the history gives both units; without one of them it is refused, but not --into."""
    stream = versions(two)[0]["version"]
    put(
        two.directory(two.base / "a", ID) / "metadata.json",
        as_jp({"title": "Other", "last_activated_at": "2024-01-01 00:00:00.0"}),
        LONG_AGO + 2 * HOUR,
    )
    two.ok("sync")
    for root in roots(two):
        shutil.rmtree(two.directory(root, ID))

    two.ok("restore", str(ID), "--version", stream)

    assert two.directory(two.silo(), ID).name == str(ID)
    assert two.questions(two.silo(), ID) == ["old"]
    assert two.ok("show", str(ID), "--json").json["title"] == "Old title"


def test_half_of_a_conversation_is_refused(two):
    """A stream alone is no conversation: exit 4, nothing is written, and the way out is --into."""
    for root in roots(two):
        shutil.rmtree(two.directory(root, ID))

    ran = two.run("restore", str(ID))

    assert ran.code == 4
    assert "--into" in ran.err
    assert two.directory(two.silo(), ID) is None


def test_archived_conversations_are_restored_in_the_silo(two):
    """The archive of the silo is written; an archived projection never is."""
    for root in roots(two):
        live = two.directory(root, ID)
        (live.parent / ".archive").mkdir(exist_ok=True)
        live.rename(live.parent / ".archive" / live.name)

    two.ok("restore", str(ID))

    assert everywhere(two, archived=True) == [["old"], ["new", "newer"], ["new", "newer"]]


def test_extras_come_back_into_the_silo(two):
    """A kept unmanaged file is put back in the silo; the one it replaces is kept."""
    note = two.directory(two.base / "a", ID) / "notes" / "n.md"
    note.parent.mkdir()
    put(note, b"one", LONG_AGO)
    two.ok("sync")
    put(note, b"two", LONG_AGO + HOUR)
    two.ok("sync")
    assert (two.directory(two.silo(), ID) / "notes" / "n.md").read_bytes() == b"two"
    version = next(v["version"] for v in versions(two) if v["unit"] == "extras")

    two.ok("restore", str(ID), "--version", version)

    assert (two.directory(two.silo(), ID) / "notes" / "n.md").read_bytes() == b"one"
    assert len([v for v in versions(two) if v["unit"] == "extras"]) == 2


def test_invalid_versions_are_refused(two):
    """What JP could not load is not made current (4), but can be looked at."""
    put(two.directory(two.base / "b", ID) / "events.json", b"[1", LONG_AGO + 5 * HOUR)
    good = versions(two)[0]["version"]
    two.ok("restore", str(ID), "--version", good)
    bad = next(v["version"] for v in versions(two) if not v["valid"])

    ran = two.run("restore", str(ID), "--version", bad)

    assert ran.code == 4
    assert "convsync restore" in ran.err
    two.ok("restore", str(ID), "--version", bad, "--into", two.base / "out")
    assert (two.base / "out" / f"jp-c{ID}" / "events.json").read_bytes() == b"[1"


def test_no_version_at_all(machine):
    """A conversation of which nothing was kept has nothing to restore: exit 3."""
    machine.write(machine.worktree(register=False), ID, "only")
    machine.ok("register", machine.base / "a")

    assert machine.run("restore", str(ID)).code == 3


# -- restore --into ---------------------------------------------------------------


def test_into_writes_a_copy_and_nothing_else(two):
    """`--into` writes PATH/<id>/ with the times of then, and no root changes."""
    before = two.inventory(two.base / "a", two.base / "b", two.silo())

    done = two.ok("restore", str(ID), "--into", two.base / "x" / "y", "--json").json

    place = two.base / "x" / "y" / f"jp-c{ID}"
    assert done["into"] == str(place)
    assert json.loads((place / "events.json").read_bytes())[0]["content"] == "old"
    assert (place / "events.json").stat().st_mtime_ns == LONG_AGO
    assert two.inventory(two.base / "a", two.base / "b", two.silo()) == before


@pytest.mark.parametrize(
    "where",
    [
        "a/.jp",
        "a/.jp/conversations",
        f"data/jp/workspace/{WS}",
        f"data/jp/workspace/{WS}/x",
        "data/jp/workspace/other",
        "link",
        "data/convsync",
        "unknown/.jp/x",
    ],
)
def test_into_a_root_is_refused(two, where):
    """A copy for looking at must not become a conversation, a symlink there included: exit 4, nothing written."""
    (two.base / "link").symlink_to(two.base / "a" / ".jp")
    before = two.inventory(two.base / "a", two.base / "data")

    assert two.run("restore", str(ID), "--into", two.base / where).code == 4

    assert two.inventory(two.base / "a", two.base / "data") == before
    assert not (two.base / "unknown").exists()


@pytest.mark.parametrize("there", ["a file in it", "a file", "a link to nowhere", "an earlier copy"])
def test_into_writes_only_where_nothing_is(two, there):
    """PATH is new or an empty directory, else exit 4 and nothing is written."""
    out = two.base / "out"
    if there == "a file in it":
        out.mkdir()
        (out / "mine").write_text("mine")
    elif there == "a file":
        out.write_text("mine")
    elif there == "a link to nowhere":
        out.symlink_to(two.base / "nowhere")
    else:
        two.ok("restore", str(ID), "--into", out)
    places = [p for p in two.base.iterdir() if p.name != "state" and p.is_dir()]
    before = two.inventory(*places)

    assert two.run("restore", str(ID), "--into", out).code == 4

    assert two.inventory(*places) == before
    assert not (two.base / "nowhere").exists()


def test_into_an_empty_directory(two):
    """An empty directory that is there is as good as a new one."""
    (two.base / "out").mkdir()

    two.ok("restore", str(ID), "--into", two.base / "out")

    assert (two.base / "out" / f"jp-c{ID}" / "events.json").exists()


# -- the lock ---------------------------------------------------------------------


def test_a_held_lock(two, monkeypatch):
    """A lock that stays held is exit 5 with its holder, and nothing was written or kept."""
    monkeypatch.setenv("JP_LOCK_DURATION", "300ms")
    before = two.inventory(two.base / "a", two.base / "b", two.silo() / "conversations")
    kept = len(versions(two))

    with two.holding(ID, session="getsid-77"):
        started = time.monotonic()
        ran = two.run("restore", str(ID))

    assert ran.code == 5
    assert time.monotonic() - started >= 0.3
    assert str(os.getpid()) in ran.err
    assert "getsid-77" in ran.err
    assert two.inventory(two.base / "a", two.base / "b", two.silo() / "conversations") == before
    assert len(versions(two)) == kept


def test_a_released_lock(two, monkeypatch):
    """A restore waits for the lock and goes on when it is released."""
    monkeypatch.setenv("JP_LOCK_DURATION", "20s")
    with two.holding(ID):
        process = two.spawn("restore", str(ID), env={"JP_LOCK_DURATION": "20s"})
        with pytest.raises(Exception, match="timed out"):
            process.wait(0.7)
        assert everywhere(two) == [["new", "newer"]] * 3

    assert process.wait(120) == 0, process.communicate()
    process.communicate()
    assert everywhere(two) == [["old"]] * 3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("10s", 10),
        ("2m", 120),
        ("1m 30s", 90),
        ("500ms", 0.5),
        ("1h", 3600),
        ("1day", 86400),
        ("10", None),
        ("s", None),
        ("", None),
        ("1x", None),
        ("-1s", None),
    ],
)
def test_durations(text, seconds):
    """Durations are written as JP writes them; a bare number is none, but 0."""
    assert parse_duration(text) == seconds


def test_the_default_patience():
    """Thirty seconds where nothing is said, and a wrong value is bad usage."""
    assert lock_patience({}) == 30
    assert lock_patience({"JP_LOCK_DURATION": "2m"}) == 120


def test_a_bad_patience(two, monkeypatch):
    """A value that is no duration is exit 2 and names the variable."""
    monkeypatch.setenv("JP_LOCK_DURATION", "soon")

    ran = two.run("restore", str(ID))

    assert ran.code == 2
    assert "JP_LOCK_DURATION" in ran.err


# -- undo -------------------------------------------------------------------------


def title(machine):
    return machine.ok("show", str(ID), "--json").json["title"]


def bytes_of(machine, root):
    """Both units of one copy, to the last byte."""
    place = machine.directory(root, ID)
    return {f: (place / f).read_bytes() for f in ("base_config.json", "events.json", "metadata.json")}


def retitle(machine, name, text, mtime_ns):
    fields = {"title": text, "last_activated_at": "2024-01-01 00:00:00.0"}
    put(machine.directory(machine.base / name, ID) / "metadata.json", as_jp(fields), mtime_ns)


def test_undo_swaps(two):
    """What was overwritten is current again everywhere, and a second undo gives back the bytes that were."""
    before = bytes_of(two, two.silo())

    two.ok("undo", str(ID))
    assert everywhere(two) == [["old"]] * 3
    assert two.ok("sync", "--json").json["actions"] == []

    two.ok("undo", "last")
    assert [bytes_of(two, r) for r in roots(two)] == [before] * 3
    assert versions(two)[0]["why"] == "undone"


def test_undo_takes_both_units_of_one_act(two):
    """Where one sync replaced stream and metadata, one undo brings both back, and the next both again."""
    put(two.directory(two.base / "a", ID) / "events.json", as_jp([event("newest")]), LONG_AGO + 2 * HOUR)
    retitle(two, "a", "New title", LONG_AGO + 2 * HOUR)
    two.quiet()
    two.ok("sync")
    before = bytes_of(two, two.silo())

    done = two.ok("undo", str(ID), "--json").json

    assert {v["unit"] for v in done["versions"]} == {"stream", "metadata"}
    assert done["written"] == [str(r) for r in roots(two)]
    assert (everywhere(two), title(two)) == ([["new", "newer"]] * 3, "Old title")
    two.ok("undo", str(ID))
    assert [bytes_of(two, r) for r in roots(two)] == [before] * 3


def another_act(monkeypatch):
    """What follows is not of the act before: acts are told apart by their times alone."""
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 2 * ACT_MS * 1_000_000)


def test_undo_of_one_unit_leaves_the_other(two, monkeypatch):
    """An earlier act is not undone along with the newest."""
    another_act(monkeypatch)
    retitle(two, "a", "New title", LONG_AGO + 2 * HOUR)
    two.ok("sync")

    two.ok("undo", str(ID))

    assert (everywhere(two), title(two)) == ([["new", "newer"]] * 3, "Old title")


def test_undo_of_unmanaged_files(two):
    """An unmanaged file that an overwrite lost comes back into the silo, and an undo of that swaps."""
    note = two.directory(two.base / "a", ID) / "n.md"
    put(note, b"one", LONG_AGO)
    two.ok("sync")
    put(note, b"two", LONG_AGO + HOUR)
    two.ok("sync")
    durable = two.directory(two.silo(), ID) / "n.md"
    assert durable.read_bytes() == b"two"

    two.ok("undo", str(ID))
    assert durable.read_bytes() == b"one"

    two.ok("undo", str(ID))
    assert durable.read_bytes() == b"two"


def test_undo_closes_a_conflict(conflict):
    """Undoing a conflict brings the loser back everywhere and closes the entry; the winner is kept."""
    two = conflict

    two.ok("undo", str(ID))

    assert everywhere(two) == [["in a"]] * 3
    assert kinds(two) == []
    assert kept_questions(two)[0] == ["in b"]
    assert two.ok("verify", "--json").json["ok"] is True


def test_undo_beside_an_agent(two, agent):
    """A running agent agrees: no conflict, nothing to do, every copy in step, and edits go on."""
    agent()

    for expected in (["old"], ["new", "newer"], ["old"]):
        assert communicated(two.spawn("undo", str(ID))) == 0
        until(lambda expected=expected: everywhere(two) == [expected] * 3, "undone everywhere")
        until(lambda: status(two)["verdict"] == "in-sync", "the agent agrees")
        assert status(two)["attention"] == []

    put(two.directory(two.base / "b", ID) / "events.json", as_jp([event("old"), event("on")]))
    until(lambda: everywhere(two) == [["old", "on"]] * 3, "an edit after it")
    until(lambda: in_step(two, ID, *roots(two)), "in step")


def communicated(process):
    process.communicate(timeout=120)
    return process.returncode


def test_undo_where_a_copy_had_something_else(two):
    """What was durable is the newest version after an undo, whatever else was replaced with it: undo swaps back."""
    put(two.directory(two.base / "b", ID) / "events.json", b"[1", LONG_AGO + 5 * HOUR)

    two.ok("undo", str(ID))
    assert everywhere(two) == [["old"]] * 3
    assert [v["valid"] for v in versions(two)] == [True, False, True]

    two.ok("undo", str(ID))
    assert everywhere(two) == [["new", "newer"]] * 3


def test_nothing_to_undo(machine):
    """Where nothing was kept there is nothing to undo: exit 3 and where to look."""
    machine.write(machine.worktree(register=False), ID, "only")
    machine.ok("register", machine.base / "a")

    ran = machine.run("undo", str(ID))

    assert ran.code == 3
    assert "convsync history" in ran.err


def test_nothing_but_what_is_current(two):
    """A version that equals what is current is no way back: the one before it is, else nothing (3)."""
    put(two.directory(two.base / "a", ID) / "events.json", as_jp([event("old")]), LONG_AGO + 2 * HOUR)
    two.ok("sync")
    assert [v["events"] for v in versions(two)] == [2, 1]
    place = two.base / "data" / "convsync" / "history" / WS / f"jp-c{ID}"
    shutil.rmtree(place / versions(two)[0]["version"])

    assert two.run("undo", str(ID)).code == 3
    assert everywhere(two) == [["old"]] * 3


def test_an_invalid_version_is_not_undone_to(two, monkeypatch):
    """Bytes that JP could not load are never made current: exit 4, and nothing is written."""
    broken = two.directory(two.base / "b", ID) / "events.json"
    put(broken, b"[1", LONG_AGO + 5 * HOUR)
    another_act(monkeypatch)
    two.ok("accept", str(ID), "--from", "silo")
    assert versions(two)[0]["valid"] is False
    before = two.inventory(*roots(two))

    ran = two.run("undo", str(ID))

    assert ran.code == 4
    assert "convsync restore" in ran.err
    assert two.inventory(*roots(two)) == before


def test_undo_under_a_held_lock(two, monkeypatch):
    """A lock that stays held is exit 5; nothing was written or kept."""
    monkeypatch.setenv("JP_LOCK_DURATION", "0")
    before = two.inventory(two.base / "a", two.base / "b", two.silo() / "conversations", two.base / "data" / "convsync")

    with two.holding(ID):
        assert two.run("undo", str(ID)).code == 5

    after = two.inventory(two.base / "a", two.base / "b", two.silo() / "conversations", two.base / "data" / "convsync")
    assert {k: v[1] for k, v in before.items()} == {k: v[1] for k, v in after.items()}


def test_undo_needs_no_projection(two):
    """No copy is made where none was, and a worktree registered with --no-refresh keeps what it has."""
    two.ok("register", two.base / "b", "--no-refresh")
    shutil.rmtree(two.directory(two.base / "a", ID))

    two.ok("undo", str(ID))

    assert two.directory(two.base / "a", ID) is None
    assert two.questions(two.silo(), ID) == ["old"]
    assert two.questions(two.base / "b", ID) == ["new", "newer"]


steps = st.lists(
    st.tuples(st.sampled_from(["stream", "append", "title", "undo", "both sides"]), st.sampled_from("ab")),
    min_size=1,
    max_size=5,
)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(steps)
def test_undo_twice_changes_no_byte(tmp_path, monkeypatch, capsys, sequence):
    """After any sequence of edits, conflicts and undos: undo twice is nothing, and no content was ever lost."""
    machine = Machine(tmp_path / f"m{time.monotonic_ns()}", capsys)
    for name, value in machine.env.items():
        monkeypatch.setenv(name, value)
    a, b = machine.worktree("a", register=False), machine.worktree("b", register=False)
    machine.write(a, ID, "old", title="Old title")
    project(machine, a, b)
    machine.ok("register", a)
    machine.ok("register", b)
    seen = set(bytes_of(machine, machine.silo()).values())
    for number, (step, name) in enumerate(sequence, 1):
        act(machine, step, name, number)
        seen |= {raw for r in roots(machine) for raw in bytes_of(machine, r).values()}
        machine.quiet(*roots(machine))
        machine.ok("sync")
        if step == "undo":
            machine.run("undo", str(ID))
        seen |= {raw for r in roots(machine) for raw in bytes_of(machine, r).values()}
    before = [bytes_of(machine, r) for r in roots(machine)]
    assert before == before[:1] * 3

    if machine.run("undo", str(ID)).code == 0:
        seen |= set(bytes_of(machine, machine.silo()).values())
        assert [bytes_of(machine, r) for r in roots(machine)] != before
        machine.ok("undo", str(ID))

    assert [bytes_of(machine, r) for r in roots(machine)] == before
    assert kinds(machine) == [] or machine.run("undo", str(ID)).code == 3
    have = {raw for files in before for raw in files.values()} | kept_bytes(machine)
    for raw in seen:
        assert raw in have or any(contained(raw, other) for other in have)


def act(machine, step, name, number):
    """One person's or program's edit, newer than everything before it."""
    at = LONG_AGO + number * HOUR
    place = machine.directory(machine.base / name, ID)
    if step == "append":
        put(place / "events.json", as_jp([*machine.events(machine.base / name, ID), event(f"more {number}")]), at)
    elif step == "title":
        retitle(machine, name, f"Title {number}", at)
    elif step == "stream":
        put(place / "events.json", as_jp([event(f"other {number}")]), at)
    elif step == "both sides":
        for n, side in enumerate("ab"):
            put(machine.directory(machine.base / side, ID) / "events.json", as_jp([event(f"{side} {number}")]), at + n)


def kept_bytes(machine):
    objects = (machine.base / "data" / "convsync" / "history" / WS / f"jp-c{ID}" / "objects").glob("*.gz")
    return {gzip.decompress(o.read_bytes()) for o in objects}


def contained(raw, other):
    """Every event of one stream begins the other: nothing of it is missing there."""
    one, two = json.loads(raw), json.loads(other)
    return isinstance(one, list) and isinstance(two, list) and two[: len(one)] == one


# -- accept -----------------------------------------------------------------------


@pytest.fixture
def conflict(two):
    """Both a and the silo were changed since they agreed: b's newest content won, a lasting entry is open."""
    put(two.directory(two.base / "a", ID) / "events.json", as_jp([event("in a")]), LONG_AGO + 2 * HOUR)
    put(two.directory(two.base / "b", ID) / "events.json", as_jp([event("in b")]), LONG_AGO + 3 * HOUR)
    two.quiet()
    two.ok("sync")
    assert everywhere(two) == [["in b"]] * 3
    assert kinds(two) == ["conflict"]
    return two


def kinds(machine):
    return [e["kind"] for e in machine.ok("status", "--json").json["attention"]]


def test_accept_closes_a_conflict(conflict):
    """Without --from what is current stays, the entry is closed, and a second accept finds nothing (3)."""
    before = conflict.inventory(conflict.base / "a", conflict.base / "b", conflict.silo())

    done = conflict.ok("accept", str(ID), "--json").json

    assert done["closed"] == 1
    assert done["current"]["events"] == 1
    assert kinds(conflict) == []
    assert conflict.inventory(conflict.base / "a", conflict.base / "b", conflict.silo()) == before
    assert conflict.run("accept", str(ID)).code == 3


def test_restore_closes_a_conflict(conflict):
    """Whoever restores the loser has decided: the entry is closed."""
    assert ["in a"] in kept_questions(conflict)
    loser = next(v["version"] for v in versions(conflict) if v["from"] == str(conflict.base / "a"))

    conflict.ok("restore", str(ID), "--version", loser)

    assert everywhere(conflict) == [["in a"]] * 3
    assert kinds(conflict) == []


def test_accept_from_a_worktree(two):
    """That copy becomes current everywhere though it is older, and what it replaces is kept."""
    two.ok("register", two.base / "b", "--no-refresh")
    put(two.directory(two.base / "b", ID) / "events.json", as_jp([event("kept back")]), LONG_AGO - HOUR)

    two.ok("accept", str(ID), "--from", two.base / "b")

    assert everywhere(two) == [["kept back"]] * 3
    assert ["new", "newer"] in kept_questions(two)
    assert two.ok("sync", "--json").json["actions"] == []


def test_accept_from_the_loser_of_a_conflict(conflict):
    """`--from` the worktree that lost takes over what it lost, though it has the winner's content by now."""
    done = conflict.ok("accept", str(ID), "--from", conflict.base / "a", "--json").json

    assert everywhere(conflict) == [["in a"]] * 3
    assert (done["units"], len(done["versions"])) == (["stream"], 1)
    assert kinds(conflict) == []
    assert kept_questions(conflict)[0] == ["in b"]


def test_accept_from_the_winner_of_a_conflict(conflict):
    """`--from` the worktree that won writes nothing and closes the entry."""
    before = conflict.inventory(*roots(conflict))

    assert conflict.ok("accept", str(ID), "--from", conflict.base / "b", "--json").json["written"] == []

    assert conflict.inventory(*roots(conflict)) == before
    assert kinds(conflict) == []


def test_accept_what_is_not_valid(two):
    """A copy that JP could not load cannot be accepted (4); the silo's replaces it and its bytes are kept."""
    put(two.directory(two.base / "b", ID) / "events.json", b"{", LONG_AGO + 5 * HOUR)

    ran = two.run("accept", str(ID), "--from", two.base / "b")
    assert ran.code == 4
    assert "--from silo" in ran.err

    two.ok("accept", str(ID), "--from", two.silo())

    assert everywhere(two) == [["new", "newer"]] * 3
    assert [v["valid"] for v in versions(two)].count(False) == 1


def test_a_single_copy_that_is_behind(two):
    """Without --from and without a conflict, the one copy that is shown `behind` is taken over."""
    b = two.base / "b"
    put(two.directory(b, ID) / "events.json", as_jp([event("checked out")]), LONG_AGO - HOUR)
    attention(two, "behind", b / ".jp")

    two.ok("accept", str(ID))

    assert everywhere(two) == [["checked out"]] * 3


def test_several_copies_behind(two):
    """Several copies that are behind need --from (2)."""
    attention(two, "behind", two.base / "a" / ".jp")
    attention(two, "behind", two.base / "b" / ".jp")

    ran = two.run("accept", str(ID))

    assert ran.code == 2
    assert "--from" in ran.err


def attention(machine, kind, root):
    from convsync_agent.state import Attention, writer

    state = writer(str(machine.base / "state" / "convsync"))
    with state.transaction():
        state.put_attention(Attention(kind, WS, ID, str(root), 1, "as git wrote it", lasting=False))
    state.close()


@pytest.mark.parametrize(("source", "code"), [("nowhere", 3), ("c", 3)])
def test_accept_from_elsewhere(two, source, code):
    """A path that is no registered worktree, or one without a copy, is exit 3."""
    two.worktree("c")

    assert two.run("accept", str(ID), "--from", two.base / source).code == code


def test_nothing_to_accept(two):
    """Where everything is in step there is nothing to accept: exit 3."""
    assert two.run("accept", str(ID)).code == 3


def test_nothing_is_left_behind(two):
    """Neither our data directory nor a root keeps anything of the work."""
    two.ok("restore", str(ID))

    assert set(os.listdir(two.base / "data" / "convsync")) <= {"history", "trash"}
    assert [p for r in roots(two) for p in Path(r).rglob(".convsync")] == []


def test_no_titles_in_errors(two):
    """No message of a refused command holds a title or a directory's name."""
    put(two.directory(two.base / "b", ID) / "events.json", b"{", LONG_AGO + 5 * HOUR)
    for argv in (["accept", str(ID), "--from", two.base / "b"], ["restore", str(ID), "--version", "9"], ["show", "18"]):
        ran = two.run(*argv)
        assert ran.code
        assert "talk" not in ran.err
        assert "Old title" not in ran.err
