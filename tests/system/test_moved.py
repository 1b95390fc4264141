"""Worktrees that move: a real agent, real git. The registration goes along."""

from __future__ import annotations

import shutil

from agents import in_step, status, until
from convsync_cli.context import Context
from departures import (
    A,
    B,
    C,
    all_held,
    described,
    is_back,
    is_gone,
    picture,
    state_of,
)
from machine import as_jp, event, put
from repository import git


def test_git_worktree_move_is_followed(live):
    """The registration goes along, with its records: nothing is imported or written anew."""
    before = [picture(live, live.silo(), n) for n in (A, B, C)]
    git(live.main, "worktree", "move", str(live.tree), str(live.base / "moved"))
    until(lambda: state_of(live, live.base / "moved") == "watching", "followed")
    assert described(live, live.tree) is None
    assert [picture(live, live.silo(), n) for n in (A, B, C)] == before
    until(lambda: status(live)["verdict"] == "in-sync", "in sync")
    put(live.directory(live.base / "moved", A) / "events.json", as_jp([event("after the move")]))
    until(lambda: in_step(live, A, live.base / "moved", live.main, live.silo()), "watched at its new path")


def test_a_plain_mv_is_followed_once_git_knows(live):
    """Until then the old path is missing and stays watched; moved back, it is there again."""
    live.tree.rename(live.base / "moved")
    is_gone(live)
    (live.base / "moved").rename(live.tree)
    is_back(live)
    assert all_held(live)
    live.tree.rename(live.base / "moved")
    is_gone(live)
    git(live.base / "moved", "worktree", "repair")
    until(lambda: state_of(live, live.base / "moved") == "watching", "followed")
    assert described(live, live.tree) is None


def test_a_mv_without_git_ends_the_old_entry_where_the_new_path_is_registered(live, monkeypatch):
    """The same directory, seen there twice, a minute apart: by then the entry of the old path is over."""
    from convsync_agent import returning
    from convsync_agent.agenda import Agenda

    plain = live.worktree("plain")
    at = live.directory(live.main, C)
    shutil.copytree(at, plain / ".jp/conversations" / at.name)
    until(lambda: in_step(live, C, plain, live.silo()), "in step")
    until(lambda: state_of(live, plain) == "watching", "watched")
    live.agent.stop()
    plain.rename(live.base / "elsewhere")
    live.ok("register", live.base / "elsewhere")
    monkeypatch.setattr(returning, "MOVED_NS", 0)  # that minute is over
    with Context().engine() as engine:
        for site in engine.sites.values():
            engine.rescan(site)
        agenda = Agenda()
        returning.Returning().run(engine, agenda)
        assert agenda.reload
    assert described(live, plain) is None
    assert state_of(live, live.base / "elsewhere") == "watching"
    assert picture(live, live.base / "elsewhere", C) == picture(live, live.silo(), C)
