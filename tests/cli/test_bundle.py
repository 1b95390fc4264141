"""`doctor --bundle`: one private file that helps, names nobody and holds nothing of what was said."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
import time

import pytest

from convsync_agent.bundle import TOP, pack
from editors import A

CANARY = "canary"


def contents(path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        assert {(m.uid, m.gid, m.uname, m.gname, m.mtime, m.mode) for m in archive} == {(0, 0, "", "", 0, 0o600)}
        return {m.name.removeprefix(f"{TOP}/"): archive.extractfile(m).read().decode() for m in archive}


def test_what_is_inside(pair):
    """The list that is printed is what is inside; every document can be read by a program; the file is its owner's."""
    ran = pair.ok("doctor", "--bundle", "b.tgz")
    path = pair.home / "b.tgz"
    inside = contents(path)

    assert {"README.txt", "doctor.json", "status.json", "versions.json", "settings.json"} <= inside.keys()
    assert {"actions.json", "counts.json", "limits.json"} <= inside.keys()
    assert all(name in ran.out and name in inside["README.txt"] for name in inside.keys() - {"README.txt"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    parsed = {n: json.loads(t) for n, t in inside.items() if n.endswith(".json")}
    assert {c["code"] for c in parsed["doctor.json"]["checks"]} >= {"state", "silo", "worktree", "agent"}
    assert [w["id"] for w in parsed["status.json"]["workspaces"]] == ["abcde"]
    assert parsed["counts.json"]["rows"]["worktree"] == 2
    assert {a["conversation"] for a in parsed["actions.json"]} >= {f"jp-c{A}"}
    assert not any("unavailable" in p for p in parsed.values() if isinstance(p, dict))


def test_it_overwrites_nothing(pair):
    """A file, a directory, a link to nowhere: exit 4 with what to type, and what is there stays."""
    (pair.home / "taken").write_text("mine")
    (pair.home / "link").symlink_to("nowhere")
    for name in ("taken", "link", "."):
        ran = pair.run("doctor", "--bundle", name)
        assert (ran.code, "--bundle FILE" in ran.err) == (4, True)

    assert (pair.home / "taken").read_text() == "mine"
    assert not (pair.home / "nowhere").exists()


def test_it_cannot_be_written(pair):
    """No such directory: exit 6, nothing left."""
    before = sorted(pair.home.rglob("*"))

    assert pair.run("doctor", "--bundle", "no/such/place").code == 6
    assert sorted(pair.home.rglob("*")) == before


def test_as_json(pair):
    """The path, the size, the names."""
    found = pair.ok("doctor", "--bundle", "b.tgz", "--json").json

    assert (found["schema"], found["bundle"]) == (1, str(pair.home / "b.tgz"))
    assert found["bytes"] == (pair.home / "b.tgz").stat().st_size
    assert set(found["files"]) == set(contents(pair.home / "b.tgz"))


def test_it_is_written_when_everything_is_broken(pair):
    """Settings that are not valid, a state file that is damaged: exit 0, what can be told is told."""
    config = pair.base / "config/convsync/config.toml"
    config.parent.mkdir()
    config.write_text(f'notify.comand = "{CANARY} --url x"\npolicy = "{CANARY}"\n')
    (pair.base / "state/convsync/state.db").write_bytes(b"no database" * 999)
    pair.ok("doctor", "--bundle", "b.tgz")
    inside = contents(pair.home / "b.tgz")

    assert json.loads(inside["doctor.json"])["errors"] >= 3
    assert len(json.loads(inside["settings.json"])["mistakes"]) == 2
    assert "unavailable" in inside["status.json"]
    assert CANARY not in "".join(inside.values())


def test_nothing_personal(pair, monkeypatch):
    """Home, user, titles, slugs, text, commands and secrets: every kind has its canary, and none is inside."""
    a = pair.base / "a"
    told = f"{CANARY} text"
    pair.write(a, A, told, told, slug=f"{CANARY}-slug", title=f"{CANARY} title", mtime_ns=time.time_ns())
    config = pair.base / "config/convsync/config.toml"
    config.parent.mkdir()
    config.write_text(f'notify.command = "tell --{CANARY}"\n')
    pair.quiet()
    pair.ok("sync")
    path = pair.directory(a, A) / "events.json"
    path.write_bytes(path.read_bytes()[:-9])
    os.utime(path, ns=(time.time_ns() - 5 * 10**9,) * 2)
    pair.quiet()
    pair.ok("sync")
    monkeypatch.setenv("HOME", str(pair.base))
    # Tests run as root or nobody, too, and those names are nobody's in particular: they would not be taken out.
    monkeypatch.setattr("convsync_cli.dossier._user", lambda: "mei")
    monkeypatch.setenv("CONVSYNC_DATA_DIR", str(pair.base / "data/convsync"))
    elsewhere = pair.base.parent / "mei" / CANARY.upper()
    elsewhere.mkdir(parents=True)
    (elsewhere / ".jp").mkdir()
    (elsewhere / ".jp/.id").write_text("fghij\n")
    pair.ok("register", elsewhere)
    pair.ok("doctor", "--bundle", "b.tgz")
    inside = contents(pair.home / "b.tgz")
    everything = "".join(inside.values())

    assert CANARY not in everything
    assert str(pair.base) not in everything
    assert '"~/a"' in inside["status.json"]
    assert "/mei/" not in everything
    assert "/USER/" in inside["status.json"]
    assert json.loads(inside["settings.json"])["settings"]["notify.command"] == "[set]"


def test_the_same_documents_give_the_same_bytes():
    """No time and no name of a user is in the packing."""
    documents = {"a.txt": "one\n", "b.txt": "\udcff"}

    assert pack(documents) == pack(documents)
    with tarfile.open(fileobj=io.BytesIO(pack(documents))) as archive:
        assert archive.extractfile(f"{TOP}/b.txt").read() == b"\\udcff"


@pytest.mark.parametrize("flag", ["-q", "--no-color"])
def test_global_flags(pair, flag):
    """They are accepted on both sides."""
    pair.ok(flag, "doctor", "--bundle", "before.tgz")
    pair.ok("doctor", "--bundle", "after.tgz", flag)

    assert contents(pair.home / "before.tgz").keys() == contents(pair.home / "after.tgz").keys() != set()
