"""Phase 2: both roots are read, a conversation is one whatever number of roots hold it, and each filter narrows."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys

import pytest

import convsync_agent
from convsync_agent.errors import NotFound, UsageProblem
from convsync_agent.model import Partition, Presence
from machine import as_jp, event, put

BOTH, LOCAL, EXTERNAL, STORED = 17000000001, 17000000002, 18000000003, 16900000004
ALL = {BOTH, LOCAL, EXTERNAL, STORED}


@pytest.fixture
def filled(machine):
    """In worktree a one projected, one external; in the silo also one local; one archived in both; b shows none."""
    a = machine.worktree("a", register=False)
    machine.write(a, BOTH, event("1", "2024-01-01 10:00:00.0"), labels={"area": "storage", "draft": ""})
    machine.write(a, STORED, event("2", "2023-01-01 10:00:00.0"), archived=True, labels={"area": "storage"})
    machine.ok("register", a)
    machine.worktree("b")
    machine.write(machine.silo(), LOCAL, event("3", "2024-03-01 10:00:00.0"), labels={"area": ["storage", "cli"]})
    machine.write(a, EXTERNAL, event("4", "2024-02-01 10:00:00.0"))
    return machine


def rows(machine, *flags):
    return machine.ok("ls", "--json", *flags).json["conversations"]


def listed(machine, *flags):
    return [int(c["id"].removeprefix("jp-c")) for c in rows(machine, *flags)]


def statuses(machine):
    return {int(c["id"].removeprefix("jp-c")): c["status"] for c in rows(machine, "--all")}


# -- the library ------------------------------------------------------------------


def presences(path):
    return {e.id: (e.overall, e.partition) for e in convsync_agent.load_index(path)}


def test_phase2_load_index_of_a_worktree_that_nobody_registered(machine):
    """Presence comes from JP's directories alone (contract 5.1): no registration, no agent, and nothing is written."""
    a = machine.worktree("a", register=False)
    machine.silo().mkdir(parents=True)
    machine.write(a, BOTH, "one")
    machine.write(machine.silo(), BOTH, "one")
    machine.write(machine.silo(), LOCAL, "one")
    machine.write(a, EXTERNAL, "one")
    machine.write(a, STORED, "one", archived=True)
    before = machine.inventory()

    assert presences(a / ".jp" / "conversations") == {
        BOTH: (Presence.PROJECTED, Partition.LIVE),
        LOCAL: (Presence.USER_LOCAL_ONLY, Partition.LIVE),
        EXTERNAL: (Presence.WORKSPACE_ONLY, Partition.LIVE),
        STORED: (Presence.WORKSPACE_ONLY, Partition.ARCHIVED),
    }
    assert machine.inventory() == before


def test_phase2_load_index_without_a_silo(machine):
    """A workspace that JP never opened here has external conversations only, or none (contract 11, 102)."""
    a = machine.worktree("a", register=False)

    assert convsync_agent.load_index(a) == []
    machine.write(a, BOTH, "one")
    assert presences(str(a)) == {BOTH: (Presence.WORKSPACE_ONLY, Partition.LIVE)}


def test_phase2_load_index_counts_registered_worktrees_in(filled):
    """Asked for one worktree it says what each registered one has, and also the one that is not registered."""
    c = filled.worktree("c", register=False)
    filled.write(c, LOCAL, "one")
    a, b = str(filled.base / "a"), str(filled.base / "b")

    [local] = [e for e in convsync_agent.load_index(c) if e.id == LOCAL]

    assert local.presence == {
        a: Presence.USER_LOCAL_ONLY,
        b: Presence.USER_LOCAL_ONLY,
        str(c): Presence.PROJECTED,
    }
    assert "c" not in {
        os.path.basename(w["path"]) for w in filled.ok("status", "--json").json["workspaces"][0]["worktrees"]
    }


def test_phase2_load_index_says_what_is_wrong(machine):
    """No `.jp` is not found; a broken id is bad input."""
    with pytest.raises(NotFound):
        convsync_agent.load_index(machine.home)
    a = machine.worktree("a", register=False)
    (a / ".jp" / ".id").write_text("<<<<<<< HEAD\n")
    with pytest.raises(UsageProblem):
        convsync_agent.load_index(a)


def test_phase2_load_index_is_imported_on_use():
    """The package alone costs nothing: `load_index` comes with its first use."""
    code = (
        "import sys, convsync_agent; early = 'convsync_agent.index' in sys.modules; "
        "print(early, convsync_agent.load_index.__name__, 'convsync_agent.index' in sys.modules)"
    )
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": path}, capture_output=True, check=True)

    assert done.stdout.split() == [b"False", b"load_index", b"True"]
    with pytest.raises(AttributeError):
        _ = convsync_agent.nothing_of_that_name


# -- one entry each -----------------------------------------------------------------


def test_id_dedup(machine):
    """Ids are the numbers before the first dash: other slugs in three roots are one conversation."""
    a, b = machine.worktree("a", register=False), machine.worktree("b", register=False)
    machine.write(a, BOTH, "one", slug="one")
    machine.ok("register", a)
    machine.write(b, BOTH, "one", slug="two")
    machine.ok("register", b)
    os.rename(machine.directory(a, BOTH), a / ".jp" / "conversations" / f"{BOTH}-three")

    assert listed(machine) == [BOTH]
    assert rows(machine)[0]["worktrees"] == [str(a), str(b)]
    counts = [w["counts"] for w in machine.ok("status", "--json").json["workspaces"][0]["worktrees"]]
    assert [(c["projected"], c["local"], c["external"]) for c in counts] == [(1, 0, 0)] * 2


def test_id_dedup_in_the_archive(filled):
    """Archived in both roots is one row."""
    assert listed(filled, "--archived") == [STORED]
    assert rows(filled, "--archived")[0]["presence"] == "projected"


def test_a_longer_number_is_another_conversation(machine):
    """Ids are compared whole: one is not the beginning of another."""
    a = machine.worktree("a")
    machine.write(a, 1700, "one")
    machine.write(a, 17000000001, "two")

    assert sorted(listed(machine)) == [1700, 17000000001]


# -- filters --------------------------------------------------------------------------

FILTERS = [
    (["--worktree", "../b"], {BOTH, LOCAL, STORED}),
    (["--status", "idle"], {BOTH, LOCAL, EXTERNAL}),
    (["--presence", "projected,local"], {BOTH, LOCAL, STORED}),
    (["-q", "17"], {BOTH, LOCAL}),
    (["--label", "area=storage"], {BOTH, LOCAL, STORED}),
]


@pytest.mark.parametrize("chosen", list(itertools.product([0, 1], repeat=len(FILTERS))), ids=str)
def test_filters_compose(filled, chosen):
    """Worktree, status, presence, prefix and label: all 32 combinations give what every one of them leaves."""
    used = [f for f, wanted in zip(FILTERS, chosen, strict=True) if wanted]
    expected = set.intersection(ALL, *(left for _, left in used))

    flags = [word for words, _ in used for word in words]
    assert set(listed(filled, *([] if chosen[1] else ["--all"]), *flags)) == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--label", "area"], {BOTH, LOCAL, STORED}),
        (["--label", "area=storage"], {BOTH, LOCAL, STORED}),
        (["--label", "area=cli"], {LOCAL}),
        (["--label", "area=storage", "--label", "area=cli"], {LOCAL}),
        (["--label", "area", "--label", "draft"], {BOTH}),
        (["--label", "draft="], {BOTH}),
        (["--label", "draft=x"], set()),
        (["--label", "area="], set()),
        (["--label", "nothing"], set()),
        (["--label", "area=a=b"], set()),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else None,
)
def test_labels(filled, flags, expected):
    """KEY is any value, KEY=VALUE that one, KEY= the empty one; several narrow; a list has them all (contract 12.4)."""
    assert set(listed(filled, "--all", *flags)) == expected


@pytest.mark.parametrize("wrong", ["", "=x", "a b", "ä=1", "a.b"])
def test_what_is_no_label(filled, wrong):
    """Bad usage, and the key is not repeated: it may be text of a conversation."""
    ran = filled.run("ls", "--label", wrong)

    assert ran.code == 2
    assert "--label KEY" in ran.err


def test_odd_labels_match_nothing(machine):
    """Labels that are no object, or hold other things than text, are not there; the conversation is."""
    a = machine.worktree("a")
    for number, labels in enumerate([["area"], "area", {"area": 1}, {"area": {"x": "y"}}, None]):
        machine.write(a, BOTH + number, "one", labels=labels)

    assert len(listed(machine)) == 5
    assert len(listed(machine, "--label", "area=1")) == 0
    assert len(listed(machine, "--label", "area")) == 2


def test_filter_by_workspace(machine):
    """Each worktree answers for its own workspace."""
    for workspace, name, numbers in (("aaaaa", "a", (17000000001, 17000000002)), ("bbbbb", "b", (17000000003,))):
        tree = machine.worktree(name, workspace, register=False)
        for number in numbers:
            machine.write(tree, number, "x")
        machine.ok("register", tree)

    assert listed(machine, "--sort", "id", "--worktree", machine.base / "a") == [17000000001, 17000000002]
    assert listed(machine, "--sort", "id", "--worktree", machine.base / "b") == [17000000003]
    assert {c["workspaceId"] for c in rows(machine)} == {"aaaaa", "bbbbb"}


def test_filter_by_status(machine):
    """Active and idle leave out what is closed."""
    a = machine.worktree("a", register=False)
    for number in (1, 2, 3):
        machine.write(a, 17000000000 + number, "x", archived=number == 2)
    machine.ok("register", a)
    with machine.holding(17000000001):
        assert listed(machine, "--sort", "id", "--status", "active,idle") == [17000000001, 17000000003]
        assert statuses(machine) == {17000000001: "active", 17000000002: "closed", 17000000003: "idle"}


def test_status_persists_fresh_store(filled):
    """Closed is where the directory lies, so it survives our state; active ends with the process that was active."""
    code = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    (filled.silo() / "locks").mkdir(exist_ok=True)
    path = str(filled.silo() / "locks" / f"jp-c{LOCAL}.lock")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, path], **pipes) as holder:
        holder.stdout.readline()
        assert statuses(filled)[LOCAL] == "active"
        holder.kill()
        holder.wait()
        assert statuses(filled)[LOCAL] == "idle"
    before = statuses(filled)
    shutil.rmtree(filled.base / "state")
    for name in "ab":
        filled.ok("register", filled.base / name)

    assert statuses(filled) == before
    assert before[STORED] == "closed"


def test_unregistered_worktrees_still_answer(filled):
    """What is there is shown as JP would see it; where there is no `.jp` there is nothing, and no error."""
    c = filled.worktree("c", register=False)
    filled.write(c, EXTERNAL + 1, "x")
    before = filled.inventory()

    assert {c["presence"] for c in rows(filled, "--worktree", c)} == {"user_local_only", "workspace_only"}
    assert set(listed(filled, "--worktree", c)) == {BOTH, LOCAL, EXTERNAL + 1}
    assert listed(filled, "--worktree", filled.home) == []
    assert listed(filled, "--worktree", filled.base / "nowhere") == []
    filled.ok("unregister", filled.base / "a")
    assert set(listed(filled, "--worktree", filled.base / "a")) == {BOTH, LOCAL, EXTERNAL}
    assert {k: v for k, v in filled.inventory().items() if "/state" not in k} == {
        k: v for k, v in before.items() if "/state" not in k
    }


# -- titles and times -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "title", "shown"),
    [
        (["x" * 200], None, "x" * 80),
        (["ä" * 81], None, "ä" * 80),
        (["short"], None, "short"),
        (["first", "second"], None, "first"),
        ([event(kind="turn_start"), "after"], None, "after"),
        ([event(kind="turn_start")], None, ""),
        (["asked"], "Called", "Called"),
        (["asked"], "T" * 100, "T" * 100),
    ],
)
def test_a_title_falls_back_to_the_first_question(machine, texts, title, shown):
    """The title of the metadata, else the first question cut at 80 characters."""
    machine.write(machine.worktree("a"), BOTH, *texts, **({"title": title} if title else {}))

    assert rows(machine)[0]["title"] == shown


def test_activity_is_of_the_last_event(machine):
    """An append moves it; a touch of every file does not; without events it is the creation."""
    a = machine.worktree("a")
    at = machine.write(a, BOTH, event("1", "2024-01-01 00:00:00.0"))
    empty = machine.write(a, LOCAL)
    known = {c["id"]: c["lastActivityAt"] for c in rows(machine)}
    assert known == {f"jp-c{BOTH}": 1704067200000, f"jp-c{LOCAL}": LOCAL * 100}
    assert {c["createdAt"] for c in rows(machine)} == {BOTH * 100, LOCAL * 100}

    for path in (*at.iterdir(), *empty.iterdir()):
        os.utime(path)
    assert {c["id"]: c["lastActivityAt"] for c in rows(machine)} == known
    put(at / "events.json", as_jp([event("1"), event("2", "2024-01-02T00:00:00Z")]))
    assert rows(machine)[0]["lastActivityAt"] == 1704153600000
