"""Columns of a terminal: how wide text is, and what is left of it when it does not fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsync_cli import columns, output
from convsync_cli.watching import fitted

WIDE, ACCENT = "時計", "cafe\u0301"
TEXTS = st.text(st.sampled_from("abc/ -時計한🎉é\u0301\u200d"), max_size=40)


@pytest.mark.parametrize(
    ("text", "wide"), [("", 0), ("abc", 3), (WIDE, 4), (ACCENT, 4), ("🎉", 2), ("\x1b[31mred\x1b[0m", 3)]
)
def test_width(text, wide):
    """East Asian characters and pictures take two columns, accents and colours none."""
    assert columns.width(text) == wide


CUTS = [
    ("abcdef", 6, "abcdef", "abcdef"),
    ("abcdef", 4, "abc…", "a…ef"),
    (WIDE * 3, 6, "時計…", "…時計"),
    ("/home/me/code/worktree-one", 16, "/home/me/code/w…", "/home…rktree-one"),
    ("", 0, "", ""),
]


@pytest.mark.parametrize(("text", "room", "end", "middle"), CUTS)
def test_cuts(text, room, end, middle):
    """At the end, or in the middle, where more is left of the end than of the beginning."""
    assert columns.cut(text, room) == end
    assert columns.cut_middle(text, room) == middle


@given(TEXTS, st.integers(1, 30))
def test_what_is_cut_fits(text, room):
    """Whatever is cut to a width has it at most; what fits stays as it is; padding fills it."""
    for short in (columns.cut(text, room), columns.cut_middle(text, room)):
        assert columns.width(short) <= room
        assert columns.width(columns.pad(short, room)) == room
        if columns.width(text) <= room:
            assert short == text


def test_a_color_is_ended_where_it_is_cut():
    """What follows on the terminal keeps its own colour."""
    assert columns.cut("\x1b[31mabcdef\x1b[0m", 4) == "\x1b[31mabc…\x1b[0m"


def test_what_a_screen_shows():
    """Lines cut to the width; the last of too many says how many more."""
    lines = [f"line {n}" for n in range(9)]

    assert fitted(lines, 80, 9) == lines
    assert fitted(lines, 80, 4) == [*lines[:3], "and 6 more lines"]
    assert fitted(["abcdef"], 4, 3) == ["abc…"]


def test_no_control_character_is_printed():
    """Neither C0 nor C1: a terminal obeys both."""
    assert (
        output.printable("a\x07\x9bb\x7f")
        == "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"
    )
    assert output.title_text("a\x1b[2J\x9b\nb") == "a [2J  b"
