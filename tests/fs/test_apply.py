"""Changes on real directories: what they leave, at every step that may fail, and beside writers of every kind."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import time

import pytest

from agents import FILES, in_step, jp_loads
from convsync_agent import kernel
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
    shutil.rmtree(at(world, "silo"))
    extras(world, old=False)


def imported_from_two(world):
    shutil.rmtree(at(world, "silo"))
    put(at(world, "a") / "events.json", events("other"), LATER)
    put(at(world, "b") / "metadata.json", as_jp(META | {"title": "new"}), LATER)


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
        rows = []
        for path in [p for r in self.world.roots() for p in sorted(r.glob(f"conversations/{C}*/*"))]:
            rows.append(f"{path.relative_to(self.world.base)} {path.stat().st_mtime_ns}")
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
