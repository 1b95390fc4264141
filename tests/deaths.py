"""Real commands that die at a chosen system call, the scenes they die in, and what holds then and in the end.

SIGKILL comes through `strace --inject` on entry of the n-th call of its kind, so that call has not happened. The calls
are those a whole, traced run of the same command made below the machine's directory.
"""

from __future__ import annotations

import functools
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from agents import FILES, in_step, jp_loads
from machine import LONG_AGO, WS, as_jp, event, put

C, ARCHIVED = 17_000_000_001, 17_000_000_002
LATER = LONG_AGO + 60_123_456_789
META = {"last_activated_at": "2023-11-14 22:13:20.0"}
PACKED = event(kind="config_delta", delta={})
CHANGING = (
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat,rmdir,mkdir,mkdirat,symlink,symlinkat,fsync,fdatasync,"
    "syncfs,write,pwrite64,ftruncate,utimensat,fchmod,chmod,fchmodat,copy_file_range,sendfile,openat,ioctl"
)
CALL = re.compile(r"(\d+) +(\w+)\((.*)")
ONLY_WITH = {"openat": "O_CREAT", "ioctl": "FICLONE"}


@functools.cache
def no_strace() -> str:
    """Why strace can not trace a process here; empty when it can. Tried once."""
    if not shutil.which("strace"):
        return "there is no strace"
    command = ["strace", "-f", "-qq", "-o", os.devnull, "--inject=fsync:signal=SIGKILL:when=1"]
    script = "import os, tempfile; os.fsync(tempfile.TemporaryFile().fileno())"
    ran = subprocess.run([*command, sys.executable, "-c", script], check=False, capture_output=True, text=True)
    return "" if ran.returncode in (-9, 137) else f"strace can not trace here: {ran.stderr.strip()[:200]}"


# -- scenes: what is there before the command, and the command ---------------------


def at(world, root) -> Path | None:
    return world.directory(root, C)


def both_units(world, where):
    """Every managed file is another one, and contains nothing of the old."""
    top = at(world, where)
    put(top / "base_config.json", as_jp({"assistant": "new"}), LATER - 1)
    put(top / "events.json", as_jp([event("other")]), LATER)
    put(top / "metadata.json", as_jp(META | {"title": "new"}), LATER)


def edited(world):
    """Both units, an unmanaged file and the title, so the name: all in one worktree."""
    both_units(world, world.base / "a")
    put(at(world, world.base / "a") / "NOTE.md", b"an unmanaged file", LATER)
    at(world, world.base / "a").rename(at(world, world.base / "a").with_name(f"{C}-new"))


def packed(world):
    """The winner has no base config: a file has to go."""
    top = at(world, world.base / "a")
    put(top / "events.json", as_jp([PACKED, event("other")]), LATER)
    (top / "base_config.json").unlink()


def in_the_silo(world):
    both_units(world, world.silo())


def new_ones(world):
    """Three conversations that are in one worktree only, one of them archived."""
    for number in (3, 4):
        world.write(world.base / "a", C + number, f"new {number}", slug="s", title="s")
    world.write(world.base / "a", ARCHIVED, "archived", archived=True)
    put(world.directory(world.base / "a", C + 3) / "NOTE.md", b"an unmanaged file", LATER)


def registered(world):
    for name in "ab":
        world.write(world.enroll(name), C, "one", "two", slug="t", title="t")
    world.register("a", "b")


def never_seen(world):
    """No silo at all."""
    world.write(world.enroll("a"), C, "one", "two", slug="t", title="t")
    world.write(world.base / "a", ARCHIVED, "archived", archived=True)
    put(at(world, world.base / "a") / "NOTE.md", b"an unmanaged file", LATER)


def two_silos(world):
    """Each has the newer of one unit, and one conversation alone."""
    world.write(world.enroll("a"), C, "one", "two")
    one, two = (world.silo().with_name(f"{n}-{WS}") for n in ("main", "old"))
    for silo, file, raw in (
        (one, "metadata.json", as_jp(META | {"title": "new"})),
        (two, "events.json", as_jp([event("x")])),
    ):
        world.write(silo, C, f"old in {silo.name}")
        put(at(world, silo) / file, raw, LATER)
    world.write(one, C + 3, "only in one")
    world.write(two, C + 4, "only in two")


def unprojected(world):
    assert run(world, UNPROJECT).returncode == 0


SYNC, REGISTER = ["sync"], ["register", "a"]
PROJECT, UNPROJECT = ([verb, str(C), "--worktree", "a"] for verb in ("project", "unproject"))
SCENES = {
    "edit": ([registered, edited], SYNC),
    "packed": ([registered, packed], SYNC),
    "silo": ([registered, in_the_silo], SYNC),
    "import": ([registered, new_ones], SYNC),
    "register": ([never_seen], REGISTER),
    "project": ([registered, unprojected], PROJECT),
    "unproject": ([registered], UNPROJECT),
    "merge": ([two_silos], [*REGISTER, "--slug", "main"]),
}


# -- the command, whole and killed ---------------------------------------------------


def command(world, argv):
    return [sys.executable, "-m", "convsync_cli", *argv]


def environment(world):
    path = os.pathsep.join(p for p in sys.path if p)
    return {"PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **world.env}


def run(world, argv, *strace):
    traced = ["strace", "-f", "-qq", *strace] if strace else []  # with --seccomp-bpf it injects no signal
    return subprocess.run(
        [*traced, *command(world, argv)],
        check=False,
        cwd=world.base,
        env=environment(world),
        capture_output=True,
        text=True,
    )


def steps(world, argv) -> list[tuple[str, int]]:
    """Every changing call below the machine's directory of one whole run: its name, and its number in its thread."""
    with tempfile.NamedTemporaryFile("r") as log:
        ran = run(world, argv, "-y", "-o", log.name, "-e", f"trace={CHANGING}")
        assert ran.returncode == 0, ran
        counts: Counter[tuple[str, str]] = Counter()
        found = {}
        for line in log:
            if not (match := CALL.match(line)):
                continue
            thread, name, rest = match.groups()
            counts[thread, name] += 1
            if str(world.base) in rest and ONLY_WITH.get(name, "") in rest:
                found[name, counts[thread, name]] = None
    return list(found)


def sample(found, count, seed):
    """So many of them, one of each equal stretch."""
    rng = random.Random(seed)
    if len(found) <= count:
        return found
    edges = [len(found) * n // count for n in range(count + 1)]
    return [found[rng.randrange(a, b)] for a, b in itertools.pairwise(edges)]


# -- what holds at every moment, and in the end ---------------------------------------


def silos(world):
    top = world.silo().parent
    return [p for p in top.iterdir() if p.name == WS or p.name.endswith(f"-{WS}")] if top.is_dir() else []


def roots(world):
    return [*silos(world), *(p for p in (world.base / "a/.jp", world.base / "b/.jp") if p.is_dir())]


def contents(tops) -> set[bytes]:
    """Every content of a conversation's file below these directories."""
    found = [p for t in tops for p in (t / "conversations").rglob("*") if p.is_file() and p.name != ".gitignore"]
    return {p.read_bytes() for p in found}


def loads(world, name):
    """What a JP in that worktree reads of the conversation (one silo at most)."""
    found = silos(world)
    nowhere = world.base / "nowhere"
    return jp_loads((at(world, found[0]) if found else None) or nowhere, at(world, world.base / name) or nowhere)


def stream(loaded):
    return loaded["base_config.json"], loaded["events.json"]


class Law:
    """The picture before the command, and what may be said from then on."""

    def __init__(self, world, scene):
        self.world, self.scene = world, scene
        self.names = [n for n in "ab" if (world.base / n).is_dir()]
        self.contents = contents(roots(world))
        self.before = {n: loads(world, n) for n in self.names}

    def whole(self, note, winner):
        """JP loads the old unit or the winner, the worktree of an edit only the winner, and every byte is somewhere."""
        somewhere = {p.read_bytes() for p in self.world.base.rglob("*") if p.is_file()} | self.world.kept()
        assert self.contents <= somewhere, (note, "lost", self.contents - somewhere)
        if self.scene == "merge":
            return  # with two silos JP folds them itself: which one it reads is not ours to say
        for name in self.names:
            now, old = loads(self.world, name), self.before[name]
            allowed = {stream(old), stream(winner)}
            if name == "b" or self.scene == "silo":
                allowed |= self._between(old, winner)
            assert stream(now) in allowed, (note, name, now)
            assert now["metadata.json"] in {old["metadata.json"], winner["metadata.json"]}, (note, name)

    @staticmethod
    def _between(old, new):
        """Where a JP sees only the copy being changed, it sees what its own write shows: one file, then the other."""
        if not new["base_config.json"]:
            return {(old["base_config.json"], new["events.json"])}
        return {(new["base_config.json"], old["events.json"])}

    def healed(self, note, winner):
        """In step with the whole winner, nothing of ours lying about, every content in a root or in the history."""
        world = self.world
        (silo,) = silos(world)
        there = {c for t in roots(world) for c in (C, C + 3, C + 4) if world.directory(t, c)}
        for conversation in there:
            held = [t for t in roots(world) if world.directory(t, conversation)]
            assert in_step(world, conversation, silo, *held), (note, conversation)
        assert winner == {f: read(at(world, silo) / f) for f in FILES}, note
        safe = contents(roots(world)) | world.kept()
        assert self.contents <= safe, (note, "lost", self.contents - safe)
        assert [] == [p for t in roots(world) for p in (t / "conversations").glob(".convsync/*")], note
        assert [] == [p.name for t in roots(world) for p in t.glob("locks/*")], note
        assert [] == list(silo.parent.glob(".convsync-*.new")), note


def read(path):
    return path.read_bytes() if path.exists() else b""


def seed_of_today() -> int:
    """Printed, so that `CONVSYNC_SEED=...` dies at the same calls again."""
    seed = int(os.environ.get("CONVSYNC_SEED", random.randrange(10**6)))
    print(f"seed {seed}")  # noqa: T201
    return seed


def dying(imports: str, calls: Iterable[str], act: str) -> str:
    """A program that does `act` and is killed before step number `sys.argv[2]` of these functions of `os`."""
    return f"""
import os, signal, sys
{imports}
left = int(sys.argv[2])
def wrap(real):
    def step(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    return step
for name in {[*calls]!r}:
    setattr(os, name, wrap(getattr(os, name)))
{act}
"""


def dead_somewhere(world, argv, count, said):
    """Kill a command at a (seeded) sample of its changing calls, all set back before each: a note for each."""
    seed = seed_of_today()
    found = steps(world, argv)
    assert len(found) > 20
    for name, number in sample(found, count, seed):
        world.set_back()
        run(world, argv, *killing(name, number))
        yield f"{said}: killed at {name} {number} (seed {seed})"


def killing(name, number):
    """The arguments for strace that kill on entry of that call."""
    return ["-o", os.devnull, "-e", f"trace={name}", f"--inject={name}:signal=SIGKILL:when={number}"]
