"""Unison: looking once a second, or told by its file watcher where there is one."""

from __future__ import annotations

import os
import re

from benchmarks import proc
from benchmarks.peers.peer import Peer


class Unison(Peer):
    """As Debian packages it: without a file watcher."""

    name, label = "unison", "Unison -repeat 1"
    needs: tuple[str, ...] = ("unison",)
    repeat = "1"

    @classmethod
    def version(cls) -> str:
        return proc.first_line("unison", "-version")

    def prepare(self) -> None:
        os.mkdir(f"{self.state}/unison")

    def env(self) -> dict[str, str]:
        return {"UNISON": f"{self.state}/unison"}

    def commands(self) -> list[list[str]]:
        how = ["-batch", "-auto", "-ui", "text", "-dumbtty", "-times", "-prefer", "newer", "-ignore", "Name *.tmp"]
        return [["unison", self.a, self.b, *how, "-repeat", self.repeat, "-logfile", f"{self.state}/unison.log"]]

    def ready(self) -> bool:
        return re.search("Nothing to do|Synchronization complete", self.said()) is not None


class UnisonWatch(Unison):
    """Needs the helper `unison-fsmonitor`, which Debian does not ship."""

    name, label = "unison-watch", "Unison -repeat watch"
    needs = ("unison", "unison-fsmonitor")
    repeat = "watch"
