"""What every watcher says of a root: the contract, for each kind that this machine has."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from convsync_agent.hints import Change, Hint
from watching import IN_ROOM, ROOM, Root, silence


def test_atomic_rename(armed, root, ear):
    """A temp file renamed over `events.json` is a hint for that conversation, and the temp file is none."""
    root.rename_in('["x"]')

    hint = ear.until(Change.WRITTEN, Change.TOUCHED, conversation_dir=ROOM)

    assert (hint.root, hint.detail) == (root.path, "")
    assert {h.file for h in ear.seen} <= {"events.json", ""}


def test_in_place_write(armed, root, ear):
    """An in-place write is a hint for that conversation."""
    with open(root.room("events.json"), "a") as file:
        file.write("more")

    ear.until(*IN_ROOM, conversation_dir=ROOM)


def test_new_conversations_from_another_process(armed, root, ear):
    """Of 200 directories made by another process, with files written at once, each gets a hint."""
    code = (
        "import os, sys\n"
        "for n in range(200):\n"
        "    os.mkdir(d := f'{sys.argv[1]}/{n}-new')\n"
        "    for f in ('base_config.json', 'events.json'): open(f'{d}/{f}', 'w').write('[]')\n"
    )
    subprocess.run([sys.executable, "-c", code, root.at("conversations")], check=True)
    missing = {f"{n}-new" for n in range(200)}

    while missing:
        missing.discard(ear.until(Change.LISTING, *IN_ROOM).conversation_dir)

    Path(root.at("conversations", "199-new", "metadata.json")).write_text("{}")
    ear.until(*IN_ROOM, conversation_dir="199-new")


def test_conversation_renamed(armed, root, ear):
    """A renamed conversation is a hint for both names, and what is written later has the new one."""
    new = root.at("conversations", "17636257528-other-title")
    os.rename(root.room(), new)
    names = {ROOM, "17636257528-other-title"}
    while names:
        names.discard(ear.until(Change.LISTING).conversation_dir)

    Path(new, "events.json").write_text("[1]")

    ear.until(*IN_ROOM, conversation_dir="17636257528-other-title")


def test_conversation_removed(armed, root, ear):
    """A removed conversation is a `LISTING` with its name."""
    shutil.rmtree(root.room())

    ear.until(Change.LISTING, conversation_dir=ROOM)


def test_root_deleted_and_made_again(armed, root, ear):
    """A root that goes is a `ROOT`, one that comes back is another; armed again, writes in it are heard."""
    shutil.rmtree(root.path)
    ear.until(Change.ROOT, root=root.path)
    armed.arm(root.path, silo=True)
    silent_from = armed.watches
    root.make()
    ear.until(Change.ROOT, root=root.path)

    assert armed.arm(root.path, silo=True).failed == ()
    assert armed.watches >= silent_from
    ear.forget()
    root.rename_in('["again"]')
    ear.until(*IN_ROOM, conversation_dir=ROOM)
    assert armed.healthy()


def test_root_below_nothing(watcher, root, ear):
    """A root of which three parents are missing too is a `ROOT` when it comes."""
    deep = root.at("a", "b", "c")
    watcher.arm(deep, silo=False)

    os.makedirs(os.path.join(deep, "conversations"))
    ear.until(Change.ROOT, root=deep)
    watcher.arm(deep, silo=False)
    os.mkdir(os.path.join(deep, "conversations", ROOM))

    ear.until(Change.LISTING, root=deep, conversation_dir=ROOM)


def test_root_renamed_away_and_back(armed, root, ear):
    """A renamed root is a `ROOT`; nothing written under its other name is a hint; back again is a `ROOT`."""
    os.rename(root.path, root.path + "-moved")
    ear.until(Change.ROOT, root=root.path)
    armed.arm(root.path, silo=True)
    ear.forget()
    Path(root.path + "-moved", "conversations", ROOM, "events.json").write_text("[7]")
    os.rename(root.path + "-moved", root.path)
    ear.until(Change.ROOT, root=root.path)

    assert not [h for h in ear.seen if h.change in IN_ROOM]
    armed.arm(root.path, silo=True)
    root.rename_in('["back"]')
    ear.until(*IN_ROOM, conversation_dir=ROOM)


def test_parent_of_root_renamed(armed, root, ear):
    """The directory above a root being renamed is a `ROOT` too."""
    os.rename(os.path.dirname(root.path), os.path.dirname(root.path) + "-moved")

    ear.until(Change.ROOT, root=root.path)


def test_conversations_and_archive_made_later(watcher, root, ear):
    """`conversations/`, `.archive/` and `locks/` that come after the arming are each a `ROOT`, then heard."""
    shutil.rmtree(root.path)
    os.mkdir(root.path)
    watcher.arm(root.path, silo=True)
    for part in ("conversations", "conversations/.archive"):
        os.mkdir(root.at(part))
        ear.until(Change.ROOT, root=root.path)
    os.mkdir(root.at("locks"))
    watcher.arm(root.path, silo=True)

    os.mkdir(root.at("conversations", ".archive", "9-old"))
    ear.until(Change.LISTING, conversation_dir="9-old", detail=".archive")


def test_identity(armed, root, ear):
    """A changed `.id` is a `ROOT`."""
    Path(root.at(".id")).write_text("zzzzz\n")

    ear.until(Change.ROOT, root=root.path)


def test_archived(armed, root, ear):
    """A conversation moved into `.archive/` is a `LISTING` there."""
    os.rename(root.room(), root.at("conversations", ".archive", ROOM))

    ear.until(Change.LISTING, root=root.path, conversation_dir=ROOM, detail=".archive")


def test_not_ours(watcher, root, ear):
    """Dot directories, `.trash`, files inside archived conversations and other files in the root are no hints."""
    for name in (".trash", ".staging-7", ".archive/3-old"):
        os.makedirs(root.at("conversations", name))
    watcher.arm(root.path, silo=True)

    for name in (".trash/x", ".staging-7/events.json", ".archive/3-old/events.json", ".archive/.convsync-1"):
        Path(root.at("conversations", name)).write_text("x")
    os.mkdir(root.at("conversations", ".staging-8"))
    os.mkdir(root.at("conversations", ".trash", "5-bad"))
    Path(root.at("conversations", ".staging-8", "events.json")).write_text("x")
    Path(root.at("config.toml")).write_text("x")
    Path(root.at("locks", "jp-c1.lock")).write_text("x")

    assert silence(ear, root) == []


def test_lock_released(armed, root, ear):
    """A lock file that goes away is `LOCKS`, with its name; that it came is nothing."""
    for name in ("jp-c1.lock", "jp-c2.lock"):
        Path(root.at("locks", name)).write_text("{}")
    assert silence(ear, root) == []
    os.unlink(root.at("locks", "jp-c2.lock"))

    assert ear.until(Change.LOCKS) == Hint(Change.LOCKS, root.path, "", "jp-c2.lock")


def test_signals(watcher, tmp_path, ear):
    """A file renamed into the signal directory, or written there, is a `SIGNAL` with its name."""
    os.mkdir(tmp_path / "signals")
    assert watcher.watch_signals(str(tmp_path / "signals")).failed == ()
    (tmp_path / "tmp").write_text("x")

    os.rename(tmp_path / "tmp", tmp_path / "signals" / "canary")
    assert ear.until(Change.SIGNAL, file="canary").root == ""
    (tmp_path / "signals" / "wake").write_text("x")
    ear.until(Change.SIGNAL, file="wake")
    if watcher.hears_closing:
        os.close(os.open(tmp_path / "signals" / "canary", os.O_WRONLY))
        ear.until(Change.SIGNAL, file="canary")
    watcher.disarm(str(tmp_path / "signals"))
    assert watcher.watches == 0


def test_signal_directory_gone(watcher, tmp_path, ear):
    """A signal directory that goes is a `DEAF`: what was to come by it will not."""
    os.mkdir(tmp_path / "signals")
    watcher.watch_signals(str(tmp_path / "signals"))
    os.rmdir(tmp_path / "signals")

    assert ear.until(Change.DEAF) == Hint(Change.DEAF, detail="ENOENT")


def test_root_by_a_symlink(watcher, root, tmp_path, ear):
    """A root armed by a path with a symlink is heard, under the path it was armed by."""
    os.symlink(root.path, tmp_path / "link")
    watcher.arm(str(tmp_path / "link"), silo=True)
    root.rename_in("[1]")

    assert ear.until(*IN_ROOM, conversation_dir=ROOM).root == str(tmp_path / "link")


def test_parent_of_silos(watcher, tmp_path, ear):
    """A directory that comes or goes in a watched parent is a `ROOT` without root, with its name."""
    os.mkdir(tmp_path / "workspace")
    watcher.watch_parent(str(tmp_path / "workspace"))

    os.mkdir(tmp_path / "workspace" / "my-otvo8")
    ear.until(Change.ROOT, root="", file="my-otvo8")
    ear.forget()
    os.rename(tmp_path / "workspace" / "my-otvo8", tmp_path / "gone")
    ear.until(Change.ROOT, root="", file="my-otvo8")


def test_disarm_is_silent(armed, root, tmp_path, ear):
    """After `disarm` nothing in that root is a hint and no watch is left; another root is heard as before."""
    other = Root(tmp_path / "other" / ".jp")
    armed.arm(other.path, silo=False)
    armed.disarm(root.path)
    ear.forget()
    root.rename_in('["unheard"]')
    os.mkdir(root.at("conversations", "8-unheard"))

    assert [h for h in silence(ear, other) if h.root == root.path] == []
    armed.disarm(other.path)
    assert armed.watches == 0


def test_arm_twice(armed, root, ear):
    """Arming again changes no count, and one change is not heard twice as much."""
    before = armed.watches
    assert armed.arm(root.path, silo=True).failed == ()

    assert armed.watches == before
    os.unlink(root.room("events.json"))
    ear.until(*IN_ROOM, conversation_dir=ROOM)
    silence(ear, root)
    assert len([h for h in ear.seen if h.conversation_dir == ROOM]) == 1


def test_odd_names(armed, root, ear):
    """A name that is not UTF-8 comes through as Python's own functions know it."""
    name = os.fsdecode(b"7-\xff\xfe")
    try:
        os.mkdir(root.at("conversations", name))
    except OSError:
        pytest.skip("this file system takes UTF-8 only")

    ear.until(Change.LISTING, conversation_dir=name)
