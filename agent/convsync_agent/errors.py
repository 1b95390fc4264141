"""Everything that ends an operation, as one family.

    ConvsyncError            code, message, where, hint, exit code
    |- UsageProblem     2    bad usage or bad input
    |- NotFound         3    nothing there
    |- Refused          4    possible, but not safe or not allowed
    |- LockHeld         5    somebody else holds the lock
    |- StorageProblem   6    full, read-only, I/O
    `- AgentSilent      7    the agent is not running or does not answer

Trouble with one conversation is never one of these: it is a `Problem` in the result (see `plan`).
Messages name ids and paths of roots only, never text of a conversation (R9).
"""

from __future__ import annotations

import errno

UNWRITTEN = "cannot write: "
"""How the detail of a failed write begins: with an entry like that `status` is degraded."""


class ConvsyncError(Exception):
    """One fault that a person has to hear about.

    `code` is stable and meant for programs; `where` is a path or an id; `hint` is what to type next.
    """

    exit_code = 1
    default_code = "error"

    def __init__(
        self, message: str, *, where: str | None = None, hint: str | None = None, code: str | None = None
    ) -> None:
        self.message = message
        self.where = where
        self.hint = hint
        self.code = code or self.default_code
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.message} ({self.where})" if self.where else self.message


class UsageProblem(ConvsyncError):
    exit_code, default_code = 2, "usage"


class NotFound(ConvsyncError):
    exit_code, default_code = 3, "not-found"


class Refused(ConvsyncError):
    exit_code, default_code = 4, "refused"


class LockHeld(ConvsyncError):
    exit_code, default_code = 5, "locked"


class StorageProblem(ConvsyncError):
    exit_code, default_code = 6, "storage"


class AgentSilent(ConvsyncError):
    exit_code, default_code = 7, "no-agent"


NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
GONE = frozenset({errno.ENOENT, errno.ENOTDIR})


def kind_of(error: OSError) -> str:
    """The attention kind of an OS error: `no-space`, `denied` or `io` (cli.md, status)."""
    if error.errno in NO_SPACE:
        return "no-space"
    if error.errno in DENIED:
        return "denied"
    return "io"


def reason_of(error: OSError) -> str:
    """What the OS said, without the file name it may carry (a directory name is chat text, R9)."""
    return error.strerror or type(error).__name__


def storage_problem(error: OSError, where: str, doing: str) -> StorageProblem:
    """A `StorageProblem` for `error`, with the way out for its kind."""
    kind = kind_of(error)
    hint = {
        "no-space": "free some space, then: convsync sync",
        "denied": "check owner and permissions of that place, then: convsync sync",
        "io": "check the disk or mount, then: convsync sync",
    }[kind]
    return StorageProblem(f"cannot {doing}: {reason_of(error)}", where=where, hint=hint, code=kind)
