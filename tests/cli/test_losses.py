"""What was lost stays said until a person has dealt with it."""

from __future__ import annotations

from contextlib import closing

import pytest

from agents import status
from convsync_agent import state
from convsync_agent.graves import Graves
from convsync_agent.state import Attention
from convsync_cli.reports import HINTS
from machine import WS
from trashed import (
    OTHER,
    STAYS,
    data_dir,
    kept_in_two,
    rm,
)


@pytest.fixture
def two(machine):
    return kept_in_two(machine)


@pytest.mark.parametrize("kind", ["removed", "lost", "conflict"])
def test_a_hint_is_one_line(kind):
    """What to type fits a terminal of 80 columns, and names the commands."""
    text = HINTS[kind].format(id="jp-c17457886043", root="/home/me/code/project")
    words = {
        "removed": ["convsync trash restore jp-c17457886043"],
        "lost": ["convsync verify", "convsync accept jp-c17457886043"],
        "conflict": ["convsync diff jp-c17457886043", "accept", "undo jp-c17457886043"],
    }

    assert len(f"  hint: {text}") <= 80
    assert [w for w in words[kind] if w not in text] == []


def open_loss(machine, conversation, *, lasting, root=None):
    with closing(state.writer(str(machine.base / "state/convsync"))) as opened, opened.transaction():
        entry = Attention("lost", WS, conversation, str(root or machine.silo()), 1, "was gone", lasting=lasting)
        opened.put_attention(entry)


def test_accept_closes_a_loss(two):
    """Nothing is written to any root; the entry is gone and the verdict good again."""
    rm(two, OTHER)
    rm(two, STAYS)  # its projection remains: nobody removed it
    two.ok("sync")
    assert [e["conversation"] for e in status(two)["attention"] if e["kind"] == "lost"] == [f"jp-c{STAYS}"]
    before = two.inventory(two.silo(), two.base / "a")

    done = two.ok("accept", str(STAYS), "--json").json

    assert done["closed"] == 1
    assert done["current"]["events"] == 1
    assert two.inventory(two.silo(), two.base / "a") == before
    assert [e for e in status(two)["attention"] if e["kind"] == "lost"] == []
    assert two.run("accept", str(STAYS)).code == 3


def test_accept_of_what_nothing_is_left_of(two):
    """It is found by its entry alone, buried, and not told again."""
    rm(two, OTHER)
    open_loss(two, OTHER, lasting=False)

    ran = two.ok("accept", str(OTHER))

    assert "is gone; the loss is closed" in ran.out
    assert Graves(data_dir(two)).find(WS, OTHER).why == "accepted"
    two.ok("sync")
    assert [e for e in status(two)["attention"] if e["kind"] == "lost"] == []


def test_accept_closes_both(two):
    """A conflict and a loss of one conversation are ended by one command."""
    open_loss(two, STAYS, lasting=True)
    with closing(state.writer(str(two.base / "state/convsync"))) as opened, opened.transaction():
        opened.put_attention(Attention("conflict", WS, STAYS, str(two.base / "a/.jp"), 1, "both", lasting=True))

    ran = two.ok("accept", str(STAYS))

    assert "the conflict and the loss are closed" in ran.out
    assert status(two)["attention"] == []
