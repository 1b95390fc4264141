"""A real `systemd --user` to run the service in, and the reason where there can be none (tests/usermanager.sh)."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import uuid
from functools import cache
from pathlib import Path

from agents import until
from machine import Machine

SCRIPT = Path(__file__).with_name("usermanager.sh")
PROGRAMS = ("unshare", "setpriv", "mount", "systemctl", "journalctl", "systemd-analyze", "bash")
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")


@cache
def why_not() -> str:
    """Why no manager can be started here; nothing where it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "a systemd of our own needs Linux and root"
    missing = [p for p in PROGRAMS if shutil.which(p) is None]
    if missing or not any(Path(p).exists() for p in ("/lib/systemd/systemd", "/usr/lib/systemd/systemd")):
        return f"not installed: {', '.join(missing) or 'systemd'}"
    if not Path(sys.executable).with_name("convsync").exists():
        return "convsync is not installed beside this Python"
    group = f"/sys/fs/cgroup/convsync-{uuid.uuid4().hex}.slice"  # a pid says little: the first in a namespace is 1
    tried = f"""set -e
        mount --make-rprivate /
        mount -t tmpfs x /run
        umount -R /sys/fs/cgroup || umount -l -R /sys/fs/cgroup
        mount -t cgroup2 x /sys/fs/cgroup
        mkdir {group}
        rmdir {group}
        setpriv --bounding-set=-all,+setfcap --inh-caps=-all unshare --user --map-root-user true"""
    done = subprocess.run([*NAMESPACES, "sh", "-c", tried], capture_output=True, text=True, check=False)
    return f"no namespaces: {done.stderr.strip()}" if done.returncode else ""


class NotStartedError(Exception):
    """No service manager can be started on this machine. Says why, as far as it said so itself."""


class UserManager:
    """One boot. Commands run in it one after the other, as in a shell of that user.

    The shell has variables that the manager does not have: what counts of them has to be in the unit.
    """

    def __init__(self, base: Path) -> None:
        self.base = base
        self.machine = Machine(base / "m")
        self.home = self.machine.home
        self.err = ""
        self.program = shlex.quote(str(Path(sys.executable).with_name("convsync")))
        self.variables = {k: v for k, v in self.machine.env.items() if k not in ("HOME", "XDG_RUNTIME_DIR")}
        self._count = 0
        self._process = subprocess.Popen(
            [*NAMESPACES, str(SCRIPT), str(self.home), uuid.uuid4().hex],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._answer() != "ready":
            self.end()
            said = self.home / "manager.log"
            raise NotStartedError((said.read_text().strip() if said.exists() else "") or "systemd --user did not start")

    def run(self, command: str, *, codes: tuple[int, ...] = (0,)) -> str:
        """What a command prints; its exit code has to be one of these. `self.err` is what it complained of."""
        self._count += 1
        path = self.base / f"step-{self._count}"
        exports = [f"export {name}={shlex.quote(value)}" for name, value in self.variables.items()]
        path.write_text("\n".join([*exports, command, ""]))
        self._say(str(path))
        code = int(self._answer())
        out, self.err = (Path(f"{path}.{end}").read_text() for end in ("out", "err"))
        assert code in codes, f"{command}: exit code {code}\n{out}{self.err}\n{self.journal()}"
        return out

    def convsync(self, *words: object, codes: tuple[int, ...] = (0,)) -> str:
        return self.run(f"{self.program} {shlex.join(map(str, words))}", codes=codes)

    def json(self, *words: object) -> dict:
        return json.loads(self.convsync(*words, "--json"))

    def show(self, *properties: str) -> dict[str, str]:
        out = self.run(f"systemctl --user show convsync.service --property={','.join(properties)}")
        return dict(line.split("=", 1) for line in out.splitlines())

    def until_shown(self, patience: float = 60.0, **wanted: str) -> None:
        until(lambda: self.show(*wanted) == wanted, str(wanted), patience)

    def journal(self) -> str:
        """What the service said, by the journal. For a message of a test that failed."""
        path = self.base / "journal"
        path.write_text("journalctl -q --no-pager --user-unit=convsync.service -o short-precise | tail -n 40\n")
        self._say(str(path))
        self._answer()
        return Path(f"{path}.out").read_text()

    def pid(self) -> int:
        return int(self.show("MainPID")["MainPID"])

    def entries(self) -> list[dict]:
        """Every line that the agent itself logged."""
        out = self.run("journalctl -q --no-pager -o json _SYSTEMD_USER_UNIT=convsync.service")
        return [json.loads(line) for line in out.splitlines()]

    def manager_entries(self) -> list[dict]:
        """Every line that the manager logged about it."""
        out = self.run("journalctl -q --no-pager -o json USER_UNIT=convsync.service")
        return [json.loads(line) for line in out.splitlines()]

    def restart(self) -> None:
        """The manager ends, with all that it runs, and another one begins."""
        self._say("!restart")
        assert self._answer() == "0"

    def end(self) -> None:
        try:
            self._process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()
