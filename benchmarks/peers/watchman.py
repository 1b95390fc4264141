"""watchman names the files that changed, rsync copies those; one trigger each way."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time

from benchmarks import proc
from benchmarks.home import Failed
from benchmarks.peers.peer import Peer

QUIET = 0.3
FILES = ["allof", ["type", "f"], ["suffix", "json"], ["not", ["match", ".*", "basename", {"includedotfiles": True}]]]


class Watchman(Peer):
    """Its settings are the defaults (20 ms until it believes that a burst is over)."""

    name, label = "watchman", "watchman + rsync"
    needs = ("watchman", "rsync")

    def commands(self) -> list[list[str]]:
        places = {"sockname": "sock", "statefile": "state", "logfile": "watchman.log", "pidfile": "pid"}
        return [["watchman", "--foreground", *(f"--{k}={self.state}/{v}" for k, v in places.items())]]

    def start(self) -> None:
        super().start()
        self._quiet_since = 0.0
        until = time.perf_counter() + 30
        while not os.path.exists(f"{self.state}/sock"):
            if time.perf_counter() > until:
                raise Failed("no socket")
            time.sleep(0.02)
        for one, other in ((self.a, self.b), (self.b, self.a)):
            self._ask("watch", one)
            self._ask(
                "trigger",
                one,
                {
                    "name": "sync", "expression": FILES, "stdin": "NAME_PER_LINE", "append_files": False,
                    "command": ["rsync", "-au", "--files-from=-", f"{one}/", f"{other}/"],
                },
            )  # fmt: skip

    def _ask(self, *command: object) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(120)
            sock.connect(f"{self.state}/sock")
            sock.sendall(json.dumps(command).encode() + b"\n")
            answer = sock.makefile().readline()
        if "error" in json.loads(answer or "{}"):
            raise Failed(f"watchman refused {command[0]}")

    def ready(self) -> bool:
        """A new trigger runs once for every file there is: over when no rsync has run for a moment."""
        now = time.perf_counter()
        if not self._quiet_since or any(proc.name_of(p) == "rsync" for p in proc.family(self.pids())):
            self._quiet_since = now
        return now - self._quiet_since > QUIET

    def stop(self) -> None:
        with contextlib.suppress(OSError, ValueError, Failed):
            self._ask("shutdown-server")
        super().stop()
