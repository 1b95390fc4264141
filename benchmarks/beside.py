"""The same edits, seen by the same observer, with convsync, with the floor and with the programs of others."""

from __future__ import annotations

import random
import subprocess
import time
from dataclasses import dataclass, field

from benchmarks.bench import Bench, say
from benchmarks.burst import Run, stage
from benchmarks.home import Failed
from benchmarks.idle import settle, share
from benchmarks.latency import chosen, next_of
from benchmarks.observer import change, observing
from benchmarks.peers import PEERS
from benchmarks.peers.ours import Least, Ours
from benchmarks.peers.peer import Peer
from benchmarks.report import Row
from benchmarks.workload import EVENTS, read, rewritten

OURS = "convsync"


@dataclass(frozen=True)
class Effort:
    """How long each program is looked at. Seconds, but for `edits`."""

    edits: int
    editing: float  # no new edit after so long: of a slow one there are fewer
    lost: float  # an edit that has not arrived by then is lost
    idle: float
    start: float
    burst: float


QUICK = Effort(edits=4, editing=8, lost=8, idle=2, start=25, burst=25)
FULL = Effort(edits=40, editing=40, lost=20, idle=10, start=120, burst=120)


@dataclass
class Found:
    """Of one program. `edits`: ms until visible and equal on the other side; `lost` of them never were."""

    label: str
    edits: list[float] = field(default_factory=list)
    burst: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)
    watches: int = 0
    ready: float = 0.0
    lost: int = 0
    cpu_ms: float = 0.0
    trouble: str = ""
    notes: dict = field(default_factory=dict)


def beside(bench: Bench) -> None:
    """Edits of any size in `a`, some time apart, until they are in `b`; all of them at once; nothing at all."""
    effort, found = QUICK if bench.quick else FULL, {}
    home = bench.fresh_home()
    home.run("register", f"{home.base}/a")
    with home.agent() as agent:  # the first one settles what was just made
        agent.wait_calm()
    pair = _Pair(bench)
    for peer in (Ours(home), Least(bench.floor, *pair.fresh(), bench.new("state"))):
        found[peer.name] = _look(bench, peer, effort)
    for name in bench.peers:
        lacks = PEERS[name].missing()
        if lacks:
            say(f"{PEERS[name].label}: skipped, not installed: {lacks}")
            bench.remarks.append(f"{PEERS[name].label}: skipped, not installed: {lacks}")
            continue
        found[name] = _look(bench, PEERS[name](*pair.fresh(), bench.new("state")), effort)
    _tell(bench, found)


class _Pair:
    """Two equal trees that one program after the other gets."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._trees: tuple[str, str] | None = None

    def fresh(self) -> tuple[str, str]:
        """The same ones as long as they are equal, else new ones."""
        if self._trees is None or not self._equal(*self._trees):
            self._trees = (self._bench.new("one"), self._bench.new("two"))
            for tree in self._trees:
                self._bench.clone(self._bench.master, tree)
        return self._trees

    def _equal(self, one: str, two: str) -> bool:
        try:
            return all(read(f"{one}/{n}/{EVENTS}") == read(f"{two}/{n}/{EVENTS}") for n in self._bench.names)
        except FileNotFoundError:
            return False


def _look(bench: Bench, peer: Peer, effort: Effort) -> Found:
    found = Found(peer.label)
    try:
        with (
            bench.step(f"{peer.label}: start, edits, idle, burst") as found.notes,
            peer.running(effort.start) as found.ready,
        ):
            _edits(bench, peer, effort, found)
            settle(peer.use, effort.idle)
            before, began = peer.use(), time.perf_counter()
            time.sleep(effort.idle)
            after = peer.use()
            found.idle.append(share(before, after, time.perf_counter() - began))
            found.rss.append(after.rss / 1024)
            found.watches = after.watches
            staged, _ = stage(bench, peer.a, bench.names, rewritten)
            run = Run(staged, peer.a, peer.b)
            run.until_there(effort.burst)
            run.require_equal()
            found.burst.append(run.took)
    except (Failed, OSError, ValueError, subprocess.SubprocessError) as trouble:
        if peer.name == OURS:
            raise
        found.trouble = str(trouble)
    return found


def _edits(bench: Bench, peer: Peer, effort: Effort, found: Found) -> None:
    """Up to a second apart, at random: who looks once a second is met at any moment of its second."""
    draw = random.Random(13)
    names = chosen(bench.names, effort.edits + 1, draw, shuffled=True)
    until, cpu = time.perf_counter() + effort.editing, peer.use().cpu
    with observing([peer.b], names) as observer:
        for number, name in enumerate(names):
            if time.perf_counter() > until:
                break
            time.sleep(draw.uniform(0.1, 1.1))
            directory = f"{peer.a}/{name}"
            began, expected = change(directory, next_of(directory, "life", number), observer)
            try:
                equal, _ = observer.wait(name, expected, effort.lost)
            except Failed:
                found.lost += 1
                continue
            if not number:  # the first one after a start is not what a day is made of
                continue
            found.edits.append((equal[peer.b] - began) * 1000)
    made = len(found.edits) + found.lost + 1
    found.cpu_ms = round((peer.use().cpu - cpu) / made * 1000, 2)


MEASURES = (
    ("edits", "", "ms", "edit -> other side"),
    ("burst", "-burst", "s", "burst of all"),
    ("idle", "-idle", "%", "idle, of a core"),
    ("rss", "-rss", "MB", "RSS"),
)


def _tell(bench: Bench, found: dict[str, Found]) -> None:
    """Measure by measure, ours first: so the programs stand under each other."""
    for attribute, suffix, unit, what in MEASURES:
        ours = getattr(found[OURS], attribute)
        for name, one in found.items():
            samples = getattr(one, attribute)
            if not samples:
                continue
            notes = {"ready_s": round(one.ready, 3), "lost": one.lost, "cpu_ms_per_edit": one.cpu_ms}
            notes |= {"watches": one.watches} | one.notes
            theirs = name != OURS
            label = f"  {one.label}" if theirs else f"{what}: {one.label}"
            row = Row(f"peer-{name}{suffix}", label, unit, samples, ours if theirs else [], "convsync", notes)
            row.theirs = theirs
            bench.add(row)
    for one in found.values():
        lost = f"{one.lost} of {len(one.edits) + one.lost} edits never arrived" if one.lost else ""
        bench.remarks += [f"{one.label}, {bench.count:,}: {text}" for text in (one.trouble, lost) if text]
