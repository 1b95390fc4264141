"""One change seen in many worktrees, and what it costs to have so many."""

from __future__ import annotations

import random
import time
from pathlib import Path

from benchmarks.bench import Bench, say
from benchmarks.home import Agent, Home
from benchmarks.latency import next_of
from benchmarks.observer import change, observing
from benchmarks.report import Row
from benchmarks.workload import Workload

MOST = 100  # conversations: each is in every worktree


def wide(bench: Bench) -> None:
    """Small conversations, all of them in each worktree; the worktrees grow from one number to the next."""
    work = Workload(min(MOST, bench.count), real=False, alike=True)
    master, home = bench.new("wide"), Home(Path(bench.new("wide-home")))
    work.write(master)
    trees: list[str] = []
    registered = 0.0
    for count in bench.worktrees:
        say(f"{work.count}: registering {count} worktrees")
        while len(trees) < count:
            name = f"tree-{len(trees)}"
            home.worktree(name)
            bench.clone(master if not trees else home.conversations("tree-0"), home.conversations(name))
            registered = home.run("register", f"{home.base}/{name}")[0]
            trees.append(name)
        with home.agent() as agent:  # the first one settles what was just made
            agent.wait_calm()
        row = Row("wide-register", "wide: register one more worktree", "s", [registered], conversations=work.count)
        bench.add(row, worktrees=count)
        _measure(bench, work, home, trees)


def _measure(bench: Bench, work: Workload, home: Home, trees: list[str]) -> None:
    silo, others = f"{home.silo}/conversations", [home.conversations(t) for t in trees[1:]]
    draw, durable, last = random.Random(9), [], []
    with bench.step(f"{len(trees)} worktrees") as notes:
        agent = Agent(home)
        try:
            started = agent.wait_started()
            agent.wait_calm()
            with observing([silo, *others], work.small[:10], f"{home.silo}/locks") as observer:
                for number in range(5 if bench.quick else 30):
                    name = work.small[number % min(10, work.count)]
                    directory = f"{home.conversations('tree-0')}/{name}"
                    began, expected = change(directory, next_of(directory, "append", number), observer)
                    equal, released = observer.wait(name, expected)
                    durable.append((released - began) * 1000)
                    last.append((max(equal.values()) - began) * 1000)
                    agent.wait_calm()
                    time.sleep(draw.uniform(0.02, 0.05))
            use = agent.use()
        finally:
            agent.stop()
    for name, what, unit, samples in (
        ("wide", "wide: append -> durable", "ms", durable),
        ("wide-projected", "  -> last copy", "ms", last),
        ("wide-restart", "wide: restart, to the end of the scan", "s", [started]),
        ("wide-rss", "wide: RSS", "MB", [use.rss / 1024]),
        ("wide-watches", "wide: inotify watches", "#", [float(use.watches)]),
    ):
        bench.add(Row(name, what, unit, samples, notes=notes, conversations=work.count), worktrees=len(trees))
