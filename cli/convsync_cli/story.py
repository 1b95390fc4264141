"""The story that `convsync demo` plays in a throw-away home with the real agent: a step for each promise.

A step does something to conversations, waits until what must follow has followed, and says what was
checked; it raises `NotHeld` when it did not. Conditions are read from the disk, not from what convsync says.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from convsync_agent import sample
from convsync_agent.model import BASE_CONFIG, EVENTS, METADATA, STREAM_FILES
from convsync_agent.names import dirname, id_text
from convsync_cli.home import FIRST_NEW, Home, NotHeld
from convsync_cli.output import plural

WORKSPACE = "demo0"
BURST = 24


class Told(NamedTuple):
    """What a step checked, in one sentence, and how long the wait for it was where that is of interest."""

    detail: str
    ms: int | None = None


# -- the steps, in their order ------------------------------------------------------


def worktrees(home: Home) -> Told:
    first, second = home.worktree.values()
    (first / ".jp").mkdir(parents=True)
    (first / ".jp" / ".id").write_text(WORKSPACE + "\n")
    (first / ".gitignore").write_text(".jp/conversations/\n")
    if home.git:
        home.call_git("init", "-q")
        home.call_git("add", ".")
        home.call_git("commit", "-q", "-m", "start")
        home.call_git("worktree", "add", "-q", "-b", "second", str(second))
    else:
        shutil.copytree(first, second)
    for cid, (name, files) in home.content.items():
        sample.write_as_jp(str(home.roots["A"] / "conversations" / name), files)
        shutil.copytree(home.path(home.roots["A"], cid), home.roots["B"] / "conversations" / name)
    made = "a git repository with two worktrees" if home.git else "no git here: two plain directories as worktrees"
    return Told(f"{made}, A and B; {plural(len(home.content), 'conversation')} in both, none of them durable")


def register(home: Home) -> Told:
    found = [home.run("register", str(p)) for p in home.worktree.values()]
    home.silo = Path(found[0]["silo"])
    number = len(home.content)
    if (found[0]["imported"], found[1]["imported"]) != (number, 0):
        raise NotHeld(f"imported {found[0]['imported']} and {found[1]['imported']} instead of {number} and 0")
    for cid in home.content:
        if not home.same(cid, *home.roots.values(), home.silo):
            raise NotHeld(f"{id_text(cid)} is not the same in A, B and the silo")
    return Told(f"A and B are registered; the silo now holds all {number}, equal in bytes and times")


def agent(home: Home) -> Told:
    started = time.monotonic()
    home.start()
    home.calm()
    ms = round((time.monotonic() - started) * 1000)
    return Told("the agent runs, watches both worktrees and says: in sync", ms)


def new_conversation(home: Home) -> Told:
    cid = home.write_new(home.roots["A"], 0)
    ms = home.until("the new conversation in the silo", lambda: home.same(cid, home.roots["A"], home.silo))
    return Told("a new conversation, written in A as JP writes it, is durable", ms)


def hand_edit(home: Home) -> Told:
    """The way editors save: the old file aside, a new one written, the old one removed."""
    cid = home.pick(0)
    path = home.path(home.roots["B"], cid) / EVENTS
    aside = path.with_name(EVENTS + "~")
    edited = sample.append_turn(path.read_bytes(), 1)
    path.rename(aside)
    path.write_bytes(edited)
    aside.unlink()
    ms = home.everywhere(cid, "the hand edit in the silo and in A")
    if home.path(home.silo, cid).joinpath(EVENTS).read_bytes() != edited:
        raise NotHeld("the edit was undone")
    return Told("a hand edit in B, saved by an editor: the silo and A have its bytes and times", ms)


def base_config(home: Home) -> Told:
    cid = home.pick(1)
    at = home.path(home.roots["A"], cid)
    config = json.loads((at / BASE_CONFIG).read_bytes())
    edited = {"edited": "by hand"} | (config if isinstance(config, dict) else {})
    sample.write_as_jp(str(at), {BASE_CONFIG: sample.as_jp(edited)})
    stream = {name: ((at / name).read_bytes(), (at / name).stat().st_mtime_ns) for name in STREAM_FILES}
    ms = home.everywhere(cid, "the edited base_config.json in the silo and in B")
    found = home.picture(home.silo, cid)
    if found is None or {name: found[1][name] for name in STREAM_FILES} != stream:
        raise NotHeld("the durable stream is not the edited one")
    return Told("base_config.json alone edited in A: the whole stream followed, in the silo and in B", ms)


def retitle(home: Home) -> Told:
    cid, title = home.pick(2), "A better title"
    old = home.path(home.roots["A"], cid)
    new = old.with_name(dirname(cid, title))
    old.rename(new)
    sample.write_as_jp(str(new), {METADATA: sample.retitled((new / METADATA).read_bytes(), title)})
    ms = home.everywhere(cid, "the new name in the silo and in B")
    if home.path(home.silo, cid).name != new.name:
        raise NotHeld("the new name was taken back")
    return Told("a new title in A renamed the directory: the silo and B renamed theirs", ms)


def external(home: Home) -> Told:
    cid, title = FIRST_NEW + 1, "From elsewhere"
    coming = home.base / "coming" / dirname(cid, title)
    sample.write_as_jp(str(coming), sample.conversation(1, cid=cid, title=title, turns=3))
    coming.rename(home.roots["B"] / "conversations" / coming.name)
    ms = home.until("the external conversation in the silo", lambda: home.same(cid, home.roots["B"], home.silo))
    home.calm()
    if cid in home.ids(home.roots["A"]):
        raise NotHeld("it was copied to A, where nobody asked for it")
    return Told("a conversation dropped into B is imported, and not copied to A", ms)


def broken_file(home: Home) -> Told:
    cid = home.pick(0)
    before = [home.picture(root, cid) for root in (home.silo, home.roots["A"])]
    path = home.path(home.roots["B"], cid) / EVENTS
    good = path.read_bytes()
    with open(path, "r+b") as file:
        file.truncate(len(good) // 2)

    def named() -> bool:
        wanted = ("held", id_text(cid), str(home.worktree["B"]))
        return any((e["kind"], e["conversation"], e["worktree"]) == wanted for e in home.status()["attention"])

    ms = home.until("the broken file held and named", named)
    if [home.picture(root, cid) for root in (home.silo, home.roots["A"])] != before:
        raise NotHeld("a broken file in B changed another copy")
    kept = home.run("history", id_text(cid))["versions"]
    if not any(v["from"] == str(home.worktree["B"]) and v["bytes"] for v in kept):
        raise NotHeld("the bytes of the broken file are not in the history")
    sample.write_as_jp(str(path.parent), {EVENTS: sample.append_turn(good, 2)})
    home.everywhere(cid, "the mended file in the silo and in A")
    home.calm()
    return Told("a broken file in B: held and named, its bytes kept, the durable copy unchanged; mended: in sync", ms)


def locked(home: Home) -> Told:
    cid = home.pick(1)
    before = home.picture(home.silo, cid)
    with sample.locked_as_jp(str(home.silo), cid):
        home.append(home.roots["A"], cid, 3)
        home.until("the change deferred", lambda: home.tree("A")["counts"]["deferred"] == 1)
        if home.picture(home.silo, cid) != before:
            raise NotHeld("the silo was written under a lock that another process held")
    ms = home.everywhere(cid, "the change in the silo and in B after the lock was released")
    return Told("a conversation locked by another process was left alone; synced after the release", ms)


def killed(home: Home) -> Told:
    fresh: list[int] = []
    durable = 0
    for number in range(BURST):
        fresh.append(home.write_new(home.roots["A"], 100 + number))
        home.append(home.roots["B"], home.pick(number), number)
        if number == BURST // 2:
            home.until("a part of the burst in the silo", lambda: bool(set(fresh) & home.ids(home.silo)))
            home.end(signal.SIGKILL)
            durable = len(set(fresh) & home.ids(home.silo))
    started = time.monotonic()
    home.start()
    for cid in fresh:
        home.until(f"{id_text(cid)} in the silo", lambda c=cid: home.same(c, home.roots["A"], home.silo))  # type: ignore[misc]
    for cid in home.content:
        home.everywhere(cid, f"{id_text(cid)} in step")
    home.calm()
    ms = round((time.monotonic() - started) * 1000)
    burst = f"kill -9 in the middle of {2 * BURST} writes ({durable} of {BURST} new ones were durable)"
    return Told(f"{burst}: restarted, all in step", ms)


def removed(home: Home) -> Told:
    held = {cid: home.picture(home.roots["B"], cid) for cid in home.ids(home.roots["B"])}
    if home.git:
        home.call_git("worktree", "remove", "--force", str(home.worktree["B"]))
    else:
        shutil.rmtree(home.worktree["B"])
    ms = home.until("worktree B missing", lambda: home.tree("B")["state"] == "missing")
    home.calm()
    if {cid: home.picture(home.silo, cid) for cid in held} != held:
        raise NotHeld("the silo does not hold what B held")
    if not set(home.content) <= home.ids(home.roots["A"]):
        raise NotHeld("conversations vanished from A")
    how = "git worktree remove --force" if home.git else "rm -rf"
    return Told(f"B is gone ({how}): it is `missing`, all {len(held)} conversations it held are durable", ms)


def made_again(home: Home) -> Told:
    if home.git:
        home.call_git("worktree", "add", "-q", str(home.worktree["B"]), "second")
    else:
        home.roots["B"].mkdir(parents=True)
        (home.roots["B"] / ".id").write_text(WORKSPACE + "\n")
    ms = home.until("worktree B watched again", lambda: home.tree("B")["state"] == "watching")
    cid = home.write_new(home.roots["B"], 2)
    home.until("what is written there in the silo", lambda: home.same(cid, home.roots["B"], home.silo))
    home.calm()
    counts = home.tree("B")["counts"]
    return Told(
        f"B made again at the same path: `watching`, what is written there is durable "
        f"({counts['projected']} shown there, {counts['local']} in the silo only)",
        ms,
    )


def in_step(home: Home) -> Told:
    home.calm()
    done = home.run("sync")
    if done["written"] or done["actions"] or done["held"] or done["deferred"]:
        raise NotHeld(f"sync still had something to do: {json.dumps(done)}")
    receipt = home.run("verify")
    if not receipt["ok"] or receipt["conversations"] != len(home.ids(home.silo)):
        raise NotHeld(f"verify: {json.dumps(receipt)}")
    verdict = home.run("status", "--check")["verdict"]
    if verdict != "in-sync":
        raise NotHeld(f"status says {verdict}")
    return Told(f"sync had nothing to write, verify read {receipt['files']} files: all in step; status --check: 0")


def stopped(home: Home) -> Told:
    started = time.monotonic()
    code = home.end(signal.SIGTERM)
    ms = round((time.monotonic() - started) * 1000)
    if code != 0:
        raise NotHeld(f"the agent ended with {code}")
    left = sorted(os.listdir(home.silo / "locks"))
    if left:
        raise NotHeld(f"lock files were left: {', '.join(left)}")
    if home.status()["agent"]["state"] != "stopped":
        raise NotHeld("status does not know that the agent stopped")
    return Told("the agent stopped when told to, and left no lock behind", ms)


STEPS: tuple[Callable[[Home], Told], ...] = (
    worktrees,
    register,
    agent,
    new_conversation,
    hand_edit,
    base_config,
    retitle,
    external,
    broken_file,
    locked,
    killed,
    removed,
    made_again,
    in_step,
    stopped,
)
