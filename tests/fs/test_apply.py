"""Changes on real directories: what they leave, at every step that may fail, and beside writers of every kind."""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from agents import FILES, in_step, jp_loads, until
from convsync_agent import kernel, place, staging
from convsync_agent.plan import AddExtras, Import
from convsync_agent.results import Done, Failed, Postponed
from faults import Faults, World
from machine import LONG_AGO, WS, as_jp, event, put

C = 17_000_000_001
LATER = LONG_AGO + 60_123_456_789
MUCH_LATER = 4_102_444_800_000_000_000 + 1  # in the year 2100
PACKED = event(kind="config_delta", delta={})
META = {"last_activated_at": "2023-11-14 22:13:20.0"}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """The silo and the worktrees a and b hold one conversation, in step, with a base."""
    made = World(tmp_path, monkeypatch)
    for name in "ab":
        made.write(made.enroll(name), C, "one", "two", slug="t", title="t")
    made.register("a", "b")
    return made


def tree(world, name):
    return world.silo() if name == "silo" else world.base / name


def at(world, name):
    return world.directory(tree(world, name), C)


def age(path, ns):
    os.utime(path, ns=(ns, ns))


def events(*texts, packed=False):
    return as_jp([*([PACKED] if packed else []), *(event(t) for t in texts)])


# -- what happened before the change -------------------------------------------


def both_units(world, where="a", ns=LATER):
    """Every managed file is another one, and contains nothing of the old."""
    top = at(world, where)
    put(top / "base_config.json", as_jp({"assistant": "new"}), ns - 1)
    put(top / "events.json", events("other"), ns)
    put(top / "metadata.json", as_jp(META | {"title": "new"}), ns)


def events_only(world):
    put(at(world, "a") / "events.json", events("other"), LATER)


def appended(world):
    put(at(world, "a") / "events.json", events("one", "two", "three"), LATER)


def in_the_silo(world):
    both_units(world, "silo")


def packed_wins(world):
    top = at(world, "a")
    put(top / "events.json", events("other", packed=True), LATER)
    (top / "base_config.json").unlink()


def split_wins(world):
    for where in ("silo", "b"):
        top = at(world, where)
        put(top / "events.json", events("old", packed=True), LONG_AGO)
        (top / "base_config.json").unlink()
    both_units(world)


def younger(world):
    """The losers are dated ahead of the clock and did not change: the edit wins though it is older."""
    for where, file in itertools.product(("silo", "b"), FILES):
        age(at(world, where) / file, MUCH_LATER)
    both_units(world)


def renamed(world):
    top = at(world, "a")
    put(top / "metadata.json", as_jp(META | {"title": "new name"}), LATER)
    top.rename(top.with_name(f"{C}-new-name"))


def all_at_once(world):
    extras(world)
    both_units(world)
    at(world, "a").rename(at(world, "a").with_name(f"{C}-new-name"))


def imported(world):
    never_durable(world)
    extras(world, old=False)


def imported_from_two(world):
    never_durable(world)
    put(at(world, "a") / "events.json", events("other"), LATER)
    put(at(world, "b") / "metadata.json", as_jp(META | {"title": "new"}), LATER)


def never_durable(world):
    """Only worktrees have it, and nobody knows of a durable copy: with one it would be gone, and waited for."""
    shutil.rmtree(at(world, "silo"))
    with world.engine() as engine, engine.state.transaction():
        engine.state.forget_seen(str(world.silo()))


def extras(world, *, old=True):
    top = at(world, "a")
    for number, path in enumerate(("NOTE.md", "sub/deep/x.bin", "old.txt")):
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        put(top / path, b"extra %d" % number, LATER + number)
    if old:
        put(at(world, "silo") / "old.txt", b"an older extra", LONG_AGO)


CHANGES = {
    "both": both_units,
    "events": events_only,
    "append": appended,
    "silo": in_the_silo,
    "packed": packed_wins,
    "split": split_wins,
    "younger": younger,
    "rename": renamed,
    "import": imported,
    "import2": imported_from_two,
    "extras": extras,
    "all": all_at_once,
}
CONTAINED = {"append"}


def loads(world, name):
    """What a JP in that worktree reads."""
    return jp_loads(at(world, "silo") or world.silo() / "conversations/none", at(world, name))


class Story:
    """The picture before a change, and everything that may be said of it at any moment from then on."""

    def __init__(self, world, kind):
        CHANGES[kind](world)
        world.remember()
        self.world, self.kind = world, kind
        self.before = {n: loads(world, n) for n in "ab"}
        self.contents = world.contents()
        self.winner = self._winner()
        if kind in CONTAINED:
            self.contents -= {events("one", "two")}

    def _winner(self):
        """By JP's own rule the source; where times lie ahead, the edit."""
        if self.kind == "import2":
            return {f: (at(self.world, "b" if f == "metadata.json" else "a") / f).read_bytes() for f in FILES}
        top = at(self.world, "silo" if self.kind == "silo" else "a")
        return {f: (top / f).read_bytes() if (top / f).exists() else b"" for f in FILES}

    def check_now(self, note):
        """At any instant, also after a crash: JP reads the old or the new unit, and no byte is gone."""
        for name in "ab":
            now, old = loads(self.world, name), self.before[name]
            streams = {self._stream(old), self._stream(self.winner)}
            if (at(self.world, "silo") and name == "b") or self.kind == "silo":
                streams |= self._gap()
            assert self._stream(now) in streams, (note, name, now)
            assert now["metadata.json"] in {old["metadata.json"], self.winner["metadata.json"]}, (note, name)
        if self.kind not in ("silo", "younger", "import2"):
            now = loads(self.world, "a")
            assert now == self.winner, (note, "the worktree of the edit", now)
        assert self.contents <= self.world.everywhere(), (note, "lost", self.contents - self.world.everywhere())

    def _picture(self):
        paths = [p for r in self.world.roots() for p in sorted(r.glob(f"conversations/{C}*/*"))]
        rows = [f"{p.relative_to(self.world.base)} {p.stat().st_mtime_ns}" for p in paths]
        return "\n".join(rows)

    @staticmethod
    def _stream(found):
        return found["base_config.json"], found["events.json"]

    def _gap(self):
        """Between two renames, where a JP sees only the copy being changed (R5)."""
        old, new = self.before["b"], self.winner
        if not new["base_config.json"]:
            return {(old["base_config.json"], new["events.json"])}
        return {(new["base_config.json"], old["events.json"])}

    def check_end(self, note):
        """After a restart: in step with the winner, nothing lost, nothing left lying about."""
        world = self.world
        assert in_step(world, C, world.silo(), world.base / "a", world.base / "b"), (note, self._picture())
        top = at(world, "silo")
        assert self.winner == {f: (top / f).read_bytes() if (top / f).exists() else b"" for f in FILES}, note
        for path in ("NOTE.md", "sub/deep/x.bin", "old.txt"):
            source = at(world, "a") / path
            if source.exists():
                assert (top / path).read_bytes() == source.read_bytes(), (note, path)
                assert (top / path).stat().st_mtime_ns == source.stat().st_mtime_ns, (note, path)
        assert self.contents <= world.everywhere(), (note, "lost", self.contents - world.everywhere())
        assert [] == world.staged(), note
        assert [] == world.lock_files(), note


# -- the result ---------------------------------------------------------------


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "link"])
@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_ends_in_step_and_a_second_sync_writes_nothing(world, kind, exchange, monkeypatch):
    """Bytes, mtimes to the ns, name and extras of the winner in every root; with and without an atomic exchange."""
    if not exchange:
        lack(world, monkeypatch)
    story = Story(world, kind)

    first = world.sync()

    assert [] == first.failed
    story.check_end(kind)
    before = world.inventory(*world.roots())
    assert [] == world.sync().results
    assert before == world.inventory(*world.roots())


@pytest.mark.parametrize("kind", CHANGES)
def test_new_files_have_the_permissions_that_jp_gives(world, kind):
    """What we create has 0666 & ~umask, directories 0755 & ~umask."""
    old = os.umask(0o027)
    try:
        Story(world, kind)
        world.sync()
    finally:
        os.umask(old)
    fresh = [p for p in at(world, "silo").rglob("*") if p.stat().st_ctime_ns > time.time_ns() - 90 * 10**9]

    assert fresh
    assert {0o640, 0o644} >= {p.stat().st_mode & 0o777 for p in fresh if p.is_file()}
    assert {0o750, 0o755} >= {p.stat().st_mode & 0o777 for p in fresh if p.is_dir()}


def lack(world, monkeypatch, *what):
    """The file system of this world cannot do it."""
    device = os.stat(world.base).st_dev
    monkeypatch.setattr(kernel, "_lacking", {(w, device) for w in what or ("exchange",)})


# -- every step is a crash point -------------------------------------------------


def run_with_fault(world, kind, fault, number, monkeypatch):
    """Do the planned change with one fault. Returns the faults, the engine's results and the actions planned."""
    with world.engine() as engine, monkeypatch.context() as patched:
        plan = world.plan(engine)
        assert plan.actions, kind
        faults = Faults(patched, fault, number)
        results = []
        with faults.watching():
            results = engine.perform(engine.sites[WS], plan)
        patched.undo()
        if fault != "die":
            engine.settle_waiting(engine.sites)
    return faults, results, plan.actions


def assert_answered(actions, results, note):
    """Every planned action has a result, whatever happened."""
    assert all(isinstance(r, Done | Failed | Postponed) for r in results), note
    assert [] == [a for a in actions if a not in [r.action for r in results]], note


@pytest.mark.slow
@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "link"])
@pytest.mark.parametrize("kind", CHANGES)
def test_a_death_at_any_step_loses_nothing_and_is_recovered(world, kind, exchange, monkeypatch):
    """At each step: JP reads a whole unit, no byte is gone; a restart ends in step with nothing left behind."""
    story = Story(world, kind)
    for number in itertools.count(1):
        world.set_back()
        if not exchange:
            lack(world, monkeypatch)
        faults, _, _ = run_with_fault(world, kind, "die", number, monkeypatch)
        if not faults.hit:
            break
        note = f"{kind}: died at {number}, {faults.hit}"
        story.check_now(note)
        world.sync()
        story.check_end(note)
    assert number > 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHANGES)
def test_a_full_disk_at_any_step_leaves_nothing_half_done(world, kind, monkeypatch):
    """ENOSPC from any step on: told as data, staging empty, nothing lost; in step once there is space again."""
    story = Story(world, kind)
    for number in itertools.count(1):
        world.set_back()
        faults, results, actions = run_with_fault(world, kind, "full", number, monkeypatch)
        if not faults.hit:
            break
        note = f"{kind}: full at {number}, {faults.hit}"
        assert_answered(actions, results, note)
        story.check_now(note)
        assert [] == world.staged(), note
        assert [] == world.lock_files(), note
        world.sync()
        story.check_end(note)


@pytest.mark.slow
@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES], ids=["EIO", "EACCES"])
@pytest.mark.parametrize("kind", ["both", "packed", "younger", "rename", "import", "extras"])
def test_one_failing_call_loses_nothing(world, kind, code, monkeypatch):
    """Any one call fails: every action has a result, JP reads a whole unit; the next start ends in step."""
    story = Story(world, kind)
    stride = 1 if code == errno.EIO else 7
    for number in itertools.count(1, stride):
        world.set_back()
        faults, results, actions = run_with_fault(world, kind, code, number, monkeypatch)
        if not faults.hit:
            break
        note = f"{kind}: {errno.errorcode[code]} at {number}, {faults.hit}"
        assert_answered(actions, results, note)
        story.check_now(note)
        world.sync()
        story.check_end(note)


# -- the disk is not as planned ----------------------------------------------------

INTRUDER = as_jp([event("written in between")])


def replaced(path):
    """As JP writes: by a rename."""
    put(path, INTRUDER, LATER + 5)


def edited(path):
    """In place, with the same size and, for an mtime that lies, a later one."""
    raw = path.read_bytes()
    path.write_bytes(INTRUDER[: len(raw)].ljust(len(raw)))


def grown(path):
    with open(path, "ab") as file:
        file.write(b"late")


def moved_away(path):
    path.parent.rename(path.parent.with_name(f"{C}-elsewhere"))


def removed(path):
    path.unlink()


def swapped_for_a_link(path):
    target = path.with_name("target")
    path.rename(target)
    path.symlink_to(target)


def gone(path):
    shutil.rmtree(path.parent)


def managed(world):
    """Every file of every conversation with its mtime and bytes."""
    found = [p for r in world.roots() for p in r.glob(f"conversations/**/{C}*/**/*") if p.is_file()]
    return {str(p): (p.stat().st_mtime_ns, p.read_bytes()) for p in found}


MISHAPS = {
    "replaced": replaced,
    "edited": edited,
    "grown": grown,
    "moved": moved_away,
    "removed": removed,
    "symlink": swapped_for_a_link,
    "gone": gone,
}


@pytest.mark.parametrize("side", ["silo", "a"])
@pytest.mark.parametrize("mishap", MISHAPS)
@pytest.mark.parametrize("kind", ["both", "events", "younger"])
def test_what_changed_between_plan_and_change_is_left_alone(world, kind, mishap, side):
    """A target or source that is not as planned: postponed, not one root written; the next pass decides anew."""
    CHANGES[kind](world)
    with world.engine() as engine:
        plan = world.plan(engine)
        victim = at(world, side) / "events.json"
        MISHAPS[mishap](victim)
        before = managed(world)
        contents = world.contents()

        results = engine.perform(engine.sites[WS], plan)

        ours = [r for r in results if not isinstance(r.action, Import) and r.action in plan.actions]
        assert {Postponed} == {type(r) for r in ours}
        engine.settle_waiting(engine.sites)
        assert before == managed(world)
    world.sync()
    if mishap != "gone":
        assert contents <= world.everywhere()
    assert [] == world.staged()
    assert [] == world.lock_files()


@pytest.mark.parametrize("name", ["silo", "stray"])
@pytest.mark.parametrize("kind", ["both", "import", "extras", "rename"])
def test_a_held_lock_postpones_and_changes_nothing(world, kind, name):
    """JP at work: not waited for, nothing written to any root, and a moment later it is done (R7)."""
    story = Story(world, kind)
    path = (world.silo() if name == "silo" else world.base / "a/.jp") / "locks" / f"jp-c{C}.lock"
    path.parent.mkdir(exist_ok=True)
    with subprocess.Popen(["flock", path, "sh", "-c", "echo held; read x"], stdin=-1, stdout=-1) as jp:
        assert jp.stdout.readline() == b"held\n"
        before = managed(world)
        with world.engine() as engine:
            plan = world.plan(engine)
            results = engine.perform(engine.sites[WS], plan)
            assert {"locked"} == {r.reason for r in results if r.action in plan.actions}
            engine.settle_waiting(engine.sites)
        assert before == managed(world)
        jp.stdin.close()
    path.unlink()
    world.sync()
    story.check_end(kind)


def interfere(monkeypatch, step, deed):
    """Do something right before the n-th exchange or rename of ours."""
    real, count = kernel._rename, itertools.count(1)

    def spied(*args):
        if next(count) == step:
            deed()
        return real(*args)

    monkeypatch.setattr(kernel, "_rename", spied)


@pytest.mark.parametrize("step", [1, 2, 3, 4])
@pytest.mark.parametrize("mishap", ["replaced", "grown", "removed", "symlink"])
@pytest.mark.parametrize("kind", ["both", "packed", "split", "younger"])
def test_a_writer_between_the_comparison_and_the_exchange_loses_nothing(world, kind, mishap, step, monkeypatch):
    """What comes out of an exchange is compared, and put back if it is a stranger's; no mixed unit stays."""
    CHANGES[kind](world)
    victim = at(world, "silo") / ("events.json" if step % 2 else "base_config.json")
    if not victim.exists():
        victim = at(world, "silo") / "events.json"
    contents = world.contents() - ({victim.read_bytes()} if mishap in ("grown", "removed") else set())
    with world.engine() as engine, monkeypatch.context() as patched:
        plan = world.plan(engine)
        late = []

        def deed():
            MISHAPS[mishap](victim)
            if victim.exists():
                late.append(victim.read_bytes())

        interfere(patched, step, deed)
        engine.perform(engine.sites[WS], plan)
        patched.undo()
        engine.settle_waiting(engine.sites)
    assert contents | set(late) <= world.everywhere()
    world.sync()
    assert contents | set(late) <= world.everywhere()


@pytest.mark.parametrize("kind", ["both", "events", "younger", "silo", "extras"])
def test_the_late_bytes_of_a_writer_that_keeps_the_replaced_file_open_are_kept(world, kind):
    """No lease is granted then: the file waits in staging, and what was written to it goes into the history."""
    CHANGES[kind](world)
    target = at(world, "a" if kind == "silo" else "silo") / ("old.txt" if kind == "extras" else "events.json")
    with world.engine() as engine, open(target, "r+b") as writer:
        plan = world.plan(engine)
        results = engine.perform(engine.sites[WS], plan)
        assert {Done} == {type(r) for r in results}
        writer.write(b"late bytes")
        writer.flush()
        writer.close()
        until(lambda: engine.settle_waiting(engine.sites) or not engine.waiting, "nothing waits any more")
    assert [raw for raw in world.kept() if raw.startswith(b"late bytes")]
    assert [] == world.staged()


@pytest.mark.parametrize("kind", ["both", "events", "younger", "silo"])
def test_bytes_that_a_writer_adds_between_the_exchange_and_the_end_are_kept(world, kind, monkeypatch):
    """It had the file open, wrote after the exchange and closed before we looked again."""
    CHANGES[kind](world)
    target = at(world, "a" if kind == "silo" else "silo") / "events.json"
    real = place.set_ages
    with world.engine() as engine, open(target, "r+b") as writer:

        def last_words(*args, **kwargs):
            if not writer.closed:
                writer.write(b"late bytes")
                writer.close()
            real(*args, **kwargs)

        plan = world.plan(engine)
        monkeypatch.setattr(place, "set_ages", last_words)
        engine.perform(engine.sites[WS], plan)
        until(lambda: engine.settle_waiting(engine.sites) or not engine.waiting, "nothing waits any more")
    assert [raw for raw in world.kept() if raw.startswith(b"late bytes")]


def test_a_writer_that_pauses_for_longer_than_we_wait_loses_nothing(world, monkeypatch):
    """As long as somebody has a replaced file open for writing it stays: an editor may sleep for an hour."""
    monkeypatch.setattr(staging, "SETTLE_SECONDS", 0.01)
    events_only(world)
    with world.engine() as engine:
        with open(at(world, "silo") / "events.json", "r+b") as writer:
            engine.perform(engine.sites[WS], world.plan(engine))
            assert engine.waiting
            began = time.monotonic()
            while time.monotonic() < began + 0.1:
                engine.settle_waiting(engine.sites)
            writer.write(b"late bytes")
        until(lambda: engine.settle_waiting(engine.sites) or not engine.waiting, "nothing waits any more")
    assert [raw for raw in world.kept() if raw.startswith(b"late bytes")]


# -- beside JP -----------------------------------------------------------------------


@pytest.mark.parametrize("where", ["live", "archived"])
def test_an_import_beside_a_directory_that_jp_just_made_is_dropped(world, where):
    """Two directories for one id are a defect of which JP deletes one by name (contract 3.5)."""
    shutil.rmtree(at(world, "silo"))
    with world.engine() as engine:
        plan = world.plan(engine)
        assert [Import] == [type(a) for a in plan.actions]
        world.write(world.silo(), C, "by jp", slug="another-title", archived=where == "archived")
        results = engine.perform(engine.sites[WS], plan)
    assert [Postponed] == [type(r) for r in results]
    found = [p.name for p in (world.silo() / "conversations").rglob(f"{C}*")]
    assert found == [f"{C}-another-title"]


@pytest.mark.parametrize("name", ["NOTE.md", "sub/x"])
def test_an_edit_beside_an_unmanaged_file_that_is_durable_already_is_done_at_once(world, name):
    """A file that both have does not get in the way of a change to the stream."""
    path = at(world, "a") / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("one")
    world.sync()
    world.sync()
    events_only(world)
    with world.engine() as engine:
        results = engine.cycle(engine.sites[WS], engine.rescan(engine.sites[WS])).results
    assert {Done} == {type(r) for r in results}
    assert in_step(world, C, world.silo(), world.base / "a", world.base / "b")


CLASHES = {
    "directory": lambda top: (top / "NOTE.md").mkdir(),
    "symlink": lambda top: (top / "NOTE.md").symlink_to("events.json"),
    "file-for-directory": lambda top: (top / "sub").write_text("a file"),
}


@pytest.mark.parametrize("clash", CLASHES)
def test_an_unmanaged_file_that_cannot_go_in_stops_nothing_else(world, clash):
    """The silo has something else under its name: managed files of every root still come in step."""
    CLASHES[clash](at(world, "silo"))
    extras(world, old=False)
    events_only(world)
    world.sync()
    assert in_step(world, C, world.silo(), world.base / "a", world.base / "b")
    assert [] == world.staged()


@pytest.mark.parametrize("name", ["x" * 255, "é" * 120, "sub/" * 8 + "y" * 200], ids=["long", "utf8", "deep"])
def test_an_unmanaged_file_of_any_name_goes_over(world, name):
    """Whatever the file system takes as a name."""
    path = at(world, "a") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("extra")
    outcome = world.sync()
    assert [] == outcome.failed
    assert (at(world, "silo") / name).read_text() == "extra"


@pytest.mark.parametrize("name", ["NOTE.md", "sub/x"])
def test_an_unmanaged_file_that_changes_in_place_goes_over_at_the_next_sync(world, name):
    """The directory does not change with it; the disk is the truth all the same (R6)."""
    path = at(world, "a") / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("one")
    world.sync()
    path.write_text("two")
    world.sync()
    assert (at(world, "silo") / name).read_text() == "two"


def test_unmanaged_files_are_read_and_staged_before_the_lock_is_taken(world, monkeypatch):
    """JP's lock is for renames and ages: milliseconds, whatever the size (R7)."""
    extras(world)
    held = []
    real = os.fsync
    with world.engine() as engine:
        plan = world.plan(engine)
        assert [AddExtras] == [type(a) for a in plan.actions]
        path = world.silo() / "locks" / f"jp-c{C}.lock"

        def spied(fd):
            if os.path.exists(path) and os.readlink(f"/proc/self/fd/{fd}").rpartition("/")[0].endswith(".convsync"):
                held.append(fd)
            real(fd)

        monkeypatch.setattr(os, "fsync", spied)
        engine.perform(engine.sites[WS], plan)
    assert [] == held


@pytest.mark.parametrize("ns", [-1, 0, 2**63 - 1, 13_569_465_600_000_000_000], ids=["1969", "1970", "2262", "2400"])
@pytest.mark.parametrize("file", ["events.json", "NOTE.md"])
def test_any_mtime_is_taken_as_it_is(world, ns, file):
    """To the nanosecond, as JP takes them: before the epoch, and beyond what 64 bits of nanoseconds hold."""
    path = at(world, "a") / file
    put(path, INTRUDER, ns)
    if path.stat().st_mtime_ns != ns:
        pytest.skip("this file system has no such time")
    outcome = world.sync()
    assert [] == outcome.failed
    assert path.stat().st_mtime_ns == (ns if ns > 0 or file == "NOTE.md" else LONG_AGO)
    if file == "NOTE.md" or ns > LONG_AGO:
        assert (at(world, "silo") / file).stat().st_mtime_ns == ns


def test_a_state_that_cannot_be_written_stops_no_other_conversation_and_loses_nothing(world, monkeypatch):
    """`state.db` on a full disk: told as data, the root whole, done when there is space again."""
    Story(world, "both")
    with world.engine() as engine:
        plan = world.plan(engine)
        pages = engine.state._db.execute("PRAGMA page_count").fetchone()[0]
        engine.state._db.execute(f"PRAGMA max_page_count = {pages}")
        engine.ledger.put_pending(WS, 1, "x" * 100, "")
        monkeypatch.setattr("convsync_agent.apply.pending_work", lambda _: "x" * 1_000_000)
        results = engine.perform(engine.sites[WS], plan)
        assert {Failed} == {type(r) for r in results if r.action in plan.actions}
        assert [] == world.lock_files()
    monkeypatch.undo()


# -- killed in earnest -----------------------------------------------------------------

WORKER = """
import sys
from convsync_agent import state
from convsync_agent.engine import Engine
from convsync_agent.recover import recover
from convsync_agent.settling import settle
from convsync_agent.settings import Settings
engine = Engine(state.writer(sys.argv[1]), sys.argv[2], Settings())
recover(engine)
for site in engine.sites.values():
    dirty = engine.rescan(site)
    print("go", flush=True)
    settle(engine, site, dirty)
print("done", flush=True)
"""


@pytest.mark.slow
def test_sigkill_at_any_time_loses_nothing(world):
    """20 seeded rounds over every kind of change: killed somewhere in a real sync, then recovered."""
    seed = 20_251_121
    rng = random.Random(seed)
    kinds = list(CHANGES)
    killed = 0
    world.remember()
    pristine = world.picture.with_name("pristine")
    world.picture.rename(pristine)
    for number in range(20):
        kind = kinds[number % len(kinds)]
        world.picture = pristine
        world.set_back()
        world.picture = pristine.with_name("picture")
        story = Story(world, kind)
        until(lambda: time.time_ns() - newest_ctime(world) > 31 * 10**9, "quiet")  # the real clock is behind ours
        argv = [sys.executable, "-c", WORKER, str(world.state_dir), str(world.data)]
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **world.env}
        with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"go\n"
            left = rng.random() * 0.04
            time.sleep(left)  # the moment of death is what is drawn
            process.send_signal(signal.SIGKILL)
            killed += b"done" not in process.stdout.read()
        note = f"{kind}: killed after {left:.4f} s (round {number}, seed {seed})"
        story.check_now(note)
        world.sync()
        story.check_end(note)
    assert killed > 3


def newest_ctime(world):
    return max(p.stat().st_ctime_ns for r in world.roots() for p in r.rglob("*.json"))
