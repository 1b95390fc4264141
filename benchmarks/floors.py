"""The least that could do the same work, measured in the same run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.home import Failed

HERE = Path(__file__).parent
ROOT = HERE.parent


class Floor:
    """`floor.c` compiled into `base`, or `floor.py` where there is no compiler; `kind` says which."""

    def __init__(self, base: Path) -> None:
        compiler = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)
        program = base / "floor"
        self.kind = "Python"
        self._command = [sys.executable, "-m", "benchmarks.floor"]
        if compiler:
            made = subprocess.run([compiler, "-O2", "-o", program, HERE / "floor.c"], capture_output=True, check=False)
            if made.returncode == 0:
                self.kind, self._command = "C", [str(program)]

    @property
    def env(self) -> dict[str, str]:
        """What the one in Python needs to be found from anywhere."""
        return {"PYTHONPATH": os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))}

    def mirroring(self, source: str, target: str, keep: str = "") -> list[str]:
        """The command that says `ready`, then copies every change in `source`, with an fsync, to `target`."""
        return [*self._command, "mirror", source, target, *([keep] if keep else [])]

    @contextmanager
    def mirror(self, source: str, target: str, keep: str = "") -> Iterator[None]:
        """Runs while inside."""
        process = subprocess.Popen(self.mirroring(source, target, keep), stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise Failed("the floor did not start")
            yield
        finally:
            process.terminate()
            process.wait()
            process.stdout.close()

    def copy(self, source: str, target: str) -> float:
        """Seconds to copy every file with its own fsync."""
        return timed([*self._command, "copy", source, target])


def timed(command: list[str]) -> float:
    before = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, cwd=ROOT)
    return time.perf_counter() - before


def rsync(source: str, target: str) -> float | None:
    """`rsync -a --fsync`, None where it is not there or too old for that."""
    if not shutil.which("rsync"):
        return None
    told = subprocess.run(["rsync", "--help"], capture_output=True, text=True, check=False)
    return timed(["rsync", "-a", "--fsync", source + "/", target]) if "--fsync" in told.stdout else None


def find(*trees: str) -> float:
    """One walk with a stat of everything."""
    if shutil.which("find"):
        return timed(["find", *trees, "-printf", "%p %T@ %s %i %C@\n"])
    before = time.perf_counter()
    for tree in trees:
        for at, _, files in os.walk(tree):
            for name in files:
                os.stat(f"{at}/{name}")
    return time.perf_counter() - before


def bare_click() -> float:
    return timed([sys.executable, "-c", "import click"])
