"""Phase 8: the documents that JP's plan asks for, complete: glossary, phases, fault points, and what was agreed on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (TOP / "docs/phases.md").is_file(), reason="the documents are not beside the tests")


def read(page: str) -> str:
    return (TOP / page).read_text(encoding="utf-8")


GLOSSARY = """
Conversation, Conversation id, Workspace, Workspace id, Worktree, Registered worktree, Group, Root, Silo, Durable
copy, Workspace Projection, Projection intent, Presence, Local conversation, External conversation, Import, Project /
unproject, Stream unit, Metadata unit, Unmanaged file, Reconcile, Stale replay, Split, History version, Tombstone,
Trash, Archive partition, Session, Active conversation, Status, Target keyword, Conversation lock, Defer, Settle time,
Handoff, Operational state, Fork
"""


def test_phase8_the_glossary_is_complete():
    """Every term that was agreed on has its entry, JP's "Workspace Projection" among them; none is there twice."""
    agreed = {" ".join(t.split()) for t in GLOSSARY.split(",")}
    headings = re.findall(r"^### (.+)$", read("docs/architecture/ubiquitous-language.md"), re.MULTILINE)

    assert agreed - set(headings) == set()
    assert len(headings) == len(set(headings))
    assert "Workspace Projection" in headings


def phases() -> dict[int, str]:
    parts = re.split(r"^## Phase (\d)\b.*$", read("docs/phases.md"), flags=re.MULTILINE)
    return {int(n): text for n, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_phase8_every_phase_has_modules_tests_and_a_page():
    """docs/phases.md has eight headings; `test_names_of_code_exist` looks whether what they name is there."""
    assert list(phases()) == list(range(1, 9))
    for number, text in phases().items():
        lines = dict(re.findall(r"^- \*\*(\w+):\*\* (.+)$", text, re.MULTILINE))
        assert re.findall(r"`(?:cli/)?[a-z_/]+\.\w+`", lines["Modules"]), number
        assert re.findall(r"`tests/[\w/]+\.py(?:::\w+)?`", lines["Tests"]), number
        assert re.findall(r"\]\([^)]+\)", lines["Read"]), number


@pytest.mark.parametrize("number", range(1, 9))
def test_phase8_every_phase_has_a_test_that_carries_its_number(number):
    """`pytest -k phaseN` runs at least one test for each N."""
    wanted = f"def test_phase{number}_"

    assert [p for p in (TOP / "tests").rglob("test_*.py") if wanted in p.read_text()]


def test_phase8_every_fault_point_names_its_test():
    """docs/reconcile.md has the table; the tests are there (`test_names_of_code_exist`), four of them called so."""
    chapter = read("docs/reconcile.md").partition("## Fault points")[2].partition("\n## ")[0]
    rows = [
        line for line in chapter.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| where"))
    ]

    assert len(rows) >= 10
    assert [r for r in rows if not re.search(r"`tests/[\w/]+\.py(?:::\w+)?` \|$", r)] == []
    assert len(re.findall(r"::\w*fault\w*`", chapter)) >= 4


@pytest.mark.parametrize(
    "page", ["docs/migration.md", "docs/storage-model.md", "docs/non-goals.md", "docs/reconcile.md"]
)
def test_phase8_what_was_agreed_on_is_said(page):
    """The subjects that the plan asks a document for stand in that document."""
    subjects = {
        "docs/migration.md": ["Creating a silo", "Merging siblings", "Going back", "nothing"],
        "docs/storage-model.md": ["Projection intent", "Import policies", "load_index", "Presence"],
        "docs/non-goals.md": ["Replicate", "Merge two edits", "between machines", "Delete by age"],
        "docs/reconcile.md": ["The cycle", "Crash table", "Fault points"],
    }

    assert [s for s in subjects[page] if s not in read(page)] == []
