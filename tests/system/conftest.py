"""A linked worktree that goes, comes back and moves; a single one."""

from __future__ import annotations

import pytest

from departures import A, linked_pair, watched_pair


@pytest.fixture
def pair(machine):
    return linked_pair(machine)


@pytest.fixture
def live(pair, agent):
    return watched_pair(pair, agent)


@pytest.fixture
def single(machine):
    """One worktree with a good conversation, in step."""
    machine.worktree("a", register=False)
    machine.write(machine.base / "a", A, "one")
    machine.ok("register", machine.base / "a")
    return machine
