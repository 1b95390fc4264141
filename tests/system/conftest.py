"""A linked worktree that goes, comes back and moves."""

from __future__ import annotations

import pytest

from departures import linked_pair, watched_pair


@pytest.fixture
def pair(machine):
    return linked_pair(machine)


@pytest.fixture
def live(pair, agent):
    return watched_pair(pair, agent)
