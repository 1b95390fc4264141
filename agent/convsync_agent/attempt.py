"""Try something for some actions: whatever goes wrong becomes a result of each, so that nothing else stops."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any

from convsync_agent import kernel
from convsync_agent.fs import ChangedError, OddFileError
from convsync_agent.locks import BusyError
from convsync_agent.plan import Action
from convsync_agent.results import Postponed, Result, failed_with


def attempt(actions: Sequence[Action], work: Callable[..., list[Result]], *facts: Any) -> list[Result]:
    """What `work` returns, or, whatever it raises, one result for each of the actions it stood for."""
    try:
        return work(*facts)
    except BusyError:
        return [Postponed(a, "locked") for a in actions]
    except (ChangedError, OddFileError, FileNotFoundError, FileExistsError, NotADirectoryError):
        return [Postponed(a, "unstable") for a in actions]
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EBUSY, errno.ESTALE):
            return [Postponed(a, "unstable") for a in actions]
        return [failed_with(a, error) for a in actions]


def barrier(fd: int, actions: Sequence[Action], *, directory: bool = False) -> list[Result]:
    """Make everything durable at once. A failed barrier fails every action it stood for."""
    try:
        if directory:
            kernel.fsync(fd)
        else:
            kernel.sync_file_system(fd)
    except OSError as error:
        return [failed_with(a, error) for a in actions]
    return []
