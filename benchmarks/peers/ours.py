"""convsync and the floor, driven and watched as the others are."""

from __future__ import annotations

from benchmarks import proc
from benchmarks.floors import Floor
from benchmarks.home import Agent, Home
from benchmarks.peers.peer import Peer


class Ours(Peer):
    """`a` is a registered worktree, `b` its silo."""

    name, label = "convsync", "convsync agent"

    def __init__(self, home: Home) -> None:
        super().__init__(home.conversations("a"), f"{home.silo}/conversations", "")
        self._home = home
        self._agent: Agent | None = None

    def commands(self) -> list[list[str]]:
        return []  # `Agent` starts it: it knows its home

    def start(self) -> None:
        self._agent = Agent(self._home)

    def ready(self) -> bool:
        assert self._agent is not None
        self._agent.wait_started()
        self._agent.wait_calm()
        return True

    def use(self) -> proc.Use:
        assert self._agent is not None
        return self._agent.use()

    def stop(self) -> None:
        if self._agent:
            self._agent.stop()


class Least(Peer):
    """The floor: inotify, copy, fsync, rename; one way, nothing decided and nothing kept."""

    name, label, two_way = "floor", "floor", False

    def __init__(self, floor: Floor, a: str, b: str, state: str) -> None:
        super().__init__(a, b, state)
        self.label = f"floor in {floor.kind}, with fsync"
        self._floor = floor

    def commands(self) -> list[list[str]]:
        return [self._floor.mirroring(self.a, self.b)]

    def env(self) -> dict[str, str]:
        return self._floor.env

    def ready(self) -> bool:
        return "ready" in self.said()
