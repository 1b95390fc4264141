"""Settings from the text of a file, an environment and flags."""

import pytest

from convsync_agent import config


@pytest.fixture(name="home")
def _home(tmp_path):
    """An environment of its own, with an empty home."""
    return {"HOME": str(tmp_path)}


@pytest.fixture(name="load")
def _load(tmp_path, home):
    """Loads settings from the text of a file, an environment and flags."""

    def load(text=None, env=None, sets=()):
        path = None
        if text is not None:
            path = str(tmp_path / "c.toml")
            (tmp_path / "c.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return config.load(path, {**home, **(env or {})}, sets)

    return load
