"""After any sequence of our commands JP loads what it would load if it had done them itself.

Two worlds run side by side: one where our commands act, one where JP does. What JP reads, and what it reads it
from, is the same in both after each step.
"""

from __future__ import annotations

import json
import os
import random
import shutil

import pytest

from convsync_agent.names import parse_dirname
from jp import JP, directories
from machine import as_jp, event

SEEDS = [int(os.environ["CONVSYNC_SEED"])] if "CONVSYNC_SEED" in os.environ else list(range(6))
STEPS = 24
TIMES = ("archived_at", "last_activated_at")  # each world has its own clock


class Toggler(JP):
    """JP with `edit --local`, which it has, and the test's model had no need of (contract 6.4)."""

    def toggle(self, conversation, *, local):
        if local:
            self.projected.discard(conversation)
        else:
            self.projected.add(conversation)
        with self.lock(conversation):
            self.persist(conversation)


class Worlds:
    """`ours` is a registered worktree with its silo, `theirs` a bare pair of roots."""

    def __init__(self, machine, draw, environment):
        self.machine, self.draw, self.environment = machine, draw, environment
        tree = machine.worktree("a")
        self.ours = (machine.silo(), tree / ".jp")
        base = machine.base / "theirs"
        self.theirs = (base / "silo", base / "tree" / ".jp")
        for root in self.theirs:
            (root / "conversations").mkdir(parents=True)
        environment.chdir(tree)
        self.next = 17_000_000_001

    def jp(self, world):
        return Toggler(*world)

    def both(self, act):
        """Something that JP does in either world."""
        for world in (self.ours, self.theirs):
            one = self.jp(world)
            act(one)
            one.leave()
        self.machine.quiet(*self.ours)
        self.machine.ok("sync")

    # -- steps ----------------------------------------------------------------------

    def new(self):
        number, self.next = self.next, self.next + 1
        title = self.draw.choice(["", "a title", "Ünïcödé — and more"])
        local = self.draw.random() < 0.3

        def act(jp):
            jp.new(number, "one", title=title)
            if local:
                jp.toggle(number, local=True)

        self.both(act)

    def query(self):
        if (number := self.any_live()) is not None:
            self.both(lambda jp: jp.query(number, "more"))

    def retitle(self):
        if (number := self.any_live()) is not None:
            self.both(lambda jp: jp.edit(number, title=f"title {number % 7}"))

    def archive(self):
        if (number := self.any_live()) is not None:
            self.machine.ok("archive", number)
            self.jp(self.theirs).archive(number)

    def unarchive(self):
        if (number := self.any_archived()) is not None:
            self.machine.ok("unarchive", number)
            self.jp(self.theirs).unarchive(number)

    def remove(self):
        if (number := self.any_live()) is not None and self.draw.random() < 0.3:
            self.machine.ok("rm", number, "--yes")
            self.jp(self.theirs).remove(number)

    def toggle(self):
        if (number := self.any_live()) is not None:
            local = bool(directories(self.theirs[1], number))
            self.machine.ok("unproject" if local else "project", number)
            self.jp(self.theirs).toggle(number, local=local)

    def edit(self):
        if (number := self.any_live()) is not None:
            raw = as_jp([event("edited"), event(str(self.draw.random()))])
            script = self.machine.base / "editor"
            new = self.machine.base / "new.json"
            new.write_bytes(raw)
            script.write_text(f'#!/bin/sh\ncat "{new}" > "$1"\n')
            script.chmod(0o755)
            self.environment.setenv("EDITOR", str(script))
            self.machine.ok("edit", number, "-e")
            self.jp(self.theirs).edit_files(number, raw)

    # -- what there is --------------------------------------------------------------

    def any_live(self):
        return self._any(archived=False)

    def any_archived(self):
        return self._any(archived=True)

    def _any(self, *, archived):
        found = {parse_dirname(p.name) for r in self.theirs for p in directories(r, archived=archived)}
        return self.draw.choice(sorted(found)) if found else None


def loaded(world):
    """Everything JP would say of a world: by conversation, where it is and what it holds."""
    found = {}
    one = JP(*world)
    for conversation in one.known:
        files = {name: json.loads(raw) for name, raw in one.loaded[conversation].items()}
        for field in TIMES:
            files["metadata.json"].pop(field, None)
        held = tuple(bool(directories(root, conversation)) for root in world)
        names = {p.name for root in world for p in directories(root, conversation)}
        found[conversation] = (held, names, files)
    for conversation in {parse_dirname(p.name) for r in world for p in directories(r, archived=True)}:
        held = tuple(bool(directories(root, conversation, archived=True)) for root in world)
        copies = [p for root in world for p in directories(root, conversation, archived=True)]
        stream = [json.loads((p / "events.json").read_bytes()) for p in copies]
        titles = {json.loads((p / "metadata.json").read_bytes()).get("title") for p in copies}
        stamped = {"archived_at" in json.loads((p / "metadata.json").read_bytes()) for p in copies}
        found["archived", conversation] = (held, {p.name for p in copies}, stream, titles, stamped)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_jp_loads_what_it_would_have_made_itself(machine, monkeypatch, seed):
    """Content, titles, directory names, presence and archive state, after each step."""
    print(f"CONVSYNC_SEED={seed}")  # noqa: T201
    draw = random.Random(seed)
    worlds = Worlds(machine, draw, monkeypatch)
    steps = [worlds.new, worlds.query, worlds.retitle, worlds.archive, worlds.unarchive, worlds.remove]
    steps += [worlds.toggle, worlds.edit, worlds.new]
    for number in range(STEPS):
        step = worlds.new if number < 3 else draw.choice(steps)
        step()
        assert loaded(worlds.ours) == loaded(worlds.theirs), (number, step.__name__)
        assert not list((machine.store(machine.base / "a") / "conversations").glob(".trash/*"))
    machine.ok("verify")
    shutil.rmtree(machine.base / "theirs")
