"""What can have happened before a change, and the story of one: before, after, and what JP would load."""

from __future__ import annotations

import itertools
import os
import shutil

from agents import FILES, in_step, jp_loads
from machine import LONG_AGO, as_jp, event, put

C = 17_000_000_001
LATER = LONG_AGO + 60_123_456_789
MUCH_LATER = 4_102_444_800_000_000_000 + 1  # in the year 2100
PACKED = event(kind="config_delta", delta={})
META = {"last_activated_at": "2023-11-14 22:13:20.0"}


def tree(world, name):
    return world.silo() if name == "silo" else world.base / name


def at(world, name):
    return world.directory(tree(world, name), C)


def age(path, ns):
    os.utime(path, ns=(ns, ns))


def events(*texts, packed=False):
    return as_jp([*([PACKED] if packed else []), *(event(t) for t in texts)])


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


INTRUDER = as_jp([event("written in between")])
