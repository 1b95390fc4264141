"""What other programs say because a person asked: git of the files it would commit, journald of the last lines."""

from __future__ import annotations

import os

from convsync_agent import errand

NOT_IGNORED = 1


def committed(directory: str, below: str) -> list[str] | None:
    """The files below `directory/below` that git tracks, or would add; relative. None: there is no git to ask.

    What is staged and what stands in the file are taken for the same. A name that is no UTF-8 has U+FFFD in it.
    """
    said = _git(directory, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", below)
    return sorted({name for name in said.out.split("\0") if name}) if said.fine else None


def ignored(directory: str, below: str) -> bool | None:
    """Whether git would pass by what is put into `directory/below`. None: there is no git to ask."""
    said = _git(directory, "check-ignore", "-q", "--no-index", "--", below)
    return said.fine if said.code <= NOT_IGNORED else None


def journal(unit: str, lines: int) -> str | None:
    """The last lines of a user unit without the name of the machine. None: there is no journal, or nothing in it."""
    argv = ["journalctl", "--user", "-u", unit, "-n", str(lines), "-o", "short-iso", "--no-hostname", "--no-pager"]
    said = errand.run([*argv, "-q"])
    return said.out if said.fine and said.out else None


def _git(directory: str, *argv: str) -> errand.Answer:
    """git, in `directory` whatever repository a hook may have named, running nothing of the repository's own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {"GIT_OPTIONAL_LOCKS": "0"}
    return errand.run(["git", "-c", "core.fsmonitor=false", "-C", directory, *argv], env=env)
