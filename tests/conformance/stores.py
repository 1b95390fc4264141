"""Contract 11.3: what is written, removed, archived and locked is found, gone, elsewhere and busy."""

from __future__ import annotations

import time

from conformance.ground import A, B, fields, jp, plain, registered, rows, store, sync
from convsync_agent.content import expires_at
from convsync_agent.locks import BusyError, conversation_lock, holder_of
from convsync_agent.model import METADATA
from jp import directories


def the_title_is_found(m):
    registered(m)
    jp(m).new(A, "one", title="A title")
    assert rows(m)[A]["title"] == m.ok("show", A, "--json").json["title"] == "A title"


def the_events_are_found(m):
    registered(m)
    jp(m).new(A, "one", "two")
    assert rows(m)[A]["events"] == m.ok("show", A, "--json").json["events"] == 2


def removed_is_gone(m):
    registered(m, A)
    jp(m).remove(A)
    assert rows(m) == {}
    assert m.run("show", A).code == 3


def removing_what_is_unknown_does_nothing(m):
    tree = registered(m, A)
    before = m.inventory(tree, m.silo() / "conversations")
    jp(m).remove(B)
    sync(m)
    assert m.inventory(tree, m.silo() / "conversations") == before
    assert m.run("trash", "ls", "--json").json["conversations"] == []


def unknown_is_not_found(m, *command):
    registered(m, A)
    ran = m.run(*command, f"jp-c{B}", "--json")
    assert (ran.code, ran.json["error"]["code"]) == (3, "not-found")


def unknown_metadata(m):
    unknown_is_not_found(m, "show")


def unknown_stream(m):
    unknown_is_not_found(m, "path", "--events")


def nothing_is_listed(m):
    registered(m)
    assert rows(m) == {}


def several_are_listed(m):
    registered(m, A, B, A + 7)
    assert sorted(rows(m)) == [A, B, A + 7]


def archived_and_back(m):
    registered(m, A)
    jp(m).archive(A)
    assert (rows(m, "--archived").keys(), rows(m, "--status", "idle").keys()) == ({A}, set())
    jp(m).unarchive(A)
    assert (rows(m, "--archived").keys(), rows(m, "--status", "idle").keys()) == (set(), {A})


def archive_of_what_is_unknown(m):
    registered(m, A)
    assert m.run("archive", f"jp-c{B}").code == 3


def unarchive_of_what_is_unknown(m):
    registered(m, A)
    assert m.run("unarchive", f"jp-c{B}").code == 3


def no_archive_directory(m):
    tree = registered(m, A)
    assert not (tree / ".jp/conversations/.archive").exists()
    assert rows(m, "--archived") == {}


def archived_metadata_by_id(m):
    tree = registered(m)
    m.write(tree, A, "one", archived=True, title="Put away")
    assert m.ok("show", A, "--json").json["title"] == "Put away"


def over(m, **metadata):
    """Which conversations JP would remove now, by its own rule and as convsync reads the same files."""
    tree = registered(m, A)
    jp(m).edit(A, **metadata)
    sync(m)
    now = time.time_ns()
    ends = [expires_at((p / METADATA).read_bytes()) for p in directories(store(m))]
    ours = {A for end in ends if end is not None and end <= now}
    assert fields(m, m.silo(), A) == fields(m, tree, A)
    assert jp(m).expire(now) == ours
    return ours


def no_expiry(m):
    assert over(m) == set()


def past_expiry(m):
    assert over(m, expires_at="2024-01-01 00:00:00.0") == {A}


def future_expiry(m):
    assert over(m, expires_at="2199-01-01 00:00:00.0") == set()


def no_repairs(m):
    plain(m)
    assert jp(m).trashed == []
    registered(m, name="b")
    assert jp(m, "b").trashed == []


# -- locks ----------------------------------------------------------------------------------


def one_at_a_time(m):
    registered(m, A)
    with m.holding(A):
        try:
            with conversation_lock(str(m.silo()), A):
                raise AssertionError("taken twice")
        except BusyError:
            pass
    with conversation_lock(str(m.silo()), A) as lock:
        assert lock.still_ours()
        assert holder_of(str(m.silo() / "locks" / f"jp-c{A}.lock")).session == "convsync"


def two_are_independent(m):
    registered(m, A, B)
    with m.holding(A), conversation_lock(str(m.silo()), B) as lock:
        assert lock.still_ours()
