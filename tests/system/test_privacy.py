"""R9: what was said in a conversation is in no state, log, message or JSON, whatever happened to it.

One machine on which everything goes wrong that convsync tells of, every kind of content marked with a canary: text,
titles, slugs, configuration, unmanaged files and their names, broken files. Then everything written is searched.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import tarfile

import pytest

from agents import in_step, status, until
from machine import as_jp, event, put
from repository import LONG_SINCE, git

CANARY = "canarybird"
PLAIN, CONFLICT, HELD, REMOVED, BEHIND, LOST, DOUBLED, GONE = range(17_000_000_001, 17_000_000_009)
ALL = (PLAIN, CONFLICT, HELD, REMOVED, BEHIND, LOST, DOUBLED, GONE)


def say(machine, tree, conversation, *texts):
    """Events with a canary in each kind of text that there is."""
    top = machine.directory(tree, conversation)
    put(top / "events.json", as_jp([event(f"{CANARY} text {t}") for t in texts]))
    put(top / "base_config.json", as_jp({"assistant": {"name": f"{CANARY} {texts[-1]}"}}))
    at = f"2024-01-01 00:00:0{len(texts)}.0"
    put(top / "metadata.json", as_jp({"title": f"{CANARY} title {conversation}", "last_activated_at": at}))


def told(machine):
    return {e["kind"] for e in status(machine)["attention"]}


def kept(machine, conversation):
    return (machine.base / f"data/convsync/trash/abcde/jp-c{conversation}/manifest.json").exists()


@pytest.fixture
def trees(machine):
    """A repository and a plain worktree hold every conversation; git knows an older commit of one of them."""
    a, b = (machine.worktree(n, register=False) for n in "ab")
    for conversation in ALL:
        title = f"{CANARY} title {conversation}"
        machine.write(a, conversation, f"{CANARY} one", slug=f"{CANARY}-slug", title=title)
        note = machine.directory(a, conversation) / f"{CANARY}-notes"
        note.mkdir()
        (note / f"{CANARY}.md").write_text(f"{CANARY} note")
    git(a, "init", "-q", "-b", "main")
    (a / ".gitignore").write_text(f".convsync\n*-notes\n.jp/conversations/[!.]*\n!.jp/conversations/{BEHIND}-*\n")
    git(a, "add", "-A")
    git(a, "commit", "-qm", "old", **LONG_SINCE)
    git(a, "branch", "old")
    say(machine, a, BEHIND, "one", "two")
    git(a, "commit", "-qam", "new", **LONG_SINCE)
    shutil.copytree(a / ".jp/conversations", b / ".jp/conversations")
    for tree in (a, b):
        machine.ok("register", tree)
    return a, b


def everything_goes_wrong(machine, a, b, agent):
    """Every kind of attention that content can be the cause of, and every command that brings something back."""
    machine.ok("sync")
    for tree, text in ((a, "left"), (b, "right")):
        say(machine, tree, CONFLICT, text)
    one = agent("--set", "log.level=debug", "-v")
    until(lambda: "conflict" in told(machine), "a conflict")
    until(lambda: all(kept(machine, c) for c in ALL), "kept copies")
    say(machine, a, PLAIN, "one", "two")
    until(lambda: in_step(machine, PLAIN, a, b, machine.silo()), "an edit")
    put(machine.directory(a, PLAIN) / "metadata.json", as_jp({"title": CANARY, "last_activated_at": "2024-01-01 0:0"}))
    machine.directory(a, PLAIN).rename(a / f".jp/conversations/{PLAIN}-{CANARY}-renamed")
    put(machine.directory(a, HELD) / "events.json", f'[{{"{CANARY}": '.encode())
    with machine.holding(REMOVED):
        for root in (a, machine.silo()):
            shutil.rmtree(machine.directory(root, REMOVED))
    git(a, "checkout", "-q", "old", **LONG_SINCE)
    shutil.rmtree(machine.directory(machine.silo(), LOST))
    source = machine.directory(b, DOUBLED)
    shutil.copytree(source, source.with_name(f"{DOUBLED}-{CANARY}-again"))
    for kind in ("conflict", "held", "removed", "behind", "lost"):
        until(lambda kind=kind: kind in told(machine), f"{kind} told")
    machine.ok("undo", PLAIN)
    with machine.holding(GONE):
        say(machine, b, GONE, "unsaved")
        until(lambda: status(machine)["workspaces"][0]["worktrees"][1]["counts"]["deferred"], "deferred")
        shutil.rmtree(b)
        until(lambda: "missing" in told(machine), "missing")
    return one


@pytest.mark.slow
def test_nothing_that_was_said_is_anywhere_but_in_conversations_history_and_trash(machine, trees, agent):
    """State, its journal, runtime files, logs at level debug, names of files, manifests, messages and JSON.

    What holds content is for its owner alone: 0700 and 0600, whatever the umask.
    """
    a, b = trees
    before = os.umask(0)
    try:
        running = everything_goes_wrong(machine, a, b, agent)
    finally:
        os.umask(before)
    outputs = [
        machine.run(*command)
        for command in (
            ("--json", "status"),
            ("status", "--check"),
            ("--json", "sync", "--dry-run"),
            ("--json", "sync"),
            ("-v", "sync"),
            ("--json", "verify"),
            ("verify",),
            ("--json", "trash"),
            ("--json", "history", PLAIN),
            ("restore", REMOVED, "--version", "9", "--json"),
            ("accept", PLAIN),
            ("undo", "17000000099"),
            ("migrate", "--dry-run"),
            ("migrate", "--json"),
            ("archive", DOUBLED),
            ("archive", PLAIN, HELD, "--json"),
            ("unarchive", PLAIN),
            ("rm", HELD),
            ("rm", HELD, DOUBLED, "--yes"),
            ("remove-worktree", a),
            ("register", b),
            ("doctor",),
            ("--json", "doctor"),
            ("doctor", "--scan", "--json"),
            ("doctor", "--bundle", machine.base / "run/bundle.tgz"),
        )
    ]
    with tarfile.open(machine.base / "run/bundle.tgz") as archive:
        archive.extractall(machine.base / "run", filter="data")
    running.kill()  # nothing comes or goes while it is read; told to stop it would take runtime.json away
    written = [p for top in ("state", "run", "config") for p in (machine.base / top).rglob("*") if p.is_file()]
    written += list(machine.base.glob("agent-*.log"))
    private = list((machine.base / "data/convsync").rglob("*"))
    written += [p for p in private if p.suffix == ".json" and p.is_file()]

    assert any(p.name.startswith("state.db") for p in written)
    assert any(b"jp-c" in p.read_bytes() for p in machine.base.glob("agent-*.log"))
    assert [] == [r for r in outputs if CANARY in (r.out + r.err).lower()]
    assert [] == [p for p in (*written, *private) if CANARY in str(p.relative_to(machine.base)).lower()]
    assert [] == [p for p in written if CANARY in without_names_of_notes(p).lower()]
    state_files = list((machine.base / "state/convsync").rglob("*"))
    modes = {(stat.S_ISDIR(p.lstat().st_mode), stat.S_IMODE(p.lstat().st_mode)) for p in (*private, *state_files)}
    assert modes == {(True, 0o700), (False, 0o600)}
    out = machine.base / "out"
    machine.ok("restore", CONFLICT, "--into", out)
    assert any(CANARY.encode() in p.read_bytes() for p in out.rglob("*.json"))


def without_names_of_notes(path) -> str:
    """A manifest of content names the files that it restores, unmanaged ones too; nothing else does."""
    text = path.read_bytes().decode(errors="replace")
    if path.name != "manifest.json":
        return text
    manifest = json.loads(text)
    for file in manifest["files"]:
        if file["name"] == f"{CANARY}-notes/{CANARY}.md":
            file["name"] = ""
    return json.dumps(manifest)
