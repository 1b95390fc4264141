"""A lock file, what it says, and another process that holds it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys

C = 17457886043
NAME = f"jp-c{C}.lock"

HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX)
if len(sys.argv) > 2:
    file.truncate(0); file.write(sys.argv[2]); file.flush()
print("held", flush=True)
time.sleep(600)  # until it is killed
"""


@contextlib.contextmanager
def held(path, content=None):
    """Another process holds it; killed at the end, as by `kill -9`."""
    argv = [sys.executable, "-c", HOLDER, str(path), *([content] if content is not None else [])]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


def said(path):
    """The content of a lock file."""
    return json.loads(path.read_text())
