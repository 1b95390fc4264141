"""What other programs say because a person asked: git of the files it would commit, journald of the last lines."""

from __future__ import annotations

import os
import subprocess

PATIENCE = 20.0
NOT_IGNORED = 1


def committed(directory: str, below: str) -> list[str] | None:
    """The files below `directory/below` that git tracks, or would add; relative. None: there is no git to ask.

    What is staged and what stands in the file are taken for the same.
    """
    said = _git(directory, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", below)
    if said is None or said.returncode:
        return None
    return sorted({os.fsdecode(name) for name in said.stdout.split(b"\0") if name})


def ignored(directory: str, below: str) -> bool | None:
    """Whether git would pass by what is put into `directory/below`. None: there is no git to ask."""
    said = _git(directory, "check-ignore", "-q", "--no-index", "--", below)
    return None if said is None or said.returncode > NOT_IGNORED else not said.returncode


def journal(unit: str, lines: int) -> str | None:
    """The last lines of a user unit, message and time only. None: there is no journal."""
    argv = [
        "journalctl",
        "--user",
        "-u",
        unit,
        "-n",
        str(lines),
        "-o",
        "short-iso",
        "--no-hostname",
        "--no-pager",
        "-q",
    ]
    said = _run(argv, dict(os.environ))
    return None if said is None or said.returncode or not said.stdout else said.stdout.decode("utf-8", "replace")


def _git(directory: str, *argv: str) -> subprocess.CompletedProcess[bytes] | None:
    """git, in `directory` whatever repository a hook may have named, running nothing of the repository's own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {"GIT_OPTIONAL_LOCKS": "0"}
    return _run(["git", "-c", "core.fsmonitor=false", "-C", directory, *argv], env)


def _run(argv: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[bytes] | None:
    try:
        return subprocess.run(
            argv, env=env, capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=PATIENCE
        )
    except (OSError, subprocess.SubprocessError):
        return None
