"""The script that people write: on any event gather for 50 ms, then rsync both ways."""

from __future__ import annotations

import os

from benchmarks import proc
from benchmarks.peers.peer import Peer

SCRIPT = """
a=$1 b=$2 state=$3
both() { rsync -au --exclude='*.tmp' "$a/" "$b/"; rsync -au --exclude='*.tmp' "$b/" "$a/"; }
told() { while read -r line; do [[ $line == *established* ]] && : >"$state/armed"; done; }
inotifywait -m -r -e close_write,moved_to,create,delete --format %f "$a" "$b" 2> >(told) | {
  until [ -e "$state/armed" ]; do sleep 0.02; done
  both
  : >"$state/ready"
  while read -r name; do
    # what rsync writes itself, and JP's half-written files, would start another round for nothing
    [[ $name == *.tmp || $name == .*.json.* ]] && continue
    while read -r -t 0.05 name; do :; done
    both
  done
}
"""


class Inotifywait(Peer):
    """Both trees are listed for each change: the cost grows with their size."""

    name, label = "inotifywait", "inotifywait + rsync"
    needs = ("inotifywait", "rsync", "bash")

    @classmethod
    def version(cls) -> str:
        return proc.first_line("inotifywait", "--help")

    def commands(self) -> list[list[str]]:
        return [["bash", "-c", SCRIPT, "sync", self.a, self.b, self.state]]

    def ready(self) -> bool:
        return os.path.exists(f"{self.state}/ready")
