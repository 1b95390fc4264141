"""Contract 11.6: the command line, where JP's tests speak of what lies on disk afterwards."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager

from conformance.ground import (
    A,
    B,
    C,
    D,
    equal,
    fields,
    jp,
    put_session,
    raw,
    registered,
    rows,
    session,
    session_file,
    shown,
    sync,
    use,
)
from convsync_agent.locks import conversation_lock
from convsync_agent.model import METADATA
from convsync_agent.session import ENV, OVERRIDE, Session
from convsync_cli.patience import parse_duration
from machine import LONG_AGO, as_jp, event, put

ONE = Session(ENV, "one", OVERRIDE)
FILES = [("--events", "events.json"), ("--metadata", METADATA), ("--base-config", "base_config.json")]
TURNS = [e for n in range(5) for e in (event(kind="turn_start"), event(f"q{n}"))]


@contextmanager
def variable(name, value):
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


# -- path ---------------------------------------------------------------------------------


def the_directory(m):
    tree = registered(m)
    m.write(tree, A, "external")
    assert m.ok("path", A).out.splitlines() == [str(m.directory(tree, A))]


def each_file(m):
    at = m.directory(registered(m, A), A)
    for flag, name in FILES:
        assert m.ok("path", A, flag).out.splitlines() == [str(at / name)]


def several_files(m):
    at = m.directory(registered(m, A), A)
    flags = [flag for flag, _ in FILES]
    for order in (flags, flags[::-1]):
        assert m.ok("path", A, *order).out.splitlines() == [str(at / name) for _, name in FILES]


# -- rm, archive, use -----------------------------------------------------------------------


def only_what_is_named(m):
    """Ranges of times are JP's own; here ids say it, and nothing goes when one of them is unknown."""
    tree = registered(m, A, B, C)
    assert m.run("rm", A, f"jp-c{D}", "--yes").code == 3
    assert sorted(rows(m)) == [A, B, C]
    m.ok("rm", A, C, "--yes")
    assert list(rows(m)) == [B]
    assert (m.directory(tree, A), m.directory(m.silo(), C)) == (None, None)
    with session("one"):
        m.ok("use", B)
        m.ok("rm", "active", "--yes")
    assert rows(m) == {}


def archive_of_the_active_one(m):
    """Filters by age are JP's own; the one of the session, or the ones that are named."""
    registered(m, A, B, C)
    assert m.run("archive").code == 2
    use(m, A)
    with session("one"):
        m.ok("archive", "active")
    assert list(rows(m, "--archived")) == [A]
    m.ok("archive", B)
    assert sorted(rows(m, "--archived")) == [A, B]


def use_writes_both(m):
    tree = registered(m, A)
    before = fields(m, tree, A)["last_activated_at"]
    use(m, A)
    assert session_file(m, ONE).exists()
    assert fields(m, tree, A)["last_activated_at"] > before
    assert equal(m, A, m.silo(), tree)


def use_beside_a_writer(m):
    tree = registered(m, A)
    before = raw(m, tree, A, METADATA), raw(m, m.silo(), A, METADATA)
    with m.holding(A):
        use(m, A)
    assert shown(m) == (f"jp-c{A}", None)
    assert (raw(m, tree, A, METADATA), raw(m, m.silo(), A, METADATA)) == before


def use_of_what_is_left(m):
    """What JP narrows by text and time, a prefix narrows here: one is taken, several or none are not."""
    registered(m, A, B, 18_000_000_001)
    use(m, "18")
    assert shown(m)[0] == "jp-c18000000001"
    with session("one"):
        assert m.run("use", "17").code == 2
        assert m.run("use", "16").code == 3
    assert shown(m)[0] == "jp-c18000000001"


# -- edit ---------------------------------------------------------------------------------------


def durations(_):
    assert [parse_duration(t) for t in ("0", "10s", "2m", "1h 30m", "3w")] == [0, 10, 120, 5400, 3 * 7 * 86400]
    assert [parse_duration(t) for t in ("", "x", "10", "s", "10 parsecs", "-1s", "1s!")] == [None] * 7


def an_edit_that_does_not_load(m):
    """What was there is back, what was not there is gone, and no root has seen any of it."""
    tree = registered(m, A)
    before = m.inventory(tree, m.silo() / "conversations")
    script = m.base / "editor"
    script.write_text('#!/bin/sh\nprintf x > "$1"\nprintf new > "$(dirname "$1")/new.json"\n')
    script.chmod(0o755)
    with variable("EDITOR", str(script)):
        for flag in ("-e", "-m", "-b"):
            assert m.run("edit", A, flag).code not in (0, 3)
            m.quiet()
            assert m.inventory(tree, m.silo() / "conversations") == before


# -- ls -----------------------------------------------------------------------------------------


def letters(m):
    tree = registered(m, A)
    m.write(m.silo(), B, "local")
    m.write(tree, C, "external")
    lines = [line.split("\t") for line in m.ok("ls").out.splitlines()[1:]]
    assert {cells[0]: cells[1] for cells in lines} == {f"jp-c{A}": "N", f"jp-c{B}": "Y", f"jp-c{C}": "ext"}


def one_order_at_a_time(m):
    """Here the header has no arrows; the order is the one that was asked for, and of the archive the same."""
    tree = m.worktree("a", register=False)
    for number, count, at in ((A, 3, "2024-01-02"), (B, 1, "2024-01-03"), (C, 2, "2024-01-01")):
        m.write(tree, number, *[event("x", f"{at} 00:00:00.0")] * count)
    m.ok("register", tree)
    for flags, order in (
        ([], [B, A, C]),
        (["--sort", "id"], [A, B, C]),
        (["--sort", "created"], [C, B, A]),
        (["--sort", "events"], [A, C, B]),
        (["--sort", "id", "--sort", "activity"], [B, A, C]),
        (["--reverse"], [C, A, B]),
    ):
        assert list(rows(m, "--status", "idle", *flags)) == order
    assert m.run("ls", "--sort", "size").code == 2


# -- fork -----------------------------------------------------------------------------------------


def forked(m, *flags) -> int:
    return int(m.ok("fork", A, *flags, "--json").json["id"][4:])


def forks_keep_turns(m):
    tree = m.worktree("a", register=False)
    m.write(tree, A, *TURNS)
    m.ok("register", tree)
    before = m.inventory(m.directory(tree, A), m.directory(m.silo(), A))
    for flags, kept in ([], 5), (["--last", 2], 2), (["--last", 1], 1), (["--last", 0], 0), (["--last", 9], 5):
        number = forked(m, *flags)
        assert m.questions(m.silo(), number)[1::2] == [f"q{n}" for n in range(5 - kept, 5)]
        assert equal(m, number, m.silo(), tree)
    assert m.inventory(m.directory(tree, A), m.directory(m.silo(), A)) == before


def what_cannot_be_forked_makes_nothing(m):
    tree = registered(m, A)
    put(m.directory(tree, A) / "events.json", b"x")
    put(m.directory(m.silo(), A) / "events.json", b"x")
    for argv in (["fork", A], ["fork", B], ["fork", A, "--last", "x"]):
        assert m.run(*argv).code in (2, 3, 4)
    assert list(rows(m)) == [A]


def a_fork_of_a_local_one(m):
    tree = registered(m)
    m.write(m.silo(), A, *TURNS)
    number = forked(m)
    assert m.directory(tree, number) is None
    assert rows(m)[number]["presence"] == "user_local_only"


# -- what query and titles leave on disk ----------------------------------------------------------------


def a_config_delta_is_kept(m):
    tree = registered(m, A)
    delta = {"type": "config_delta", "timestamp": "2023-11-14 22:13:20.0", "delta": {"assistant": {"model": "x"}}}
    put(m.directory(tree, A) / "events.json", as_jp([event("one"), delta, *TURNS]))
    sync(m)
    assert delta in m.events(m.silo(), A)
    assert delta in m.events(m.silo(), forked(m, "--last", 1))


def titles_come_and_go(m):
    tree = registered(m, A, B)
    for title, name in (("Set now", f"{A}-set-now"), (None, f"{A}")):
        jp(m).edit(A, title=title)
        sync(m)
        assert [m.directory(r, A).name for r in (m.silo(), tree)] == [name] * 2
    assert m.directory(tree, B).name == str(B)


def which_title_is_shown(m):
    tree = registered(m)
    m.write(tree, A, "A first question", title="A heading")
    m.write(tree, B, "A first question")
    m.write(tree, C)
    assert [rows(m)[c]["title"] for c in (A, B, C)] == ["A heading", "A first question", ""]


# -- targets ----------------------------------------------------------------------------------------------


def keywords(m):
    tree = m.worktree("a", register=False)
    times = {A: "2024-01-03 00:00:00.0", B: "2024-01-02 00:00:00.0", C: "2024-01-01 00:00:00.0"}
    for number, at in times.items():
        m.write(tree, number, "one", last_activated_at=at, **({"pinned_at": at} if number != A else {}))
    m.write(tree, D, "four", archived=True, archived_at="2024-01-01 00:00:00.0")
    m.ok("register", tree)
    put_session(m, ONE, C, B)
    meant = {"last": A, "recent": A, "r": A, "newest": C, "n": C, "pinned": B, "p": B, "archived": D, "a": D}
    meant |= {"active": C, ".": C, "session": B, "prev": B, "s": B, "": C, f"jp-c{A}": A, str(B): B, f"{A}": A}
    with session("one"):
        for word, number in meant.items():
            assert m.ok("show", *([word] if word else []), "--json").json["id"] == f"jp-c{number}", word
        for word, code in (("?", 2), ("nosuch", 3), ("-5", 2), ("17", 2)):
            assert m.run("show", word).code == code, word
        m.ok("archive", "+pinned")
    assert sorted(rows(m, "--archived")) == [B, C, D]
    for default, number in (("last", A), ("last-created", A), (f"jp-c{D}", D)):
        assert m.ok("show", "--json", "--set", f"target.default={default}").json["id"] == f"jp-c{number}"


# -- what JP's own tests leave open ---------------------------------------------------------------------------


def the_gaps(m):
    """Unarchive and edit under the lock; one of two gets a lock; a tie of mtimes is the silo's; a presence that
    changes while a process runs is that of the moment. An interrupted first import: tests/fs/test_silos.py.
    """
    tree = registered(m, A, B)
    m.ok("archive", A)
    before = m.inventory(tree, m.silo() / "conversations")
    with variable("JP_LOCK_DURATION", "0"), m.holding(A), m.holding(B):
        assert m.run("unarchive", A).code == 5
        with variable("EDITOR", "true"):
            assert m.run("unproject", B).code == 5
    assert m.inventory(tree, m.silo() / "conversations") == before
    with conversation_lock(str(m.silo()), A):
        path = m.silo() / "locks" / f"jp-c{A}.lock"
        assert subprocess.run(["flock", "-n", path, "true"], check=False).returncode == 1
    m.ok("unarchive", A)
    early = jp(m)
    m.ok("unproject", B)
    early.query(B, "from before")
    sync(m)
    assert m.questions(m.silo(), B)[-1] == "from before"
    for root, text in ((m.silo(), "silo"), (tree, "worktree")):
        put(m.directory(root, A) / "events.json", as_jp([event(text)]), LONG_AGO + 7)
    sync(m)
    assert m.questions(tree, A) == ["silo"]
