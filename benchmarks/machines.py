"""Conversations of real sizes, where the program that lays them out is beside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "shared" / "data" / "make_workspace.py"
SEED = "7"


def lay_out(scratch: str, count: int, scale: float) -> str | None:
    """A directory with `count` conversations below `scratch`; None where there is no such program, or it fails.

    `scale`: keep about this part of each stream. The same seed, so the same bytes in each run.
    """
    if not PROGRAM.is_file():
        return None
    command = [sys.executable, PROGRAM, "--out", scratch, "--conversations", str(count), "--seed", SEED]
    command += ["--projected", "0", "--local", "0", "--external", "1", "--archived", "0", "--ws-mtime", "same"]
    command += ["--size-scale", str(scale), "--slug", "real"]
    ran = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    made = f"{scratch}/real/.jp/conversations"
    return made if ran.returncode == 0 and len(os.listdir(made)) == count else None
