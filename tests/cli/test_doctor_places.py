"""`doctor` and what JP has: one real fault of a silo or a worktree at a time is named, with what to type."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from doctoring import check, doctor, troubles, typed
from editors import A, B
from machine import WS

pytestmark = pytest.mark.usefixtures("no_bus")  # about the machine, not about whether it has a service manager


# -- JP's places ------------------------------------------------------------------------


def test_user_data_of_jp_elsewhere(pair, monkeypatch):
    """JP, run from here, would look in another place than the workspaces were registered with."""
    monkeypatch.setenv("JP_USER_DATA_DIR", str(pair.base / "other"))

    assert troubles(pair) == [("warn", "jp-data")]
    assert str(pair.base / "data/jp") in check(pair, "jp-data")["fix"]


def test_user_data_of_jp_that_others_may_write(pair):
    """A warning; what is typed mends it."""
    (pair.base / "data/jp").chmod(0o777)

    assert troubles(pair) == [("warn", "permissions")]
    typed(pair, check(pair, "permissions")["fix"])
    assert troubles(pair) == []


def test_several_silos(pair):
    """JP would merge them its own way; `migrate` does it ours."""
    (pair.silo().parent / f"old-{WS}" / "conversations").mkdir(parents=True)

    assert troubles(pair) == [("warn", "silo")]
    typed(pair, check(pair, "silo")["fix"])
    assert troubles(pair) == []


def test_a_silo_that_is_gone_or_emptied(pair):
    """Both are errors; the projections are what is left."""
    shutil.rmtree(pair.silo() / "conversations")
    assert ("error", "silo") in troubles(pair)
    shutil.rmtree(pair.silo())
    assert [("error", "silo")] == troubles(pair)


@pytest.mark.parametrize(
    ("target", "level"), [(None, None), ("/nowhere", "warn"), (".", "warn"), ("file", "error")], ids=str
)
def test_the_storage_link(pair, target, level):
    """JP makes an absent one and mends a wrong one, and does not run where it is no link."""
    link = pair.silo() / "storage"
    link.unlink()
    if target == "file":
        link.write_text("")
    elif target:
        link.symlink_to(target)

    assert troubles(pair) == ([(level, "storage-link")] if level else [])


def test_lock_files_that_nobody_holds(pair):
    """In the silo the next JP removes them; beside a worktree they lead JP astray. One that is held is none."""
    with pair.holding(A):
        assert troubles(pair) == []
    for root in (pair.silo(), pair.base / "a/.jp"):
        (root / "locks").mkdir(exist_ok=True)
        (root / "locks" / f"jp-c{B}.lock").write_text("{}")

    found = [c for c in doctor(pair)["checks"] if c["code"] == "locks"]
    assert [c["level"] for c in found] == ["warn", "warn"]
    assert [str(pair.base) in c["where"] for c in found] == [True, True]
    assert found[1]["fix"].startswith(f"rm {pair.base}/a/.jp/locks/")


def test_conversations_twice_or_as_a_file(pair):
    """What JP would delete or cannot load is told by its id, never by its name."""
    source = pair.directory(pair.silo(), A)
    shutil.copytree(source, source.with_name(f"{A}-canary-copy"))
    (source.parent / f"{B + 1}").write_text("")

    ran = pair.run("doctor", "--json")
    assert troubles(pair) == [("warn", "silo"), ("warn", "silo")]
    assert f"jp-c{A}" in ran.out
    assert "canary" not in ran.out


def test_a_conversation_that_may_not_be_written(pair):
    """An error that names it, and what is typed mends it."""
    path = pair.directory(pair.silo(), A)
    (path / "events.json").chmod(0o400)
    if os.access(path / "events.json", os.W_OK):
        pytest.skip("root may write anything")

    assert troubles(pair) == [("error", "permissions")]
    typed(pair, check(pair, "permissions")["fix"])
    assert troubles(pair) == []


@pytest.mark.privileged
def test_a_conversation_of_another_user(pair):
    """A `sudo jp` leaves such ones."""
    if os.geteuid():
        pytest.skip("only root can give files away")
    os.chown(pair.directory(pair.silo(), A) / "events.json", 12345, -1)

    assert {("warn", "permissions")} <= set(troubles(pair)) <= {("warn", "permissions"), ("error", "permissions")}


def test_conversations_ahead_of_the_clock(pair):
    """A file dated 2099 wins against every edit: it is named."""
    os.utime(pair.directory(pair.silo(), A) / "events.json", ns=(4_070_908_800 * 10**9,) * 2)

    assert troubles(pair) == [("warn", "clock")]
    assert f"jp-c{A}" in check(pair, "clock")["what"]


# -- worktrees --------------------------------------------------------------------------


def test_worktrees_gone_foreign_and_without_an_id(pair):
    """Each in its own words, with what to type."""
    pair.worktree("c")
    (pair.base / "a").rename(pair.base / "elsewhere")
    (pair.base / "b/.jp/.id").write_text("zzzzz\n")
    (pair.base / "c/.jp/.id").write_text("no id, but a conflict\n")

    (pair.silo() / "storage").unlink()
    assert troubles(pair) == [("warn", "worktree"), ("warn", "worktree"), ("error", "worktree")]


def test_conversations_that_are_a_symlink(pair):
    """`register` refuses them; whoever makes one later hears it here."""
    path = pair.base / "a/.jp/conversations"
    path.rename(pair.base / "moved")
    path.symlink_to(pair.base / "moved")

    assert troubles(pair) == [("error", "worktree")]


def test_what_git_does_with_projections(pair):
    """Ignored or committed: it is said of each worktree, and is no trouble."""
    if shutil.which("git") is None:
        pytest.skip("git is not here")
    for name in "ab":
        subprocess.run(["git", "init", "-q", pair.base / name], check=True)
    (pair.base / "a/.gitignore").write_text(".jp/conversations/\n")
    said = [c["what"] for c in doctor(pair)["checks"] if c["code"] == "worktree"]

    assert ["ignores" in said[0], "commits" in said[1]] == [True, True]


def test_a_worktree_in_a_sync_folder(machine):
    """By what the program left there, and by the name of a directory."""
    for name in ("Dropbox/a", "carried/b"):
        machine.worktree(name)
    (machine.base / "carried/.stfolder").mkdir()

    found = [c for c in doctor(machine)["checks"] if c["code"] == "sync-folder"]
    assert [c["level"] for c in found] == ["warn", "warn"]
    assert ["Dropbox" in found[0]["what"], "Syncthing" in found[1]["what"]] == [True, True]
