"""`floor.c` in Python, for a machine without a C compiler: `python -m benchmarks.floor mirror|copy ...`."""

from __future__ import annotations

import itertools
import os
import sys

from benchmarks.inotify import CLOSE_WRITE, MOVED_TO, Inotify

_kept = itertools.count()


def copy(source: str, target: str) -> None:
    """Copy one file and fsync it."""
    with open(source, "rb") as one, open(target, "wb") as two:
        two.write(one.read())
        two.flush()
        os.fsync(two.fileno())


def replace(source: str, directory: str, file: str, keep: str = "") -> None:
    to, temp = f"{directory}/{file}", f"{directory}/.{file}.new"
    if keep:
        copy(to, f"{keep}/{next(_kept)}")
    copy(source, temp)
    os.rename(temp, to)


def copy_tree(source: str, target: str, depth: int = 1) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                replace(entry.path, target, entry.name)
            elif depth:
                os.makedirs(f"{target}/{entry.name}", exist_ok=True)
                copy_tree(entry.path, f"{target}/{entry.name}", depth - 1)


def mirror(source: str, target: str, keep: str = "") -> None:
    inotify = Inotify()
    names = {
        inotify.add(f"{source}/{n}", CLOSE_WRITE | MOVED_TO): n for n in os.listdir(source) if not n.startswith(".")
    }
    print("ready", flush=True)
    while True:
        for event in inotify.wait(None):
            if event.name.endswith(".json"):
                room = names[event.watch]
                replace(f"{source}/{room}/{event.name}", f"{target}/{room}", event.name, keep)


if __name__ == "__main__":
    {"mirror": mirror, "copy": copy_tree}[sys.argv[1]](*sys.argv[2:])
