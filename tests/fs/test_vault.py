"""What has no kept copy is found out in a calm moment, by one look at each, and then kept."""

from __future__ import annotations

import errno
import os

import pytest

from agents import until
from convsync_agent import kernel, vault
from faults import World

FIRST = 17_000_000_001
SOME = range(FIRST, FIRST + vault.TOGETHER)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Some conversations came in by a `register`, which leaves their kept copies to the agent."""
    made = World(tmp_path, monkeypatch)
    top = made.enroll("a")
    for conversation in SOME:
        made.write(top, conversation, f"text of {conversation}")
    made.register("a")
    return made


def test_a_start_does_not_wait_for_the_look(world, monkeypatch):
    """Nothing is looked at before the moment is over; then everything that has none is kept, and nothing twice."""
    with world.engine() as engine:
        (site,) = engine.sites.values()
        engine.rescan(site)
        shelter, looked = engine.vault.shelter, []
        conversations = shelter.conversations
        monkeypatch.setattr(shelter, "conversations", lambda w: looked.append(w) or conversations(w))
        assert shelter.conversations(site.id) == set()
        looked.clear()
        engine.vault.note_all(site)
        engine.vault.step(engine, engine.sites)
        assert looked == []
        assert 0 < engine.vault.wait() <= vault.QUIET_SECONDS

        monkeypatch.setattr(vault, "QUIET_SECONDS", 0.0)  # that moment is over
        engine.vault.note_all(site)
        until(lambda: engine.vault.step(engine, engine.sites) or engine.vault.wait() == float("inf"), "all of them")
        assert looked == [site.id]
        assert conversations(site.id) == set(SOME)


def test_without_kept_copies_nothing_is_looked_at(world):
    """`trash.keep_days = 0` turns all of it off."""
    with world.engine() as engine:
        (site,) = engine.sites.values()
        engine.vault.shelter.keep_days = 0
        engine.vault.note_all(site)
        assert engine.vault.wait() == float("inf")


def test_a_command_does_not_wait_for_calm(world):
    """Who makes all of them at once makes those, too, that nobody has looked for yet."""
    with world.engine() as engine:
        (site,) = engine.sites.values()
        engine.rescan(site)
        engine.vault.note_all(site)
        assert engine.vault.step_all(engine, engine.sites) == len(SOME)
        assert engine.vault.shelter.conversations(site.id) == set(SOME)
        assert engine.vault.wait() == float("inf")


@pytest.mark.skipif(not kernel.has_syncfs(), reason="here each file is waited for by itself")
def test_many_that_did_not_get_to_the_disk_are_due_again(world, monkeypatch):
    """A disk that fails in the one wait for all of them: nothing is forgotten, and the next moment is not never."""

    def fails(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with world.engine() as engine:
        (site,) = engine.sites.values()
        engine.rescan(site)
        engine.vault.note_all(site)
        with monkeypatch.context() as patched:
            patched.setattr(kernel, "sync_file_system", fails)
            assert engine.vault.step_all(engine, engine.sites) == 0
        assert engine.vault.failed
        assert engine.vault.wait() < float("inf")
