"""The words of a TARGET: one table of them all, sets, a chain of words, ids from stdin, what no TARGET means."""

from __future__ import annotations

import os
import pty
import time

import pytest

from convsync_agent.errors import NotFound, UsageProblem
from convsync_agent.session import ENV, Session
from convsync_agent.sessions import Mappings
from convsync_cli.context import Context
from convsync_cli.keywords import ONE, SETS
from convsync_cli.picker import PICKERS
from convsync_cli.target import Target, resolve_many, resolve_target
from machine import WS
from terminal import everything

OLD, PINNED, LAST, NEWEST, EXTERNAL = 17000000001, 17000000002, 17000000003, 17000000008, 17000000007
STORED, FILED = 16900000000, 16900000001
ELSEWHERE = 17900000000
LIVE = [OLD, PINNED, LAST, EXTERNAL, NEWEST]
ME = Session(ENV, "me", "JP_SESSION")


@pytest.fixture
def filled(machine, monkeypatch):
    """One of each kind in workspace `a`; in another workspace what would win every contest; a session that was busy."""
    monkeypatch.setenv("JP_SESSION", "me")
    a = machine.worktree("a", register=False)
    machine.write(a, OLD, "one", pinned_at="2020-01-01 00:00:00.0")
    machine.write(a, PINNED, "two", pinned_at="2024-01-01 00:00:00.0")
    machine.write(a, LAST, "three", last_activated_at="2024-06-01 00:00:00.5")
    machine.write(a, NEWEST, "four")
    machine.write(a, STORED, "five", archived=True, archived_at="2024-02-01 00:00:00.0")
    machine.write(a, FILED, "six", archived=True, archived_at="2024-01-01 00:00:00.0")
    machine.ok("register", a)
    monkeypatch.setenv("CONVSYNC_IMPORT__POLICY", "manual")
    machine.write(a, EXTERNAL, "seven")
    visit(machine, OLD, 99, LAST)
    monkeypatch.chdir(a)
    return machine


@pytest.fixture
def rival(filled):
    """Another workspace, with a later one of everything."""
    b = filled.worktree("b", "zzzz9", register=False)
    late = "2030-01-01 00:00:00.0"
    filled.write(b, ELSEWHERE, "x", last_activated_at=late, pinned_at=late)
    filled.write(b, ELSEWHERE - 1, "y", archived=True, archived_at=late)
    filled.ok("register", b)
    return filled


def visit(machine, *conversations, workspace=WS):
    for conversation in reversed(conversations):
        Mappings(str(machine.silo(workspace))).activate(ME, conversation, time.time_ns())


def ids(*texts, **kept):
    return [t.conversation for t in resolve_many(Context(), texts, **kept)]


WORDS = {
    "last": ["last", "last-activated", "recent", "r"],
    "newest": ["newest", "last-created", "n"],
    "pinned": ["pinned", "p"],
    "archived": ["archived", "a"],
    "active": ["active", "."],
    "previous": ["prev", "previous", "session", "s"],
}
MEANT = {"last": LAST, "newest": NEWEST, "pinned": PINNED, "archived": STORED, "active": OLD, "previous": LAST}


@pytest.mark.parametrize(("word", "text"), [(w, t) for w, texts in WORDS.items() for t in texts])
@pytest.mark.usefixtures("rival")
def test_every_word(word, text):
    """One conversation of the workspace of here, whatever another workspace has."""
    assert resolve_target(Context(), text) == Target(WS, MEANT[word])
    assert ONE[text] == word


def test_the_table_is_whole():
    """No word without a row above or below."""
    assert set(ONE) == {t for texts in WORDS.values() for t in texts}
    assert set(SETS) == {t for t, _ in ALL}
    assert set(PICKERS) == {t for t, _ in PICKS}


ALL = [
    *[(t, LIVE) for t in ("+live", "+l")],
    *[(t, [OLD, LAST]) for t in ("+session", "+s")],
    *[(t, [OLD, PINNED]) for t in ("+pinned", "+p")],
    *[(t, [STORED, FILED]) for t in ("+archived", "+a")],
    ("+external", [EXTERNAL]),
]


@pytest.mark.parametrize(("text", "expected"), ALL)
@pytest.mark.usefixtures("rival")
def test_every_set(text, expected):
    """All of it, of the workspace of here only: what takes a set may take things away."""
    assert ids(text) == expected


@pytest.mark.usefixtures("filled")
def test_a_set_where_one_is_wanted():
    """More than one is exit 2 with the names, a set of one is that one."""
    with pytest.raises(UsageProblem, match=f"jp-c{OLD}.*jp-c{PINNED}"):
        resolve_target(Context(), "+pinned")
    assert resolve_target(Context(), "+external").conversation == EXTERNAL


def test_outside_of_every_worktree(rival, monkeypatch):
    """`last` is of all workspaces; a set, and what a session did, are of one, and which one has to be said."""
    monkeypatch.chdir(rival.home)

    assert ids("last") == [ELSEWHERE]
    for text in ("+live", "+archived", ".", "prev"):
        with pytest.raises(UsageProblem, match="zzzz9"):
            ids(text)


@pytest.mark.parametrize("text", ["last", "newest", "pinned", "archived", ".", "prev", "+live", "+session", "+pinned"])
def test_what_there_is_none_of(machine, monkeypatch, text):
    """Exit 3: a keyword without a conversation, a set that is empty."""
    monkeypatch.setenv("JP_SESSION", "me")
    machine.worktree()
    with pytest.raises(NotFound):
        resolve_many(Context(), [text])


def test_the_active_one_has_no_one_before(filled):
    """`prev` with one conversation in the history is exit 3."""
    (filled.silo() / "sessions" / f"{ME.key}.json").unlink()
    visit(filled, OLD)

    assert ids("active") == [OLD]
    assert filled.run("path", "prev").code == 3


# -- several ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([str(OLD), str(NEWEST), str(OLD)], [OLD, NEWEST]),
        (["prev", str(NEWEST)], [LAST]),
        ([str(NEWEST), "prev"], [NEWEST]),
        (["nosuch", "last"], [LAST]),
        (["+pinned", "last"], [OLD, PINNED]),
        (["+nosuch", "+external"], [EXTERNAL]),
    ],
)
@pytest.mark.usefixtures("filled")
def test_ids_add_up_and_a_word_makes_a_chain(texts, expected):
    """Contract 8.5: with a keyword among them, the first that means anything counts."""
    assert ids(*texts) == expected


@pytest.mark.usefixtures("filled")
def test_a_chain_of_nothing():
    """The last of it says why; what is ambiguous is no nothing."""
    with pytest.raises(NotFound, match="nosuch"):
        ids("newest-of-all", "+x", "nosuch")
    with pytest.raises(UsageProblem, match="several"):
        ids("1700", "last")


def test_from_stdin(filled):
    """`-`: one id a line, blank lines do not count; a keyword there is none, and nothing at all is exit 2."""
    rows = {
        f"\n  jp-c{OLD}  \n\n{NEWEST}\n": (2, "2 conversations"),
        f"{NEWEST}\n": (0, f"/{NEWEST}"),
        f"{NEWEST}\n{NEWEST}\r\n": (0, f"/{NEWEST}"),
        "last\n": (3, "no such conversation"),
        "\n \n": (2, "no id on stdin"),
        "": (2, "no id on stdin"),
        "secret words\n": (3, "no such conversation"),
    }
    for text, (code, words) in rows.items():
        with filled.spawn("path", "-", stdin=-1, cwd=filled.base / "a") as running:
            out, err = running.communicate(text, timeout=120)
        assert (running.returncode, words in out + err) == (code, True), (text, out, err)
        assert "secret" not in err


def test_bytes_that_are_no_text_on_stdin(filled):
    """No id, exit 3, and no traceback."""
    with filled.spawn("path", "-", stdin=-1, text=False) as running:
        _, err = running.communicate(b"\xff\xfe\n", timeout=120)
    assert (running.returncode, b"no such conversation" in err) == (3, True)


# -- no target ----------------------------------------------------------------------------


def test_no_target_is_what_the_session_works_on(filled, monkeypatch):
    """Before every setting; then the setting; then a person, who is not there."""
    monkeypatch.setenv("CONVSYNC_TARGET__DEFAULT", "newest")
    assert ids("") == ids() == [OLD]

    monkeypatch.setenv("JP_SESSION", "fresh")
    assert ids() == [NEWEST]
    monkeypatch.setenv("CONVSYNC_TARGET__DEFAULT", "ask")
    assert filled.run("path").code == 2


@pytest.mark.parametrize(
    ("default", "expected"),
    [("last", LAST), ("last-created", NEWEST), ("prev", None), (f"jp-c{OLD}", OLD), (str(PINNED), PINNED)],
)
def test_every_default(filled, monkeypatch, default, expected):
    """`target.default` counts where the session has nothing; what it does not find is exit 3."""
    monkeypatch.setenv("JP_SESSION", "fresh")
    ran = filled.run("path", "--json", "--set", f"target.default={default}")

    assert ran.code == (0 if expected else 3)
    assert expected is None or ran.json["path"].endswith(f"/{expected}")


@pytest.mark.parametrize("default", ["?", "+live", ".", "nosuch", "-"])
def test_a_default_that_is_none(filled, default):
    """Exit 2 with what is allowed, whatever the session works on."""
    ran = filled.run("path", "--set", f"target.default={default}")

    assert ran.code == 2
    assert "last-created" in ran.err


def test_what_the_session_works_on_is_archived(filled, monkeypatch):
    """Then it works on nothing (contract 8.3), and the setting counts."""
    monkeypatch.setenv("CONVSYNC_TARGET__DEFAULT", "newest")
    visit(filled, STORED)

    assert ids() == [NEWEST]


# -- asking ---------------------------------------------------------------------------------

PICKS = [
    *[("?", [OLD, LAST, NEWEST])],  # the session's own first
    *[(t, [OLD, PINNED]) for t in ("?p", "?pinned")],
    *[(t, [OLD, LAST]) for t in ("?s", "?session")],
    *[(t, [FILED, STORED]) for t in ("?a", "?archived")],
]


@pytest.mark.parametrize(("text", "first"), PICKS)
def test_every_picker(filled, text, first):
    """Numbered on a terminal; the second is taken."""
    ours, theirs = pty.openpty()
    env = {"JP_SESSION": "me", "CONVSYNC_IMPORT__POLICY": "manual"}
    where = filled.base / "a"
    running = filled.spawn("path", text, stdin=theirs, stdout=theirs, stderr=theirs, text=False, env=env, cwd=where)
    os.close(theirs)
    seen = everything(ours, b"2", b"which one")

    assert running.wait(120) == 0, seen
    listed = [
        int(row.split()[1].removeprefix("jp-c")) for row in seen.splitlines() if "jp-c" in row.partition(" ago")[0]
    ]
    if text == "?":
        assert listed[:2] == first[:2]
        assert sorted(listed) == sorted(LIVE)
    else:
        assert sorted(listed) == sorted(first)
    assert seen.rstrip().splitlines()[-1].endswith(f"/{listed[1]}")


# -- every command ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["show", "path", "history", "diff", "restore", "undo", "accept", "use", "sync"])
def test_every_command_takes_every_target(filled, command):
    """One resolver; `nosuch` is exit 3, and every word is understood."""
    assert filled.run(command, "nosuch").code == 3
    for text in ("last", "newest", "prev", "active"):
        ran = filled.run(command, text)
        assert "no such conversation" not in ran.err, ran
        assert "Traceback" not in ran.err


def test_a_dot_is_a_path_where_a_path_may_stand(filled):
    """`sync .` means the worktree, `path .` what the session works on (cli.md)."""
    assert filled.ok("sync", ".", "--dry-run", "--json").json["unchanged"] > 1
    assert filled.ok("path", ".", "--json").json["path"].endswith(f"/{OLD}")
