"""The recovery handbook: a section for each kind of attention, and it says what `status` says to type."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from convsync_cli.reports import HINTS

PAGE = Path(__file__).parents[1] / "docs" / "recovery-handbook.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the documents are not beside the tests")


def sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE) if PAGE.is_file() else [""]
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("kind", HINTS)
def test_each_kind_of_attention_has_its_section(kind):
    """What happened, whether anything is lost, what to type; every command of the hint is in it."""
    text = sections()[kind]
    for heading in ("What happened", "Is anything lost", "What to type"):
        assert f"**{heading}:** " in text

    hinted = set(re.findall(r"\bconvsync ([a-z-]+(?: restore)?)", HINTS[kind])) - {"goes"}
    assert {name for name in hinted if f"convsync {name}" not in text} == set()


def test_no_section_is_about_a_kind_that_is_gone():
    """Only kinds that there are, and the way out without convsync."""
    assert set(sections()) - set(HINTS) == {"Without convsync"}
