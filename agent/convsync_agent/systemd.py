"""The user manager of systemd, asked and told with systemctl and loginctl.

Whether there is one is found out by asking it: a container may have systemctl and no manager, and a shell of `su`
or cron may have a manager that it cannot reach.
"""

from __future__ import annotations

import os
import shutil

from convsync_agent import errand, unit
from convsync_agent.errors import AgentSilent, ConvsyncError
from convsync_agent.service import Launch, Manager, ServiceState

UNIT = "convsync.service"
_ASKED = ("LoadState", "UnitFileState", "ActiveState", "FragmentPath", "MainPID", "StatusText", "NeedDaemonReload")


class Systemd:
    """`systemctl --user`, about our one unit."""

    name: Manager = "systemd"

    def reachable(self) -> bool:
        return shutil.which("systemctl") is not None and _ask("show", "--property=Version").fine

    def render(self, launch: Launch) -> bytes:
        return unit.render(launch).encode()

    def state(self) -> ServiceState:
        said = self._show()
        path = said.get("FragmentPath") or self.path()
        word = said.get("UnitFileState", "")
        pid = said.get("MainPID", "0")
        return ServiceState(
            manager=self.name,
            installed=said.get("LoadState") in ("loaded", "bad-setting", "error") or os.path.lexists(path),
            enabled=word in ("enabled", "enabled-runtime", "linked", "linked-runtime") if word else None,
            active=said.get("ActiveState", "unknown"),
            path=path,
            linger=linger(),
            pid=int(pid) if pid.isdigit() and pid != "0" else None,
            status=said.get("StatusText", ""),
        )

    def path(self) -> str:
        """Where the manager looks for what a person installs; it may have another idea of that than this shell."""
        answer = _ask("show", "--property=UnitPath", "--value")
        places = [p for p in answer.out.split() if p.endswith("/systemd/user")]
        return os.path.join(places[0], UNIT) if answer.fine and places else default_path()

    def masked(self) -> bool:
        return self._show().get("LoadState") == "masked"

    def load(self) -> None:
        """The unit was written: read it, start it at every login from now on."""
        _tell("daemon-reload")
        _tell("--quiet", "enable", UNIT)

    def unload(self) -> None:
        """Stop it, and never start it again; the unit can be deleted then."""
        _ask("--quiet", "disable", "--now", UNIT, patience=None)

    def forget(self) -> None:
        """The unit was deleted: nothing of it stays in the manager's memory."""
        _ask("daemon-reload")
        _ask("reset-failed", UNIT)

    def start(self) -> None:
        """Returns when the agent says that it is ready."""
        _ask("reset-failed", UNIT)  # a person asks, so the limit of starts begins anew
        self._act("start")

    def stop(self) -> None:
        self._act("stop")

    def restart(self) -> None:
        _ask("reset-failed", UNIT)
        self._act("restart")

    def log_command(self, lines: int, *, follow: bool) -> list[str]:
        """By the unit and not by `--user`: where journald has no files for users, it is in the system's."""
        command = ["journalctl", "--quiet", "--no-pager", f"--user-unit={UNIT}", f"--lines={lines}"]
        return [*command, "--follow"] if follow else command

    def log_place(self, _launch: Launch | None = None) -> str:
        return f"journalctl --user-unit={UNIT}"

    def _act(self, verb: str) -> None:
        answer = _ask(verb, UNIT, patience=None)
        if not answer.fine:
            raise AgentSilent(
                f"systemd could not {verb} the service", where=UNIT, hint="convsync service logs", code="service"
            )

    def _show(self) -> dict[str, str]:
        answer = _ask("show", UNIT, f"--property={','.join(_ASKED)}")
        return dict(line.split("=", 1) for line in answer.out.splitlines() if "=" in line) if answer.fine else {}


def default_path() -> str:
    """Where a user's units are when no manager can be asked."""
    config = os.environ.get("XDG_CONFIG_HOME", "")
    base = config if os.path.isabs(config) else os.path.expanduser("~/.config")
    return os.path.join(base, "systemd", "user", UNIT)


def linger() -> bool | None:
    """Whether the user's services run without a login. None: there is nobody to ask."""
    if shutil.which("loginctl") is None:
        return None
    answer = errand.run(["loginctl", "show-user", str(os.getuid()), "--property=Linger", "--value"])
    return {"yes": True, "no": False}.get(answer.out.strip()) if answer.fine else None


def enable_linger() -> str:
    """Ask for it. What went wrong, or nothing."""
    answer = errand.run(["loginctl", "--no-ask-password", "enable-linger"], patience=30.0)
    return "" if answer.fine else answer.complaint


def _ask(*words: str, patience: float | None = errand.PATIENCE) -> errand.Answer:
    return errand.run(["systemctl", "--user", *words], patience=patience)


def _tell(*words: str) -> None:
    answer = _ask(*words, patience=60.0)
    if not answer.fine:
        raise ConvsyncError(
            f"systemd refused: {answer.complaint}", where=UNIT, hint="systemctl --user status", code="service"
        )
