"""Pauses after trouble: they grow, and end with it."""

from __future__ import annotations

import time

from convsync_agent.agenda import FOREVER, Agenda
from convsync_agent.errors import NO_SPACE
from convsync_agent.model import Kind, Root
from convsync_agent.outcome import Outcome
from convsync_agent.plan import Lift, Problem
from convsync_agent.results import failed_with

A = 17_000_000_001


def failing(conversation):
    """What a cycle says that could not write one conversation."""
    action = Lift(conversation, Root(Kind.SILO, "/silo"))
    outcome = Outcome(looked={conversation}, results=[failed_with(action, OSError(min(NO_SPACE), "full"))])
    outcome.later(conversation, 2_000_000_000)
    return outcome


def test_pauses_grow_and_end_with_the_trouble():
    """2, 4, 8, 16, then 30 s at most between two tries of one conversation; a success begins anew."""
    agenda = Agenda()

    def pauses(number):
        for _ in range(number):
            agenda.settle("w", failing(A))
            yield round(agenda.wait())
            agenda._due.clear()

    assert [2, 4, 8, 16, 30, 30] == list(pauses(6))
    agenda.settle("w", Outcome(looked={A}))
    assert [2, 4] == list(pauses(2))


def test_a_root_that_cannot_be_read_is_asked_again_after_pauses_that_grow(monkeypatch):
    """What was asked of it is not known, so everything is looked at again; in the end only at the net's interval."""
    agenda, now = Agenda(), time.monotonic()
    blind = Outcome(problems=[Problem("io", None, Root(Kind.WORKTREE, "/w/.jp"), "cannot be listed")])
    found = []
    for _ in range(7):
        agenda.settle("w", blind)
        found.append(round(agenda.wait()))
        now += agenda.wait() + 1
        monkeypatch.setattr(time, "monotonic", lambda at=now: at)
        assert agenda.take_rescan() == ("trouble" if found[-1] < FOREVER else "")
    assert [2, 4, 8, 16, 30, FOREVER, FOREVER] == found
    agenda.settle("w", Outcome())
    agenda.settle("w", blind)
    assert 2 == round(agenda.wait())
