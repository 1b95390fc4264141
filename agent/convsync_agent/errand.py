"""A short command of the system, run for its answer: no terminal, no shell, an end to patience."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

PATIENCE = 10.0
NOT_RUN = 127


class Answer(NamedTuple):
    """Exit code, stdout and stderr. 127: it could not be run, or did not answer in time."""

    code: int
    out: str
    err: str

    @property
    def fine(self) -> bool:
        return self.code == 0

    @property
    def complaint(self) -> str:
        """The last line it said, for a message."""
        said = (self.err.strip() or self.out.strip()).splitlines()
        return said[-1].strip() if said else f"exit code {self.code}"


def run(argv: Sequence[str], *, patience: float | None = PATIENCE, env: Mapping[str, str] | None = None) -> Answer:
    """What the command answered. `patience` None waits as long as it takes."""
    import subprocess  # noqa: PLC0415  # dear, and most who ask for a path run nothing

    try:
        done = subprocess.run(
            list(argv), stdin=subprocess.DEVNULL, capture_output=True, timeout=patience, env=env, check=False
        )
    except subprocess.TimeoutExpired:
        return Answer(NOT_RUN, "", f"{argv[0]} did not answer within {patience:g} s")
    except (OSError, ValueError) as error:
        return Answer(NOT_RUN, "", f"{argv[0]} cannot be run ({type(error).__name__})")
    return Answer(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
