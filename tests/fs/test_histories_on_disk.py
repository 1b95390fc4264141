"""Whole histories on real directories: the real engine in this process beside a JP that keeps to its contract.

Our clock is ahead of the file system's and is moved on where the engine would wait, so nothing sleeps.
`CONVSYNC_DISK_HISTORIES` sets how many histories are played, `CONVSYNC_SEED` which ones.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from agents import jp_loads
from convsync_agent.recover import recover
from faults import World
from jp import FILES, JP, TRASH, directories, fault
from machine import WS, as_jp, event, put

HISTORIES = int(os.environ.get("CONVSYNC_DISK_HISTORIES", "96"))
SEED = int(os.environ.get("CONVSYNC_SEED", "0"))
SHARDS = 2
IDS = (17_000_000_001, 17_000_000_002)
PICK = st.integers(0, 7)
TEXT = st.sampled_from(["yes", "no", "why"])


def inside(inner: bytes, outer: bytes) -> bool:
    """Every event, or every field but the last activation, of the one is in the other."""
    try:
        one, two = json.loads(inner), json.loads(outer)
    except ValueError:
        return False
    if isinstance(one, list) and isinstance(two, list):
        return two[: len(one)] == one
    if isinstance(one, dict) and isinstance(two, dict) and "last_activated_at" in one:
        return one | {"last_activated_at": ""} == two | {"last_activated_at": ""}
    return False


class OnDisk(RuleBasedStateMachine):
    """Two worktrees, two conversations."""

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.base = Path(tempfile.mkdtemp(prefix="histories-"))
        self.w = World(self.base, self.patch)
        self.ahead = 0
        clock = time.time_ns
        self.patch.setattr(time, "time_ns", lambda: clock() + self.ahead)
        self.trees = [self.w.enroll(n) for n in "ab"]
        self.running: JP | None = None
        self.removed: set[int] = set()
        self.ever: set[bytes] = set()
        self.checked = True

    @initialize(both=st.booleans())
    def begin(self, both):
        self.w.register("a", "b")
        self.jp(0).new(IDS[0], "hello")
        if both:
            here = directories(self.trees[0] / ".jp", IDS[0])[0]
            shutil.copytree(here, self.trees[1] / ".jp/conversations" / here.name)
        self.rest()

    def jp(self, number) -> JP:
        return JP(self.w.silo(), self.trees[number % 2] / ".jp")

    def wrote(self, conversation) -> None:
        self.removed.discard(conversation)

    def some(self, number, *, archived=False) -> Path | None:
        """Some copy of some conversation."""
        found = [p for r in self.w.roots() for p in directories(r, archived=archived)]
        return found[number % len(found)] if found else None

    # -- JP ---------------------------------------------------------------------------

    @rule(number=PICK)
    def jp_starts(self, number):
        """A run that will write later what it read now."""
        self.running = self.jp(number)

    @rule(number=PICK, text=TEXT)
    def jp_asks(self, number, text):
        """A run that was started before, or a new one."""
        run, self.running = self.running or self.jp(number), None
        if run.known:
            conversation = run.known[number % len(run.known)]
            if not fault_of(run.loaded[conversation]):
                run.query(conversation, text)
                self.wrote(conversation)
        run.leave()

    @rule(number=PICK, title=st.sampled_from(["first", "second", "third"]))
    def jp_edits(self, number, title):
        run = self.jp(number)
        for conversation in run.known[:1]:
            if not fault_of(run.loaded[conversation]):
                run.edit(conversation, title=title)
                self.wrote(conversation)

    @rule(number=PICK, text=TEXT)
    def jp_edits_files(self, number, text):
        """The editor, then the copy into the silo; the first turn is another one."""
        run = self.jp(number)
        for conversation in run.known[:1]:
            run.edit_files(conversation, as_jp([event(text)]))
            self.wrote(conversation)

    @rule(number=PICK)
    def jp_begins_another(self, number):
        run = self.jp(number)
        if IDS[1] not in run.known and not any(directories(r, IDS[1], archived=True) for r in self.w.roots()):
            run.new(IDS[1], "another")
            self.wrote(IDS[1])

    @rule(number=PICK)
    def jp_archives_or_unarchives(self, number):
        run = self.jp(number)
        archived = directories(self.w.silo(), archived=True)
        if archived and not directories(self.w.silo(), int(archived[0].name.partition("-")[0])):
            run.unarchive(int(archived[0].name.partition("-")[0]))
            self.wrote(int(archived[0].name.partition("-")[0]))
        elif run.known and not fault_of(run.loaded[run.known[0]]):
            run.archive(run.known[0])
            self.wrote(run.known[0])

    @rule(number=PICK)
    def jp_removes(self, number):
        """The watcher sees the lock go; what was never durable, or has news, is another story."""
        run = self.jp(number)
        if not run.known or self.engine_would_import(run.known[0]):
            return
        conversation = run.known[0]
        run.remove(conversation)
        with self.w.engine() as engine:
            self.ahead += 10**6
            engine.removals.locked[WS, conversation] = time.time_ns()
            engine.rescan(engine.sites[WS])
            self.cycles(engine)
        self.removed.add(conversation)

    def engine_would_import(self, conversation) -> bool:
        news = {p.read_bytes() for r in self.w.roots() for d in directories(r, conversation) for p in d.glob("*.json")}
        return bool(news - self.durable()) or not news <= self.ever or not directories(self.w.silo(), conversation)

    # -- everybody else ------------------------------------------------------------------

    @rule(number=PICK, kind=st.sampled_from(["append", "zeros", "half", "older", "in place"]), text=TEXT)
    def somebody_writes(self, number, kind, text):
        path = self.some(number)
        if path is None or fault(path):
            return
        file = path / "events.json"
        raw = file.read_bytes()
        if kind == "append":
            put(file, as_jp([*json.loads(raw), event(text)]))
        elif kind == "zeros":
            put(file, b"\0" * len(raw))
        elif kind == "half":
            put(file, raw[: len(raw) // 2])
        elif kind == "older":
            put(file, as_jp([event(text)]), time.time_ns() - self.ahead - 10**15)
        else:
            file.write_bytes(as_jp([event(text), event("more")]))
        self.wrote(int(path.name.partition("-")[0]))

    @rule(number=PICK)
    def an_unmanaged_file(self, number):
        path = self.some(number)
        if path is not None:
            (path / f"note-{number}").write_text(f"note {number}")

    @rule(number=PICK)
    def a_copy_goes(self, number):
        """Of a worktree, by hand; or the durable one, by accident."""
        path = self.some(number)
        if path is not None:
            shutil.rmtree(path)

    @rule()
    def state_is_lost(self):
        for path in self.w.state_dir.glob("state.db*"):
            path.unlink()
        self.removed.clear()
        self.w.register("a", "b")

    # -- convsync ----------------------------------------------------------------------------

    @rule()
    def rests(self):
        self.rest()

    def teardown(self):
        try:
            if self.checked:
                self.rest()
        finally:
            self.patch.undo()
            shutil.rmtree(self.base)

    def cycles(self, engine) -> None:
        """Cycle until nothing needs only a moment: the clock moves on where a process would sleep."""
        site = engine.sites[WS]
        dirty = engine.rescan(site)
        for _ in range(40):
            outcome = engine.cycle(site, dirty)
            assert not outcome.failed, outcome.failed
            waits = {c: ns for c, ns in outcome.again.items() if ns < 31 * 10**9}
            if not waits:
                break
            self.ahead += min(waits.values()) + 10**6
            dirty = engine.rescan(site) | waits.keys()
        else:
            raise AssertionError(f"never at rest: {outcome}")
        engine.settle_waiting(engine.sites)
        engine.vault.step_all(engine, engine.sites)
        engine.settle_waiting(engine.sites)

    def rest(self) -> None:
        self.checked = False
        self.forgive()
        self.ever |= self.managed()
        before = {(c, t): self.loads(c, t) for c in IDS for t in self.trees}
        projected = self.projections()
        with self.w.engine() as engine:
            recover(engine)
            self.cycles(engine)
        after = self.picture()
        with self.w.engine() as engine:
            self.cycles(engine)

        assert self.picture() == after, "a second look wrote something"
        assert not self.w.staged()
        assert not self.w.lock_files()
        self.check_nothing_is_lost()
        self.check_what_jp_loads(before)
        assert self.projections() <= projected, "a projection appeared"
        for conversation in self.removed:
            assert not directories(self.w.silo(), conversation), "resurrected"
        self.checked = True

    def projections(self) -> set[tuple[str, int]]:
        """What each worktree holds, in whichever partition."""
        return {
            (tree.name, int(p.name.partition("-")[0]))
            for tree in self.trees
            for archived in (False, True)
            for p in directories(tree / ".jp", archived=archived)
        }

    def picture(self) -> dict[str, tuple[int, int, bytes]]:
        files = [p for r in self.w.roots() for p in sorted((r / "conversations").rglob("*")) if p.is_file()]
        return {str(p): (p.stat().st_mtime_ns, p.stat().st_ino, p.read_bytes()) for p in files}

    def managed(self) -> set[bytes]:
        tops = [r / "conversations" for r in self.w.roots()]
        return {p.read_bytes() for t in tops for p in t.rglob("*.json") if TRASH not in p.parts}

    def durable(self) -> set[bytes]:
        """What outlives every worktree: in the silo, the history and the trash."""
        silo = {p.read_bytes() for p in (self.w.silo() / "conversations").rglob("*") if p.is_file()}
        trash = {gzip.decompress(p.read_bytes()) for p in (self.w.data / "trash").rglob("*.gz")}
        return silo | self.w.kept() | trash

    def forgive(self) -> None:
        """What a writer itself took away from everywhere is not convsync's to bring back."""
        left = self.durable() | self.w.contents()
        self.ever = {raw for raw in self.ever if raw in left or any(inside(raw, other) for other in left)}

    def check_nothing_is_lost(self) -> None:
        safe = self.durable()
        for raw in self.ever - safe:
            assert any(inside(raw, other) for other in safe), f"lost: {raw[:300]!r}"

    def loads(self, conversation, tree) -> tuple[dict[str, bytes], int] | None:
        both = [next(iter(directories(r, conversation)), None) for r in (self.w.silo(), tree / ".jp")]
        if None in both or any(len(directories(r, conversation)) > 1 for r in (self.w.silo(), tree / ".jp")):
            return None
        ages = [max((p / f).stat().st_mtime_ns for f in FILES[1:] if (p / f).exists()) for p in both if p]
        return jp_loads(*both), max(ages)

    def check_what_jp_loads(self, before) -> None:
        """What it would have loaded, or what is newer, or more; where that could be loaded at all."""
        for (conversation, tree), was in before.items():
            now = self.loads(conversation, tree)
            if was is None or now is None or fault_of(was[0]):
                continue
            assert not fault_of(now[0])
            fine = inside(was[0]["events.json"], now[0]["events.json"]) or now[1] >= was[1]
            assert fine, f"JP loads something else: {was} {now}"


def fault_of(files: dict[str, bytes]) -> bool:
    """JP could not load it."""
    try:
        return not isinstance(json.loads(files["events.json"]), list) or not json.loads(files["metadata.json"])
    except (ValueError, KeyError):
        return True


@pytest.mark.slow
@pytest.mark.parametrize("number", range(SEED, SEED + SHARDS))
def test_every_law_holds_beside_a_jp(number):
    """At rest a second look writes nothing, nothing is lost or left behind, JP loads no less, nothing comes back."""
    few = settings(
        max_examples=max(1, HISTORIES // SHARDS),
        stateful_step_count=12,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(number)(OnDisk), settings=few)
