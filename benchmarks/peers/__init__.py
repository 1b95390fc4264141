"""Other programs that keep two directories in step, one small adapter each."""

from __future__ import annotations

from benchmarks.peers.inotifywait import Inotifywait
from benchmarks.peers.lsyncd import Lsyncd
from benchmarks.peers.peer import Peer
from benchmarks.peers.rclone import RcloneBisync
from benchmarks.peers.syncthing import Syncthing
from benchmarks.peers.unison import Unison, UnisonWatch
from benchmarks.peers.watchman import Watchman

PEERS: dict[str, type[Peer]] = {
    kind.name: kind for kind in (Watchman, Inotifywait, Lsyncd, Unison, UnisonWatch, Syncthing, RcloneBisync)
}
