"""Contract 11.1, second half: intent and presence, which copy is read, and what a title does."""

from __future__ import annotations

import json
from pathlib import Path

from conformance.ground import (
    A,
    B,
    C,
    equal,
    fields,
    guarded,
    index,
    jp,
    metadata,
    raw,
    registered,
    rows,
    stream,
    sync,
    written,
)
from convsync_agent.model import INTENTS, METADATA, Presence, Projection
from convsync_agent.names import dirname
from machine import LONG_AGO, put

LATER = LONG_AGO + 1_000_000_000


def presence_gives_the_intent(m):
    assert INTENTS == {
        Presence.USER_LOCAL_ONLY: Projection.LOCAL_ONLY,
        Presence.PROJECTED: Projection.PROJECTED,
        Presence.WORKSPACE_ONLY: Projection.PROJECTED,
    }
    registered(m, A)
    for intent, presence in (
        (Projection.LOCAL_ONLY, "user_local_only"),
        (Projection.PROJECTED, "projected"),
    ):
        written(m, A, intent, title=str(intent))
        assert rows(m)[A]["presence"] == presence


def projected_reaches_both(m):
    tree = registered(m)
    m.write(m.silo(), A, "one")
    written(m, A, Projection.PROJECTED, title="x")
    assert fields(m, m.silo(), A)["title"] == fields(m, tree, A)["title"] == "x"
    assert equal(m, A, m.silo(), tree)


def local_reaches_the_silo(m):
    tree = registered(m)
    m.write(m.silo(), A, "one")
    written(m, A, Projection.LOCAL_ONLY, title="x")
    assert fields(m, m.silo(), A)["title"] == "x"
    assert m.directory(tree, A) is None


def no_write_clobbers_the_other_root(m):
    tree = registered(m, A)
    for number in range(2):
        written(m, A, Projection.PROJECTED, title=f"title {number}")
        assert equal(m, A, m.silo(), tree)
        assert m.questions(tree, A) == m.questions(m.silo(), A) == ["one"]


def an_archive_moves_both_and_back(m):
    tree = registered(m, A)
    m.ok("archive", A)
    for root in (m.silo(), tree):
        assert m.directory(root, A) is None
        assert m.directory(root, A, archived=True) is not None
    m.ok("unarchive", A)
    for root in (m.silo(), tree):
        assert m.directory(root, A) is not None
        assert m.directory(root, A, archived=True) is None


def a_note_comes_along_with_an_import(m):
    tree = registered(m)
    (m.write(tree, A, "one") / "NOTE.md").write_text("mine")
    sync(m)
    assert (m.directory(m.silo(), A) / "NOTE.md").read_text() == "mine"


def local_and_projected_again(m):
    tree = registered(m, A)
    for intent, there in ((Projection.LOCAL_ONLY, False), (Projection.PROJECTED, True)):
        with guarded(m, A) as guard:
            assert guard.reach(guard.tree, intent)
        assert (m.directory(tree, A) is not None) is there
        assert m.questions(m.silo(), A) == ["one"]


def a_projection_is_the_path(m):
    tree = registered(m, A)
    assert m.ok("path", A).out.strip() == str(m.directory(tree, A))


def an_edited_projection_reaches_the_silo(m):
    tree = registered(m, A)
    put(m.directory(tree, A) / "events.json", stream("edited"))
    put(m.directory(tree, A) / METADATA, metadata(pinned_at="2024-01-01 00:00:00.0"))
    sync(m)
    assert equal(m, A, m.silo(), tree)
    assert m.questions(m.silo(), A) == ["edited"]


def a_local_one_is_left_alone(m):
    tree = registered(m)
    m.write(m.silo(), A, "one")
    before = m.inventory(m.silo() / "conversations", tree)
    assert sync(m)["written"] == 0
    assert m.inventory(m.silo() / "conversations", tree) == before


def each_unit_from_its_own_winner(m):
    tree = registered(m, A)
    put(m.directory(tree, A) / METADATA, metadata(title="of the worktree"), LATER)
    put(m.directory(m.silo(), A) / "events.json", stream("of", "the", "silo"), LATER)
    assert (rows(m)[A]["title"], rows(m)[A]["events"]) == ("of the worktree", 3)
    sync(m)
    assert equal(m, A, m.silo(), tree)
    assert (fields(m, tree, A)["title"], m.questions(tree, A)) == ("of the worktree", ["of", "the", "silo"])


def a_tie_of_streams(m):
    tree = registered(m, A)
    for root, texts in ((m.silo(), "12"), (tree, "1")):
        put(m.directory(root, A) / "events.json", stream(*texts), LATER)
    assert rows(m)[A]["events"] == 2
    sync(m)
    assert m.questions(tree, A) == ["1", "2"]


def a_title_renames_both(m):
    tree = registered(m, A)
    jp(m).edit(A, title="Another name")
    sync(m)
    for root in (m.silo(), tree):
        assert [p.name for p in (m.store(root) / "conversations").glob(f"{A}*")] == [f"{A}-another-name"]
        assert m.questions(root, A) == ["one"]


def the_renamed_directory_is_found(m):
    registered(m)
    old = m.write(m.silo(), A, "one")
    put(old / METADATA, metadata(title="Another name"))
    old.rename(old.with_name(dirname(A, "Another name")))
    assert m.ok("path", A).out.strip() == str(m.silo() / "conversations" / f"{A}-another-name")


# -- contract 11.4, 97 to 118: a workspace ---------------------------------------------


def new_with_either_intent(m):
    registered(m)
    run = jp(m)
    run.new(A, "projected")
    run.new(B, "local", local=True)
    assert [rows(m)[c]["presence"] for c in (A, B)] == ["projected", "user_local_only"]
    sync(m)
    assert [rows(m)[c]["presence"] for c in (A, B)] == ["projected", "user_local_only"]


def the_lock_takes_the_intent_along(m):
    tree = registered(m, A)
    m.write(m.silo(), B, "local")
    m.write(tree, C, "external")
    for number in (A, B, C):
        with guarded(m, number) as guard:
            assert guard.projection is INTENTS[index(m)[number].presence[str(tree)]]


def an_empty_workspace(m):
    registered(m)
    assert index(m) == {}
    jp(m).new(A, "one")
    assert list(index(m)) == [A]


def events_of_what_is_listed(m):
    registered(m, A)
    assert (list(index(m)), rows(m)[A]["events"]) == ([A], 1)
    events = json.loads(Path(m.ok("path", A, "--events").out.strip()).read_bytes())
    assert [e["content"] for e in events] == ["one"]


def a_config_survives_a_reload(m):
    tree = m.worktree("a", register=False)
    at = m.write(tree, A, "one")
    put(at / "base_config.json", b'{\n  "assistant": {\n    "model": "other"\n  }\n}\n', LONG_AGO)
    m.ok("register", tree)
    jp(m).query(A, "two")
    sync(m)
    assert raw(m, m.silo(), A, "base_config.json") == raw(m, tree, A, "base_config.json")
    assert b'"model": "other"' in raw(m, m.silo(), A, "base_config.json")


def only_the_changed_one_is_written(m):
    tree = registered(m, A, B)
    before = m.inventory(m.directory(m.silo(), B), m.directory(tree, B))
    put(m.directory(tree, A) / "events.json", stream("changed"))
    said = sync(m)
    assert {a["conversation"] for a in said["actions"]} == {f"jp-c{A}"}
    assert said["written"] == 1
    assert m.inventory(m.directory(m.silo(), B), m.directory(tree, B)) == before


def a_draft_stays_private(m):
    tree = registered(m)
    draft = m.write(m.silo(), A, "one") / "QUERY_MESSAGE.md"
    draft.write_text("not said yet")
    written(m, A, Projection.LOCAL_ONLY, title="x")
    sync(m)
    assert m.directory(tree, A) is None
    assert (m.directory(m.silo(), A) / "QUERY_MESSAGE.md").read_text() == "not said yet"


def a_silo_alone_is_listed(m):
    (m.silo() / "conversations").mkdir(parents=True)
    m.write(m.silo(), A, "one")
    registered(m)
    assert list(rows(m)) == [A]
