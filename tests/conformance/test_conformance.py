"""Phase 7: JP's own tests, as far as they speak of files, hold for convsync: every line of contract section 11."""

from __future__ import annotations

import pytest

from conformance.table import TABLE

# The lines that are about a running JP alone: its null lock, its memory store, its guards, its own fallbacks.
JP_ALONE = {31, 63, 92, 93, 94, 100, 101, 108, 109, 121, 132, 138, 145}
LINES = set(range(1, 200)) - JP_ALONE


def test_every_line_has_its_case():
    """186 of 199 lines apply to a program beside JP; each is in the table once, in order, with a law in words."""
    numbers = [case.number for case in TABLE]

    assert sorted(LINES - set(numbers)) == []
    assert numbers == sorted(LINES)
    assert len(LINES) == 186
    assert all(len(case.law) > 10 for case in TABLE)


@pytest.mark.parametrize("case", TABLE, ids=[f"sa-{c.number:03}" for c in TABLE])
def test_phase7_conformance(machine, case):
    """The law that stands in the table."""
    case.check(machine)
