"""`python -m benchmarks.soak`: a day of a busy person in minutes, and what it does to the agent's memory.

A real agent, two worktrees and a third that comes and goes; appends, edits, new titles, conversations that are made
and removed, questions. An hour's worth is one round; after each the agent is calm and its RSS is read. Growth is that
from the end of the warm-up (a quarter of the rounds) to the end. `--count` also counts what every object of the
agent holds: the agent runs with a handler that writes the size of each container, and what grew is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time

from benchmarks.home import Agent, Home, throw_away
from benchmarks.workload import FIRST_ID, Workload, appended, edited, put, read, retimed

BUDGET_PERCENT = 5.0
COUNTING = """
import collections, gc, json, os, signal, sys
from convsync_cli.__main__ import main
def held(one):
    if isinstance(one, dict): return len(one) + sum(len(v) for v in one.values() if isinstance(v, (dict, list, set)))
    return len(one)
def count(*_):
    gc.collect()
    found = collections.Counter()
    for one in gc.get_objects():
        if type(one).__module__.startswith("convsync_"):
            names = [*getattr(one, "__dict__", ()), *getattr(type(one), "__slots__", ())]
            for name in names:
                value = getattr(one, name, None)
                if isinstance(value, (dict, list, set, collections.deque)):
                    found[f"{type(one).__module__}.{type(one).__name__}.{name}"] += held(value)
    for name, module in list(sys.modules.items()):
        if name.startswith("convsync_"):
            for key, value in vars(module).items():
                if isinstance(value, (dict, list, set)): found[f"{name}.{key}"] = held(value)
    found["(objects)"] = len(gc.get_objects())
    with open(os.environ["COUNTED"] + ".new", "w") as file: json.dump(found, file)
    os.rename(os.environ["COUNTED"] + ".new", os.environ["COUNTED"])
signal.signal(signal.SIGUSR2, count)
sys.argv[1:] = ["agent"]
main()
"""


class CountedAgent(Agent):
    """An agent that writes what its containers hold when it gets SIGUSR2."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.log = home.base / f"agent-{time.monotonic_ns()}.log"
        self.counted = f"{home.base}/counted"
        self._state, self._runtime = f"{home.base}/state/convsync", f"{home.base}/run/convsync"
        with open(self.log, "wb") as log:
            self.started = time.perf_counter()
            self.process = subprocess.Popen(
                [sys.executable, "-c", COUNTING], env=home.env | {"COUNTED": self.counted},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=home.base,
            )  # fmt: skip

    def count(self) -> dict[str, int]:
        """What is in every container of ours now."""
        os.kill(self.pid, signal.SIGUSR2)
        while not os.path.exists(self.counted):
            time.sleep(0.01)
        found = json.loads(read(self.counted))
        os.unlink(self.counted)
        return found


class Day:
    """What a person and their programs do, one round at a time. Each change is made as JP makes it."""

    def __init__(self, home: Home, work: Workload) -> None:
        self.home, self.work = home, work
        self.draw = random.Random(3)
        self.names = list(work.names)
        self.next = FIRST_ID + 10 * work.count
        self.did = dict.fromkeys(("appends", "edits", "titles", "made", "removed", "worktrees", "questions"), 0)

    def round(self, agent: Agent) -> None:
        """An hour: 60 turns, 6 edits and titles, 8 conversations made and as many removed, a worktree, 10 questions."""
        for number in range(60):
            self._change("events.json", appended, number)
            self._change("metadata.json", retimed, number)
            self.did["appends"] += 1
            if number % 10 == 9:
                self._change("events.json", edited, number)
                self._rename()
                agent.wait_calm()  # asks the agent, as `status` does
                self.did["questions"] += 1
        self._make_and_remove(8)
        self._worktree()
        agent.wait_calm()

    def _change(self, file: str, how, number: int) -> None:
        tree = self.draw.choice("ab")
        name = self.draw.choice(self.names)
        path = f"{self.home.conversations(tree)}/{name}/{file}"
        if os.path.exists(path):
            raw = read(path)
            if len(raw) > 200_000:  # a turn that starts anew, or a day would end with files of megabytes
                raw = self.work.files(0)[file]
            put(path, how(raw, number))
            os.rename(path + ".tmp", path)
            self.did["edits"] += how is edited

    def _rename(self) -> None:
        """A new title: JP renames the directory wherever it finds it."""
        at = self.draw.randrange(len(self.names))
        old = self.names[at]
        new = f"{old.partition('-')[0]}-title-{self.draw.randrange(10**6)}"
        for top in self._tops():
            if os.path.isdir(f"{top}/{old}"):
                os.rename(f"{top}/{old}", f"{top}/{new}")
        self.names[at] = new
        self.did["titles"] += 1

    def _tops(self) -> list[str]:
        return [f"{self.home.silo}/conversations", self.home.conversations("a"), self.home.conversations("b")]

    def _make_and_remove(self, number: int) -> None:
        """New ones in one worktree; the oldest go everywhere, as `jp conversation rm` in each would do it."""
        for _ in range(number):
            self.next += 10
            name = f"{self.next}-new"
            building = f"{self.home.conversations('a')}/.building"
            os.makedirs(building)
            for file, raw in self.work.files(1).items():
                with open(f"{building}/{file}", "wb") as out:
                    out.write(raw)
            os.rename(building, f"{self.home.conversations('a')}/{name}")
            self.names.append(name)
            self.did["made"] += 1
        gone, self.names = self.names[:number], self.names[number:]
        for name in gone:
            for top in reversed(self._tops()):
                shutil.rmtree(f"{top}/{name}", ignore_errors=True)
            self.did["removed"] += 1

    def _worktree(self) -> None:
        """One that is made, registered, used, deleted and unregistered."""
        name = f"w{self.did['worktrees']}"
        path = self.home.worktree(name)
        os.makedirs(self.home.conversations(name))
        for chosen in self.draw.sample(self.names, 10):
            if os.path.isdir(f"{self.home.silo}/conversations/{chosen}"):
                shutil.copytree(f"{self.home.silo}/conversations/{chosen}", f"{self.home.conversations(name)}/{chosen}")
        self.home.run("register", path)
        shutil.rmtree(path)
        self.home.run("status", "--json")
        self.home.run("unregister", path)
        self.did["worktrees"] += 1


def slope(samples: list[float]) -> float:
    """Per round, by least squares."""
    middle, mean = (len(samples) - 1) / 2, statistics.fmean(samples)
    spread = sum((i - middle) ** 2 for i in range(len(samples)))
    return sum((i - middle) * (s - mean) for i, s in enumerate(samples)) / spread if spread else 0.0


def report(rss: list[int], warm: int, did: dict[str, int]) -> dict:
    """RSS in KiB, growth after the warm-up in percent, what was done."""
    rest = [float(r) for r in rss[warm:]]
    begin, end = statistics.median(rest[:3]), statistics.median(rest[-3:])
    return {
        "rounds": len(rss), "did": did, "rss_kib": rss, "warm_kib": begin, "end_kib": end,
        "growth_percent": round((end - begin) / begin * 100, 2), "slope_kib_per_round": round(slope(rest), 2),
        "budget_percent": BUDGET_PERCENT,
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--rounds", type=int, default=48, help="hours of activity, the warm-up among them")
    parser.add_argument("--conversations", type=int, default=300)
    parser.add_argument("--count", action="store_true", help="say which containers of the agent grew")
    given = parser.parse_args()
    with throw_away() as base:
        work = Workload(given.conversations, median=6 << 10, p95=30 << 10)
        work.median, work.p95 = 6 << 10, 30 << 10
        home = Home(base / "home-1")
        for tree in "ab":
            path = home.worktree(tree)
            work.write(home.conversations(tree))
            home.run("register", path)
        agent = (CountedAgent if given.count else Agent)(home)
        try:
            agent.wait_started()
            found = _soak(agent, Day(home, work), given.rounds)
        finally:
            agent.stop()
    print(json.dumps(found, indent=1))
    return int(found["growth_percent"] >= BUDGET_PERCENT)


def _soak(agent: Agent, day: Day, rounds: int) -> dict:
    rss, counts, warm = [], [], max(1, rounds // 4)
    for number in range(rounds):
        day.round(agent)
        rss.append(agent.use().rss)
        if isinstance(agent, CountedAgent) and number in (warm - 1, rounds - 1):
            counts.append(agent.count())
        print(f"round {number + 1}: {rss[-1] / 1024:.1f} MB", file=sys.stderr, flush=True)
    found = report(rss, warm, day.did)
    if len(counts) == 2:
        before, after = counts
        grown = {k: [before.get(k, 0), n] for k, n in after.items() if n > before.get(k, 0) + 20}
        found["grew"] = dict(sorted(grown.items(), key=lambda kv: kv[1][0] - kv[1][1]))
    return found


if __name__ == "__main__":
    sys.exit(main())
