"""Sessions: who a terminal is to JP, the name of its file, and what is active in it (contract 8)."""

from __future__ import annotations

import json

import pytest

from convsync_agent.model import Partition
from convsync_agent.session import (
    ENV,
    FALLBACKS,
    GETSID,
    HWND,
    BrokenTrail,
    Session,
    Trail,
    Visit,
    activated,
    as_json,
    cleaned,
    read_trail,
    resolve,
    rfc3339,
    walk,
)
from convsync_agent.summary import parse_timestamp

A, B, C, D = 17_000_000_001, 17_000_000_002, 17_000_000_003, 17_000_000_004
AT = "2025-01-02T03:04:05Z"


@pytest.mark.parametrize(
    ("session", "key"),
    [
        (Session(ENV, "1234", "JP_SESSION"), "env-JP_SESSION-03ac674216f3e15c"),
        (Session(ENV, "%3", "TMUX_PANE"), "env-TMUX_PANE-cb00ccd344b9bcfa"),
        (Session(GETSID, "1234"), "getsid-1234"),
        (Session(HWND, "-5"), "hwnd-_5"),
        (Session(GETSID, "../../x"), "getsid-______x"),
        (Session(ENV, "1234", "../A-B"), "env-___A_B-03ac674216f3e15c"),
    ],
)
def test_a_session_has_one_file_name(session, key):
    """Contract 8.2 with its vectors: never a path, and another source of the same value has another name."""
    assert session.key == key


@pytest.mark.parametrize(
    ("env", "leader", "source", "name"),
    [
        ({"JP_SESSION": "work", "TMUX_PANE": "%1"}, 77, "env:JP_SESSION", "work"),
        ({"JP_SESSION": "", "TMUX_PANE": "%1"}, 77, "getsid", "77"),
        ({"JP_SESSION": "\udcff"}, 77, "getsid", "77"),
        ({}, 0, "getsid", "0"),
        *[({name: "x"}, None, f"env:{name}", "x") for name in FALLBACKS],
        ({name: name.lower() for name in FALLBACKS}, None, "env:TMUX_PANE", "tmux_pane"),
        ({"TMUX_PANE": "", "WEZTERM_PANE": "3"}, -1, "env:WEZTERM_PANE", "3"),
    ],
)
def test_who_a_session_is(env, leader, source, name):
    """Contract 8.1: the override, the session leader, a variable of the terminal; the first that is there."""
    session = resolve(env, leader)

    assert session is not None
    assert (session.source, session.id) == (source, name)


def test_what_several_tabs_share_is_no_session():
    """A variable of the whole window would mix up two tabs."""
    assert resolve({"WT_SESSION": "1", "KITTY_WINDOW_ID": "2", "ALACRITTY_WINDOW_ID": "3"}, None) is None


@pytest.mark.parametrize(
    ("name", "legacy"),
    [("work", "work"), ("%3", "%3"), ("x/../../out", None), ("..", None), ("a\\b", None), ("", None)],
)
def test_the_name_an_older_jp_gave(name, legacy):
    """The bare value, where that is one name; what is a path is never looked for."""
    assert Session(ENV, name, "JP_SESSION").legacy_key == legacy


# -- history ----------------------------------------------------------------------


def trail(*conversations, session=None):
    return Trail(session or Session(GETSID, "77"), tuple(Visit(c, AT, {}) for c in conversations))


def test_activated_comes_to_the_front_once():
    """Contract 8.3: moved, not doubled; there is no limit."""
    found = activated(activated(trail(A, B, C), C, 0), D, 1)

    assert found.conversations == (D, C, A, B)
    assert found.history[0].at == "1970-01-01T00:00:00.000000001Z"


@pytest.mark.parametrize(
    ("history", "archived", "expected"),
    [
        ((), (), []),
        ((A, B), (), [A, B]),
        ((99, A, 98, B), (), [A, B]),  # never persisted, or gone: skipped
        ((A, B), (A,), []),  # archived: the walk ends
        ((99, A, B, C), (B,), [A]),
        ((98, 99), (), []),
    ],
)
def test_what_is_active_and_previous(history, archived, expected):
    """Contract 8.3: what exists nowhere is skipped, what is archived stops the walk."""
    known = {c: Partition.ARCHIVED if c in archived else Partition.LIVE for c in (A, B, C)}

    assert walk(trail(*history), known) == expected


@pytest.mark.parametrize(
    ("session", "history", "alive", "left"),
    [
        (Session(GETSID, "77"), (A, B), False, None),
        (Session(GETSID, "77"), (), False, None),
        (Session(GETSID, "77"), (A, 99), True, (A,)),
        (Session(GETSID, "77"), (98, 99), True, ()),
        (Session(HWND, "77"), (98, 99), None, ()),  # no way to ask here: it stays
        (Session(GETSID, "who"), (98, 99), None, None),  # no process to ask about: as with a variable
        (Session(ENV, "w", "JP_SESSION"), (98, 99), None, None),
        (Session(ENV, "w", "JP_SESSION"), (98, B, A), None, (B, A)),
    ],
)
def test_what_may_be_cleaned_up(session, history, alive, left):
    """Contract 8.4: a process that is dead for certain, or a variable none of whose conversations exist."""
    found = cleaned(trail(*history, session=session), lambda c: c in (A, B), alive=alive)

    assert (found.conversations if found else None) == left


# -- bytes --------------------------------------------------------------------------

WRITTEN = """{
  "history": [
    {
      "id": 17000000001,
      "activated_at": "2025-01-02T03:04:05Z"
    }
  ],
  "id": "wörk",
  "source": {
    "type": "env",
    "key": "JP_SESSION"
  }
}
"""


def test_written_as_jp_writes():
    """Contract 8.2 and 4.1: order of fields, integer ids, two blanks, nothing escaped that need not be, one LF."""
    assert as_json(trail(A, session=Session(ENV, "wörk", "JP_SESSION"))).decode() == WRITTEN
    assert as_json(Trail(Session(GETSID, "5"))).decode().startswith('{\n  "history": [],\n  "id": "5",\n')


def test_what_is_not_known_stays():
    """Fields of a newer JP survive, in the file, in an entry and in the source."""
    body = json.loads(WRITTEN) | {"theme": {"dark": True}}
    body["history"][0]["why"] = "query"
    body["source"]["host"] = "h"

    found = json.loads(as_json(activated(read_trail(json.dumps(body).encode(), "x"), B, 0)))

    assert found["history"][1] == body["history"][0]
    assert (found["theme"], found["source"], found["id"]) == ({"dark": True}, body["source"], "wörk")


def test_an_old_file_is_named_after_its_session():
    """Without an id its name is the id (contract 8.2)."""
    raw = b'{"history": [], "source": {"type": "getsid"}}'

    assert read_trail(raw, "4711").session == Session(GETSID, "4711")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"not json",
        b'{"history": []}',
        b'{"source": {"type": "getsid"}, "id": "5"}',
        b'{"history": {}, "id": "5", "source": {"type": "getsid"}}',
        b'{"history": [], "id": 5, "source": {"type": "getsid"}}',
        b'{"history": [], "id": "5", "source": "getsid"}',
        b'{"history": [], "id": "5", "source": {"type": "telnet"}}',
        b'{"history": [], "id": "5", "source": {"type": ["env"]}}',
        b'{"history": [], "id": "5", "source": {"type": "env"}}',
        b'{"history": ["jp-c1"], "id": "5", "source": {"type": "getsid"}}',
        b'{"history": [{"id": "jp-c1", "activated_at": "2025-01-02T03:04:05Z"}], "source": {"type": "getsid"}}',
        b'{"history": [{"id": true, "activated_at": "2025-01-02T03:04:05Z"}], "source": {"type": "getsid"}}',
        b'{"history": [{"id": 1, "activated_at": "yesterday"}], "id": "5", "source": {"type": "getsid"}}',
        b'{"history": [], "history": [], "id": "5", "source": {"type": "getsid"}}',
        b"\xff\xfe{}",
    ],
)
def test_what_is_no_session_file(raw):
    """What JP would not take for a session is none: it is said, and nothing of it is repeated."""
    with pytest.raises(BrokenTrail):
        read_trail(raw, "5")


def test_a_name_that_is_no_text():
    """A legacy file whose name is bytes: it is nobody's session."""
    with pytest.raises(BrokenTrail):
        read_trail(b'{"history": [], "source": {"type": "getsid"}}', "caf\udce9")


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_735_787_045_000_000_000, "2025-01-02T03:04:05Z"),
        (1_735_787_045_120_000_000, "2025-01-02T03:04:05.120Z"),
        (1_735_787_045_000_120_000, "2025-01-02T03:04:05.000120Z"),
        (1_735_787_045_000_000_120, "2025-01-02T03:04:05.000000120Z"),
    ],
)
def test_times(ns, text):
    """RFC 3339 with a Z and three digits at a time, and it reads back the same."""
    assert rfc3339(ns) == text
    assert parse_timestamp(text) == ns
