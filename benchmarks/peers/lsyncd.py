"""lsyncd in its mode for local targets: one way, no fsync, no decision."""

from __future__ import annotations

import re

from benchmarks.peers.peer import Peer

SETTINGS = """
settings {{ nodaemon = true, insist = true, inotifyMode = "CloseWrite", maxDelays = 1000 }}
sync {{ default.direct, source = "{a}", target = "{b}", delay = 0, maxProcesses = 1, exclude = {{ "*.tmp" }} }}
"""


class Lsyncd(Peer):
    """`delay = 0`: at once."""

    name, label, two_way = "lsyncd", "lsyncd, one way", False
    needs = ("lsyncd", "rsync")

    def prepare(self) -> None:
        with open(f"{self.state}/lsyncd.lua", "w", encoding="utf-8") as file:
            file.write(SETTINGS.format(a=self.a, b=self.b))

    def commands(self) -> list[list[str]]:
        return [["lsyncd", "-log", "Normal", f"{self.state}/lsyncd.lua"]]

    def ready(self) -> bool:
        return re.search(r"Startup of .* finished", self.said()) is not None
