"""Install the service, or upgrade it in place; take it out again. What a person made by hand is never written over."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from typing import Literal

from convsync_agent import __version__, flocks, kernel, locks, plist, publish, unit
from convsync_agent.dirs import ensure_private
from convsync_agent.errors import Refused, StorageProblem, kind_of, reason_of
from convsync_agent.service import Launch, ServiceState
from convsync_agent.supervisor import Supervisor

LOCK = "agent.lock"
RUNNING = frozenset({"active", "activating", "reloading"})
Act = Literal["", "started", "restarted"]


@dataclass(frozen=True, slots=True)
class Installed:
    """What `install` did. `before`: there was a unit. `changed`: it is another one now. `act`: what the agent did."""

    path: str
    before: bool
    changed: bool
    act: Act


@dataclass(frozen=True, slots=True)
class Running:
    """The agent that runs, whoever started it."""

    pid: int | None
    version: str | None


def running(state_dir: str) -> Running | None:
    """The agent that holds the lock, and the version it says it is. None: none runs."""
    lock = os.path.join(state_dir, LOCK)
    if not flocks.agent_running(lock):
        return None
    holder, told = locks.holder_of(lock), publish.read(state_dir)
    pid = holder.pid if holder is not None else None
    agent = told["agent"] if told is not None else {}
    return Running(pid, agent.get("version") if agent.get("pid") == pid else None)


def require_no_other(state_dir: str, state: ServiceState, hint: str) -> None:
    """Raises Refused while an agent runs that the service manager did not start."""
    found = running(state_dir)
    if found is not None and (found.pid is None or found.pid != state.pid) and state.active not in RUNNING:
        stop = f"stop it (kill {found.pid})" if found.pid else "stop it"
        raise Refused(
            "an agent runs that is not the service's",
            where=f"pid {found.pid}" if found.pid else None,
            hint=f"{stop}, then: {hint}",
            code="already-running",
        )


def install(manager: Supervisor, launch: Launch, state_dir: str, *, now: bool) -> Installed:
    """Write the unit and enable it. What runs is restarted only if the unit or the version is another one.

    Raises Refused before anything is changed, StorageProblem where the unit cannot be written.
    """
    state = manager.state()
    path, wanted = manager.path(), manager.render(launch)
    old = _read(path)
    if manager.masked():
        raise Refused(
            "the service is masked", where=path, hint="systemctl --user unmask convsync.service", code="masked"
        )
    if old is not None and old != wanted and not _ours(old):
        raise Refused(
            "there is a unit that convsync did not write",
            where=path,
            hint="move it away, then: convsync service install",
            code="foreign-unit",
        )  # fmt: skip
    if now:
        require_no_other(state_dir, state, "convsync service install --now")
    if launch.log:
        ensure_private(os.path.dirname(launch.log))
    changed = old != wanted
    if changed:
        _write(path, wanted)
    manager.load()
    act = _act(state, changed=changed or _outdated(state, state_dir), now=now)
    if act == "started":
        manager.start()
    elif act == "restarted":
        manager.restart()
    return Installed(path, old is not None, changed, act)


def _act(state: ServiceState, *, changed: bool, now: bool) -> Act:
    if state.active in RUNNING:
        return "restarted" if changed else ""
    return "started" if now else ""


def _outdated(state: ServiceState, state_dir: str) -> bool:
    found = running(state_dir)
    return found is not None and found.pid == state.pid and found.version != __version__


def uninstall(manager: Supervisor) -> str | None:
    """Stop the service and delete its unit. The path it had, None where there was none. Raises as `install`."""
    path = manager.path()
    old = _read(path)
    if old is None:
        return None
    if not _ours(old):
        raise Refused(
            "there is a unit that convsync did not write", where=path, hint="stop and remove it as it was made",
            code="foreign-unit",
        )  # fmt: skip
    manager.unload()
    remove(path)
    manager.forget()
    return path


def remove_if_ours(path: str) -> bool:
    """Delete a unit that no manager knows any more. False: there is none of ours."""
    old = _read(path)
    if old is None or not _ours(old):
        return False
    remove(path)
    return True


def remove(path: str) -> None:
    """Delete a unit; that it is gone already is fine."""
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    except OSError as error:
        raise _unwritable(error, path, "remove the unit") from error


def _ours(raw: bytes) -> bool:
    return raw.startswith(unit.MARK.encode()) or b"<string>" + plist.LABEL.encode() + b"</string>" in raw


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unwritable(error, path, "read the unit") from error


def _write(path: str, content: bytes) -> None:
    """The old one or the new one, never half of it; its variables may be secret, so it is its owner's alone."""
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, exist_ok=True)
        fd, temporary = tempfile.mkstemp(prefix=".convsync-", dir=folder)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                kernel.fsync(file.fileno())
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise _unwritable(error, path, "write the unit") from error


def _unwritable(error: OSError, path: str, doing: str) -> StorageProblem:
    return StorageProblem(
        f"cannot {doing}: {reason_of(error)}",
        where=path,
        hint="check owner and permissions of that place, and its space",
        code=kind_of(error),
    )
