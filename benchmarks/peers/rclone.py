"""`rclone bisync`, again and again, one second apart; with --resync the first time and after a failure."""

from __future__ import annotations

import os

from benchmarks import proc
from benchmarks.peers.peer import Peer

SCRIPT = """
state=$1; shift
until "$@" --resync; do sleep 1; done
: >"$state/ready"
while :; do sleep 1; "$@" || "$@" --resync; done
"""


class RcloneBisync(Peer):
    """Both sides are listed in each round."""

    name, label = "rclone", "rclone bisync, each second"
    needs = ("rclone", "bash")

    @classmethod
    def version(cls) -> str:
        return proc.first_line("rclone", "version")

    def prepare(self) -> None:
        with open(f"{self.state}/rclone.conf", "w", encoding="utf-8"):
            pass

    def commands(self) -> list[list[str]]:
        sync = ["rclone", "bisync", self.a, self.b, "--workdir", f"{self.state}/bisync"]
        sync += ["--config", f"{self.state}/rclone.conf", "--exclude", "*.tmp", "--checkers", "16", "--transfers", "8"]
        return [["bash", "-c", SCRIPT, "sync", self.state, *sync]]

    def ready(self) -> bool:
        return os.path.exists(f"{self.state}/ready")
