"""Contract 11.1, first half: names, the silo, what is imported when, and the index over both roots."""

from __future__ import annotations

import os

from conformance.ground import (
    A,
    B,
    C,
    D,
    index,
    jp,
    metadata,
    plain,
    raw,
    registered,
    rows,
    set_age,
    store,
    stream,
    sync,
)
from convsync_agent.model import METADATA, Presence
from convsync_agent.names import dirname
from jp import trash
from machine import LONG_AGO, WS, put

LATER = LONG_AGO + 1_000_000_000


def sibling(m, name, mtime_ns):
    path = m.silo().parent / name
    (path / "conversations").mkdir(parents=True)
    set_age(path / "conversations", mtime_ns)
    return path


def silos(m):
    return sorted(p.name for p in m.silo().parent.iterdir() if not p.name.startswith("."))


def the_store_is_made(m):
    m.write(m.worktree("a", register=False), A, "one")
    assert not m.silo().parent.exists()
    m.ok("register", m.base / "a")
    assert m.silo().is_dir()


def a_file_is_no_store(m):
    tree = plain(m)
    place = tree / ".jp/conversations"
    place.write_text("a file")
    ran = m.run("register", tree)
    assert (ran.code, place.read_text()) == (2, "a file")
    assert "not a directory" in ran.err


def names_of_directories(_):
    cut = "A Very Long Title That Definitely Exceeds The Sixty Character Limit For Directory Names"
    assert [dirname(A, t) for t in (None, "Simple Title", " Title with spaces & chars!", cut, "")] == [
        f"{A}",
        f"{A}-simple-title",
        f"{A}-title-with-spaces---chars",
        f"{A}-a-very-long-title-that-definitely-exceeds-the-sixty",
        f"{A}",
    ]


def trash_is_not_listed(m):
    registered(m, A)
    trash(m.write(m.silo(), B, "two"), "broken")
    trash(m.write(m.base / "a", C, "three"), "broken")
    assert list(index(m)) == [A]
    assert list(rows(m)) == [A]


def a_fresh_one_is_whole(m):
    plain(m)
    jp(m).new(A, "one")
    m.ok("register", m.base / "a")
    for root in (m.silo(), m.base / "a"):
        assert {p.name for p in m.directory(root, A).iterdir()} == {"base_config.json", "events.json", METADATA}


def a_config_edited_by_hand_stays(m):
    tree = registered(m, A)
    put(m.directory(tree, A) / "base_config.json", b'{"assistant":{"name":"Me"}}')
    sync(m)
    assert raw(m, m.silo(), A, "base_config.json") == b'{"assistant":{"name":"Me"}}'
    jp(m).query(A, "two")
    sync(m)
    for root in (m.silo(), tree):
        assert raw(m, root, A, "base_config.json") == b'{"assistant":{"name":"Me"}}'


def other_files_stay(m):
    tree = registered(m, A)
    for root in (m.silo(), tree):
        (m.directory(root, A) / "mine.txt").write_text(f"in {root.name}")
    jp(m).query(A, "two")
    sync(m)
    assert (m.directory(tree, A) / "mine.txt").read_text() == "in a"
    assert (m.directory(m.silo(), A) / "mine.txt").exists()


def diverged_configs_end_equal(m):
    tree = registered(m, A)
    put(m.directory(m.silo(), A) / "base_config.json", b'{"of": "the silo"}')
    put(m.directory(tree, A) / "base_config.json", b'{"of": "the worktree"}')
    sync(m)
    assert raw(m, m.silo(), A, "base_config.json") == raw(m, tree, A, "base_config.json") == b'{"of": "the worktree"}'


def nothing_changed_nothing_written(m):
    tree = registered(m, A)
    before = m.inventory(tree, m.silo() / "conversations")
    assert sync(m)["written"] == 0
    jp(m).query(A, "two")
    sync(m)
    after = m.inventory(tree, m.silo() / "conversations")
    unchanged = {p for p in before if p.endswith((METADATA, "base_config.json"))}
    assert len(unchanged) == 4
    assert {p: after[p] for p in unchanged} == {p: before[p] for p in unchanged}
    assert sync(m)["written"] == 0
    assert m.inventory(tree, m.silo() / "conversations") == after


def the_directory_stays_the_same(m):
    tree = registered(m, A)
    before = [m.directory(r, A).stat().st_ino for r in (m.silo(), tree)]
    put(m.directory(tree, A) / METADATA, metadata(pinned_at="2024-01-01 00:00:00.0"))
    sync(m)
    assert b"pinned_at" in raw(m, m.silo(), A, METADATA)
    assert [m.directory(r, A).stat().st_ino for r in (m.silo(), tree)] == before


def a_title_renames_in_place(m):
    tree = registered(m, A)
    (m.directory(m.silo(), A) / "mine.txt").write_text("mine")
    old = m.directory(tree, A)
    inode = m.directory(m.silo(), A).stat().st_ino
    put(old / METADATA, metadata(title="New one"))
    old.rename(old.with_name(dirname(A, "New one")))
    sync(m)
    now = m.directory(m.silo(), A)
    assert (now.name, now.stat().st_ino) == (f"{A}-new-one", inode)
    assert (now / "mine.txt").read_text() == "mine"


def a_silo_is_called_after_the_id(m):
    m.ok("register", m.worktree("a", register=False))
    assert silos(m) == [WS]
    assert os.readlink(m.silo() / "storage") == str(store(m))


def an_older_name_is_reused(m):
    m.worktree("a", register=False)
    old = sibling(m, f"main-{WS}", LONG_AGO)
    (old / "sessions").mkdir()
    (old / "sessions/getsid-1.json").write_text("{}")
    (old / "storage").symlink_to(m.base / "gone/.jp")
    said = m.ok("register", m.base / "a", "--json").json
    assert (said["silo"], said["created_silo"], silos(m)) == (str(old), False, [f"main-{WS}"])
    assert (old / "sessions/getsid-1.json").read_text() == "{}"
    assert (old / "storage").is_symlink()


def the_slug_s_silo_survives(m):
    m.worktree("a", register=False)
    for name, text, at in ((f"main-{WS}", "newer", LATER), (f"other-{WS}", "older", LONG_AGO)):
        m.write(sibling(m, name, at), A, text, mtime_ns=at)
    said = m.ok("register", m.base / "a", "--slug", "other", "--json").json
    assert silos(m) == [f"other-{WS}"]
    assert said["merged_silos"] == [str(m.silo().parent / f"main-{WS}")]
    assert m.questions(m.silo().parent / f"other-{WS}", A) == ["newer"]


def a_slug_names_a_new_silo(m):
    m.ok("register", m.worktree("a", register=False), "--slug", "mine")
    assert silos(m) == [f"mine-{WS}"]


def clones_share_one_silo(m):
    for name in "ab":
        m.worktree(name, register=False)
        m.ok("register", m.base / name, "--slug", name)
    assert silos(m) == [f"a-{WS}"]


def the_latest_silo_without_a_slug(m):
    m.worktree("a", register=False)
    sibling(m, f"x-{WS}", LATER)
    sibling(m, f"y-{WS}", LONG_AGO)
    assert m.ok("register", m.base / "a", "--json").json["silo"].endswith(f"x-{WS}")


def the_first_time_imports(m):
    tree = m.worktree("a", register=False)
    m.write(tree, A, "one")
    before = m.inventory(tree)
    m.ok("register", tree)
    assert m.questions(m.silo(), A) == ["one"]
    assert m.inventory(tree).items() >= before.items()


def the_first_time_imports_the_archive(m):
    tree = m.worktree("a", register=False)
    m.write(tree, A, "one", archived=True)
    m.ok("register", tree)
    assert m.questions(m.silo(), A, archived=True) == ["one"]
    assert m.questions(tree, A, archived=True) == ["one"]


def later_ones_wait_for_a_write(m):
    tree = registered(m, A)
    m.write(tree, B, "two")
    m.quiet()
    m.ok("sync", "--set", "import.policy=on-write")
    m.ok("register", tree, "--set", "import.policy=on-write")
    assert m.directory(m.silo(), B) is None
    assert rows(m)[B]["presence"] == "workspace_only"


def one_entry_each_with_its_presence(m):
    tree = registered(m, B)
    m.write(m.silo(), C, "silo")
    m.write(tree, A, "worktree")
    assert [(e.id, e.presence[str(tree)]) for e in index(m).values()] == [
        (A, Presence.WORKSPACE_ONLY),
        (B, Presence.PROJECTED),
        (C, Presence.USER_LOCAL_ONLY),
    ]


def newer_metadata_of_the_silo(m):
    registered(m, A)
    put(m.directory(m.silo(), A) / METADATA, metadata(title="silo"), LATER)
    put(m.directory(m.base / "a", A) / METADATA, metadata(title="worktree"), LONG_AGO)
    assert (rows(m)[A]["title"], rows(m)[A]["presence"]) == ("silo", "projected")


def a_tie_of_metadata(m):
    registered(m, A)
    for root, title in ((m.silo(), "silo"), (m.base / "a", "worktree")):
        put(m.directory(root, A) / METADATA, metadata(title=title), LONG_AGO)
    assert rows(m)[A]["title"] == "silo"


def the_newer_stream_is_counted(m):
    tree = registered(m, A)
    put(m.directory(tree, A) / "events.json", stream(*"12345"), LONG_AGO - 1)
    put(m.directory(m.silo(), A) / "events.json", stream(*"123"), LATER)
    assert rows(m)[A]["events"] == 3


def a_base_config_makes_the_stream_newest(m):
    tree = registered(m, A)
    put(m.directory(m.silo(), A) / "events.json", stream(*"12345"), LONG_AGO + 150)
    put(m.directory(tree, A) / "events.json", stream(*"12"), LONG_AGO + 100)
    put(m.directory(tree, A) / "base_config.json", b'{"of": "the worktree"}', LONG_AGO + 200)
    assert rows(m)[A]["events"] == 2
    sync(m)
    assert len(m.events(m.silo(), A)) == 2
    assert raw(m, m.silo(), A, "base_config.json") == b'{"of": "the worktree"}'


def an_older_broken_stream_hides_nothing(m):
    tree = registered(m, A)
    put(m.directory(tree, A) / "events.json", b"not json", LONG_AGO - 1)
    put(m.directory(m.silo(), A) / "events.json", stream(*"1234"), LATER)
    assert rows(m)[A]["events"] == 4
    sync(m)
    assert len(m.events(tree, A)) == len(m.events(m.silo(), A)) == 4


def one_of_each(m):
    """A projected, B local, C external, D archived in both."""
    tree = m.worktree("a", register=False)
    m.write(tree, A, "one")
    m.write(tree, D, "four", archived=True)
    m.ok("register", tree)
    m.write(m.silo(), B, "two")
    m.write(tree, C, "three")
    return tree
