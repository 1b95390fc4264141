"""`ls`, `show` and `path` on real directories: what they say, and that they write nothing."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess

import pytest

from convsync_agent.index import Filter, list_conversations, load_index
from convsync_agent.model import Partition, Presence
from listed import BOTH, EXTERNAL, GIT, KEYS, LOCAL, STORED, ids, index_of, listed, of_every_kind
from machine import LONG_AGO, SECOND, as_jp, event, put
from terminal import everything


@pytest.fixture
def filled(machine):
    return of_every_kind(machine)


# -- the index ------------------------------------------------------------------


def test_load_index_returns_presence(filled):
    """Each conversation occurs once, with its presence in each registered worktree (contract 5.1)."""
    a, b = str(filled.base / "a"), str(filled.base / "b")

    found = {e.id: (dict(e.presence), e.partition) for e in load_index(index_of(filled))}

    assert found == {
        BOTH: ({a: Presence.PROJECTED, b: Presence.USER_LOCAL_ONLY}, Partition.LIVE),
        LOCAL: ({a: Presence.USER_LOCAL_ONLY, b: Presence.USER_LOCAL_ONLY}, Partition.LIVE),
        EXTERNAL: ({a: Presence.WORKSPACE_ONLY}, Partition.LIVE),
        STORED: ({a: Presence.PROJECTED, b: Presence.USER_LOCAL_ONLY}, Partition.ARCHIVED),
    }


def test_one_entry_whatever_the_names(machine):
    """Ids are compared, not directory names: other slugs in two roots are one conversation."""
    a = machine.worktree("a", register=False)
    machine.write(a, BOTH, "one", slug="one")
    machine.ok("register", a)
    os.rename(machine.directory(a, BOTH), a / ".jp" / "conversations" / f"{BOTH}-two")

    assert listed(machine) == [BOTH]


def test_each_metadata_file_is_read_at_most_once(filled, monkeypatch):
    """A listing reads one metadata.json and one events.json a conversation, and none twice."""
    from convsync_agent import shelf

    read = []  # what was read can be told in this process only: the function is the real one, counted
    real = shelf.fs.read_file
    monkeypatch.setattr(
        shelf.fs, "read_file", lambda name, fd: read.append((name, os.fstat(fd).st_ino)) or real(name, fd)
    )

    rows = list_conversations([index_of(filled)], Filter())

    assert len(rows) == 4
    assert len([r for r in read if r[0] == "metadata.json"]) == 4
    assert len({r for r in read if r[0] == "metadata.json"}) == 4


# -- the rows -------------------------------------------------------------------


def test_json(filled):
    """The document has exactly the keys of the contract, with what the newest copies say."""
    a = str(filled.base / "a")
    document = filled.ok("ls", "--json").json

    assert list(document) == ["schema", "conversations"]
    assert [list(c) for c in document["conversations"]] == [KEYS] * 3
    assert document["conversations"][0] == {
        "id": f"jp-c{LOCAL}",
        "createdAt": LOCAL * 100,
        "lastActivityAt": 1709287201500,
        "title": "Only\nhere",
        "status": "idle",
        "workspaceId": "abcde",
        "presence": "user_local_only",
        "worktrees": [],
        "events": 2,
        "cwd": None,
        "behind": [],
    }
    by_id = {c["id"]: c for c in document["conversations"]}
    assert by_id[f"jp-c{BOTH}"]["worktrees"] == [a]
    assert by_id[f"jp-c{BOTH}"]["presence"] == "projected"
    assert by_id[f"jp-c{EXTERNAL}"]["presence"] == "workspace_only"
    assert by_id[f"jp-c{EXTERNAL}"]["title"] == "x" * 80


def test_table(filled):
    """A person sees ids, N, Y or ext, and titles on one line; the whole fits 80 columns on a terminal."""
    lines = filled.ok("ls").out.splitlines()

    assert lines[0].split("\t") == ["ID", "PRESENCE", "STATUS", "EVENTS", "ACTIVITY", "TITLE"]
    assert {line.split("\t")[0]: line.split("\t")[1] for line in lines[1:]} == {
        f"jp-c{LOCAL}": "Y",
        f"jp-c{EXTERNAL}": "ext",
        f"jp-c{BOTH}": "N",
    }
    assert len(lines) == 4


def test_eighty_columns(filled):
    """On a terminal of 80 columns no line is longer."""
    ours, theirs = pty.openpty()
    process = filled.spawn("ls", "--no-color", stdout=theirs, stderr=theirs, text=False, env={"COLUMNS": "80"})
    os.close(theirs)
    rows = everything(ours).splitlines()

    assert process.wait(120) == 0, rows
    assert len(rows) >= 3
    assert max(map(len, rows)) <= 80


FILTERS = [
    ([], [LOCAL, EXTERNAL, BOTH]),
    (["--all"], [LOCAL, EXTERNAL, BOTH, STORED]),
    (["--archived"], [STORED]),
    (["--status", "closed"], [STORED]),
    (["--status", "idle,closed"], [LOCAL, EXTERNAL, BOTH, STORED]),
    (["--status", "active"], []),
    (["--status", "idle,foo"], [LOCAL, EXTERNAL, BOTH]),
    (["--status", "foo"], [LOCAL, EXTERNAL, BOTH, STORED]),
    (["--archived", "--status", "idle"], []),
    (["--all", "--status", "closed"], [STORED]),
    (["--presence", "projected"], [BOTH]),
    (["--presence", "local"], [LOCAL]),
    (["--presence", "user_local_only,workspace_only"], [LOCAL, EXTERNAL]),
    (["--presence", "external"], [EXTERNAL]),
    (["-q", "17"], [LOCAL, BOTH]),
    (["-q", "jp-c18"], [EXTERNAL]),
    (["-q", "  "], [LOCAL, EXTERNAL, BOTH]),
    (["-q", "99"], []),
    (["--sort", "id"], [BOTH, LOCAL, EXTERNAL]),
    (["--sort", "id", "--reverse"], [EXTERNAL, LOCAL, BOTH]),
    (["--sort", "created"], [EXTERNAL, LOCAL, BOTH]),
    (["--sort", "events"], [LOCAL, BOTH, EXTERNAL]),
    (["--sort", "activity", "--reverse"], [BOTH, EXTERNAL, LOCAL]),
    (["--limit", "1"], [LOCAL]),
    (["--limit", "0"], []),
    (["--sort", "id", "--limit", "2"], [BOTH, LOCAL]),
    (["--worktree", "../a"], [LOCAL, EXTERNAL, BOTH]),
    (["--worktree", "../b"], [LOCAL, BOTH]),
    (["--worktree", "../a", "--presence", "projected"], [BOTH]),
    (["--worktree", "../b", "--presence", "projected"], []),
    (["--worktree", "../b", "--presence", "local", "-q", "17", "--limit", "1"], [LOCAL]),
    (["--worktree", "../a/.jp/conversations"], [LOCAL, EXTERNAL, BOTH]),
    (["--worktree", "../elsewhere"], []),
]


@pytest.mark.parametrize(("flags", "expected"), FILTERS, ids=[" ".join(f) or "none" for f, _ in FILTERS])
def test_filters(filled, flags, expected):
    """Each filter narrows, sorting is newest first and stable, and the limit comes last."""
    assert listed(filled, *flags) == expected


@pytest.mark.parametrize(
    ("flags", "code"), [(["--presence", "gone"], 2), (["--sort", "size"], 2), (["--limit", "x"], 2)]
)
def test_bad_filters(machine, flags, code):
    """What is no presence, no order or no number is bad usage."""
    assert machine.run("ls", *flags).code == code


def test_bad_status_is_said(filled):
    """An unknown status is left out with a warning on stderr; stdout stays one document."""
    ran = filled.ok("ls", "--status", "idle,opened", "--json")

    assert "opened" in ran.err
    assert len(ids(ran)) == 3


def test_quiet_and_prefix(filled):
    """After `ls`, -q is the prefix; before it and as --quiet it is the global flag."""
    assert filled.ok("-q", "ls", "-q", "99").out == ""
    assert filled.ok("ls", "--quiet", "-q", "99").out == ""
    assert filled.run("ls", "-q").code == 2


def test_active_while_locked(filled):
    """A conversation whose lock is held now is active, and idle again after."""
    with filled.holding(LOCAL):
        assert listed(filled, "--status", "active") == [LOCAL]

    assert listed(filled, "--status", "active") == []


def test_vanished_worktree_still_answers(filled):
    """A registered worktree that is gone shows what is durable, as local."""
    shutil.rmtree(filled.base / "a")

    rows = filled.ok("ls", "--json", "--worktree", filled.base / "a").json["conversations"]

    assert {(c["id"], c["presence"], len(c["worktrees"])) for c in rows} == {
        (f"jp-c{LOCAL}", "user_local_only", 0),
        (f"jp-c{BOTH}", "user_local_only", 0),
    }


def test_vanished_worktrees_keep_their_row_in_ls_and_status(filled):
    """All of them gone: everything durable is listed, every worktree is `missing` and says what it held."""
    known = {c["id"]: c for c in filled.ok("ls", "--json", "--all").json["conversations"]}
    for name in "ab":
        shutil.rmtree(filled.base / name)

    rows = {c["id"]: c for c in filled.ok("ls", "--json", "--all").json["conversations"]}
    [workspace] = filled.ok("status", "--json").json["workspaces"]

    assert rows.keys() == known.keys() - {f"jp-c{EXTERNAL}"}
    assert all(
        {k: row[k] for k in ("title", "events", "status")} == {k: known[i][k] for k in ("title", "events", "status")}
        for i, row in rows.items()
    )
    assert {(w["path"], w["state"]) for w in workspace["worktrees"]} == {
        (str(filled.base / n), "missing") for n in "ab"
    }
    [a] = [w["counts"] for w in workspace["worktrees"] if w["path"] == str(filled.base / "a")]
    assert (a["projected"], a["local"], a["archived"]) == (1, 1, 1)
    assert filled.ok("status").out
    assert filled.run("status", "--check").code in (0, 7)


def test_behind_is_marked(machine):
    """Where git brought an older version back the row says so, also through --worktree and --behind alone."""
    tree = machine.worktree("a", register=False)
    machine.write(tree, BOTH, "one")
    machine.write(tree, LOCAL, "one")
    git = lambda *argv: subprocess.run(["git", "-C", tree, *GIT, *argv], check=True, capture_output=True)  # noqa: E731
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-qm", "old", "--date=2023-11-14T22:13:20Z")
    put(machine.directory(tree, BOTH) / "events.json", as_jp([event("one"), event("two")]))
    machine.ok("register", tree)
    assert machine.ok("ls", "--json", "--behind").json["conversations"] == []
    git("checkout", "-q", "--", ".")
    machine.ok("sync")

    rows = {c["id"]: c["behind"] for c in machine.ok("ls", "--json").json["conversations"]}
    assert rows == {f"jp-c{BOTH}": [str(tree)], f"jp-c{LOCAL}": []}
    assert listed(machine, "--behind") == listed(machine, "--behind", "--worktree", tree) == [BOTH]
    cells = {line.split("\t")[0]: line.split("\t")[1] for line in machine.ok("ls").out.splitlines()[1:]}
    assert cells == {f"jp-c{BOTH}": "N behind", f"jp-c{LOCAL}": "N"}
    assert "behind" in machine.ok("show", str(BOTH)).out


def test_paused_worktrees_are_shown(filled):
    """A worktree that nobody watches for now still holds what it holds."""
    path = str(filled.base / "state" / "convsync" / "state.db")
    import sqlite3

    db = sqlite3.connect(path)
    db.execute("UPDATE worktree SET paused = 1")
    db.commit()
    db.close()

    assert listed(filled, "--presence", "projected") == [BOTH]


def test_newest_copy_is_shown(filled):
    """Title and events come from the newest copy of their unit, independently, ties from the silo."""
    a = filled.base / "a"
    stream, metadata = (
        filled.directory(a, BOTH) / "events.json",
        filled.directory(filled.silo(), BOTH) / "metadata.json",
    )
    put(stream, as_jp([event("1"), event("2"), event("3", "2030-01-01 00:00:00.0")]), LONG_AGO + SECOND)
    put(metadata, as_jp({"title": "Newer", "last_activated_at": "2023-11-14 22:13:20.0"}), LONG_AGO + 1)

    row = next(c for c in filled.ok("ls", "--json").json["conversations"] if c["id"] == f"jp-c{BOTH}")

    assert (row["title"], row["events"], row["lastActivityAt"]) == ("Newer", 3, 1893456000000)


def test_touch_changes_nothing(filled):
    """Activity is the time of the last event, not of a file."""
    before = filled.ok("ls", "--json").out
    os.utime(filled.directory(filled.silo(), BOTH) / "events.json")

    assert filled.ok("ls", "--json").out == before


def test_ties_keep_the_order_of_ids(machine):
    """Equal activity stays in the order of ids, time after time."""
    a = machine.worktree("a", register=False)
    for number in range(1, 6):
        machine.write(a, 17000000000 + number, event("x"))
    machine.ok("register", a)

    for _ in range(5):
        assert listed(machine) == [17000000000 + n for n in range(1, 6)]


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]\n", b"[1]\n", b"\0" * 64, b'[\n  {\n    "timestamp": ', b"\xff"])
def test_damaged_streams_show_nothing(filled, raw):
    """A stream that cannot be read counts no events and falls back to the time of creation; no error."""
    put(filled.directory(filled.silo(), LOCAL) / "events.json", raw)

    row = next(c for c in filled.ok("ls", "--json").json["conversations"] if c["id"] == f"jp-c{LOCAL}")

    assert (row["events"], row["lastActivityAt"]) == (0, LOCAL * 100)


def test_nothing_registered(machine):
    """Nothing registered is an empty list, not an error."""
    assert machine.ok("ls", "--json").json == {"schema": 1, "conversations": []}
    assert machine.ok("ls").out.startswith("ID")


def test_unreadable_silo(filled):
    """A silo that cannot be listed is a storage problem that says so: here a link that goes round, also for root."""
    live = filled.silo() / "conversations"
    live.rename(filled.base / "aside")
    live.symlink_to("conversations")
    ran = filled.run("ls")

    assert ran.code == 6
    assert "Failed to list conversations" in ran.err
