"""The ground of the cases is in memory, where there is room."""

from __future__ import annotations

import pytest

import memory


@pytest.fixture
def tmp_path():
    """In memory, where there is room."""
    with memory.directory() as path:
        yield path
