"""The other process of a burst: rewrites many streams as JP does, temp + rename, no fsync.

`python -m benchmarks.writer STAGED TREE`: STAGED/<directory> holds the next events.json of TREE/<directory>. All of
it is read first; the first line on stdin starts the writing, its end is answered with one line.
"""

from __future__ import annotations

import os
import sys


def main(staged: str, tree: str) -> None:
    new = {}
    for name in sorted(os.listdir(staged)):
        with open(f"{staged}/{name}", "rb") as file:
            new[f"{tree}/{name}/events.json"] = file.read()
    print("ready", flush=True)
    sys.stdin.readline()
    for path, raw in new.items():
        with open(path + ".tmp", "wb", buffering=0) as file:
            file.write(raw)
        os.rename(path + ".tmp", path)
    print("written", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
