"""Contract 11.3 and 11.4, sessions: what each terminal works on, whose file is whose, and when one is over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from conformance.ground import (
    A,
    B,
    C,
    fields,
    jp,
    put_session,
    registered,
    session,
    session_file,
    shown,
    site,
    sync,
    use,
)
from convsync_agent.session import ENV, GETSID, HWND, OVERRIDE, Session, as_json, read_trail, resolve
from convsync_agent.sessions import Mappings, alive
from convsync_agent.tidying import tidy

ONE, TWO = Session(ENV, "one", OVERRIDE), Session(ENV, "two", OVERRIDE)
GONE = 17_000_000_099


def text(number):
    return f"jp-c{number}"


def dead():
    """The pid of a process that was."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def history(path):
    return [e["id"] for e in json.loads(path.read_bytes())["history"]]


def prune(m, *flags):
    return m.ok("session", "prune", "--json", "--worktree", m.base / "a", *flags).json


# -- 88 to 91 ---------------------------------------------------------------------------


def saved_is_loaded(m):
    registered(m, A)
    use(m, A)
    assert shown(m) == (text(A), None)


def unknown_has_none(m):
    registered(m, A)
    use(m, A)
    assert shown(m, "two") == (None, None)


def the_latest_counts(m):
    registered(m, A, B)
    use(m, A)
    use(m, B)
    assert shown(m) == (text(B), text(A))


def all_are_listed(m):
    registered(m, A, B)
    use(m, A, "one")
    use(m, B, "two")
    found = m.ok("session", "ls", "--json", "--worktree", m.base / "a").json["sessions"]
    assert {(s["id"], s["active"]) for s in found} == {("one", text(A)), ("two", text(B))}


# -- activation -----------------------------------------------------------------------------


def activation_is_noted_twice(m):
    tree = registered(m, A)
    use(m, A)
    assert history(session_file(m, ONE)) == [A]
    for root in (m.silo(), tree):
        assert fields(m, root, A)["last_activated_at"] > "2026"


def without_the_lock_only_the_session(m):
    tree = registered(m, A)
    before = m.inventory(tree, m.silo() / "conversations")
    with m.holding(A):
        use(m, A)
    assert history(session_file(m, ONE)) == [A]
    assert m.inventory(tree, m.silo() / "conversations") == before


def a_file_is_made(m):
    registered(m, A)
    assert not (m.silo() / "sessions").exists()
    use(m, A)
    assert [p.name for p in (m.silo() / "sessions").iterdir()] == [session_file(m, ONE).name]


def in_front_and_once(m):
    registered(m, A, B, C)
    for number in (A, B, C, A):
        use(m, number)
    assert history(session_file(m, ONE)) == [A, C, B]


def no_file_no_active(m):
    registered(m, A)
    assert shown(m) == (None, None)
    assert not (m.silo() / "sessions").exists()


def a_source_comes_back(m):
    registered(m, A)
    use(m, A)
    body = session_file(m, ONE).read_bytes()
    assert json.loads(body)["source"] == {"type": "env", "key": "JP_SESSION"}
    assert as_json(read_trail(body, ONE.key)) == body


# -- who is alive ----------------------------------------------------------------------------


def a_variable_is_never_known_to_be_dead(_):
    assert ONE.pid is None
    assert alive(ONE.pid) is None


def a_leader_is_a_number(_):
    assert Session(GETSID, "123").pid == 123
    assert [Session(GETSID, t).pid for t in ("", "x", "1x", "-1", "0")] == [None] * 5
    assert Session(HWND, "123").pid is None


def processes_live_and_die(_):
    assert alive(os.getpid()) is True
    assert alive(dead()) is False


def a_dead_session_goes(m):
    registered(m, A)
    path = put_session(m, Session(GETSID, str(dead())), A)
    assert len(prune(m)["removed"]) == 1
    assert not path.exists()


def a_live_session_loses_its_ghosts(m):
    registered(m, A)
    path = put_session(m, Session(GETSID, str(os.getpid())), GONE, A)
    prune(m)
    assert history(path) == [A]


def one_active_each(m):
    tree = registered(m, A, B)
    assert m.ok("session", "ls", "--json", "--worktree", tree).json["sessions"] == []
    put_session(m, ONE, A, B)
    put_session(m, TWO, B)
    put_session(m, Session(GETSID, str(os.getpid())))
    found = m.ok("session", "ls", "--json", "--worktree", tree).json["sessions"]
    assert sorted(str(s["active"]) for s in found) == ["None", text(A), text(B)]


def made_after_the_index_is_kept(m):
    tree = registered(m, A)
    known = site(m)
    m.write(tree, B, "made meanwhile")
    path = put_session(m, ONE, B)
    tidy(known, dry=False)
    assert history(path) == [B]


def a_variable_with_something_alive_is_kept(m):
    registered(m, A)
    path = put_session(m, ONE, GONE, A)
    gone = put_session(m, TWO, GONE)
    prune(m)
    assert (history(path), gone.exists()) == ([A], False)


# -- what is active ----------------------------------------------------------------------------


def what_went_is_skipped(m):
    registered(m, A, B)
    put_session(m, ONE, GONE, A, B)
    assert shown(m) == (text(A), text(B))
    jp(m).remove(A)
    assert shown(m) == (text(B), None)
    put_session(m, TWO, GONE)
    assert shown(m, "two") == (None, None)


def archived_ends_it(m):
    registered(m, A, B)
    put_session(m, ONE, A, B)
    m.ok("archive", A)
    assert shown(m) == (None, None)


def archived_stays_in_the_history(m):
    registered(m, A)
    path = put_session(m, ONE, A)
    m.ok("archive", A)
    assert prune(m) | {"schema": 1} == {
        "schema": 1, "dry_run": False, "removed": [], "shortened": [], "renamed": [], "left": [],
    }  # fmt: skip
    assert history(path) == [A]


def a_lock_that_is_named_keeps_an_entry(m):
    registered(m, A)
    path = put_session(m, ONE, GONE)
    with m.holding(GONE):
        prune(m)
        assert history(path) == [GONE]
    prune(m)
    assert not path.exists()


def a_lock_file_left_behind_counts(m):
    """The state of locks is read from files: what a killed JP left there names a holder."""
    registered(m, A)
    path = put_session(m, ONE, GONE)
    (m.silo() / "locks").mkdir(exist_ok=True)
    left = m.silo() / "locks" / f"jp-c{GONE}.lock"
    left.write_text('{"pid":1,"session":"x","acquired_at":"2024-01-01T00:00:00+00:00"}')
    prune(m)
    assert history(path) == [GONE]
    left.write_text("")
    prune(m)
    assert not path.exists()


def looking_writes_no_session(m):
    registered(m, A)
    put_session(m, ONE, GONE, A)
    put_session(m, Session(GETSID, str(dead())), A)
    before = m.inventory(m.silo() / "sessions")
    shown(m)
    m.ok("session", "ls", "--worktree", m.base / "a")
    prune(m, "--dry-run")
    for command in ("ls", "status", "verify", "sync"):
        m.run(command)
    assert m.inventory(m.silo() / "sessions") == before


def active_ones_do_not_expire(m):
    tree = m.worktree("a", register=False)
    for number in (A, B):
        m.write(tree, number, "one", expires_at="2024-01-01 00:00:00.0")
    m.ok("register", tree)
    put_session(m, ONE, A)
    put_session(m, TWO, C)
    m.write(tree, C, "made meanwhile", expires_at="2024-01-01 00:00:00.0")
    sessions = m.ok("session", "ls", "--json", "--worktree", tree).json["sessions"]
    active = {int(s["active"][4:]) for s in sessions if s["active"]}
    assert active == {A, C}
    assert jp(m).expire(time.time_ns(), active) == {B}
    sync(m)
    assert m.questions(m.silo(), A) == ["one"]


def ghosts_go(m):
    registered(m, A)
    path = put_session(m, ONE, GONE, A, GONE + 1)
    prune(m)
    assert history(path) == [A]


# -- names of files ------------------------------------------------------------------------------


def keys_do_not_collide(_):
    same = [Session(ENV, "7", OVERRIDE), Session(ENV, "7", "TMUX_PANE"), Session(GETSID, "7"), Session(HWND, "7")]
    assert len({s.key for s in same}) == 4
    assert Session(ENV, "1234", OVERRIDE).key == "env-JP_SESSION-03ac674216f3e15c"
    assert Session(ENV, "%3", "TMUX_PANE").key == "env-TMUX_PANE-cb00ccd344b9bcfa"


def an_older_name_is_read_and_renamed(m):
    registered(m, A)
    old = put_session(m, ONE, A, name="one.json")
    body = json.loads(old.read_bytes())
    body.pop("id")
    old.write_text(json.dumps(body))
    assert shown(m) == (text(A), None)
    prune(m)
    assert (history(session_file(m, ONE)), old.exists()) == ([A], False)


def an_older_name_of_somebody_else(m):
    registered(m, A)
    old = put_session(m, Session(ENV, "one", "TMUX_PANE"), A, name="one.json")
    body = json.loads(old.read_bytes())
    body.pop("id")
    old.write_text(json.dumps(body))
    assert shown(m) == (None, None)


def nothing_outside_of_sessions(m):
    registered(m, A)
    for name in ("../../x", "/etc/x", "..", "a/b", "a\\b", "."):
        with session(name):
            m.ok("use", A)
    assert {p.parent for p in m.base.rglob("env-*.json")} == {m.silo() / "sessions"}
    assert len(list((m.silo() / "sessions").iterdir())) == 6
    assert Session(GETSID, "../x").key == "getsid-___x"
    assert Session(ENV, "v", "../X").key.startswith("env-___X-")


def another_identity_is_not_ours(m):
    registered(m, A)
    path = put_session(m, TWO, A, name=session_file(m, ONE).name)
    before = m.inventory(path)
    with session("one"):
        ran = m.run("session", "show", "--json")
    assert ran.code == 4 or ran.json["active"] is None
    assert m.inventory(path) == before


# -- 198 ---------------------------------------------------------------------------------------------


def who_this_is(m):
    assert resolve({}, None) is None
    assert resolve({"JP_SESSION": ""}, None) is None
    assert resolve({"JP_SESSION": "x"}, 7) == Session(ENV, "x", OVERRIDE)
    assert resolve({}, 7) == Session(GETSID, "7")
    assert resolve({"TMUX_PANE": "%1", "WEZTERM_PANE": "2"}, None) == Session(ENV, "%1", "TMUX_PANE")
    registered(m, A)
    said = [m.ok("session", "show", "--json").json for _ in range(2)]
    assert {(s["source"], s["id"]) for s in said} == {("getsid", str(os.getsid(0)))}
    assert Mappings(str(m.silo())).all() == []
