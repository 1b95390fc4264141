"""launchd's agents of one user, asked and told with launchctl. No watchdog and no notice of readiness there."""

from __future__ import annotations

import os
import re
import shutil

from convsync_agent import errand, plist
from convsync_agent.errors import AgentSilent, ConvsyncError
from convsync_agent.service import Launch, Manager, ServiceState


class Launchd:
    """`launchctl`, about our one agent."""

    name: Manager = "launchd"

    def reachable(self) -> bool:
        return shutil.which("launchctl") is not None and errand.run(["launchctl", "print", _domain()]).fine

    def render(self, launch: Launch) -> bytes:
        return plist.render(launch)

    def state(self) -> ServiceState:
        answer = errand.run(["launchctl", "print", _target()])
        pid = re.search(r"^\s*pid = (\d+)$", answer.out, re.MULTILINE) if answer.fine else None
        word = re.search(r"^\s*state = (.+)$", answer.out, re.MULTILINE) if answer.fine else None
        installed = os.path.lexists(self.path())
        return ServiceState(
            manager=self.name,
            installed=installed,
            enabled=installed and not self._disabled(),
            active="active" if word and word[1] == "running" else "inactive",
            path=self.path(),
            linger=None,
            pid=int(pid[1]) if pid else None,
        )

    def path(self) -> str:
        return default_path()

    def masked(self) -> bool:
        return False

    def load(self) -> None:
        """The property list was written: it is taken up at the next login, or by `start`."""
        errand.run(["launchctl", "enable", _target()])

    def _bootstrap(self) -> None:
        """Take the property list up. It runs from now on (RunAtLoad)."""
        errand.run(["launchctl", "enable", _target()])
        answer = errand.run(["launchctl", "bootstrap", _domain(), self.path()], patience=60.0)
        if not answer.fine:
            raise ConvsyncError(
                f"launchd refused: {answer.complaint}", where=self.path(), hint=f"launchctl print {_domain()}",
                code="service",
            )  # fmt: skip

    def unload(self) -> None:
        errand.run(["launchctl", "bootout", _target()], patience=60.0)

    def forget(self) -> None:
        """Nothing stays behind a `bootout`."""

    def start(self) -> None:
        if errand.run(["launchctl", "print", _target()]).fine:
            self._act("start", "kickstart", _target())
        else:  # it was stopped, which takes it out
            self._bootstrap()

    def stop(self) -> None:
        """Take it out until the next login or `start`: what is only killed would be started again."""
        self._act("stop", "bootout", _target())

    def restart(self) -> None:
        """Out and in again, for the property list may be another one now."""
        errand.run(["launchctl", "bootout", _target()], patience=60.0)
        self._bootstrap()

    def log_command(self, lines: int, *, follow: bool) -> list[str]:
        return ["tail", "-n", str(lines), *(["-F"] if follow else []), self.log_place()]

    def log_place(self, launch: Launch | None = None) -> str:
        return launch.log if launch is not None else plist.log_in(_read(self.path())) or default_log()

    def _disabled(self) -> bool:
        answer = errand.run(["launchctl", "print-disabled", _domain()])
        return answer.fine and re.search(rf'"{re.escape(plist.LABEL)}" => (disabled|true)', answer.out) is not None

    def _act(self, verb: str, *words: str) -> None:
        answer = errand.run(["launchctl", *words], patience=60.0)
        if not answer.fine:
            raise AgentSilent(
                f"launchd could not {verb} the service", where=plist.LABEL, hint="convsync service logs", code="service"
            )


def default_path() -> str:
    return os.path.expanduser(f"~/Library/LaunchAgents/{plist.LABEL}.plist")


def default_log() -> str:
    return os.path.expanduser("~/Library/Logs/convsync/agent.log")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _domain() -> str:
    return f"gui/{os.getuid()}"


def _target() -> str:
    return f"{_domain()}/{plist.LABEL}"
